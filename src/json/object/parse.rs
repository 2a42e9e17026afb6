//! One look over the text: its grammar is checked, the values of its top level are located.

use std::ops::Range;

use super::{BodyError, Field, Key, MOST_FIELDS};
use crate::json::tokenizer::{Cursor, Fault};

/// What there is to know of a top-level object.
pub(crate) struct TopLevel {
    pub(crate) fields: Vec<Field>,
    /// Where its closing brace stands.
    pub(crate) end: usize,
    /// Where long texts stand, between their quotes.
    pub(crate) long_texts: Vec<Range<usize>>,
}

/// Reads a top-level object.
pub(crate) fn top_level(bytes: &[u8]) -> Result<TopLevel, BodyError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| BodyError::NotUtf8 { at: error.valid_up_to() })?;
    let blank = [' ', '\t', '\n', '\r'];
    let trimmed = text.trim_end_matches(blank);
    let Some(first) = trimmed.trim_start_matches(blank).chars().next() else {
        return Err(BodyError::Empty);
    };
    if first != '{' {
        return Err(BodyError::NotAnObject);
    }
    let mut cursor = Cursor::new(text.as_bytes());
    match fields(text, &mut cursor) {
        Ok(Some(fields)) => Ok(TopLevel {
            fields,
            end: trimmed.len().saturating_sub(1),
            long_texts: cursor.into_long_texts(),
        }),
        Ok(None) => Err(BodyError::TooManyFields),
        Err(Fault::TooDeep) => Err(BodyError::TooDeep),
        Err(Fault::Grammar) => Err(BodyError::NotJson { problem: problem(text) }),
    }
}

/// Nothing when there are too many.
fn fields(text: &str, cursor: &mut Cursor<'_>) -> Result<Option<Vec<Field>>, Fault> {
    let mut fields = Vec::with_capacity(16);
    cursor.token()?; // the opening brace
    let mut token = cursor.token()?;
    while token != b'}' || !fields.is_empty() {
        if token != b'"' {
            return Err(Fault::Grammar);
        }
        let (place, escapes) = cursor.key()?;
        if fields.len() == MOST_FIELDS {
            return Ok(None);
        }
        let key = if escapes {
            let quoted = text.get(place.start.saturating_sub(1)..=place.end);
            let key = serde_json::from_str(quoted.ok_or(Fault::Grammar)?);
            Key::Unescaped(key.map_err(|_| Fault::Grammar)?)
        } else {
            Key::Plain(place)
        };
        fields.push(Field { key, value: cursor.value()?, edit: None });
        match cursor.token()? {
            b'}' => break,
            b',' => token = cursor.token()?,
            _ => return Err(Fault::Grammar),
        }
    }
    cursor.end()?;
    Ok(Some(fields))
}

/// What is wrong with text that is not JSON, with line and column: a second look, for its author.
fn problem(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Object {}
    match serde_json::from_str(text) {
        Ok(Object {}) => "it cannot be read".to_owned(),
        Err(error) => error.to_string(),
    }
}
