//! The errors that the gateway itself makes on the data plane, and how each is told to the caller.
//!
//! [`ProxyError::row`] is the one table: variant to status, type, code and words. Causes from the
//! inside (addresses, database errors) are for the log and never stand in a variant. What an upstream
//! answers is no error of ours and passes through as it came.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, RETRY_AFTER};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use actix_web_httpauth::headers::www_authenticate::WwwAuthenticate;
use actix_web_httpauth::headers::www_authenticate::bearer::Bearer;
use serde::Serialize;

use super::body::BodyError;

/// Marks an answer as the gateway's own.
pub const GATEWAY_HEADER: HeaderName = HeaderName::from_static("x-tollgate-error");

/// Tells SDKs whether to try again, whatever the status says to them.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Everything that the gateway answers by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table below says of each what it means, in words for callers")]
pub enum ProxyError {
    Body(BodyError),
    IncompleteBody,
    BadModelId,
    MissingKey,
    InvalidKey,
    ExpiredKey,
    RevokedKey,
    DisabledKey,
    UserDeactivated,
    PermissionDenied { permission: &'static str },
    OrganizationSuspended,
    OrganizationKey,
    UnknownConfiguration { name: String },
    DisabledConfiguration { name: String },
    BodyTooSlow,
    BodyTooLarge { limit: usize },
    ConcurrencyLimited { name: String },
    KeyAttemptsLimited { retry_after: u32 },
    NotServed,
    Internal,
    UpstreamUnresolved,
    UpstreamUnreachable,
    UpstreamTls,
    UpstreamInvalid,
    UpstreamDied,
    EgressRefused,
    ConnectTimeout,
    FirstByteTimeout,
    IdleTimeout,
    Overloaded,
    ShuttingDown,
    SecretUnavailable { name: String },
    DirectoryUnavailable,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not before somebody changes something.
    Never,
    /// It may; nothing is known of when.
    May,
    /// After this many seconds.
    After(u32),
}

/// How one error is told.
#[derive(Debug)]
pub struct Row {
    /// The answer's status.
    pub status: StatusCode,
    /// The envelope's `type`, in the API's own terms.
    pub kind: &'static str,
    /// The envelope's `code`; stable, and a label for metrics.
    pub code: &'static str,
    /// Whether trying again can help.
    pub retry: Retry,
    /// What happened, and what to do next.
    pub message: Cow<'static, str>,
}

const REQUEST: &str = "invalid_request_error";
const PERMISSION: &str = "permission_error";
const RATE: &str = "rate_limit_error";
const SERVER: &str = "server_error";
const UPSTREAM: &str = "upstream_error";

impl ProxyError {
    /// The table.
    pub fn row(&self) -> Row {
        use Retry::{After, May, Never};
        let row = |status, kind, code, retry, message: &'static str| Row {
            status,
            kind,
            code,
            retry,
            message: message.into(),
        };
        let told = |status, kind, code, retry, message: String| Row {
            status,
            kind,
            code,
            retry,
            message: message.into(),
        };
        match self {
            Self::Body(error) => {
                told(StatusCode::BAD_REQUEST, REQUEST, error.code(), Never, error.to_string())
            }
            Self::IncompleteBody => row(
                StatusCode::BAD_REQUEST,
                REQUEST,
                "incomplete_body",
                May,
                "The request body ended before its declared length, or its chunks were malformed. Send it whole.",
            ),
            Self::BadModelId => row(
                StatusCode::BAD_REQUEST,
                REQUEST,
                "invalid_model_id",
                Never,
                "The model id in the path holds '.' or '..' as a path segment. Use the id as the model listing shows it.",
            ),
            Self::MissingKey => row(
                StatusCode::UNAUTHORIZED,
                REQUEST,
                "missing_api_key",
                Never,
                "No Tollgate API key was sent. Send yours, which begins with 'tg_', as 'Authorization: Bearer tg_...' or in 'X-Api-Key'.",
            ),
            Self::InvalidKey => row(
                StatusCode::UNAUTHORIZED,
                REQUEST,
                "invalid_api_key",
                Never,
                "The API key is not valid. Check that it was copied whole, or ask an administrator for a new one.",
            ),
            Self::ExpiredKey => row(
                StatusCode::UNAUTHORIZED,
                REQUEST,
                "expired_api_key",
                Never,
                "The API key has expired. Ask an administrator to extend or rotate it.",
            ),
            Self::RevokedKey => row(
                StatusCode::UNAUTHORIZED,
                REQUEST,
                "revoked_api_key",
                Never,
                "The API key has been revoked. Ask an administrator for a new one.",
            ),
            Self::DisabledKey => row(
                StatusCode::UNAUTHORIZED,
                REQUEST,
                "disabled_api_key",
                Never,
                "The API key is disabled. Ask an administrator to enable it.",
            ),
            Self::UserDeactivated => row(
                StatusCode::UNAUTHORIZED,
                REQUEST,
                "user_deactivated",
                Never,
                "The user whom the API key belongs to is deactivated. Use another key, or ask an administrator.",
            ),
            Self::PermissionDenied { permission } => told(
                StatusCode::FORBIDDEN,
                PERMISSION,
                "permission_denied",
                Never,
                format!(
                    "The API key's role lacks the permission '{permission}'. Use a key with a role that holds it."
                ),
            ),
            Self::OrganizationSuspended => row(
                StatusCode::FORBIDDEN,
                PERMISSION,
                "organization_suspended",
                Never,
                "The organization is suspended, so none of its keys can call the gateway. Ask the platform's administrator.",
            ),
            Self::OrganizationKey => row(
                StatusCode::FORBIDDEN,
                PERMISSION,
                "workspace_key_required",
                Never,
                "The API key belongs to no workspace, and model configurations live in workspaces. Call with a workspace's key.",
            ),
            Self::UnknownConfiguration { name } => told(
                StatusCode::NOT_FOUND,
                REQUEST,
                "unknown_configuration",
                Never,
                format!(
                    "The workspace has no model configuration named '{name}'. Check the name in the URL, percent-encoded as one path segment."
                ),
            ),
            Self::DisabledConfiguration { name } => told(
                StatusCode::NOT_FOUND,
                REQUEST,
                "configuration_disabled",
                Never,
                format!(
                    "The model configuration '{name}' is disabled. Ask an administrator of the workspace to enable it."
                ),
            ),
            Self::BodyTooSlow => row(
                StatusCode::REQUEST_TIMEOUT,
                REQUEST,
                "body_timeout",
                May,
                "The request body did not arrive in time. Send it faster, or send less.",
            ),
            Self::BodyTooLarge { limit } => told(
                StatusCode::PAYLOAD_TOO_LARGE,
                REQUEST,
                "body_too_large",
                Never,
                format!(
                    "The request body is larger than the gateway's limit of {limit} bytes. Send less."
                ),
            ),
            Self::ConcurrencyLimited { name } => told(
                StatusCode::TOO_MANY_REQUESTS,
                RATE,
                "concurrency_limit_exceeded",
                After(1),
                format!(
                    "The model configuration '{name}' has as many requests under way as it allows. Try again when some have ended."
                ),
            ),
            Self::KeyAttemptsLimited { retry_after } => row(
                StatusCode::TOO_MANY_REQUESTS,
                RATE,
                "key_attempts_limited",
                After(*retry_after),
                "There were too many attempts with a wrong secret for this API key. Check the key, and wait before the next try.",
            ),
            Self::NotServed => row(
                StatusCode::NOT_IMPLEMENTED,
                REQUEST,
                "not_served",
                Never,
                "The gateway does not serve this method and path. It serves POST /v1/chat/completions, POST /v1/responses, GET /v1/models and GET /v1/models/{id} under /providers/{configName}.",
            ),
            Self::Internal => row(
                StatusCode::INTERNAL_SERVER_ERROR,
                SERVER,
                "internal_error",
                May,
                "The gateway failed. If it happens again, give the x-request-id of this answer to its operator.",
            ),
            Self::UpstreamUnresolved => row(
                StatusCode::BAD_GATEWAY,
                UPSTREAM,
                "upstream_unresolved",
                May,
                "The provider's host name does not resolve. Check the model configuration's base URL.",
            ),
            Self::UpstreamUnreachable => row(
                StatusCode::BAD_GATEWAY,
                UPSTREAM,
                "upstream_unreachable",
                May,
                "The provider could not be connected to. Try again; if it persists, check the model configuration's base URL.",
            ),
            Self::UpstreamTls => row(
                StatusCode::BAD_GATEWAY,
                UPSTREAM,
                "upstream_tls",
                Never,
                "No secure connection to the provider could be made: its certificate or TLS version was not accepted. Check the model configuration's base URL.",
            ),
            Self::UpstreamInvalid => row(
                StatusCode::BAD_GATEWAY,
                UPSTREAM,
                "upstream_invalid_response",
                May,
                "The provider's answer was not valid HTTP. Check that the model configuration's base URL is that of an API.",
            ),
            Self::UpstreamDied => row(
                StatusCode::BAD_GATEWAY,
                UPSTREAM,
                "upstream_closed",
                May,
                "The provider closed the connection before its answer was complete. Try again.",
            ),
            Self::EgressRefused => row(
                StatusCode::BAD_GATEWAY,
                UPSTREAM,
                "egress_refused",
                Never,
                "The gateway's egress rules refuse the provider's address. Change the model configuration's base URL, or ask the gateway's operator to admit the address.",
            ),
            Self::ConnectTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                UPSTREAM,
                "upstream_connect_timeout",
                May,
                "The provider could not be connected to in time. Try again; if it persists, check the model configuration's base URL and timeouts.",
            ),
            Self::FirstByteTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                UPSTREAM,
                "upstream_first_byte_timeout",
                May,
                "The provider did not begin to answer in time. Raise the model configuration's first_byte_ms if its model thinks longer.",
            ),
            Self::IdleTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                UPSTREAM,
                "upstream_idle_timeout",
                May,
                "The provider stopped sending in the middle of its answer. Raise the model configuration's idle_ms if its model pauses longer.",
            ),
            Self::Overloaded => row(
                StatusCode::SERVICE_UNAVAILABLE,
                SERVER,
                "overloaded",
                After(1),
                "The gateway holds as many request bodies as it has memory for. Try again shortly.",
            ),
            Self::ShuttingDown => row(
                StatusCode::SERVICE_UNAVAILABLE,
                SERVER,
                "shutting_down",
                After(1),
                "This gateway process is shutting down. Try again.",
            ),
            Self::SecretUnavailable { name } => told(
                StatusCode::SERVICE_UNAVAILABLE,
                SERVER,
                "secret_unavailable",
                After(30),
                format!(
                    "The provider secret '{name}' is missing or cannot be opened. Ask an administrator of the workspace to store it again."
                ),
            ),
            Self::DirectoryUnavailable => row(
                StatusCode::SERVICE_UNAVAILABLE,
                SERVER,
                "directory_unavailable",
                After(2),
                "The gateway's database cannot be reached, so the request cannot be checked. Try again shortly.",
            ),
        }
    }

    /// The field that is wrong, where there is one.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Body(error) => error.param(),
            _ => None,
        }
    }

    /// The API's envelope, as it stands in a body and in a chat stream's last event.
    pub fn envelope(&self) -> String {
        let Row { kind, code, message, .. } = self.row();
        json(&Envelope { error: Told { message: &message, kind, param: self.param(), code } })
    }

    /// The event by which a chat stream tells its reader that it will not be finished.
    pub fn chat_event(&self) -> String {
        format!("data: {}\n\n", self.envelope())
    }

    /// The same for a stream of the responses API, whose events are numbered.
    pub fn responses_event(&self, sequence_number: u64) -> String {
        let Row { code, message, .. } = self.row();
        let event = ErrorEvent {
            kind: "error",
            code,
            message: &message,
            param: self.param(),
            sequence_number,
        };
        format!("event: error\ndata: {}\n\n", json(&event))
    }
}

