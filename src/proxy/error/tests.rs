//! The table of errors, and how each is rendered.

use std::collections::HashMap;

use super::*;
use crate::accounting::engine::denied_status;
use crate::domain::metadata::Metadata;
use crate::domain::provider::Provider;
use crate::json::object::BodyError;
use crate::llm::convert::error::ConvertError;
use serde_json::{Value, json};

fn request_id() -> RequestId {
    RequestId::from(uuid::Uuid::nil())
}

fn all() -> Vec<ProxyError> {
    use ProxyError as E;
    let name = || "a \"b\"".to_owned();
    vec![
        E::Body(BodyError::DuplicateKey { key: "model".into() }),
        E::ModelOverride { field: name() },
        E::UndecodableBody { max_window: None },
        E::UnsupportedContentEncoding { named: name() },
        E::IncompleteBody,
        E::BadModelId,
        E::ModelMissing,
        E::ModelMismatch,
        E::CredentialInQuery { name: name() },
        E::UnsupportedQuery { name: name() },
        E::UnknownRoute { name: name() },
        E::NoTarget { name: name() },
        E::TargetsCoolDown { retry_after: 5, is_rate: false },
        E::DoubledVersion { provider: Provider::Openai },
        E::ProviderSecretMissing { provider: Provider::Groq, secret: name() },
        E::ProviderDisabled { provider: Provider::Groq },
        E::SharedAccountState { field: "conversation" },
        E::UnmeteredNotAllowed { provider: Provider::Groq },
        E::UnmeteredNeedsOwnSecret { provider: Provider::Groq },
        E::InvalidMetadata(
            Metadata::from_headers([("x-gateway-", &b"v"[..])].into_iter()).unwrap_err(),
        ),
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
        E::UnknownModel { id: name() },
        E::AmbiguousModel { ids: vec![name(), name()] },
        E::ModelsUnavailable { provider: name() },
        E::DisabledConfiguration { name: name() },
        E::BodyTooSlow,
        E::BodyTooLarge { limit: 1 },
        E::ConcurrencyLimited { name: name() },
        E::KeyAttemptsLimited { retry_after: 7 },
        E::NotServed,
        E::NotConvertible { model: name(), error: ConvertError::unsupported("n", "must be 1") },
        E::UpstreamUnreadable,
        E::UpstreamReported(crate::llm::convert::answer::Failure { code: name(), message: name() }),
        E::FormatNotServed { configuration: Some(name()), provider: Provider::Anthropic },
        E::Internal,
        E::UpstreamUnresolved,
        E::UpstreamUnreachable,
        E::UpstreamTls,
        E::UpstreamInvalid,
        E::UpstreamDied,
        E::UpstreamRedirect,
        E::EgressRefused,
        E::CredentialRefused(RefusedCredential::Secret(name())),
        E::ConnectTimeout,
        E::FirstByteTimeout,
        E::IdleTimeout,
        E::Overloaded,
        E::SecretUnavailable { name: name() },
        E::TokenUnavailable { host: name(), secret: name() },
        E::ProjectMismatch,
        E::RegionInvalid,
        E::DirectoryUnavailable,
    ]
}

#[test]
fn statuses_and_headers_agree() {
    let mut codes = HashMap::new();
    for error in all() {
        let row = error.row();
        assert!(error.to_string().ends_with('.'), "{error:?}");
        assert_eq!(codes.insert(row.code, format!("{error:?}")), None, "{error:?}");
        let response = error.response(Format::Chat, request_id());
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
    let missing = ProxyError::MissingKey.response(Format::Chat, request_id());
    assert_eq!(missing.headers().get("www-authenticate").unwrap(), "Bearer realm=\"tollgate\"");
    let limited = ProxyError::KeyAttemptsLimited { retry_after: 7 };
    let limited = limited.response(Format::Chat, request_id());
    assert_eq!(limited.headers().get("retry-after").unwrap(), "7");
}

#[test]
fn the_envelope_is_the_apis_own() {
    let error = ProxyError::Body(BodyError::DuplicateKey { key: "mo\"del".into() });
    assert_eq!(
        serde_json::from_str::<Value>(&error.render(request_id(), |error| error.body())).unwrap(),
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
    let chat = error.render(request_id(), |error| Format::Chat.error_event(&error, 4));
    let data = chat.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
    assert_eq!(data, error.render(request_id(), |error| error.body()));
    let responses = error.render(request_id(), |error| Format::Responses.error_event(&error, 4));
    let data = responses.strip_prefix("event: error\ndata: ").unwrap();
    let event: Value = serde_json::from_str(data.trim_end()).unwrap();
    assert_eq!(event["type"], "error");
    assert_eq!(event["code"], "upstream_closed");
    assert_eq!(event["sequence_number"], 4);
    let messages = error.render(request_id(), |error| Format::Messages.error_event(&error, 4));
    let data = messages.strip_prefix("event: error\ndata: ").unwrap();
    let event: Value = serde_json::from_str(data.trim_end()).unwrap();
    assert_eq!((&event["type"], &event["error"]["type"]), (&json!("error"), &json!("api_error")));
    assert_eq!(event["error"]["code"], "upstream_closed");
}

#[test]
fn a_denied_request_gets_the_status_that_the_ledger_records() {
    for reason in Reason::ALL {
        let denied = Denied {
            reason,
            message: "No.".to_owned(),
            report: Box::default(),
            violated: Vec::new(),
            field: None,
            retry_after: None,
            cause: None,
        };
        let row = ProxyError::from(&denied).row();
        assert_eq!(row.status.as_u16(), denied_status(reason), "{reason:?}");
        assert_eq!(row.code, reason.code());
    }
}
