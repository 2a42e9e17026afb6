//! What a provider's error is about, where its status leaves that open and it decides what becomes of the
//! request: a prompt that is too long for the model, a credential that is refused, or an account that may
//! not use the model.
//!
//! Codes and messages are those that the providers document, or are known to send; a provider may change
//! its words at any time, and then the error is an ordinary one.

use serde_json::Value;

use super::format::Format;

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCause {
    /// The prompt is longer than the model's context window.
    ContextOverflow,
    /// The credential: it is not known, or not good for the API.
    Credential,
    /// The account of the credential: it has no access to the model, or no money.
    Account,
    /// Anything else, such as a mistake of the caller's.
    Other,
}

/// Codes and types of errors about the context window (OpenAI, and llama.cpp's server).
const OVERFLOW_CODES: [&str; 2] = ["context_length_exceeded", "exceed_context_size_error"];

/// Codes, types, statuses and reasons of a 403 that is about the credential.
const CREDENTIAL_CODES: [&str; 19] = [
    // OpenAI and APIs like it. The first one is of keys that lack a scope.
    "insufficient_permissions",
    "invalid_api_key",
    "invalid_authentication",
    "missing_scope",
    // Anthropic: the key is unknown, or is not for the resource.
    "authentication_error",
    "permission_error",
    // Google (`google.api.ErrorReason`). Its status is `PERMISSION_DENIED` for much else, too.
    "access_token_expired",
    "access_token_type_unsupported",
    "api_key_android_app_blocked",
    "api_key_http_referrer_blocked",
    "api_key_invalid",
    "api_key_ip_address_blocked",
    "api_key_service_blocked",
    "credentials_missing",
    // Azure: the resource takes no keys.
    "authenticationtypedisabled",
    // AWS.
    "expiredtokenexception",
    "incompletesignatureexception",
    "invalidsignatureexception",
    "unrecognizedclientexception",
];

/// Words of a 403 that is about the credential.
const CREDENTIAL_WORDS: [&str; 3] = ["api key", "subscription key", "credential"];

/// Codes, types and statuses of a 403 that is about the account.
const ACCOUNT_CODES: [&str; 9] = [
    // OpenAI and APIs like it.
    "insufficient_quota",
    "model_not_found",
    "permission_denied_error",
    "unsupported_country_region_territory",
    // Anthropic.
    "billing_error",
    // Google.
    "permission_denied",
    "service_disabled",
    // Azure.
    "permissiondenied",
    // AWS.
    "accessdeniedexception",
];

/// Words of a 403 that is about the account.
const ACCOUNT_WORDS: [&str; 4] = ["billing", "credits", "not have access", "permission"];

/// Words of a 403 that is about the content of the request, whatever else it says (OpenRouter's
/// moderation, xAI's safety checks).
const CONTENT_WORDS: [&str; 4] = ["flagged", "moderation", "safety", "usage guidelines"];

/// The cause of an error that an upstream answers a request of this format with. `error_type` is the value
/// of AWS's header `x-amzn-errortype`.
pub fn cause_of(format: Format, status: u16, error_type: Option<&str>, body: &[u8]) -> ErrorCause {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return ErrorCause::Other };
    let mut error = ErrorText::default();
    error.read(&body);
    if let Some(error_type) = error_type {
        error.add_code(error_type);
    }
    match status {
        400 | 413 if error.has_code(&OVERFLOW_CODES) || error.says(overflow_words(format)) => {
            ErrorCause::ContextOverflow
        }
        // Google's answer to an unknown key.
        400 if error.has_code(&["api_key_invalid"]) => ErrorCause::Credential,
        403 if error.says(&CONTENT_WORDS) => ErrorCause::Other,
        403 if error.has_code(&CREDENTIAL_CODES) || error.says(&CREDENTIAL_WORDS) => {
            ErrorCause::Credential
        }
        403 if error.has_code(&ACCOUNT_CODES) || error.says(&ACCOUNT_WORDS) => ErrorCause::Account,
        _ => ErrorCause::Other,
    }
}

/// The time after which Google's API wants to be asked again, as it writes it: `34.4s` (`google.rpc.RetryInfo`).
pub fn retry_delay(body: &[u8]) -> Option<String> {
    let body = serde_json::from_slice::<Value>(body).ok()?;
    let details = body.get(0).unwrap_or(&body).get("error")?.get("details")?.as_array()?;
    let delay = details.iter().find_map(|detail| detail.get("retryDelay"))?;
    delay.as_str().map(str::to_owned)
}

/// What providers that speak the format say of a prompt that is too long, in lower case.
fn overflow_words(format: Format) -> &'static [&'static str] {
    match format {
        Format::Chat | Format::Responses | Format::Embeddings => &[
            // OpenAI, Azure, DeepSeek, OpenRouter, vLLM.
            "maximum context length",
            "exceeds the context window",
            // Groq and Cerebras.
            "reduce the length of the messages",
            // xAI.
            "maximum prompt length is",
            // Mistral.
            "too large for model with",
            // Fireworks, and Anthropic behind OpenAI's API.
            "prompt is too long",
            // Newer versions of vLLM.
            "maximum model length",
            // llama.cpp's server.
            "exceeds the available context size",
        ],
        // Anthropic, "Errors" and "Context windows".
        Format::Messages => &["prompt is too long", "exceed context limit"],
        Format::Gemini | Format::GeminiEmbeddings => &["exceeds the maximum number of tokens"],
        Format::Converse | Format::Invoke => &[
            "input is too long",
            "prompt is too long",
            "exceed context limit",
            "maximum context length",
            // Amazon's own models.
            "input tokens exceeded",
        ],
    }
}

/// The parts of an error that tell its cause, in lower case.
#[derive(Default)]
struct ErrorText {
    codes: Vec<String>,
    message: String,
}

