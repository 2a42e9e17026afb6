//! A provider's error in the caller's format.

use std::borrow::Cow;

use serde_json::Value;

use super::answer::Failure;
use crate::domain::ids::RequestId;
use crate::json::writer::JsonWriter;
use crate::llm::format::Format;
use crate::llm::provider_error::{ErrorCause, cause_of};

/// The longest message of a provider that is passed on, in characters.
const MAX_MESSAGE: usize = 8 * 1024;

/// A provider's error, as its caller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertedError {
    pub status: u16,
    pub body: String,
}

/// Puts the error of a provider into the caller's envelope. `error_type` is the value of AWS's header
/// `x-amzn-errortype`.
pub fn convert_error(
    (from, to): (Format, Format),
    status: u16,
    error_type: Option<&str>,
    body: &[u8],
    request_id: RequestId,
) -> ConvertedError {
    let mut found = ParsedError::read(body, error_type);
    if cause_of(from, status, error_type, body) == ErrorCause::ContextOverflow {
        found.tell_overflow(to);
    }
    if status == BILLING {
        found.tell_billing();
    }
    let status = status_for(to, status);
    let message = found.message.map_or_else(
        || {
            Cow::Owned(format!(
                "The provider answered with the status {status} and without a message."
            ))
        },
        Cow::Owned,
    );
    let mut json = JsonWriter::new();
    match to {
        Format::Messages => json.object(|json| {
            json.key("type").string("error");
            json.key("error").object(|json| {
                json.key("type").string(anthropic_type(status));
                json.key("message").string(&message);
                json.optional_string("code", found.code.as_ref());
            });
            json.key("request_id").string(&request_id.to_string());
        }),
        _ => json.object(|json| {
            json.key("error").object(|json| {
                json.key("message").string(&message);
                json.key("type").string(openai_type(status));
                json.key("param").null();
                match found.code.as_deref().or_else(|| openai_code(status)) {
                    Some(code) => json.key("code").string(code),
                    None => json.key("code").null(),
                }
            });
        }),
    }
    ConvertedError { status, body: json.finish() }
}

/// The same for a failure that the provider reported in an answer with a success status. None for one whose
/// code says nothing of the cause.
pub fn convert_failure(
    formats: (Format, Format),
    failure: &Failure,
    request_id: RequestId,
) -> Option<ConvertedError> {
    let status = status_of(&failure.code)?;
    let mut json = JsonWriter::new();
    json.object(|json| {
        json.key("code").string(&failure.code);
        json.key("message").string(&failure.message);
    });
    Some(convert_error(formats, status, None, json.finish().as_bytes(), request_id))
}

/// The status for the code of a failure: OpenAI's, Anthropic's, Google's, AWS's, or a number. None where it
/// is no more than that the provider has failed, as it is for those about the gateway's credential.
fn status_of(code: &str) -> Option<u16> {
    Some(match &*code.to_ascii_lowercase() {
        "invalid_request_error"
        | "invalid_prompt"
        | "context_length_exceeded"
        | "invalid_argument"
        | "failed_precondition"
        | "validationexception" => 400,
        "billing_error" => BILLING,
        "not_found_error" | "model_not_found" | "not_found" | "resourcenotfoundexception" => 404,
        "request_too_large" => 413,
        "rate_limit_error"
        | "rate_limit_exceeded"
        | "insufficient_quota"
        | "resource_exhausted"
        | "throttlingexception"
        | "servicequotaexceededexception"
        | "modelnotreadyexception" => 429,
        "overloaded_error" => 529,
        "unavailable" | "server_is_overloaded" | "serviceunavailableexception" => 503,
        "timeout_error" | "deadline_exceeded" | "modeltimeoutexception" => 504,
        number => number.parse().ok().filter(|status| matches!(status, 400 | 402 | 404..=599))?,
    })
}

/// A provider's status for an account without money. Callers know it from caps of the gateway's.
pub const BILLING: u16 = 402;

