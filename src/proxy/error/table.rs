//! The one table of the gateway's own errors: the message of each, its status and its code.

use actix_web::http::StatusCode;

use super::SUPPORTED_CODINGS;
use super::messages::{format_not_served, model_override, targets_cool_down, undecodable_body};
use super::row::{Retry, Row, denied, row};
use crate::domain::metadata::InvalidMetadata;
use crate::domain::provider::Provider;
use crate::json::object::BodyError;
use crate::llm::convert::answer::Failure;
use crate::llm::convert::error::ConvertError;
use crate::policy::admission::Reason;

/// Everything that the gateway answers by itself. The messages say what happened, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("{}", model_override(.field))]
    ModelOverride { field: String },
    /// `max_window` is the largest window, where that of the body is larger.
    #[error("{}", undecodable_body(*.max_window))]
    UndecodableBody { max_window: Option<u64> },
    #[error(
        "The gateway does not read the Content-Encoding '{named}'. Send the body uncompressed, or compressed once or twice with any of: {SUPPORTED_CODINGS}."
    )]
    UnsupportedContentEncoding { named: String },
    #[error(
        "The request body ended before its declared length, or its chunks were malformed. Send it whole."
    )]
    IncompleteBody,
    #[error(
        "The model id holds '.' or '..' as a path segment. Use the id as the model listing shows it."
    )]
    BadModelId,
    #[error("The request names no model. Send its name as the text field 'model'.")]
    ModelMissing,
    #[error(
        "The body names another model than the path, or than the model configuration. Leave it out there."
    )]
    ModelMismatch,
    #[error(
        "The query parameter '{name}' may hold a credential, and a URL is often logged. Send the Tollgate key in a header, such as 'Authorization: Bearer tg_...' or 'x-goog-api-key'."
    )]
    CredentialInQuery { name: String },
    #[error(
        "The query parameter '{name}' is not passed on, since the usage could not be read from the answer. Leave it out; 'alt' may be 'sse' or 'json'."
    )]
    UnsupportedQuery { name: String },
    #[error(
        "The workspace has no route named '{name}'. Check the name in the URL, percent-encoded as one path segment."
    )]
    UnknownRoute { name: String },
    #[error(
        "The fallback '{name}' has no target left: its model configurations were deleted. Ask an administrator to change the policy."
    )]
    NoTarget { name: String },
    #[error("{}", targets_cool_down(*.is_rate))]
    TargetsCoolDown { retry_after: u32, is_rate: bool },
    #[error("The path holds the API's version twice. The client adds it itself: set its base URL to /{} without it.", .provider.as_str())]
    DoubledVersion { provider: Provider },
    #[error("Neither the workspace nor its organization has a secret named '{secret}', which holds the key for {}. Ask an administrator to store it: PUT /api/v1/workspaces/{{workspace_id}}/secrets/{secret}.", .provider.as_str())]
    ProviderSecretMissing { provider: Provider, secret: String },
    #[error("An administrator has disabled the provider {} for this workspace. Use another one, or ask for it in the provider-settings.", .provider.as_str())]
    ProviderDisabled { provider: Provider },
    #[error(
        "'{field}' refers to what the provider stores for the organization's account, which other workspaces use, too. Send the content itself, or ask an administrator for a secret of this workspace."
    )]
    SharedAccountState { field: &'static str },
    #[error("The gateway does not meter this endpoint of {0}, so it is not served. An administrator of the organization can let it through: 'unmetered_endpoints' in PUT /api/v1/provider-settings/{0}.", .provider.as_str())]
    UnmeteredNotAllowed { provider: Provider },
    #[error("Endpoints that are not metered need a secret of the workspace for {}: the organization's is shared by all workspaces.", .provider.as_str())]
    UnmeteredNeedsOwnSecret { provider: Provider },
    #[error(
        "{0}. Gateway policies match by it, so the request was not sent. Correct it or leave it out."
    )]
    InvalidMetadata(InvalidMetadata),
    #[error(
        "No Tollgate API key was sent. Send yours, which begins with 'tg_', as 'Authorization: Bearer tg_...' or in 'X-Api-Key'."
    )]
    MissingKey,
    #[error(
        "The API key is not valid. Check that it was copied whole, or ask an administrator for a new one."
    )]
    InvalidKey,
    #[error("The API key has expired. Ask an administrator to extend or rotate it.")]
    ExpiredKey,
    #[error("The API key has been revoked. Ask an administrator for a new one.")]
    RevokedKey,
    #[error("The API key is disabled. Ask an administrator to enable it.")]
    DisabledKey,
    #[error(
        "The user whom the API key belongs to is deactivated. Use another key, or ask an administrator."
    )]
    UserDeactivated,
    #[error(
        "The API key's role lacks the permission '{permission}'. Use a key with a role that holds it."
    )]
    PermissionDenied { permission: &'static str },
    #[error(
        "The organization is suspended, so none of its keys can call the gateway. Ask the platform's administrator."
    )]
    OrganizationSuspended,
    #[error(
        "The API key belongs to no workspace, and models are called with what a workspace has. Call with a workspace's key."
    )]
    OrganizationKey,
    #[error(
        "The workspace has no model configuration named '{name}'. Check the name in the URL, percent-encoded as one path segment."
    )]
    UnknownConfiguration { name: String },
    #[error(
        "There is no model '{id}' that this key may use. GET /v1/models lists those that there are."
    )]
    UnknownModel { id: String },
    #[error("Several models have this name. Say which one: {}.", .ids.join(" or "))]
    AmbiguousModel { ids: Vec<String> },
    #[error("The list of models of '{provider}' cannot be read at the moment. Try again.")]
    ModelsUnavailable { provider: String },
    #[error(
        "The model configuration '{name}' is disabled. Ask an administrator of the workspace to enable it."
    )]
    DisabledConfiguration { name: String },
    #[error("The request body did not arrive in time. Send it faster, or send less.")]
    BodyTooSlow,
    #[error("The request body is larger than the gateway's limit of {limit} bytes. Send less.")]
    BodyTooLarge { limit: usize },
    #[error(
        "The model configuration '{name}' has as many requests under way as it allows. Try again when some have ended."
    )]
    ConcurrencyLimited { name: String },
    #[error(
        "There were too many attempts with a wrong secret for this API key. Check the key, and wait before the next try."
    )]
    KeyAttemptsLimited { retry_after: u32 },
    #[error(
        "The gateway does not serve this method and path. It serves GET /v1/models, GET /v1/models/{{id}} and, for any model, POST /v1/chat/completions, /v1/responses, /v1/messages and /v1/messages/count_tokens; under /providers/{{configName}} or /models/{{configName}} these, POST /v1/responses/compact, POST /v1/embeddings, POST /v1beta/models/{{model}}:generateContent and its like, and POST /model/{{model}}/converse, /converse-stream, /invoke and /invoke-with-response-stream; the same under the names of built-in providers, such as /openai, and the providers' own paths under /vertex and /azure; and calls of models under /routes/{{name}}."
    )]
    NotServed,
    #[error("{error} (model '{model}', whose provider has another format).")]
    NotConvertible { model: String, error: ConvertError },
    #[error(
        "The provider's answer can't be put into the format of the request: it is compressed or longer than 32 MiB. Ask for a stream, or for a shorter answer."
    )]
    UpstreamUnreadable,
    #[error("The provider gave no usable answer: {}.", .0.message.trim_end_matches('.'))]
    UpstreamReported(Failure),
    #[error("{}", format_not_served(.configuration.as_deref(), *.provider))]
    FormatNotServed { configuration: Option<String>, provider: Provider },
    #[error(
        "The gateway failed. If it happens again, give the x-request-id of this answer to its operator."
    )]
    Internal,
    #[error("The provider's host name does not resolve. Check the model configuration's base URL.")]
    UpstreamUnresolved,
    #[error(
        "The provider could not be connected to. Try again; if it persists, check the model configuration's base URL."
    )]
    UpstreamUnreachable,
    #[error(
        "No secure connection to the provider could be made: its certificate or TLS version was not accepted. Check the model configuration's base URL."
    )]
    UpstreamTls,
    #[error(
        "The provider's answer was not valid HTTP. Check that the model configuration's base URL is that of an API."
    )]
    UpstreamInvalid,
    #[error("The provider closed the connection before its answer was complete. Try again.")]
    UpstreamDied,
    #[error(
        "The provider answered with a redirect, which the gateway neither follows nor passes on, since it would take the prompt and the key to another address. Set the model configuration's base_url to where the redirect leads."
    )]
    UpstreamRedirect,
    #[error(
        "The gateway's egress rules refuse the provider's address. Change the model configuration's base URL, or ask the gateway's operator to admit the address."
    )]
    EgressRefused,
    #[error(transparent)]
    CredentialRefused(RefusedCredential),
    #[error(
        "The provider could not be connected to in time. Try again; if it persists, check the model configuration's base URL and timeouts."
    )]
    ConnectTimeout,
    #[error(
        "The provider did not begin to answer in time. Raise the model configuration's first_byte_ms if its model thinks longer."
    )]
    FirstByteTimeout,
    #[error(
        "The provider stopped sending in the middle of its answer. Raise the model configuration's idle_ms if its model pauses longer."
    )]
    IdleTimeout,
    #[error("The gateway has as many requests under way as it has room for. Try again shortly.")]
    Overloaded,
    #[error(
        "The provider secret '{name}' is missing or cannot be opened. Ask an administrator of the workspace to store it again."
    )]
    SecretUnavailable { name: String },
    #[error(
        "The token endpoint at '{host}' gave no token for the credential in the secret '{secret}'. Try again; if it persists, ask an administrator to check that secret and, on a model configuration, its oauth with its check."
    )]
    TokenUnavailable { host: String, secret: String },
    #[error(
        "The path names another Google Cloud project than the credential's. Name that one, or leave out 'projects/.../locations/...'."
    )]
    ProjectMismatch,
    #[error(
        "The path names a project or a location that can't be one, or another location than the one that is set for the provider. Correct it, or leave out 'projects/.../locations/...'."
    )]
    RegionInvalid,
    #[error(
        "The gateway's database cannot be reached, so the request cannot be checked. Try again shortly."
    )]
    DirectoryUnavailable,
    #[error("{message}")]
    ModelForbidden { message: String },
    #[error("{message}")]
    ContentBlocked { message: String },
    #[error("{message}")]
    ContentNotScanned { message: String },
    #[error("{message}")]
    PriceUnknown { message: String, field: Option<&'static str> },
    #[error("{message}")]
    SpendCapExceeded { message: String },
    #[error("{message}")]
    RateLimited { message: String, retry_after: Option<u64> },
    #[error(
        "The limits that apply to this request can't be checked at the moment, so it was not sent. Try again."
    )]
    LimitsUnavailable,
    #[error(
        "The gateway has no room left to record requests, so none are sent. Try again; an administrator has to see to the database or the disk."
    )]
    JournalFull,
}

