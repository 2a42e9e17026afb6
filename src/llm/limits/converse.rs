//! Reads a request of Bedrock's Converse API.

use super::facts::BodyFacts;
use super::input::{InputFacts, InputKind, inline_length};
use crate::json::case_fold::FoldBuffer;
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};

/// Blocks of content that are nothing but the text in them, and marks between them. A block that is new
/// counts as unbounded.
const TEXT_BLOCKS: &[&str] = &[
    "text",
    "json",
    "tooluse",
    "reasoningcontent",
    "citationscontent",
    "searchresult",
    "cachepoint",
];

impl BodyFacts {
    /// A top-level field, its key folded.
    pub(super) fn read_converse_field<'a>(
        &mut self,
        key: &[u8],
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        let Self { input, output, .. } = self;
        match key {
            b"messages" => for_each(first, tokens, |key, value, tokens| match key {
                b"content" => read_blocks(input, value, tokens),
                _ => tokens.skip(value),
            }),
            b"system" => read_blocks(input, first, tokens),
            b"toolconfig" => for_each(first, tokens, |key, value, tokens| match key {
                b"tools" => read_tools(input, value, tokens),
                _ => tokens.skip(value),
            }),
            b"inferenceconfig" => for_each(first, tokens, |key, value, tokens| {
                if key == b"maxtokens" {
                    output.note_max_tokens(value);
                }
                tokens.skip(value)
            }),
            b"performanceconfig" => for_each(first, tokens, |_, value, tokens| {
                output.note_tier("performanceConfig", value, &["standard"]);
                tokens.skip(value)
            }),
            b"servicetier" => for_each(first, tokens, |_, value, tokens| {
                output.note_tier("serviceTier", value, &["default", "flex"]);
                tokens.skip(value)
            }),
            // They are merged into the model's own request.
            b"additionalmodelrequestfields" => {
                self.read_options("additionalModelRequestFields", first, tokens)
            }
            // A stored prompt's.
            b"promptvariables" => {
                input.note(InputKind::Stored);
                tokens.skip(first)
            }
            _ => tokens.skip(first),
        }
    }
}

fn read_tools<'a>(
    input: &mut InputFacts,
    first: Token<'a>,
    tokens: &mut Tokenizer<'a>,
) -> Result<(), SyntaxError> {
    for_each(first, tokens, |key, value, tokens| {
        input.has_tools |= key == b"toolspec";
        if !matches!(key, b"toolspec" | b"cachepoint") {
            // It runs at the provider's.
            input.note_hosted("toolConfig");
        }
        tokens.skip(value)
    })
}

/// The blocks of a message, of the system prompt, or of what a tool returned.
fn read_blocks<'a>(
    input: &mut InputFacts,
    first: Token<'a>,
    tokens: &mut Tokenizer<'a>,
) -> Result<(), SyntaxError> {
    for_each(first, tokens, |key, value, tokens| match key {
        b"image" => {
            // The bound holds for images of every size, whether they are inline or not.
            input.note_data("image/", 0);
            tokens.skip(value)
        }
        b"document" => read_document(input, value, tokens),
        b"toolresult" => for_each(value, tokens, |key, value, tokens| match key {
            b"content" => read_blocks(input, value, tokens),
            _ => tokens.skip(value),
        }),
        b"guardcontent" => read_blocks(input, value, tokens),
        _ => {
            let is_text = TEXT_BLOCKS.iter().any(|text| text.as_bytes() == key);
            if !is_text && !value.is_null() {
                input.note(InputKind::Stored);
            }
            tokens.skip(value)
        }
    })
}

/// A document, whose `source` holds it, as text or in base64, or says where it is.
fn read_document<'a>(
    input: &mut InputFacts,
    first: Token<'a>,
    tokens: &mut Tokenizer<'a>,
) -> Result<(), SyntaxError> {
    let (mut is_text, mut length, mut is_elsewhere) = (false, None, false);
    for_each(first, tokens, |key, value, tokens| match key {
        b"source" => for_each(value, tokens, |key, value, tokens| {
            match key {
                b"text" | b"content" => is_text = true,
                b"bytes" => length = inline_length(value),
                _ => is_elsewhere = true,
            }
            tokens.skip(value)
        }),
        _ => tokens.skip(value),
    })?;
    match length {
        _ if is_elsewhere => input.note(InputKind::Stored),
        Some(length) => input.note_data("application/", length),
        None if is_text => {}
        None => input.note(InputKind::Stored),
    }
    Ok(())
}

/// Calls `read` with the members of an object, or of the objects in an array, their keys folded. It has
/// to read to the end of the value.
fn for_each<'a>(
    first: Token<'a>,
    tokens: &mut Tokenizer<'a>,
    mut read: impl FnMut(&[u8], Token<'a>, &mut Tokenizer<'a>) -> Result<(), SyntaxError>,
) -> Result<(), SyntaxError> {
    let mut in_array = false;
    let mut next = first;
    loop {
        match next {
            Token::BeginArray if !in_array => in_array = true,
            Token::EndArray => return Ok(()),
            Token::BeginObject => {
                while let Token::Key(key) = tokens.next()? {
                    let mut buffer = FoldBuffer::default();
                    let key = key.folded(&mut buffer).unwrap_or_default();
                    let value = tokens.next()?;
                    read(key, value, tokens)?;
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
