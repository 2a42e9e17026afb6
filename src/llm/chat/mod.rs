//! OpenAI Chat Completions.

mod stream;
mod usage;

pub(super) use stream::{may_become_usage_event, read_event, read_long_event, without_usage};
pub(super) use usage::USAGE_NAMES;

use super::error::GatewayError;

/// The event that ends a stream early.
pub(super) fn error_event(error: &GatewayError<'_>) -> String {
    format!("data: {}\n\n", error.body())
}
