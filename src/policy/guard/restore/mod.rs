//! Puts the values back into answers: plain ones here, and streams in [`stream`]. Where answers are scanned,
//! masks what else is found in them.
//!
//! Only placeholders of the same request are restored. Reasoning that its provider signed keeps them,
//! since it has to come back as it was.

mod block;
mod deltas;
mod keys;
mod mask;
mod names;
mod nesting;
mod reader;
pub mod stream;
mod template;
mod text;

use std::ops::Range;

use super::answer_names::AnswerTexts;
use super::placeholder::Placeholders;
use super::redact::ScanError;
use crate::json::escapes::half_surrogate;
use crate::json::tokenizer::{SyntaxError, Tokenizer};
use crate::llm::format::Format;
pub use block::AnswerEdits;
use reader::{AnswerReader, may_hold};

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
    let values = AnswerReader::new(format, json, edits.has_scan()).read_all().ok()?;
    let replaced: Vec<_> = values.into_iter().filter_map(|value| value.edited(edits)).collect();
    edited(json, &replaced)
}

/// The texts of an answer that its model has written, for a service that recognizes names.
pub fn answer_texts(format: Format, json: &[u8]) -> Result<Vec<Vec<u8>>, ScanError> {
    let mut texts = AnswerTexts::default();
    // What is not JSON is no answer that is passed on after a scan.
    let values = AnswerReader::new(format, json, true).read_all().unwrap_or_default();
    values.iter().for_each(|value| value.collect(&mut texts));
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

/// The text as a JSON string.
fn quoted(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    if !text.contains(|character| half_surrogate(character).is_some()) {
        return quoted;
    }
    let mut with_halves = String::with_capacity(quoted.len());
    for character in quoted.chars() {
        match half_surrogate(character) {
            Some(half) => with_halves.push_str(&format!("\\u{half:04x}")),
            None => with_halves.push(character),
        }
    }
    with_halves
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

impl From<SyntaxError> for NotEvent {
    fn from(_: SyntaxError) -> Self {
        Self
    }
}

/// The data of an event are not a JSON object, or have a key twice that tells where the texts are.
#[derive(Debug)]
struct NotEvent;

#[cfg(test)]
mod tests;