/// What a provider does not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedCredential {
    /// The value of the secret with this name.
    #[error(
        "The provider refuses the credential in the secret '{0}'. Ask an administrator to store one that it accepts."
    )]
    Secret(String),
    /// An OAuth token from this host.
    #[error(
        "The provider refuses the token from '{0}'. Ask an administrator to check what the OAuth client or the service account that it is for may use, and its scope."
    )]
    TokenFrom(String),
}

impl ProxyError {
    /// The status and the code, and whether trying again can help.
    pub fn row(&self) -> Row {
        use Retry::{After, May, Never};
        use StatusCode as Status;
        match self {
            Self::Body(error) => row(Status::BAD_REQUEST, error.code(), Never),
            Self::NotConvertible { error, .. } => {
                let code = match error {
                    ConvertError::Invalid { .. } => "invalid_parameter",
                    ConvertError::Unsupported { .. } => "unsupported_parameter",
                };
                row(Status::BAD_REQUEST, code, Never)
            }
            Self::UpstreamUnreadable => row(Status::BAD_GATEWAY, "upstream_answer_unreadable", May),
            Self::UpstreamReported(_) => row(Status::BAD_GATEWAY, "upstream_error", May),
            Self::ModelOverride { .. } => row(Status::BAD_REQUEST, "model_override", Never),
            Self::UndecodableBody { .. } => row(Status::BAD_REQUEST, "undecodable_body", Never),
            Self::UnsupportedContentEncoding { .. } => {
                row(Status::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_encoding", Never)
            }
            Self::IncompleteBody => row(Status::BAD_REQUEST, "incomplete_body", May),
            Self::BadModelId => row(Status::BAD_REQUEST, "invalid_model_id", Never),
            Self::ModelMissing => row(Status::BAD_REQUEST, "model_missing", Never),
            Self::UnknownRoute { .. } => row(Status::NOT_FOUND, "unknown_route", Never),
            Self::NoTarget { .. } => row(Status::BAD_GATEWAY, "no_target", Never),
            Self::TargetsCoolDown { retry_after, is_rate: true } => {
                row(Status::TOO_MANY_REQUESTS, "targets_rate_limited", After(*retry_after))
            }
            Self::TargetsCoolDown { retry_after, is_rate: false } => {
                row(Status::SERVICE_UNAVAILABLE, "targets_cooling_down", After(*retry_after))
            }
            Self::ModelMismatch => row(Status::BAD_REQUEST, "model_mismatch", Never),
            Self::CredentialInQuery { .. } => {
                row(Status::BAD_REQUEST, "credential_in_query", Never)
            }
            Self::UnsupportedQuery { .. } => row(Status::BAD_REQUEST, "unsupported_query", Never),
            Self::DoubledVersion { .. } => row(Status::BAD_REQUEST, "doubled_version", Never),
            Self::ProviderSecretMissing { .. } => {
                row(Status::BAD_REQUEST, "provider_secret_missing", Never)
            }
            Self::SharedAccountState { .. } => {
                row(Status::BAD_REQUEST, "shared_account_state", Never)
            }
            Self::UnmeteredNotAllowed { .. } => {
                row(Status::NOT_IMPLEMENTED, "unmetered_not_allowed", Never)
            }
            Self::UnmeteredNeedsOwnSecret { .. } => {
                row(Status::FORBIDDEN, "own_secret_required", Never)
            }
            Self::ProviderDisabled { .. } => row(Status::FORBIDDEN, "provider_disabled", Never),
            Self::InvalidMetadata(_) => row(Status::BAD_REQUEST, "invalid_metadata", Never),
            Self::MissingKey => row(Status::UNAUTHORIZED, "missing_api_key", Never),
            Self::InvalidKey => row(Status::UNAUTHORIZED, "invalid_api_key", Never),
            Self::ExpiredKey => row(Status::UNAUTHORIZED, "expired_api_key", Never),
            Self::RevokedKey => row(Status::UNAUTHORIZED, "revoked_api_key", Never),
            Self::DisabledKey => row(Status::UNAUTHORIZED, "disabled_api_key", Never),
            Self::UserDeactivated => row(Status::UNAUTHORIZED, "user_deactivated", Never),
            Self::PermissionDenied { .. } => row(Status::FORBIDDEN, "permission_denied", Never),
            Self::OrganizationSuspended => row(Status::FORBIDDEN, "organization_suspended", Never),
            Self::OrganizationKey => row(Status::FORBIDDEN, "workspace_key_required", Never),
            Self::UnknownConfiguration { .. } => {
                row(Status::NOT_FOUND, "unknown_configuration", Never)
            }
            Self::UnknownModel { .. } => row(Status::NOT_FOUND, "model_not_found", Never),
            Self::AmbiguousModel { .. } => row(Status::BAD_REQUEST, "model_ambiguous", Never),
            Self::ModelsUnavailable { .. } => {
                row(Status::SERVICE_UNAVAILABLE, "models_unavailable", After(30))
            }
            Self::DisabledConfiguration { .. } => {
                row(Status::NOT_FOUND, "configuration_disabled", Never)
            }
            Self::BodyTooSlow => row(Status::REQUEST_TIMEOUT, "body_timeout", May),
            Self::BodyTooLarge { .. } => row(Status::PAYLOAD_TOO_LARGE, "body_too_large", Never),
            Self::ConcurrencyLimited { .. } => {
                row(Status::TOO_MANY_REQUESTS, "concurrency_limit_exceeded", After(1))
            }
            Self::KeyAttemptsLimited { retry_after } => {
                row(Status::TOO_MANY_REQUESTS, "key_attempts_limited", After(*retry_after))
            }
            Self::NotServed => row(Status::NOT_IMPLEMENTED, "not_served", Never),
            Self::FormatNotServed { .. } => {
                row(Status::NOT_IMPLEMENTED, "format_not_served", Never)
            }
            Self::Internal => row(Status::INTERNAL_SERVER_ERROR, "internal_error", May),
            Self::UpstreamUnresolved => row(Status::BAD_GATEWAY, "upstream_unresolved", May),
            Self::UpstreamUnreachable => row(Status::BAD_GATEWAY, "upstream_unreachable", May),
            Self::UpstreamTls => row(Status::BAD_GATEWAY, "upstream_tls", Never),
            Self::UpstreamInvalid => row(Status::BAD_GATEWAY, "upstream_invalid_response", May),
            Self::UpstreamDied => row(Status::BAD_GATEWAY, "upstream_closed", May),
            Self::UpstreamRedirect => row(Status::BAD_GATEWAY, "upstream_redirect", Never),
            Self::EgressRefused => row(Status::BAD_GATEWAY, "egress_refused", Never),
            Self::CredentialRefused(_) => {
                row(Status::BAD_GATEWAY, "provider_credential_refused", Never)
            }
            Self::ConnectTimeout => row(Status::GATEWAY_TIMEOUT, "upstream_connect_timeout", May),
            Self::FirstByteTimeout => {
                row(Status::GATEWAY_TIMEOUT, "upstream_first_byte_timeout", May)
            }
            Self::IdleTimeout => row(Status::GATEWAY_TIMEOUT, "upstream_idle_timeout", May),
            Self::Overloaded => row(Status::SERVICE_UNAVAILABLE, "overloaded", After(1)),
            Self::SecretUnavailable { .. } => {
                row(Status::SERVICE_UNAVAILABLE, "secret_unavailable", After(30))
            }
            Self::TokenUnavailable { .. } => {
                row(Status::SERVICE_UNAVAILABLE, "token_unavailable", After(5))
            }
            Self::ProjectMismatch => row(Status::BAD_REQUEST, "project_mismatch", Never),
            Self::RegionInvalid => row(Status::BAD_REQUEST, "region_invalid", Never),
            Self::ModelForbidden { .. } => denied(Reason::ModelAccess, Never),
            Self::ContentBlocked { .. } => denied(Reason::Content, Never),
            Self::ContentNotScanned { .. } => denied(Reason::NotScanned, Never),
            Self::PriceUnknown { .. } => denied(Reason::PriceUnknown, Never),
            Self::SpendCapExceeded { .. } => denied(Reason::Spend, Never),
            Self::RateLimited { retry_after, .. } => denied(
                Reason::Rate,
                retry_after.map_or(Never, |after| After(u32::try_from(after).unwrap_or(u32::MAX))),
            ),
            Self::LimitsUnavailable => denied(Reason::Unavailable, After(1)),
            Self::JournalFull => row(Status::SERVICE_UNAVAILABLE, "journal_full", After(5)),
            Self::DirectoryUnavailable => {
                row(Status::SERVICE_UNAVAILABLE, "directory_unavailable", After(2))
            }
        }
    }
}
