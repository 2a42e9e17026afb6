//! Puts the values back into answers: plain ones here, and streams in [`stream`]. Where answers are scanned,
//! masks what else is found in them.
//!
//! Only placeholders of the same request are restored. Reasoning that its provider signed keeps them,
//! since it has to come back as it was.

mod block;
mod deltas;
mod mask;
mod names;
mod nesting;
pub mod stream;
mod text;

use std::ops::Range;

use super::answer_names::AnswerTexts;
use super::media::Encoded;
use super::placeholder::Placeholders;
use super::redact::ScanError;
use super::texts::{Place, Treatment, treatment_of};
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};
use crate::llm::format::Format;
pub use block::AnswerEdits;
use text::escaped;

/// The shortest number that is scanned, in digits.
const MIN_NUMBER: usize = 7;

/// The answer with its values; `None` if it is the same, or is not JSON. An error of the provider is an
/// answer, too.
pub fn restore_answer(format: Format, json: &[u8], placeholders: &Placeholders) -> Option<Vec<u8>> {
    edit_answer(format, json, &mut placeholders.clone().into())
}

/// The same with masks for what else must not reach the caller.
pub fn edit_answer(format: Format, json: &[u8], edits: &mut AnswerEdits) -> Option<Vec<u8>> {
    if edits.are_none() {
        return None;
    }
    let mut replaced = Vec::new();
    let mut tokens = Tokenizer::new(json);
    let mut keys = Keys::default();
    loop {
        let token = tokens.next().ok()?;
        let start = tokens.token_start();
        let read = keys.string_of(format, token, start, edits.has_scan());
        if let Some((range, new)) = read.and_then(|string| string.edited(edits)) {
            replaced.push((range, new));
        }
        keys.read(token);
        if keys.is_at_end() {
            break;
        }
    }
    edited(json, &replaced)
}

/// The texts of an answer that its model has written, for a service that recognizes names.
pub fn answer_texts(format: Format, json: &[u8]) -> Result<Vec<Vec<u8>>, ScanError> {
    let mut texts = AnswerTexts::default();
    let mut tokens = Tokenizer::new(json);
    let mut keys = Keys::default();
    // What is not JSON is no answer that is passed on after a scan.
    while let Ok(token) = tokens.next() {
        let start = tokens.token_start();
        if let Some(string) = keys.string_of(format, token, start, true) {
            string.collect(&mut texts);
        }
        keys.read(token);
        if keys.is_at_end() {
            break;
        }
    }
    texts.finish()
}

/// Whether an answer is JSON, so that its texts are found.
pub fn is_json(answer: &[u8]) -> bool {
    let mut tokens = Tokenizer::new(answer);
    let read = tokens.next().and_then(|first| tokens.skip(first));
    read.and_then(|()| tokens.finish()).is_ok()
}

/// The text of an answer that is not JSON, with its values; `None` if it is the same.
pub fn restore_text(text: &str, placeholders: &Placeholders) -> Option<String> {
    may_hold(text.as_bytes()).then(|| AnswerEdits::from(placeholders.clone()).edited(text, None))?
}

/// Whether the source of a string may have a placeholder. An escape may hide any of its letters.
fn may_hold(raw: &[u8]) -> bool {
    memchr::memmem::find(raw, b"_").is_some() || memchr::memmem::find(raw, b"\\u").is_some()
}

/// A string of an answer, or a number, that may have to be edited.
#[derive(Debug)]
struct AnswerString {
    /// With its quotes.
    range: Range<usize>,
    text: String,
    /// The key of its member, if the model has written it.
    name: Option<Vec<u8>>,
    is_number: bool,
}

impl AnswerString {
    /// Adds it to the texts, if the model has written it.
    fn collect(&self, texts: &mut AnswerTexts) {
        if let Some(name) = self.name.as_deref().filter(|_| !self.is_number) {
            texts.add(self.text.as_bytes(), name);
        }
    }

