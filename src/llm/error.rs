//! The gateway's own errors in the envelope that callers of OpenAI's formats expect. Other envelopes, and
//! the error events of streams, differ by format and are in the formats' folders.

use serde::Serialize;

use crate::domain::ids::RequestId;

/// An error of the gateway, before it is rendered.
#[derive(Debug, Clone, Copy)]
pub struct GatewayError<'a> {
    /// What happened and what to do next.
    pub message: &'a str,
    /// The API's own class of errors, such as `invalid_request_error`.
    pub kind: &'static str,
    pub code: &'static str,
    /// The field that is wrong, if it is one.
    pub param: Option<&'a str>,
    /// The status of the answer, or the one that it would have had.
    pub status: u16,
    pub request_id: RequestId,
}

impl GatewayError<'_> {
    /// The body: OpenAI's envelope `{"error": {...}}`.
    pub fn body(&self) -> String {
        let Self { message, kind, code, param, .. } = *self;
        to_json(&Envelope { error: ErrorObject { message, kind, param, code } })
    }
}

/// Text, numbers and fixed keys cannot fail to serialize.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: &'static str,
}
