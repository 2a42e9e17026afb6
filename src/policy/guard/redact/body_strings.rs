//! Walks through the body and finds its strings, with what they are.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use super::super::answer::SentValues;
use super::super::entities::EntityPass;
use super::super::media::{self, Encoded};
use super::super::policy::Guard;
use super::super::reasoning::{DETAILS, ReasoningEntries};
use super::super::texts::{self, Area, Place, Treatment, Word};
use super::{Edit, ScanError, Value};
use crate::json::escapes;
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};
use crate::llm::format::Format;

/// The shortest number that is scanned, in digits.
const MIN_NUMBER: usize = 7;

/// Scans a body.
pub(in super::super) struct Redactor<'a> {
    pub(super) guard: &'a Guard,
    pub(in super::super) pass: EntityPass<'a>,
    pub(super) keep_going: &'a dyn Fn() -> bool,
    format: Format,
    pub(super) values: Vec<Value>,
    /// What was found, also where it may stand, if answers are scanned.
    pub(super) sent: SentValues,
    pub(super) literals: BTreeSet<String>,
    pub(super) has_media: bool,
    /// Media in the body whose type is not known yet: the bytes between the quotes.
    pub(super) media: Vec<Range<usize>>,
}

/// A string, or a number, that is scanned.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyString<'s> {
    /// The bytes between the quotes.
    pub(super) raw: &'s [u8],
    /// Their place in the text that is being read.
    pub(super) offset: usize,
    /// The key of its member.
    pub(super) name: &'s [u8],
    pub(super) treatment: Treatment,
    pub(super) word: Word,
    pub(super) is_number: bool,
    pub(super) is_reasoning: bool,
    /// The strings of JSON around it.
    pub(super) depth: usize,
}

/// An object or array that is open.
struct Frame<'t> {
    /// Its own key; that of an array's element is the array's.
    key: Cow<'t, [u8]>,
    is_array: bool,
    area: Area,
    /// The values and media that were found before it.
    values: usize,
    media: usize,
    /// The texts that were collected before it.
    texts: usize,
    /// Whether it has a signature.
    is_signed: bool,
    /// Whether it is a message of the system or developer.
    is_system: bool,
    /// Whether it says that the data in it are text.
    declares_text: Option<bool>,
    /// Of `reasoning_details`.
    reasoning: Option<Reasoning>,
}

/// `reasoning_details` that are open.
#[derive(Default)]
struct Reasoning {
    entries: ReasoningEntries,
    /// Of each entry: the values that were found before it.
    values: Vec<usize>,
}

impl From<SyntaxError> for ScanError {
    fn from(_: SyntaxError) -> Self {
        Self::NotJson
    }
}

impl<'a> Redactor<'a> {
    pub(in super::super) fn new(
        guard: &'a Guard,
        format: Format,
        keep_going: &'a dyn Fn() -> bool,
        pass: EntityPass<'a>,
    ) -> Self {
        Self {
            guard,
            pass,
            keep_going,
            format,
            values: Vec::new(),
            sent: SentValues::default(),
            literals: BTreeSet::new(),
            has_media: false,
            media: Vec::new(),
        }
    }

    pub(in super::super) fn read_body(&mut self, body: &[u8]) -> Result<(), ScanError> {
        self.read_json(body, Area::Body, 0)?;
        self.has_media |= !self.media.is_empty();
        Ok(())
    }

    /// All values in ascending order, and the placeholders that stand in the body.
    pub(super) fn finish(mut self) -> (Vec<Value>, BTreeSet<String>) {
        self.values.sort_by_key(|value| value.range.start);
        (self.values, self.literals)
    }