    /// Its place, and the JSON to put there; `None` if it stays the same.
    fn edited(self, edits: &mut AnswerEdits) -> Option<(Range<usize>, String)> {
        let name = self.name.as_deref();
        let new = match name {
            Some(name) if self.is_number => edits.edited_number(&self.text, name),
            name => edits.edited(&self.text, name),
        };
        new.map(|new| (self.range, quoted(&new)))
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// The text with some of its parts replaced, in ascending order; `None` without any.
fn edited(text: &[u8], edits: &[(Range<usize>, String)]) -> Option<Vec<u8>> {
    if edits.is_empty() {
        return None;
    }
    let mut new = Vec::with_capacity(text.len() + text.len() / 8);
    let mut done = 0;
    for (range, replacement) in edits {
        new.extend_from_slice(text.get(done..range.start).unwrap_or_default());
        new.extend_from_slice(replacement.as_bytes());
        done = range.end;
    }
    new.extend_from_slice(text.get(done..).unwrap_or_default());
    Some(new)
}

/// The keys that lead to a value in JSON that is being read. Those of arrays' elements are the arrays'.
#[derive(Debug, Default)]
struct Keys<'t> {
    /// Of the open objects and arrays, and whether each is an array.
    open: Vec<(&'t [u8], bool)>,
    /// Of the member that is being read.
    member: &'t [u8],
    has_ended: bool,
}

impl<'t> Keys<'t> {
    /// The key of the value that is read next.
    fn next(&self) -> &'t [u8] {
        match self.open.last() {
            Some((key, true)) => key,
            _ => self.member,
        }
    }

    fn read(&mut self, token: Token<'t>) {
        match token {
            Token::BeginObject | Token::BeginArray => {
                let key = self.next();
                self.open.push((key, token == Token::BeginArray));
            }
            Token::EndObject | Token::EndArray => drop(self.open.pop()),
            Token::Key(key) => self.member = key.raw(),
            Token::String(_) | Token::Literal(_) => {}
        }
        self.has_ended = self.open.is_empty();
    }

    fn is_at_end(&self) -> bool {
        self.has_ended
    }

    /// The keys of the objects and arrays around the value, without those of nested arrays, and its own.
    fn is(&self, path: &[&str]) -> bool {
        let objects =
            self.open.iter().skip(1).filter(|(_, is_array)| !is_array).map(|(key, _)| *key);
        // A string in an array stands under the array's key.
        objects.chain([self.next()]).eq(path.iter().map(|key| key.as_bytes()))
    }

    /// The string or number of a token that may have to be edited, and that begins at `start`. `is_scanned`
    /// says whether the answer is scanned.
    fn string_of(
        &self,
        format: Format,
        token: Token<'t>,
        start: usize,
        is_scanned: bool,
    ) -> Option<AnswerString> {
        let is_argument = self.is_argument();
        let (raw, is_number) = match token {
            Token::Key(string) | Token::String(string) => (string.raw(), false),
            Token::Literal(literal) => (literal, true),
            _ => return None,
        };
        let name: &[u8] = if matches!(token, Token::Key(_)) { b"" } else { self.next() };
        let is_text = || match token {
            Token::String(string) => is_argument || self.is_text(string.raw()),
            Token::Key(_) => is_argument,
            _ => is_argument && raw.len() >= MIN_NUMBER && raw.iter().all(u8::is_ascii_digit),
        };
        let name = (is_scanned && is_text()).then(|| name.to_vec());
        let is_read = name.is_some() || (!is_number && may_hold(raw));
        if !is_read || self.is_opaque(format) {
            return None;
        }
        let (text, quotes) = match token {
            Token::Key(string) | Token::String(string) => (string.text()?.into_owned(), 2),
            _ => (String::from_utf8_lossy(raw).into_owned(), 0),
        };
        Some(AnswerString { range: start..start + raw.len() + quotes, text, name, is_number })
    }

    /// Whether the value in the format's own fields is text, and no id, constant, or media.
    fn is_text(&self, raw: &[u8]) -> bool {
        let mut open = self.open.iter().rev();
        let mut place = Place { key: self.member, container: b"" };
        match open.next() {
            Some((key, true)) => {
                place.key = key;
                place.container = open.next().map_or(b"", |(outer, _)| outer);
            }
            Some((object, false)) => place.container = object,
            None => {}
        }
        treatment_of(place, raw) == Treatment::Text
            && !Encoded::read(place.key, raw).is_some_and(Encoded::is_media_file)
    }

    /// Whether the value stands in the arguments of a tool, which have whatever keys it likes.
    fn is_argument(&self) -> bool {
        let is_argument = |key: &[u8]| matches!(key, b"input" | b"arguments" | b"args");
        self.open.iter().any(|(key, _)| is_argument(key))
    }

    /// Whether the value is signed reasoning, or the signature.
    fn is_opaque(&self, format: Format) -> bool {
        let is_signed = |key: &[u8]| match format {
            Format::Messages => matches!(key, b"thinking" | b"signature"),
            Format::Converse => matches!(key, b"reasoningContent"),
            Format::Chat => matches!(key, b"reasoning_details"),
            Format::Gemini => matches!(key, b"thoughtSignature" | b"thought_signature"),
            Format::Responses => matches!(key, b"encrypted_content"),
            Format::Embeddings | Format::GeminiEmbeddings | Format::Invoke => false,
        };
        (is_signed(self.next()) || self.open.iter().any(|(key, _)| is_signed(key)))
            && !self.is_argument()
    }
}

impl From<SyntaxError> for NotEvent {
    fn from(_: SyntaxError) -> Self {
        Self
    }
}

/// The data of an event are not a JSON object.
#[derive(Debug)]
struct NotEvent;

#[cfg(test)]
mod tests;
