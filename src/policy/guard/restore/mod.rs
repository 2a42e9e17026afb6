//! Puts the values back into answers: plain ones here, and streams in [`stream`].
//!
//! Only placeholders of the same request are restored. Reasoning that its provider signed keeps them,
//! since it has to come back as it was.

mod deltas;
mod nesting;
pub mod stream;
mod text;

use std::ops::Range;

use super::placeholder::Placeholders;
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};
use crate::llm::format::Format;
use text::{TextRestorer, escaped};

/// The answer with its values; `None` if it is the same, or is not JSON. An error of the provider is an
/// answer, too.
pub fn restore_answer(format: Format, json: &[u8], placeholders: &Placeholders) -> Option<Vec<u8>> {
    if placeholders.is_empty() {
        return None;
    }
    let mut edits = Vec::new();
    let mut tokens = Tokenizer::new(json);
    let mut keys = Keys::default();
    loop {
        let token = tokens.next().ok()?;
        let string = match token {
            Token::Key(string) | Token::String(string) if !keys.is_opaque(format) => Some(string),
            _ => None,
        };
        let raw = string.map(|string| string.raw()).filter(|raw| may_hold(raw));
        let text = raw.and(string).and_then(|string| string.text());
        if let Some(new) = text.and_then(|text| restored_text(&text, placeholders)) {
            let start = tokens.token_start();
            let end = start + raw.map_or(0, <[u8]>::len) + 2;
            edits.push((start..end, format!("\"{}\"", escaped(&new))));
        }
        keys.read(token);
        if keys.is_at_end() {
            break;
        }
    }
    edited(json, &edits)
}

/// The text of an answer that is not JSON, with its values; `None` if it is the same.
pub fn restore_text(text: &str, placeholders: &Placeholders) -> Option<String> {
    may_hold(text.as_bytes()).then(|| restored_text(text, placeholders)).flatten()
}

fn restored_text(text: &str, placeholders: &Placeholders) -> Option<String> {
    let (mut restorer, mut new) = (TextRestorer::default(), String::new());
    restorer.push(placeholders, text, &mut new);
    restorer.finish(placeholders, &mut new);
    (new != text).then_some(new)
}

/// Whether the source of a string may have a placeholder. An escape may hide any of its letters.
fn may_hold(raw: &[u8]) -> bool {
    memchr::memmem::find(raw, b"_").is_some() || memchr::memmem::find(raw, b"\\u").is_some()
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
        // The arguments of a tool have whatever keys it likes.
        let is_argument = |key: &[u8]| matches!(key, b"input" | b"arguments" | b"args");
        (is_signed(self.next()) || self.open.iter().any(|(key, _)| is_signed(key)))
            && !self.open.iter().any(|(key, _)| is_argument(key))
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
