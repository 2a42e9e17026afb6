//! What is wrong with a body, said so that its author can put it right.

use super::{MOST_FIELDS, MOST_LEVELS};

/// Why a body is refused; always a 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Nothing was sent.
    #[error("The request body is empty. Send a JSON object.")]
    Empty,
    /// Not text.
    #[error("The request body is not valid UTF-8 (at byte {at}). Send JSON encoded as UTF-8.")]
    NotUtf8 {
        /// Offset of the first byte that does not fit.
        at: usize,
    },
    /// Not JSON.
    #[error(
        "The request body is not valid JSON: {problem}. Send one JSON object and nothing after it."
    )]
    NotJson {
        /// The parser's words, with line and column.
        problem: String,
    },
    /// JSON, or not even that, but no object.
    #[error("The request body must be a JSON object, beginning with '{{'.")]
    NotAnObject,
    /// Too many levels.
    #[error("The request body nests deeper than {MOST_LEVELS} levels. Flatten it.")]
    TooDeep,
    /// Too many fields.
    #[error("The request body has more than {MOST_FIELDS} top-level fields. Send fewer.")]
    TooManyFields,
    /// One key twice; which one counts differs from parser to parser.
    #[error("The request body holds the field '{key}' twice. Send it once.")]
    DuplicateKey {
        /// The key, unescaped.
        key: String,
    },
    /// A key that only some upstreams would take for one that the gateway reads or sets.
    #[error(
        "The request body holds the field '{sent}', which could be taken for '{meant}'. Spell it '{meant}', or leave it out."
    )]
    AmbiguousKey {
        /// The key as sent, unescaped.
        sent: String,
        /// The key that it resembles.
        meant: String,
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
            Self::StreamOptions => "invalid_stream_options",
        }
    }

    /// The field that is wrong, for the envelope's `param`.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::DuplicateKey { key } => Some(key),
            Self::AmbiguousKey { sent, .. } => Some(sent),
            Self::StreamOptions => Some("stream_options"),
            _ => None,
        }
    }
}
