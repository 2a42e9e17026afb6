//! Google Gemini: `generateContent` and the related methods.

mod error;
mod method;
mod named_model;
mod stream;
#[cfg(test)]
mod tests;
mod usage;

pub use method::GeminiMethod;
pub use named_model::with_model;

pub(super) use error::{error_body, error_event};
pub(super) use stream::{read_event, read_long_event};
pub(super) use usage::{EMBEDDING_NAMES, USAGE_NAMES, parse_embedding_usage, parse_usage};

use crate::json::scanner::MemberNames;

pub(super) const MEMBER_NAMES: MemberNames = MemberNames {
    usage: "usageMetadata",
    model: "modelVersion",
    choices: "candidates",
    end_key: Some("finishReason"),
    ..MemberNames::USUAL
};

/// `embeddings` in the answer to a batch, `embedding` otherwise.
pub(super) const EMBEDDING_MEMBER_NAMES: MemberNames =
    MemberNames { choices: "embeddings", output: "embedding", end_key: None, ..MEMBER_NAMES };
