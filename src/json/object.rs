//! The caller's body: a top-level JSON object whose values stay as they were sent.
//!
//! It is read once, and only its top level is parsed. Each attempt makes its own
//! [edits](BodyEdits): they are spliced into the caller's text, so what is not edited, order and white
//! space included, is sent byte for byte.

mod edits;
mod error;
mod pieces;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;

pub use edits::BodyEdits;
pub use error::BodyError;
pub use pieces::BodyPieces;

use super::case_fold;
use super::tokenizer::{SyntaxError, Token, Tokenizer};

/// Maximum number of top-level fields; the APIs that we pass on know some fifty. Keeps the index of
/// a large body of tiny fields from outgrowing the body.
pub const MAX_FIELDS: usize = 1024;

/// Keys that the gateway reads or sets. None of them may occur in another letter case, which some
/// upstreams would take for the same key.
pub const RESERVED_KEYS: &[&str] = &[
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "best_of",
    "prediction",
    "messages",
    "input",
    "instructions",
    "prompt",
    "tools",
    "tool_choice",
    "functions",
    "modalities",
    "service_tier",
    "background",
    "store",
    "metadata",
    "user",
];

/// A JSON object, parsed at its top level only.
#[derive(Debug, Clone)]
pub struct JsonBody {
    /// Checked to be JSON.
    text: ByteString,
    fields: Vec<Field>,
    /// The offset of the closing brace in `text`.
    end: usize,
}

#[derive(Debug, Clone)]
struct Field {
    key: Key,
    value: Range<usize>,
}

#[derive(Debug, Clone)]
enum Key {
    /// Without escapes: its range in the text, between the quotes.
    Plain(Range<usize>),
    /// With escapes, which are resolved here.
    Unescaped(String),
}

impl JsonBody {
    /// Parses a body without looking into its values.
    pub fn parse(text: Bytes) -> Result<Self, BodyError> {
        Self::parse_with(text, |_, first, tokens| tokens.skip(first))
    }

    /// Parses a body. Calls `read_value` for every top-level field with its key, unescaped, and the
    /// first token of its value; `read_value` has to read to the end of the value.
    pub fn parse_with(
        text: Bytes,
        read_value: impl for<'a> FnMut(&str, Token<'a>, &mut Tokenizer<'a>) -> Result<(), SyntaxError>,
    ) -> Result<Self, BodyError> {
        let text = ByteString::try_from(text)
            .map_err(|error| BodyError::NotUtf8 { at: error.valid_up_to() })?;
        let trimmed = text.trim_end_matches(BLANKS);
        match trimmed.trim_start_matches(BLANKS).chars().next() {
            None => return Err(BodyError::Empty),
            Some('{') => {}
            Some(_) => return Err(BodyError::NotAnObject),
        }
        let end = trimmed.len().saturating_sub(1);
        let fields = match read_fields(&text, read_value) {
            Ok(fields) => fields.ok_or(BodyError::TooManyFields)?,
            Err(SyntaxError::TooDeep) => return Err(BodyError::TooDeep),
            Err(SyntaxError::Invalid) => {
                return Err(BodyError::NotJson { problem: problem(&text) });
            }
        };
        let body = Self { text, fields, end };
        body.check_keys()?;
        Ok(body)
    }

    /// The whole body as it was sent.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same, without a copy.
    pub fn bytes(&self) -> Bytes {
        self.text.clone().into_bytes()
    }

    /// The raw value of a field.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.position(key).and_then(|at| self.value(at))
    }

    /// The keys, unescaped.
    pub fn keys(&self) -> impl Iterator<Item = &str> + Clone {
        self.fields.iter().map(|field| match &field.key {
            Key::Plain(range) => self.slice(range).unwrap_or_default(),
            Key::Unescaped(key) => key,
        })
    }

    /// The keys, unescaped, and the raw values.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let values = self.fields.iter().map(|field| self.slice(&field.value).unwrap_or_default());
        self.keys().zip(values)
    }

    /// Edits of this body, none so far.
    pub fn edit(&self) -> BodyEdits<'_> {
        BodyEdits::new(self)
    }

    /// Refuses a field that differs from `key` in letter case only.
    fn check_spelling(&self, key: &str) -> Result<(), BodyError> {
        match self.keys().find(|sent| *sent != key && case_fold::same(sent, key)) {
            Some(sent) => {
                Err(BodyError::AmbiguousKey { sent: sent.to_owned(), meant: key.to_owned() })
            }
            None => Ok(()),
        }
    }

    fn check_keys(&self) -> Result<(), BodyError> {
        for sent in self.keys() {
            if let Some(meant) = case_fold::only_folded(sent, RESERVED_KEYS) {
                return Err(BodyError::AmbiguousKey {
                    sent: sent.to_owned(),
                    meant: meant.to_owned(),
                });
            }
        }
        match self.duplicate_key() {
            Some(key) => Err(BodyError::DuplicateKey { key: key.to_owned() }),
            None => Ok(()),
        }
    }

    fn duplicate_key(&self) -> Option<&str> {
        /// Up to here, comparing each with each costs less than sorting.
        const FEW: usize = 24;
        if self.fields.len() <= FEW {
            let mut keys = self.keys();
            while let Some(key) = keys.next() {
                if keys.clone().any(|other| other == key) {
                    return Some(key);
                }
            }
            return None;
        }
        let mut keys: Vec<&str> = self.keys().collect();
        keys.sort_unstable();
        keys.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(*one),
            _ => None,
        })
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.fields.iter().position(|field| match &field.key {
            Key::Plain(range) => self.text.get(range.clone()) == Some(key),
            Key::Unescaped(own) => own == key,
        })
    }

    fn value(&self, at: usize) -> Option<&str> {
        self.slice(&self.fields.get(at)?.value)
    }

    fn slice(&self, range: &Range<usize>) -> Option<&str> {
        self.text.get(range.clone())
    }
}

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// `None` when there are too many.
fn read_fields(
    text: &str,
    mut read_value: impl for<'a> FnMut(&str, Token<'a>, &mut Tokenizer<'a>) -> Result<(), SyntaxError>,
) -> Result<Option<Vec<Field>>, SyntaxError> {
    let mut fields = Vec::with_capacity(16);
    let mut tokens = Tokenizer::new(text.as_bytes());
    tokens.next()?;
    while let Token::Key(raw) = tokens.next()? {
        if fields.len() == MAX_FIELDS {
            return Ok(None);
        }
        let key = raw.text().ok_or(SyntaxError::Invalid)?;
        let key_start = tokens.token_start() + 1;
        let first = tokens.next()?;
        let start = tokens.token_start();
        read_value(&key, first, &mut tokens)?;
        let key = match key {
            Cow::Borrowed(key) => Key::Plain(key_start..key_start + key.len()),
            Cow::Owned(key) => Key::Unescaped(key),
        };
        fields.push(Field { key, value: start..tokens.position() });
    }
    tokens.finish()?;
    Ok(Some(fields))
}

/// What is wrong with text that is not JSON, with line and column, by parsing it again with serde.
fn problem(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Object {}
    match serde_json::from_str(text) {
        Ok(Object {}) => "it cannot be read".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
