//! The gateway's own errors in Anthropic's form, in answers and in streams.

use serde::Serialize;

use crate::llm::error::{GatewayError, to_json};

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: ErrorObject<'a>,
    request_id: String,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
    /// The gateway's own members.
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

/// What Anthropic's SDKs look at to send the whole conversation instead of the thread that they began
/// (`tool_runner` of version 2 for Python, 1 for JavaScript).
#[derive(Serialize)]
struct Details {
    error_code: &'static str,
}

const NO_THREADS: Details = Details { error_code: "thread_unsupported_request" };

/// The body of an answer.
pub(in crate::llm) fn error_body(error: &GatewayError<'_>) -> String {
    let GatewayError { message, code, param, status, request_id, .. } = *error;
    let details =
        (code == "unsupported_parameter" && param == Some("thread")).then_some(NO_THREADS);
    let error = ErrorObject { kind: error_type(status), message, code, param, details };
    to_json(&Envelope { kind: "error", error, request_id: request_id.to_string() })
}

/// The event that ends a stream early.
pub(in crate::llm) fn error_event(error: &GatewayError<'_>) -> String {
    format!("event: error\ndata: {}\n\n", error_body(error))
}

/// The type that Anthropic's API documents for the status (Anthropic, "Errors"). Its 529 is 503 here.
fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        500.. if status != 501 => "api_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::llm::test_support::rate_limited;

    #[test]
    fn the_form_is_anthropics_with_the_stable_code() {
        let error = rate_limited();
        let request_id = error.request_id;
        let body: Value = serde_json::from_str(&error_body(&error)).unwrap();
        assert_eq!(
            body,
            json!({
                "type": "error",
                "error": {
                    "type": "rate_limit_error",
                    "message": "Too \"many\".",
                    "code": "rate_limit_exceeded",
                },
                "request_id": request_id.to_string(),
            })
        );
        let event = error_event(&error);
        assert_eq!(event, format!("event: error\ndata: {}\n\n", error_body(&error)));
    }

    #[test]
    fn sdks_are_told_to_go_on_without_a_thread() {
        let error = |param| GatewayError {
            code: "unsupported_parameter",
            param: Some(param),
            status: 400,
            ..rate_limited()
        };
        let details = |param| -> Value {
            let body: Value = serde_json::from_str(&error_body(&error(param))).unwrap();
            body["error"]["details"].clone()
        };
        assert_eq!(details("thread"), json!({"error_code": "thread_unsupported_request"}));
        assert_eq!(details("container"), Value::Null);
    }

    #[test]
    fn every_status_has_a_documented_type() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (415, "invalid_request_error"),
            (500, "api_error"),
            (501, "invalid_request_error"),
            (502, "api_error"),
            (503, "overloaded_error"),
        ] {
            assert_eq!(error_type(status), kind, "{status}");
        }
    }
}