/// Text, numbers and fixed keys can't fail to serialize; were it so, an empty object is still JSON.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Told<'a>,
}

#[derive(Serialize)]
struct Told<'a> {
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

impl From<BodyError> for ProxyError {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row().message)
    }
}

impl std::error::Error for ProxyError {}

impl ResponseError for ProxyError {
    fn status_code(&self) -> StatusCode {
        self.row().status
    }

    fn error_response(&self) -> HttpResponse {
        let Row { status, retry, .. } = self.row();
        let mut response = HttpResponseBuilder::new(status);
        response.insert_header((GATEWAY_HEADER, "gateway"));
        match retry {
            Retry::Never => {
                response.insert_header((SHOULD_RETRY, "false"));
            }
            Retry::May => {}
            Retry::After(seconds) => {
                response.insert_header((RETRY_AFTER, seconds.to_string()));
            }
        }
        if status == StatusCode::UNAUTHORIZED {
            response.insert_header(WwwAuthenticate(Bearer::build().realm("tollgate").finish()));
        }
        // The body of these was not read to its end; what is left of it must not be taken for the
        // next request, nor be waited for.
        if matches!(
            self,
            Self::NotServed | Self::BodyTooLarge { .. } | Self::BodyTooSlow | Self::IncompleteBody
        ) {
            response.force_close();
        }
        response.content_type("application/json").body(self.envelope())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use serde_json::{Value, json};

    fn all() -> Vec<ProxyError> {
        use ProxyError as E;
        let name = || "a \"b\"".to_owned();
        vec![
            E::Body(BodyError::DuplicateKey { key: "model".into() }),
            E::IncompleteBody,
            E::BadModelId,
            E::MissingKey,
            E::InvalidKey,
            E::ExpiredKey,
            E::RevokedKey,
            E::DisabledKey,
            E::UserDeactivated,
            E::PermissionDenied { permission: "gateway:invoke" },
            E::OrganizationSuspended,
            E::OrganizationKey,
            E::UnknownConfiguration { name: name() },
            E::DisabledConfiguration { name: name() },
            E::BodyTooSlow,
            E::BodyTooLarge { limit: 1 },
            E::ConcurrencyLimited { name: name() },
            E::KeyAttemptsLimited { retry_after: 7 },
            E::NotServed,
            E::Internal,
            E::UpstreamUnresolved,
            E::UpstreamUnreachable,
            E::UpstreamTls,
            E::UpstreamInvalid,
            E::UpstreamDied,
            E::EgressRefused,
            E::ConnectTimeout,
            E::FirstByteTimeout,
            E::IdleTimeout,
            E::Overloaded,
            E::ShuttingDown,
            E::SecretUnavailable { name: name() },
            E::DirectoryUnavailable,
        ]
    }

    #[test]
    fn statuses_and_headers_agree() {
        let mut codes = HashMap::new();
        for error in all() {
            let row = error.row();
            assert!(row.message.ends_with('.'), "{error:?}");
            assert_eq!(codes.insert(row.code, format!("{error:?}")), None, "{error:?}");
            let response = error.error_response();
            assert_eq!(response.status(), row.status);
            let headers = response.headers();
            assert_eq!(headers.get("x-tollgate-error").unwrap(), "gateway");
            assert_eq!(headers.get("content-type").unwrap(), "application/json");
            let status = row.status.as_u16();
            assert_eq!(headers.contains_key("retry-after"), matches!(status, 429 | 503));
            assert_eq!(headers.contains_key("www-authenticate"), status == 401);
            let never = row.retry == Retry::Never;
            assert_eq!(headers.contains_key("x-should-retry"), never);
            if matches!(status, 401 | 403 | 404 | 413 | 501) {
                assert!(never, "{error:?}");
            }
        }
        let missing = ProxyError::MissingKey.error_response();
        assert_eq!(missing.headers().get("www-authenticate").unwrap(), "Bearer realm=\"tollgate\"");
        let limited = ProxyError::KeyAttemptsLimited { retry_after: 7 }.error_response();
        assert_eq!(limited.headers().get("retry-after").unwrap(), "7");
    }

    #[test]
    fn the_envelope_is_the_apis_own() {
        let error = ProxyError::Body(BodyError::DuplicateKey { key: "mo\"del".into() });
        assert_eq!(
            serde_json::from_str::<Value>(&error.envelope()).unwrap(),
            json!({"error": {
                "message": "The request body holds the field 'mo\"del' twice. Send it once.",
                "type": "invalid_request_error",
                "param": "mo\"del",
                "code": "duplicate_field",
            }})
        );
    }

    #[test]
    fn stream_events_have_their_apis_shape() {
        let error = ProxyError::UpstreamDied;
        let chat = error.chat_event();
        let data = chat.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
        assert_eq!(data, error.envelope());
        let responses = error.responses_event(4);
        let data = responses.strip_prefix("event: error\ndata: ").unwrap();
        let event: Value = serde_json::from_str(data.trim_end()).unwrap();
        assert_eq!(event["type"], "error");
        assert_eq!(event["code"], "upstream_closed");
        assert_eq!(event["sequence_number"], 4);
    }
}