impl ErrorText {
    /// Reads the envelopes of all formats: `{"error": {..}}`, in an array or not; Anthropic's with the
    /// type in it; AWS's without an envelope.
    fn read(&mut self, body: &Value) {
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").unwrap_or(body);
        for key in ["code", "type", "status", "__type"] {
            self.codes_of(error.get(key));
        }
        let details = error.get("details").and_then(Value::as_array);
        details.into_iter().flatten().for_each(|detail| self.codes_of(detail.get("reason")));
        let message =
            ["message", "Message", "detail"].iter().find_map(|key| error.get(key)?.as_str());
        self.message = message.or(error.as_str()).unwrap_or_default().to_lowercase();
    }

    fn codes_of(&mut self, value: Option<&Value>) {
        if let Some(code) = value.and_then(Value::as_str) {
            self.add_code(code);
        }
    }

    /// AWS's types may have a namespace before a `#` and a URL behind a `:`.
    fn add_code(&mut self, code: &str) {
        let code = code.rsplit('#').next().unwrap_or(code);
        let code = code.split(':').next().unwrap_or(code);
        self.codes.push(code.trim().to_ascii_lowercase());
    }

    fn has_code(&self, known: &[&str]) -> bool {
        self.codes.iter().any(|code| known.contains(&code.as_str()))
    }

    fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|words| self.message.contains(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(format: Format, status: u16, body: &str) -> ErrorCause {
        cause_of(format, status, None, body.as_bytes())
    }

    #[test]
    fn an_overflow_is_recognized_in_each_format() {
        use Format::{Chat, Converse, Gemini, Messages, Responses};
        for (format, status, body) in [
            (
                Chat,
                400,
                r#"{"error":{"message":"Your input is too much.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            ),
            (
                Responses,
                400,
                r#"{"error":{"message":"Your input exceeds the context window of this model. Please adjust your input and try again.","type":"invalid_request_error","param":"input","code":null}}"#,
            ),
            (
                Chat,
                400,
                r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.","type":"BadRequestError","code":400}"#,
            ),
            (
                Chat,
                413,
                r#"{"error":{"message":"Please reduce the length of the messages or completion."}}"#,
            ),
            (
                Messages,
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            ),
            (
                Messages,
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"}}"#,
            ),
            (
                Gemini,
                400,
                r#"[{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}]"#,
            ),
            (Converse, 400, r#"{"message":"Input is too long for requested model."}"#),
        ] {
            assert_eq!(cause(format, status, body), ErrorCause::ContextOverflow, "{body}");
            assert_eq!(cause(format, 422, body), ErrorCause::Other, "{body}");
        }
        for body in [
            r#"{"error":{"message":"Unknown parameter: 'max_context'.","code":"unknown_parameter"}}"#,
            r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#,
            "{}",
            "[]",
            "null",
            "prompt is too long",
            "",
        ] {
            assert_eq!(cause(Format::Chat, 400, body), ErrorCause::Other, "{body}");
        }
    }

    #[test]
    fn a_403_is_about_the_credential_or_its_account_only_if_it_says_so() {
        use ErrorCause::{Account, Credential, Other};
        for (expected, body) in [
            (
                Credential,
                r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission to use the specified resource"}}"#,
            ),
            (
                Credential,
                r#"{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: model.request.","type":"invalid_request_error","code":"missing_scope"}}"#,
            ),
            (
                Credential,
                r#"{"error":{"code":403,"message":"Requests from this IP address are blocked.","status":"PERMISSION_DENIED","details":[{"reason":"API_KEY_IP_ADDRESS_BLOCKED"}]}}"#,
            ),
            (
                Credential,
                r#"{"error":{"code":403,"message":"Your API key was reported as leaked. Please use another API key.","status":"PERMISSION_DENIED"}}"#,
            ),
            (
                Credential,
                r#"{"error":{"code":"AuthenticationTypeDisabled","message":"Key based authentication is disabled for this resource."}}"#,
            ),
            (
                Credential,
                r#"{"Message":"Authentication failed: Please make sure your API Key is valid."}"#,
            ),
            (
                Account,
                r#"{"error":{"code":403,"message":"Permission 'aiplatform.endpoints.predict' denied on resource 'm' (or it may not exist).","status":"PERMISSION_DENIED","details":[{"reason":"IAM_PERMISSION_DENIED"}]}}"#,
            ),
            (
                Account,
                r#"{"error":{"message":"Project `p` does not have access to model `m`","type":"invalid_request_error","code":"model_not_found"}}"#,
            ),
            (Account, r#"{"error":"Your team has used all its credits."}"#),
            (
                Account,
                r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"No."}"#,
            ),
            (
                Other,
                r#"{"error":{"code":403,"message":"Your chosen model requires moderation and your input was flagged"}}"#,
            ),
            (
                Other,
                r#"{"error":"Content violates usage guidelines. API key ID: k, failed check: SAFETY_CHECK"}"#,
            ),
            (
                Other,
                r#"{"error":{"code":"403","message":"Access denied due to Virtual Network/Firewall rules."}}"#,
            ),
            (Other, r#"{"error":{"message":"Forbidden"}}"#),
            (Other, "<html>Forbidden</html>"),
        ] {
            assert_eq!(cause(Format::Chat, 403, body), expected, "{body}");
            assert_eq!(cause(Format::Chat, 400, body), Other, "{body}");
        }
        let unknown_key = r#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#;
        assert_eq!(cause(Format::Gemini, 400, unknown_key), Credential);
        let header = Some("AccessDeniedException:http://internal.amazon.com/coral/");
        assert_eq!(cause_of(Format::Converse, 403, header, b"{}"), Account);
    }
}