    /// Reads one JSON value. The places of what is found are those in `json`.
    pub(super) fn read_json(
        &mut self,
        json: &[u8],
        area: Area,
        depth: usize,
    ) -> Result<(), ScanError> {
        let mut tokens = Tokenizer::new(json);
        let mut frames: Vec<Frame<'_>> = Vec::new();
        let mut member: Cow<'_, [u8]> = Cow::Borrowed(b"");
        loop {
            let token = tokens.next()?;
            let (key, container, outer) = match frames.as_slice() {
                [.., outer, array] if array.is_array => (&array.key, &*outer.key, array.area),
                [.., object] => (&member, &*object.key, object.area),
                [] => (&member, &b""[..], area),
            };
            let place = Place { key, container };
            match token {
                Token::BeginObject | Token::BeginArray => {
                    let is_array = token == Token::BeginArray;
                    let area = texts::area_of(self.format, outer, place, self.guard.scan().system);
                    let has_details =
                        depth == 0 && is_array && area == Area::Body && **key == *DETAILS;
                    let frame = Frame {
                        area,
                        reasoning: has_details.then(Reasoning::default),
                        key: key.clone(),
                        is_array,
                        values: self.values.len(),
                        media: self.media.len(),
                        texts: self.pass.len(),
                        is_signed: false,
                        is_system: false,
                        declares_text: None,
                    };
                    if let Some(reasoning) = reasoning_of(frames.last_mut()) {
                        reasoning.entries.begin();
                        reasoning.values.push(self.values.len());
                    }
                    frames.push(frame);
                }
                Token::EndObject | Token::EndArray => {
                    if let Some(frame) = frames.pop() {
                        self.close(&frame, json, depth)?;
                    }
                    if let Some(reasoning) = reasoning_of(frames.last_mut()) {
                        reasoning.entries.end();
                    }
                }
                Token::Key(name) => {
                    let key = unescaped(name.raw());
                    let treatment = match outer {
                        Area::Values => Some(Treatment::Text),
                        Area::Body
                            if texts::has_identifier_keys(
                                frames.last().map_or(b"", |frame| &frame.key),
                            ) =>
                        {
                            Some(Treatment::Identifier)
                        }
                        Area::Body | Area::Excepted => None,
                    };
                    if let Some(treatment) = treatment {
                        let string = BodyString {
                            raw: name.raw(),
                            offset: tokens_offset(&tokens),
                            name: b"",
                            treatment,
                            word: Word::Value,
                            is_number: false,
                            is_reasoning: false,
                            depth,
                        };
                        self.read_string(string)?;
                    }
                    member = key;
                    continue;
                }
                Token::String(text) => {
                    self.has_media |=
                        outer == Area::Body && texts::is_media_link(place, text.raw());
                    let is_excepted = outer == Area::Excepted
                        || (depth == 0
                            && outer == Area::Body
                            && !self.guard.scan().system
                            && texts::is_system_prompt(self.format, place));
                    let treatment = match outer {
                        Area::Body => texts::treatment_of(place, text.raw()),
                        Area::Values | Area::Excepted => Treatment::Text,
                    };
                    // What the model may repeat is looked for there, too.
                    let is_read = !is_excepted || self.guard.scan().answers;
                    if is_read && treatment != Treatment::Opaque {
                        let first = self.values.len();
                        self.read_string(BodyString {
                            raw: text.raw(),
                            offset: tokens_offset(&tokens),
                            name: place.key,
                            treatment,
                            word: texts::word_of(outer, place),
                            is_number: false,
                            is_reasoning: depth == 0 && texts::is_reasoning(place),
                            depth,
                        })?;
                        if is_excepted {
                            self.values.truncate(first);
                        }
                    }
                    if let [.., array, entry] = frames.as_mut_slice() {
                        entry.read(&member, text.raw(), treatment);
                        if treatment == Treatment::Opaque
                            && let Some(reasoning) = reasoning_of(Some(array))
                        {
                            reasoning.entries.read_string(&member, text.raw());
                        }
                    } else if let Some(frame) = frames.last_mut() {
                        frame.read(&member, text.raw(), treatment);
                    }
                }
                Token::Literal(literal) => {
                    let is_number =
                        literal.len() >= MIN_NUMBER && literal.iter().all(u8::is_ascii_digit);
                    if outer == Area::Values && is_number {
                        self.read_string(BodyString {
                            raw: literal,
                            offset: tokens.token_start(),
                            name: place.key,
                            treatment: Treatment::Text,
                            word: Word::Value,
                            is_number: true,
                            is_reasoning: false,
                            depth,
                        })?;
                    }
                    if let [.., array, _] = frames.as_mut_slice()
                        && let Some(reasoning) = reasoning_of(Some(array))
                    {
                        reasoning.entries.read_literal(&member, literal);
                    }
                }
            }
            if frames.is_empty() {
                break;
            }
        }
        tokens.finish()?;
        Ok(())
    }

