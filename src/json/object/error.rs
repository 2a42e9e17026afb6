//! Why a body is refused, in words for the caller.

use super::MAX_FIELDS;
use crate::json::tokenizer::MAX_LEVELS;

/// Why a body is refused; always a 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("The request body is empty. Send a JSON object.")]
    Empty,
    #[error("The request body is not valid UTF-8 (at byte {at}). Send JSON encoded as UTF-8.")]
    NotUtf8 {
        /// Offset of the first invalid byte.
        at: usize,
    },
    #[error(
        "The request body is not valid JSON: {problem}. Send one JSON object and nothing after it."
    )]
    NotJson {
        /// What is wrong, with line and column.
        problem: String,
    },
    #[error("The request body must be a JSON object, beginning with '{{'.")]
    NotAnObject,
    #[error("The request body nests deeper than {MAX_LEVELS} levels. Flatten it.")]
    TooDeep,
    #[error("The request body has more than {MAX_FIELDS} top-level fields. Send fewer.")]
    TooManyFields,
    /// The same key twice. Parsers differ in which one they use.
    #[error("The request body holds the field '{key}' twice. Send it once.")]
    DuplicateKey {
        /// The key, unescaped.
        key: String,
    },
    /// A key that some upstreams would read as one that the gateway reads or sets.
    #[error(
        "The request body holds the field '{sent}', which could be taken for '{meant}'. Spell it '{meant}', or leave it out."
    )]
    AmbiguousKey {
        /// The key as sent, unescaped.
        sent: String,
        /// The key that it resembles.
        meant: String,
    },
    /// A key in both of the spellings that Google's APIs take for one key. They differ in which one they
    /// use.
    #[error(
        "The request body holds the field '{key}' with and without underscores in one object. Send it once."
    )]
    TwoSpellings {
        /// The key without underscores, in lower case.
        key: String,
    },
    /// `stream_options` is neither an object nor null.
    #[error("'stream_options' must be a JSON object. Send one, or leave it out.")]
    StreamOptions,
}

impl BodyError {
    /// The stable code of the error's kind.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty | Self::NotUtf8 { .. } | Self::NotJson { .. } => "invalid_json",
            Self::NotAnObject => "not_a_json_object",
            Self::TooDeep => "json_too_deep",
            Self::TooManyFields => "too_many_fields",
            Self::DuplicateKey { .. } => "duplicate_field",
            Self::AmbiguousKey { .. } => "ambiguous_field",
            Self::TwoSpellings { .. } => "two_spellings",
            Self::StreamOptions => "invalid_stream_options",
        }
    }

    /// The field that is wrong, for the error's `param`.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::DuplicateKey { key } | Self::TwoSpellings { key } => Some(key),
            Self::AmbiguousKey { sent, .. } => Some(sent),
            Self::StreamOptions => Some("stream_options"),
            _ => None,
        }
    }
}