/// Anthropic's SDK and Claude Code take 529 for an overload; others know 503. AWS has its own statuses for
/// a model that is not ready or has failed.
fn status_for(to: Format, status: u16) -> u16 {
    match (to, status) {
        (_, BILLING) => 502,
        (Format::Messages, 503) => 529,
        (Format::Messages, other) => other,
        (_, 529) => 503,
        (_, 424) => 502,
        (_, other) => other,
    }
}

/// Anthropic, "Errors".
fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// OpenAI, "Error codes".
fn openai_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn openai_code(status: u16) -> Option<&'static str> {
    match status {
        404 => Some("model_not_found"),
        429 => Some("rate_limit_exceeded"),
        503 => Some("overloaded"),
        504 => Some("timeout"),
        500.. => Some("upstream_error"),
        _ => None,
    }
}

/// How Anthropic's API begins its message about a prompt that the context window has no room for, which
/// Claude Code looks for.
const ANTHROPIC_OVERFLOW: &str = "prompt is too long";

/// What a provider says of its error, in whatever envelope.
#[derive(Default)]
struct ParsedError {
    message: Option<String>,
    /// The provider's own code, or the kind of the error.
    code: Option<String>,
}

impl ParsedError {
    fn read(body: &[u8], error_type: Option<&str>) -> Self {
        let mut found = Self::default();
        // What is no JSON, such as the page of a load balancer, says nothing to an application.
        if let Ok(value) = serde_json::from_slice::<Value>(body) {
            found.look_into(&value);
        }
        if let Some(name) = error_type {
            // `ThrottlingException:http://...` and `aws.protocol#ThrottlingException`.
            let name = name.split(':').next().unwrap_or(name);
            let name = name.rsplit('#').next().unwrap_or(name);
            found.code = Some(name.to_owned());
        }
        if let Some(message) = &mut found.message
            && let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE)
        {
            message.truncate(end);
        }
        found
    }

    /// Says in the words of the caller's format that the prompt is too long.
    fn tell_overflow(&mut self, to: Format) {
        if to != Format::Messages {
            self.code = Some("context_length_exceeded".to_owned());
            return;
        }
        let message = self.message.take().unwrap_or_default();
        let is_told = message.contains(ANTHROPIC_OVERFLOW);
        self.message =
            Some(if is_told { message } else { format!("{ANTHROPIC_OVERFLOW}: {message}") });
    }

    /// Says whose account it is that has no money.
    fn tell_billing(&mut self) {
        self.code = Some("insufficient_quota".to_owned());
        let message = self.message.take().unwrap_or_else(|| "it gives no reason".to_owned());
        self.message = Some(format!(
            "The provider refuses to bill the account that it is called with: {message}"
        ));
    }

    fn look_into(&mut self, value: &Value) {
        let value = match value {
            // Google may answer with an array that holds one error.
            Value::Array(values) => values.first().unwrap_or(&Value::Null),
            other => other,
        };
        let error = match value.get("error") {
            Some(error @ Value::Object(_)) => error,
            Some(Value::String(text)) => {
                self.message = Some(text.clone());
                return;
            }
            _ => value,
        };
        let text = |key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
        self.message = text("message").or_else(|| text("Message")).or_else(|| text("detail"));
        // OpenAI's code, Google's status, Anthropic's type.
        self.code = text("code").or_else(|| text("status")).or_else(|| text("type"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn converted(to: Format, status: u16, header: Option<&str>, body: &Value) -> (u16, Value) {
        let id = RequestId::from(uuid::Uuid::nil());
        let formats = (Format::Chat, to);
        let error = convert_error(formats, status, header, body.to_string().as_bytes(), id);
        (error.status, serde_json::from_str(&error.body).unwrap())
    }

    #[test]
    fn every_envelope_is_read_and_written() {
        let openai = json!({"error": {"message": "m", "type": "t", "code": "c", "param": null}});
        let anthropic = json!({"type": "error", "error": {"type": "c", "message": "m"}});
        let google = json!([{"error": {"code": 429, "message": "m", "status": "c"}}]);
        let aws = json!({"message": "m"});
        for (body, header) in [
            (&openai, None),
            (&anthropic, None),
            (&google, None),
            (&aws, Some("x#c:http://internal/")),
        ] {
            let (status, told) = converted(Format::Messages, 429, header, body);
            assert_eq!(status, 429);
            let error = json!({"type": "rate_limit_error", "message": "m", "code": "c"});
            assert_eq!((&told["type"], &told["error"]), (&json!("error"), &error));
            for to in [Format::Chat, Format::Responses] {
                let (_, told) = converted(to, 429, header, body);
                let error = json!({
                    "message": "m", "type": "rate_limit_error", "param": null, "code": "c",
                });
                assert_eq!(told["error"], error);
            }
        }
    }

    #[test]
    fn statuses_are_those_that_clients_of_the_format_know() {
        let none = json!({});
        for (to, status, expected, kind) in [
            (Format::Messages, 503, 529, "overloaded_error"),
            (Format::Messages, 500, 500, "api_error"),
            (Format::Messages, 400, 400, "invalid_request_error"),
            (Format::Chat, 529, 503, "server_error"),
            (Format::Responses, 424, 502, "server_error"),
            (Format::Chat, 404, 404, "invalid_request_error"),
        ] {
            let (told, body) = converted(to, status, None, &none);
            assert_eq!((told, &body["error"]["type"]), (expected, &json!(kind)), "{status}");
            assert!(body["error"]["message"].as_str().unwrap().contains(&expected.to_string()));
        }
    }

    #[test]
    fn an_account_without_money_is_not_the_callers() {
        let body = json!({"error": {"message": "Credit is low.", "type": "billing_error"}});
        for (to, kind) in [(Format::Messages, "api_error"), (Format::Chat, "server_error")] {
            let (status, told) = converted(to, 402, None, &body);
            assert_eq!((status, &told["error"]["type"]), (502, &json!(kind)));
            assert_eq!(told["error"]["code"], "insufficient_quota");
            let message = told["error"]["message"].as_str().unwrap();
            assert!(
                message.contains("account") && message.ends_with("Credit is low."),
                "{message}"
            );
        }
    }

    #[test]
    fn failures_told_with_success_have_a_status() {
        let told = |to, code: &str| {
            let failure = Failure { code: code.to_owned(), message: "m".to_owned() };
            let id = RequestId::from(uuid::Uuid::nil());
            convert_failure((Format::Chat, to), &failure, id).map(|error| error.status)
        };
        for (code, chat, messages) in [
            ("overloaded_error", 503, 529),
            ("RESOURCE_EXHAUSTED", 429, 429),
            ("rate_limit_exceeded", 429, 429),
            ("throttlingException", 429, 429),
            ("billing_error", 502, 502),
            ("408", 408, 408),
        ] {
            assert_eq!(told(Format::Chat, code), Some(chat), "{code}");
            assert_eq!(told(Format::Messages, code), Some(messages), "{code}");
        }
        for code in ["api_error", "401", "403", "200", "99999999999", "newer", ""] {
            assert_eq!(told(Format::Chat, code), None, "{code}");
        }
    }

    #[test]
    fn a_prompt_that_is_too_long_is_told_in_the_callers_words() {
        let body = json!({"error": {"message": "m", "code": "context_length_exceeded"}});
        let (_, told) = converted(Format::Messages, 400, None, &body);
        assert_eq!(told["error"]["message"], "prompt is too long: m");
        let (_, told) = converted(Format::Responses, 400, None, &body);
        assert_eq!(told["error"]["code"], "context_length_exceeded");
    }

    #[test]
    fn what_is_no_json_is_not_passed_on() {
        let id = RequestId::from(uuid::Uuid::nil());
        let formats = (Format::Messages, Format::Chat);
        let error = convert_error(formats, 502, None, b"<html>bad gateway</html>", id);
        assert!(!error.body.contains("html") && error.body.contains("502"), "{}", error.body);
    }
}