    /// What is only known when an object is read to its end.
    fn close(&mut self, frame: &Frame<'_>, json: &[u8], depth: usize) -> Result<(), ScanError> {
        if frame.is_system && !self.guard.scan().system {
            self.values.truncate(frame.values);
            self.pass.truncate(frame.texts);
        }
        if frame.is_signed {
            // It has to arrive as the provider signed it; the provider wrote it.
            let of_frame = self.values.iter_mut().skip(frame.values);
            of_frame.filter(|value| value.is_reasoning).for_each(|value| value.edit = Edit::None);
        }
        if let Some(Reasoning { entries, values }) = &frame.reasoning {
            let ends = values.iter().skip(1).copied().chain([self.values.len()]);
            for (number, (start, end)) in values.iter().copied().zip(ends).enumerate() {
                let of_entry = self.values.get_mut(start..end).unwrap_or_default();
                if entries.is_signed(number) {
                    let texts = of_entry.iter_mut().filter(|value| value.is_reasoning);
                    texts.for_each(|value| value.edit = Edit::None);
                }
            }
        }
        match frame.declares_text {
            Some(true) if depth == 0 => self.scan_declared(frame, json),
            Some(false) => {
                self.has_media |= self.media.len() > frame.media;
                self.media.truncate(frame.media);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Scans the base64 in an object that says that it is text.
    fn scan_declared(&mut self, frame: &Frame<'_>, json: &[u8]) -> Result<(), ScanError> {
        for range in self.media.split_off(frame.media.min(self.media.len())) {
            let raw = json.get(range.clone()).unwrap_or_default();
            let text = unescaped(raw);
            let decoded =
                Encoded::read(b"data", &text).and_then(|data| data.decode_text(Some(true)));
            self.has_media |= decoded.is_none();
            let string = BodyString {
                raw,
                offset: range.start,
                name: b"",
                treatment: Treatment::Identifier,
                word: Word::Format,
                is_number: false,
                is_reasoning: false,
                depth: 0,
            };
            // What is called text may be text that only looks like base64.
            for text in [decoded.as_deref(), Some(&text)].into_iter().flatten() {
                self.scan_decoded(text, string)?;
            }
        }
        Ok(())
    }
}

impl Frame<'_> {
    /// Notes what a string tells of the object that it is a member of.
    fn read(&mut self, key: &[u8], value: &[u8], treatment: Treatment) {
        if self.is_array || self.area != Area::Body {
            return;
        }
        self.is_signed |= treatment == Treatment::Opaque && key == b"signature";
        // The last one counts, as with most parsers, and only of messages.
        if key == b"role" {
            self.is_system = matches!(&*self.key, b"messages" | b"input" | b"contents")
                && texts::is_system_role(key, value);
        }
        if matches!(key, b"media_type" | b"mimeType" | b"mime_type" | b"format") {
            self.declares_text = Some(media::is_text_type(value));
        }
    }
}

/// The entries of a frame that is an array of `reasoning_details`.
fn reasoning_of<'f>(frame: Option<&'f mut Frame<'_>>) -> Option<&'f mut Reasoning> {
    frame?.reasoning.as_mut()
}

/// The text of a string without its quotes.
fn unescaped(raw: &[u8]) -> Cow<'_, [u8]> {
    escapes::unescape_bytes(raw).map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// The offset of the bytes between the quotes of the string that was just read.
fn tokens_offset(tokens: &Tokenizer<'_>) -> usize {
    tokens.token_start() + 1
}
