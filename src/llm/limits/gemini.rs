//! Reads a request of Gemini's API.
//!
//! Google takes a key in lower camel case and in snake case for the same (Protocol Buffers, "ProtoJSON
//! format"). So keys are read without their underscores, and an object may have only one of the two.

use super::input::{InputFacts, InputKind, inline_length};
use super::output::OutputFacts;
use crate::json::case_fold::FoldBuffer;
use crate::json::tokenizer::{RawString, SyntaxError, Token, Tokenizer};

/// The keys that are read and have two spellings, folded and without underscores.
const TWO_WORDS: &[&str] = &[
    "cachedcontent",
    "candidatecount",
    "codeexecutionresult",
    "executablecode",
    "filedata",
    "functioncall",
    "functiondeclarations",
    "functionresponse",
    "generatecontentrequest",
    "generationconfig",
    "imageconfig",
    "inlinedata",
    "maxoutputtokens",
    "mediaresolution",
    "mimetype",
    "partmetadata",
    "responsemodalities",
    "servicetier",
    "systeminstruction",
    "thinkingbudget",
    "thinkingconfig",
    "thoughtsignature",
    "toolcall",
    "toolresponse",
    "videometadata",
];

/// Parts of a content that are nothing but the text in them, and the members next to it. A part that
/// is new counts as unbounded.
const TEXT_PARTS: &[&str] = &[
    "text",
    "thought",
    "thoughtsignature",
    "functioncall",
    "executablecode",
    "codeexecutionresult",
    "mediaresolution",
    "partmetadata",
    "toolcall",
    "toolresponse",
    "videometadata",
];

/// What is particular to a body of this format.
#[derive(Clone, Debug, Default)]
pub(super) struct GeminiFacts {
    /// Of the body itself.
    spellings: Spellings,
    /// The first key that an object has in both spellings.
    two_spellings: Option<&'static str>,
    /// The models that are named in the body, without `models/`; of many, the first two.
    models: Vec<String>,
}

/// Which spellings an object has: a bit for each of [`TWO_WORDS`].
#[derive(Clone, Copy, Debug, Default)]
struct Spellings {
    with_underscore: u32,
    without: u32,
}

const _: () = assert!(TWO_WORDS.len() <= u32::BITS as usize);

impl Spellings {
    /// Takes in a key, folded, and writes it without underscores. Returns the key if the object has it in
    /// both spellings.
    fn read<'b>(
        &mut self,
        key: &[u8],
        buffer: &'b mut FoldBuffer,
    ) -> (&'b [u8], Option<&'static str>) {
        let mut length = 0;
        for (place, byte) in buffer.iter_mut().zip(key.iter().filter(|byte| **byte != b'_')) {
            *place = *byte;
            length += 1;
        }
        let plain: &[u8] = buffer.get(..length).unwrap_or_default();
        let Some(at) = TWO_WORDS.iter().position(|known| known.as_bytes() == plain) else {
            return (plain, None);
        };
        let spelling =
            if length < key.len() { &mut self.with_underscore } else { &mut self.without };
        *spelling |= 1 << at;
        let has_both = self.with_underscore & self.without & (1 << at) != 0;
        (plain, TWO_WORDS.get(at).copied().filter(|_| has_both))
    }
}

