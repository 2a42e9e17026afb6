//! The gateway's own errors in Google's form (Google, "Errors", AIP-193), in answers and in streams.

use serde::Serialize;

use crate::llm::error::{GatewayError, to_json};

#[derive(Serialize)]
struct Envelope<'a> {
    error: Status<'a>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    details: [ErrorInfo<'a>; 1],
}

#[derive(Serialize)]
struct ErrorInfo<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    /// The stable code.
    reason: &'static str,
    domain: &'static str,
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
}

/// The body of an answer.
pub(in crate::llm) fn error_body(error: &GatewayError<'_>) -> String {
    let GatewayError { message, code, param, status, request_id, .. } = *error;
    let info = ErrorInfo {
        kind: "type.googleapis.com/google.rpc.ErrorInfo",
        reason: code,
        domain: "tollgate",
        metadata: Metadata { request_id: request_id.to_string(), param },
    };
    let status_name = status_name(status);
    to_json(&Envelope {
        error: Status { code: status, message, status: status_name, details: [info] },
    })
}

/// The event that ends a stream early.
pub(in crate::llm) fn error_event(error: &GatewayError<'_>) -> String {
    format!("data: {}\n\n", error_body(error))
}

/// The name of the status (`google.rpc.Code`) that Google's APIs answer with under this HTTP status.
fn status_name(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        402 | 403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        408 | 504 => "DEADLINE_EXCEEDED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        501 => "UNIMPLEMENTED",
        502 | 503 => "UNAVAILABLE",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::llm::test_support::rate_limited;

    #[test]
    fn the_form_is_googles_with_the_stable_code() {
        let mut error = rate_limited();
        let request_id = error.request_id;
        let body: Value = serde_json::from_str(&error_body(&error)).unwrap();
        let metadata = json!({"requestId": request_id.to_string()});
        assert_eq!(
            body,
            json!({"error": {
                "code": 429,
                "message": "Too \"many\".",
                "status": "RESOURCE_EXHAUSTED",
                "details": [{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "rate_limit_exceeded",
                    "domain": "tollgate",
                    "metadata": metadata,
                }],
            }})
        );
        assert_eq!(error_event(&error), format!("data: {}\n\n", error_body(&error)));
        error.param = Some("contents");
        let body: Value = serde_json::from_str(&error_body(&error)).unwrap();
        assert_eq!(body["error"]["details"][0]["metadata"]["param"], "contents");
    }

    #[test]
    fn every_status_has_a_name() {
        for (status, name) in [
            (400, "INVALID_ARGUMENT"),
            (401, "UNAUTHENTICATED"),
            (402, "PERMISSION_DENIED"),
            (403, "PERMISSION_DENIED"),
            (404, "NOT_FOUND"),
            (408, "DEADLINE_EXCEEDED"),
            (413, "INVALID_ARGUMENT"),
            (415, "INVALID_ARGUMENT"),
            (429, "RESOURCE_EXHAUSTED"),
            (499, "CANCELLED"),
            (500, "INTERNAL"),
            (501, "UNIMPLEMENTED"),
            (502, "UNAVAILABLE"),
            (503, "UNAVAILABLE"),
            (504, "DEADLINE_EXCEEDED"),
        ] {
            assert_eq!(status_name(status), name, "{status}");
        }
    }
}
