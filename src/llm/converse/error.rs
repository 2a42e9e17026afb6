//! The gateway's own errors in AWS's form, in answers and in streams.

use serde::Serialize;

use crate::llm::error::{GatewayError, to_json};
use crate::llm::event_stream::exception_message;

/// Where AWS's SDKs look first for the kind of an error.
pub(in crate::llm) const ERROR_HEADER: &str = "x-amzn-errortype";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    /// Where AWS's SDKs look for the kind of error if no header has it.
    #[serde(rename = "__type")]
    kind: &'static str,
    message: &'a str,
    /// The stable code.
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
    request_id: String,
}

/// The body of an answer.
pub(in crate::llm) fn error_body(error: &GatewayError<'_>) -> String {
    let GatewayError { message, code, param, status, request_id, .. } = *error;
    let kind = exception_name(status);
    to_json(&ErrorBody { kind, message, reason: code, param, request_id: request_id.to_string() })
}

/// The message that ends a stream early. Streams have names of their own for the same exceptions.
pub(in crate::llm) fn error_message(error: &GatewayError<'_>) -> Vec<u8> {
    let name = match exception_name(error.status) {
        "ThrottlingException" => "throttlingException",
        "ServiceUnavailableException" => "serviceUnavailableException",
        "InternalServerException" => "internalServerException",
        "ModelTimeoutException" => "modelStreamErrorException",
        _ => "validationException",
    };
    exception_message(name, &error_body(error))
}

/// The exception that Bedrock documents for the status (AWS, "Converse: Errors").
pub(in crate::llm) fn exception_name(status: u16) -> &'static str {
    match status {
        401..=403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 | 504 => "ModelTimeoutException",
        429 => "ThrottlingException",
        502 | 503 => "ServiceUnavailableException",
        500.. if status != 501 => "InternalServerException",
        _ => "ValidationException",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::llm::test_support::rate_limited;

    #[test]
    fn the_form_is_that_of_aws_with_the_stable_code() {
        let error = rate_limited();
        let request_id = error.request_id;
        let body: Value = serde_json::from_str(&error_body(&error)).unwrap();
        assert_eq!(
            body,
            json!({
                "__type": "ThrottlingException",
                "message": "Too \"many\".",
                "reason": "rate_limit_exceeded",
                "requestId": request_id.to_string(),
            })
        );
    }

    #[test]
    fn every_status_has_an_exception() {
        for (status, name) in [
            (400, "ValidationException"),
            (401, "AccessDeniedException"),
            (402, "AccessDeniedException"),
            (404, "ResourceNotFoundException"),
            (413, "ValidationException"),
            (500, "InternalServerException"),
            (501, "ValidationException"),
            (502, "ServiceUnavailableException"),
            (504, "ModelTimeoutException"),
        ] {
            assert_eq!(exception_name(status), name, "{status}");
        }
    }
}