impl GeminiFacts {
    /// The first key that an object has in both spellings.
    pub(super) fn two_spellings(&self) -> Option<&'static str> {
        self.two_spellings
    }

    /// The first model in the body that is not this one.
    pub(super) fn other_model(&self, model: &str) -> Option<&str> {
        let model = without_prefix(model);
        self.models.iter().map(String::as_str).find(|named| *named != model)
    }

    /// A top-level field, its key folded.
    pub(super) fn read_field<'a>(
        &mut self,
        input: &mut InputFacts,
        output: &mut OutputFacts,
        key: &[u8],
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        let mut buffer = FoldBuffer::default();
        let (key, both) = self.spellings.read(key, &mut buffer);
        self.two_spellings = self.two_spellings.or(both);
        self.read_request_field(input, output, key, first, tokens)
    }

    /// A field of a request, its key folded and without underscores.
    fn read_request_field<'a>(
        &mut self,
        input: &mut InputFacts,
        output: &mut OutputFacts,
        key: &[u8],
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        match key {
            b"contents" | b"content" | b"systeminstruction" => {
                self.for_each(first, tokens, |own, key, value, tokens| match key {
                    b"parts" => own.read_parts(input, value, tokens),
                    _ => tokens.skip(value),
                })
            }
            b"tools" => self.for_each(first, tokens, |_, key, value, tokens| {
                // All others run at the provider's.
                if key != b"functiondeclarations" && !value.is_null() {
                    input.note_hosted("tools");
                }
                tokens.skip(value)
            }),
            b"generationconfig" => self.read_generation_config(output, first, tokens),
            b"servicetier" => {
                let usual = ["standard", "flex", "STANDARD", "FLEX"];
                output.note_tier("serviceTier", first, &usual);
                tokens.skip(first)
            }
            b"cachedcontent" => {
                if !first.is_null() {
                    input.note(InputKind::Stored);
                }
                tokens.skip(first)
            }
            b"model" => {
                self.note_model(first);
                tokens.skip(first)
            }
            b"requests" | b"generatecontentrequest" => {
                self.read_requests(input, output, first, tokens)
            }
            _ => tokens.skip(first),
        }
    }

    /// Requests within the request, one or an array of them.
    fn read_requests<'a>(
        &mut self,
        input: &mut InputFacts,
        output: &mut OutputFacts,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        match first {
            Token::BeginArray => tokens
                .elements(|element, tokens| self.read_requests(input, output, element, tokens)),
            Token::BeginObject => {
                input.items = input.items.saturating_add(1);
                self.for_each(first, tokens, |own, key, value, tokens| {
                    own.read_request_field(input, output, key, value, tokens)
                })
            }
            _ => Ok(()),
        }
    }

    fn read_generation_config<'a>(
        &mut self,
        output: &mut OutputFacts,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        self.for_each(first, tokens, |own, key, value, tokens| match key {
            b"maxoutputtokens" => {
                output.note_max_output_tokens(value);
                tokens.skip(value)
            }
            b"candidatecount" => {
                output.note_choices(value);
                tokens.skip(value)
            }
            b"thinkingconfig" => own.for_each(value, tokens, |_, key, value, tokens| {
                if key == b"thinkingbudget" {
                    output.note_gemini_thinking(value);
                }
                tokens.skip(value)
            }),
            b"imageconfig" => {
                output.note_tier("imageConfig", value, &[]);
                tokens.skip(value)
            }
            b"responsemodalities" => output.read_modalities("responseModalities", value, tokens),
            _ => tokens.skip(value),
        })
    }

    /// The parts of a content, or of what a function returned.
    fn read_parts<'a>(
        &mut self,
        input: &mut InputFacts,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        self.for_each(first, tokens, |own, key, value, tokens| match key {
            b"inlinedata" => own.read_data(input, value, tokens),
            b"filedata" if !value.is_null() => own.read_file(input, value, tokens),
            b"functionresponse" => {
                own.for_each(value, tokens, |own, key, value, tokens| match key {
                    b"parts" => own.read_parts(input, value, tokens),
                    _ => tokens.skip(value),
                })
            }
            _ => {
                let is_text = TEXT_PARTS.iter().any(|text| text.as_bytes() == key);
                if !is_text && !value.is_null() {
                    input.note(InputKind::Stored);
                }
                tokens.skip(value)
            }
        })
    }

    /// Data that is in the body.
    fn read_data<'a>(
        &mut self,
        input: &mut InputFacts,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        let (mut media_type, mut length) = (None, None);
        self.for_each(first, tokens, |_, key, value, tokens| {
            match (key, value) {
                (b"mimetype", Token::String(text)) => media_type = text.text(),
                (b"data", _) => length = inline_length(value),
                _ => {}
            }
            tokens.skip(value)
        })?;
        match length {
            Some(length) => input.note_data(media_type.as_deref().unwrap_or_default(), length),
            None => input.note(InputKind::Stored),
        }
        Ok(())
    }

    /// A file that the body names, at Google's or anywhere else. The bound for images holds for those of every
    /// size.
    fn read_file<'a>(
        &mut self,
        input: &mut InputFacts,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        let (mut has_type, mut is_image) = (false, true);
        self.for_each(first, tokens, |_, key, value, tokens| {
            if key == b"mimetype" {
                has_type = true;
                is_image &= is_image_type(value);
            }
            tokens.skip(value)
        })?;
        match has_type && is_image {
            true => input.note_data("image/", 0),
            false => input.note(InputKind::Stored),
        }
        Ok(())
    }

    /// Calls `read` with the members of an object, or of the objects in an array. It has to read to the
    /// end of the value. Keys are folded and without underscores.
    fn for_each<'a>(
        &mut self,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
        mut read: impl FnMut(&mut Self, &[u8], Token<'a>, &mut Tokenizer<'a>) -> Result<(), SyntaxError>,
    ) -> Result<(), SyntaxError> {
        let mut in_array = false;
        let mut next = first;
        loop {
            match next {
                Token::BeginArray if !in_array => in_array = true,
                Token::EndArray => return Ok(()),
                Token::BeginObject => {
                    let mut spellings = Spellings::default();
                    while let Token::Key(key) = tokens.next()? {
                        let mut buffer = FoldBuffer::default();
                        let key = self.plain_key(key, &mut spellings, &mut buffer);
                        let value = tokens.next()?;
                        read(self, key, value, tokens)?;
                    }
                }
                other => tokens.skip(other)?,
            }
            if !in_array {
                return Ok(());
            }
            next = tokens.next()?;
        }
    }

    fn plain_key<'b>(
        &mut self,
        key: RawString<'_>,
        spellings: &mut Spellings,
        buffer: &'b mut FoldBuffer,
    ) -> &'b [u8] {
        let mut folded = FoldBuffer::default();
        let folded = key.folded(&mut folded).unwrap_or_default();
        let (key, both) = spellings.read(folded, buffer);
        self.two_spellings = self.two_spellings.or(both);
        key
    }

    fn note_model(&mut self, value: Token<'_>) {
        /// One more than a request may have.
        const MOST: usize = 2;
        let Token::String(model) = value else { return };
        // What is no text is no model, either.
        let model = model.text().unwrap_or_default();
        let model = without_prefix(&model);
        if self.models.len() < MOST && !self.models.iter().any(|named| named == model) {
            self.models.push(model.to_owned());
        }
    }
}

fn is_image_type(value: Token<'_>) -> bool {
    const IMAGE: &str = "image/";
    let Token::String(media_type) = value else { return false };
    let media_type = media_type.text().unwrap_or_default();
    media_type.get(..IMAGE.len()).is_some_and(|start| start.eq_ignore_ascii_case(IMAGE))
}

fn without_prefix(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}
