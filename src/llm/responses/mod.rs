//! OpenAI Responses.

mod stream;
mod usage;

use serde::Serialize;

pub(super) use stream::{read_event, read_long_event};
pub(super) use usage::USAGE_NAMES;

use super::error::{GatewayError, to_json};
use super::usage::ReportedUsage;

/// Reads a `usage` object. `None` when it is not an object or holds no known count.
pub(super) fn parse_usage(raw: &str) -> Option<ReportedUsage> {
    ReportedUsage::parse(raw, &USAGE_NAMES)
}

#[derive(Serialize)]
struct ErrorEvent<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: &'static str,
    message: &'a str,
    param: Option<&'a str>,
    sequence_number: u64,
}

/// The event that ends a stream early, with its number in the stream.
pub(super) fn error_event(error: &GatewayError<'_>, sequence_number: u64) -> String {
    let GatewayError { message, code, param, .. } = *error;
    let event = ErrorEvent { kind: "error", code, message, param, sequence_number };
    format!("event: error\ndata: {}\n\n", to_json(&event))
}
