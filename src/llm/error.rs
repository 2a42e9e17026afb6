//! The gateway's own errors in the shape that the caller's API has for errors: as a body, and as the
//! last event of a stream.

use serde::Serialize;

/// What is told of an error; how depends on the format.
#[derive(Debug, Clone, Copy)]
pub struct GatewayError<'a> {
    /// What happened and what to do next.
    pub message: &'a str,
    /// The API's own class of errors, such as `invalid_request_error`.
    pub kind: &'static str,
    /// The stable code.
    pub code: &'static str,
    /// The field that is wrong, where there is one.
    pub param: Option<&'a str>,
}

impl GatewayError<'_> {
    /// The body: OpenAI's envelope `{"error": {...}}`.
    pub fn body(&self) -> String {
        let Self { message, kind, code, param } = *self;
        json(&Envelope { error: ErrorObject { message, kind, param, code } })
    }

    /// The event that ends a chat completions stream early.
    pub fn chat_event(&self) -> String {
        format!("data: {}\n\n", self.body())
    }

    /// The event that ends a responses stream early, with its place in the stream.
    pub fn responses_event(&self, sequence_number: u64) -> String {
        let Self { message, code, param, .. } = *self;
        let event = ErrorEvent { kind: "error", code, message, param, sequence_number };
        format!("event: error\ndata: {}\n\n", json(&event))
    }
}

/// Text, numbers and fixed keys cannot fail to serialize.
fn json(value: &impl Serialize) -> String {
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

#[derive(Serialize)]
struct ErrorEvent<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: &'static str,
    message: &'a str,
    param: Option<&'a str>,
    sequence_number: u64,
}
