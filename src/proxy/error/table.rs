//! The one table of the gateway's own errors.

use actix_web::http::StatusCode;

use super::row::{Retry, Row, denied, model_override, row};
use super::{ProxyError, RefusedCredential, SUPPORTED_CODINGS};
use crate::domain::provider::UpstreamApi;
use crate::llm::convert::answer::Failure;
use crate::llm::convert::error::ConvertError;
use crate::policy::admission::Reason;

impl ProxyError {
    /// The table.
    pub fn row(&self) -> Row {
        use Retry::{After, May, Never};
        match self {
            Self::Body(error) => {
                row(StatusCode::BAD_REQUEST, error.code(), Never, error.to_string())
            }
            Self::NotConvertible { model, error } => row(
                StatusCode::BAD_REQUEST,
                match error {
                    ConvertError::Invalid { .. } => "invalid_parameter",
                    ConvertError::Unsupported { .. } => "unsupported_parameter",
                },
                Never,
                format!("{error} (model '{model}', whose provider has another format)."),
            ),
            Self::UpstreamUnreadable => row(
                StatusCode::BAD_GATEWAY,
                "upstream_answer_unreadable",
                May,
                "The provider's answer can't be put into the format of the request: it is compressed or longer than 32 MiB. Ask for a stream, or for a shorter answer.",
            ),
            Self::UpstreamReported(Failure { message, .. }) => row(
                StatusCode::BAD_GATEWAY,
                "upstream_error",
                May,
                format!("The provider gave no usable answer: {}.", message.trim_end_matches('.')),
            ),
            Self::ModelOverride { field } => {
                row(StatusCode::BAD_REQUEST, "model_override", Never, model_override(field))
            }
            Self::UndecodableBody { max_window } => row(
                StatusCode::BAD_REQUEST,
                "undecodable_body",
                Never,
                match max_window {
                    Some(max) => format!(
                        "The request body is compressed by zstd with a window that is too large; the largest is {max} bytes (RFC 9659). Compress it at a level of at most 19 and without long-distance matching, or send it uncompressed without Content-Encoding."
                    ),
                    None => "The request body is not compressed as its Content-Encoding says, or is incomplete. Compress it again, or send it uncompressed without Content-Encoding.".to_owned(),
                },
            ),
            Self::UnsupportedContentEncoding { named } => row(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_content_encoding",
                Never,
                format!(
                    "The gateway does not read the Content-Encoding '{named}'. Send the body uncompressed, or compressed once or twice with any of: {SUPPORTED_CODINGS}."
                ),
            ),
            Self::IncompleteBody => row(
                StatusCode::BAD_REQUEST,
                "incomplete_body",
                May,
                "The request body ended before its declared length, or its chunks were malformed. Send it whole.",
            ),
            Self::BadModelId => row(
                StatusCode::BAD_REQUEST,
                "invalid_model_id",
                Never,
                "The model id holds '.' or '..' as a path segment. Use the id as the model listing shows it.",
            ),
            Self::ModelMissing => row(
                StatusCode::BAD_REQUEST,
                "model_missing",
                Never,
                "The request names no model. Send its name as the text field 'model'.",
            ),
            Self::UnknownRoute { name } => row(
                StatusCode::NOT_FOUND,
                "unknown_route",
                Never,
                format!(
                    "The workspace has no route named '{name}'. Check the name in the URL, percent-encoded as one path segment."
                ),
            ),
            Self::NoTarget { name } => row(
                StatusCode::BAD_GATEWAY,
                "no_target",
                Never,
                format!(
                    "The fallback '{name}' has no target left: its model configurations were deleted. Ask an administrator to change the policy."
                ),
            ),
            Self::TargetsCoolDown { retry_after, is_rate: true } => row(
                StatusCode::TOO_MANY_REQUESTS,
                "targets_rate_limited",
                After(*retry_after),
                "All targets of the fallback chain limit the rate of requests at the moment. Try again later.",
            ),
            Self::TargetsCoolDown { retry_after, is_rate: false } => row(
                StatusCode::SERVICE_UNAVAILABLE,
                "targets_cooling_down",
                After(*retry_after),
                "All targets of the fallback chain have failed a moment ago. Try again later.",
            ),
            Self::ModelMismatch => row(
                StatusCode::BAD_REQUEST,
                "model_mismatch",
                Never,
                "The body names another model than the path, or than the model configuration. Leave it out there.",
            ),
            Self::CredentialInQuery { name } => row(
                StatusCode::BAD_REQUEST,
                "credential_in_query",
                Never,
                format!(
                    "The query parameter '{name}' may hold a credential, and a URL is often logged. Send the Tollgate key in a header, such as 'Authorization: Bearer tg_...' or 'x-goog-api-key'."
                ),
            ),
            Self::UnsupportedQuery { name } => row(
                StatusCode::BAD_REQUEST,
                "unsupported_query",
                Never,
                format!(
                    "The query parameter '{name}' is not passed on, since the usage could not be read from the answer. Leave it out; 'alt' may be 'sse' or 'json'."
                ),
            ),
            Self::DoubledVersion { provider } => row(
                StatusCode::BAD_REQUEST,
                "doubled_version",
                Never,
                format!(
                    "The path holds the API's version twice. The client adds it itself: set its base URL to /{} without it.",
                    provider.as_str()
                ),
            ),
            Self::ProviderSecretMissing { provider, secret } => row(
                StatusCode::BAD_REQUEST,
                "provider_secret_missing",
                Never,
                format!(
                    "Neither the workspace nor its organization has a secret named '{secret}', which holds the key for {}. Ask an administrator to store it: PUT /api/v1/workspaces/{{workspace_id}}/secrets/{secret}.",
                    provider.as_str()
                ),
            ),
            Self::SharedAccountState { field } => row(
                StatusCode::BAD_REQUEST,
                "shared_account_state",
                Never,
                format!(
                    "'{field}' refers to what the provider stores for the organization's account, which other workspaces use, too. Send the content itself, or ask an administrator for a secret of this workspace."
                ),
            ),
            Self::UnmeteredNotAllowed { provider } => row(
                StatusCode::NOT_IMPLEMENTED,
                "unmetered_not_allowed",
                Never,
                format!(
                    "The gateway does not meter this endpoint of {0}, so it is not served. An administrator of the organization can let it through: 'unmetered_endpoints' in PUT /api/v1/provider-settings/{0}.",
                    provider.as_str()
                ),
            ),
            Self::UnmeteredNeedsOwnSecret { provider } => row(
                StatusCode::FORBIDDEN,
                "own_secret_required",
                Never,
                format!(
                    "Endpoints that are not metered need a secret of the workspace for {}: the organization's is shared by all workspaces.",
                    provider.as_str()
                ),
            ),
            Self::ProviderDisabled { provider } => row(
                StatusCode::FORBIDDEN,
                "provider_disabled",
                Never,
                format!(
                    "An administrator has disabled the provider {} for this workspace. Use another one, or ask for it in the provider-settings.",
                    provider.as_str()
                ),
            ),
            Self::InvalidMetadata(error) => row(
                StatusCode::BAD_REQUEST,
                "invalid_metadata",
                Never,
                format!(
                    "{error}. Gateway policies match by it, so the request was not sent. Correct it or leave it out."
                ),
            ),
            Self::MissingKey => row(
                StatusCode::UNAUTHORIZED,
                "missing_api_key",
                Never,
                "No Tollgate API key was sent. Send yours, which begins with 'tg_', as 'Authorization: Bearer tg_...' or in 'X-Api-Key'.",
            ),
            Self::InvalidKey => row(
                StatusCode::UNAUTHORIZED,
                "invalid_api_key",
                Never,
                "The API key is not valid. Check that it was copied whole, or ask an administrator for a new one.",
            ),
            Self::ExpiredKey => row(
                StatusCode::UNAUTHORIZED,
                "expired_api_key",
                Never,
                "The API key has expired. Ask an administrator to extend or rotate it.",
            ),
            Self::RevokedKey => row(
                StatusCode::UNAUTHORIZED,
                "revoked_api_key",
                Never,
                "The API key has been revoked. Ask an administrator for a new one.",
            ),
            Self::DisabledKey => row(
                StatusCode::UNAUTHORIZED,
                "disabled_api_key",
                Never,
                "The API key is disabled. Ask an administrator to enable it.",
            ),
            Self::UserDeactivated => row(
                StatusCode::UNAUTHORIZED,
                "user_deactivated",
                Never,
                "The user whom the API key belongs to is deactivated. Use another key, or ask an administrator.",
            ),
            Self::PermissionDenied { permission } => row(
                StatusCode::FORBIDDEN,
                "permission_denied",
                Never,
                format!(
                    "The API key's role lacks the permission '{permission}'. Use a key with a role that holds it."
                ),
            ),
            Self::OrganizationSuspended => row(
                StatusCode::FORBIDDEN,
                "organization_suspended",
                Never,
                "The organization is suspended, so none of its keys can call the gateway. Ask the platform's administrator.",
            ),
            Self::OrganizationKey => row(
                StatusCode::FORBIDDEN,
                "workspace_key_required",
                Never,
                "The API key belongs to no workspace, and models are called with what a workspace has. Call with a workspace's key.",
            ),
            Self::UnknownConfiguration { name } => row(
                StatusCode::NOT_FOUND,
                "unknown_configuration",
                Never,
                format!(
                    "The workspace has no model configuration named '{name}'. Check the name in the URL, percent-encoded as one path segment."
                ),
            ),
            Self::UnknownModel { id } => row(
                StatusCode::NOT_FOUND,
                "model_not_found",
                Never,
                format!(
                    "There is no model '{id}' that this key may use. GET /v1/models lists those that there are."
                ),
            ),
            Self::AmbiguousModel { ids } => row(
                StatusCode::BAD_REQUEST,
                "model_ambiguous",
                Never,
                format!("Several models have this name. Say which one: {}.", ids.join(" or ")),
            ),
            Self::ModelsUnavailable { provider } => row(
                StatusCode::SERVICE_UNAVAILABLE,
                "models_unavailable",
                After(30),
                format!(
                    "The list of models of '{provider}' cannot be read at the moment. Try again."
                ),
            ),
            Self::DisabledConfiguration { name } => row(
                StatusCode::NOT_FOUND,
                "configuration_disabled",
                Never,
                format!(
                    "The model configuration '{name}' is disabled. Ask an administrator of the workspace to enable it."
                ),
            ),
            Self::BodyTooSlow => row(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                May,
                "The request body did not arrive in time. Send it faster, or send less.",
            ),
            Self::BodyTooLarge { limit } => row(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                Never,
                format!(
                    "The request body is larger than the gateway's limit of {limit} bytes. Send less."
                ),
            ),
            Self::ConcurrencyLimited { name } => row(
                StatusCode::TOO_MANY_REQUESTS,
                "concurrency_limit_exceeded",
                After(1),
                format!(
                    "The model configuration '{name}' has as many requests under way as it allows. Try again when some have ended."
                ),
            ),
            Self::KeyAttemptsLimited { retry_after } => row(
                StatusCode::TOO_MANY_REQUESTS,
                "key_attempts_limited",
                After(*retry_after),
                "There were too many attempts with a wrong secret for this API key. Check the key, and wait before the next try.",
            ),
            Self::NotServed => row(
                StatusCode::NOT_IMPLEMENTED,
                "not_served",
                Never,
                "The gateway does not serve this method and path. It serves GET /v1/models; POST /v1/chat/completions, POST /v1/responses, POST /v1/responses/compact, POST /v1/embeddings, POST /v1/messages, POST /v1/messages/count_tokens, GET /v1/models, GET /v1/models/{id}, POST /v1beta/models/{model}:generateContent and its like, and POST /model/{model}/converse, /converse-stream, /invoke and /invoke-with-response-stream under /providers/{configName} or /models/{configName}; the same under the names of built-in providers, such as /openai, and the providers' own paths under /vertex and /azure; and calls of models under /routes/{name}.",
            ),
            Self::FormatNotServed { configuration, provider } => {
                let formats = match provider.api() {
                    UpstreamApi::OpenAi => {
                        "OpenAI's formats: /v1/chat/completions, /v1/responses, /v1/responses/compact and /v1/embeddings"
                    }
                    UpstreamApi::Anthropic => {
                        "Anthropic's format: /v1/messages and /v1/messages/count_tokens"
                    }
                    UpstreamApi::Gemini => {
                        "Google's format: /v1beta/models/{model}:generateContent, :streamGenerateContent, :countTokens, :embedContent and :batchEmbedContents"
                    }
                    UpstreamApi::Converse => {
                        "Bedrock's formats: /model/{model}/converse, /converse-stream, /invoke and /invoke-with-response-stream"
                    }
                    UpstreamApi::Vertex => {
                        "the formats of Vertex: generateContent and its like below publishers/google, rawPredict and streamRawPredict below publishers/anthropic, and endpoints/openapi/chat/completions"
                    }
                    UpstreamApi::Azure => {
                        "OpenAI's formats below /openai, and Anthropic's below /anthropic"
                    }
                };
                let provider = provider.as_str();
                let message = match configuration {
                    Some(name) => format!(
                        "The model configuration '{name}' has the provider '{provider}', which speaks {formats}. Call it in that format, or choose another model configuration."
                    ),
                    None => format!(
                        "The provider '{provider}' speaks {formats}. Call it in that format, or choose another provider."
                    ),
                };
                row(StatusCode::NOT_IMPLEMENTED, "format_not_served", Never, message)
            }
            Self::Internal => row(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                May,
                "The gateway failed. If it happens again, give the x-request-id of this answer to its operator.",
            ),
            Self::UpstreamUnresolved => row(
                StatusCode::BAD_GATEWAY,
                "upstream_unresolved",
                May,
                "The provider's host name does not resolve. Check the model configuration's base URL.",
            ),
            Self::UpstreamUnreachable => row(
                StatusCode::BAD_GATEWAY,
                "upstream_unreachable",
                May,
                "The provider could not be connected to. Try again; if it persists, check the model configuration's base URL.",
            ),
            Self::UpstreamTls => row(
                StatusCode::BAD_GATEWAY,
                "upstream_tls",
                Never,
                "No secure connection to the provider could be made: its certificate or TLS version was not accepted. Check the model configuration's base URL.",
            ),
            Self::UpstreamInvalid => row(
                StatusCode::BAD_GATEWAY,
                "upstream_invalid_response",
                May,
                "The provider's answer was not valid HTTP. Check that the model configuration's base URL is that of an API.",
            ),
            Self::UpstreamDied => row(
                StatusCode::BAD_GATEWAY,
                "upstream_closed",
                May,
                "The provider closed the connection before its answer was complete. Try again.",
            ),
            Self::UpstreamRedirect => row(
                StatusCode::BAD_GATEWAY,
                "upstream_redirect",
                Never,
                "The provider answered with a redirect, which the gateway neither follows nor passes on, since it would take the prompt and the key to another address. Set the model configuration's base_url to where the redirect leads.",
            ),
            Self::EgressRefused => row(
                StatusCode::BAD_GATEWAY,
                "egress_refused",
                Never,
                "The gateway's egress rules refuse the provider's address. Change the model configuration's base URL, or ask the gateway's operator to admit the address.",
            ),
            Self::CredentialRefused(refused) => {
                let message = match refused {
                    RefusedCredential::Secret(name) => format!(
                        "The provider refuses the credential in the secret '{name}'. Ask an administrator to store one that it accepts."
                    ),
                    RefusedCredential::TokenFrom(host) => format!(
                        "The provider refuses the token from '{host}'. Ask an administrator to check what the OAuth client or the service account that it is for may use, and its scope."
                    ),
                };
                row(StatusCode::BAD_GATEWAY, "provider_credential_refused", Never, message)
            }
            Self::ConnectTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_connect_timeout",
                May,
                "The provider could not be connected to in time. Try again; if it persists, check the model configuration's base URL and timeouts.",
            ),
            Self::FirstByteTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_first_byte_timeout",
                May,
                "The provider did not begin to answer in time. Raise the model configuration's first_byte_ms if its model thinks longer.",
            ),
            Self::IdleTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_idle_timeout",
                May,
                "The provider stopped sending in the middle of its answer. Raise the model configuration's idle_ms if its model pauses longer.",
            ),
            Self::Overloaded => row(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                After(1),
                "The gateway has as many requests under way as it has room for. Try again shortly.",
            ),
            Self::SecretUnavailable { name } => row(
                StatusCode::SERVICE_UNAVAILABLE,
                "secret_unavailable",
                After(30),
                format!(
                    "The provider secret '{name}' is missing or cannot be opened. Ask an administrator of the workspace to store it again."
                ),
            ),
            Self::TokenUnavailable { host, secret } => row(
                StatusCode::SERVICE_UNAVAILABLE,
                "token_unavailable",
                After(5),
                format!(
                    "The token endpoint at '{host}' gave no token for the credential in the secret '{secret}'. Try again; if it persists, ask an administrator to check that secret and, on a model configuration, its oauth with its check."
                ),
            ),
            Self::ProjectMismatch => row(
                StatusCode::BAD_REQUEST,
                "project_mismatch",
                Never,
                "The path names another Google Cloud project than the credential's. Name that one, or leave out 'projects/.../locations/...'.",
            ),
            Self::RegionInvalid => row(
                StatusCode::BAD_REQUEST,
                "region_invalid",
                Never,
                "The path names a project or a location that can't be one, or another location than the one that is set for the provider. Correct it, or leave out 'projects/.../locations/...'.",
            ),
            Self::ModelForbidden { message } => denied(Reason::ModelAccess, Never, message.clone()),
            Self::ContentBlocked { message } => denied(Reason::Content, Never, message.clone()),
            Self::ContentNotScanned { message } => {
                denied(Reason::NotScanned, Never, message.clone())
            }
            Self::PriceUnknown { message, .. } => {
                denied(Reason::PriceUnknown, Never, message.clone())
            }
            Self::SpendCapExceeded { message } => denied(Reason::Spend, Never, message.clone()),
            Self::RateLimited { message, retry_after } => denied(
                Reason::Rate,
                retry_after.map_or(Never, |after| After(u32::try_from(after).unwrap_or(u32::MAX))),
                message.clone(),
            ),
            Self::LimitsUnavailable => denied(
                Reason::Unavailable,
                After(1),
                "The limits that apply to this request can't be checked at the moment, so it was not sent. Try again.",
            ),
            Self::JournalFull => row(
                StatusCode::SERVICE_UNAVAILABLE,
                "journal_full",
                After(5),
                "The gateway has no room left to record requests, so none are sent. Try again; an administrator has to see to the database or the disk.",
            ),
            Self::DirectoryUnavailable => row(
                StatusCode::SERVICE_UNAVAILABLE,
                "directory_unavailable",
                After(2),
                "The gateway's database cannot be reached, so the request cannot be checked. Try again shortly.",
            ),
        }
    }
}
