//! `POST .../{configuration_id}/check`: does the upstream answer, with the real credential?
//!
//! Only the status of the upstream's answer is shown: its body may quote the key, and a base URL must
//! not become a way to read internal services.

mod advice;
mod token;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::super::access::{InWorkspace, ModelConfigurationsWrite};
use super::super::body::OptionalJson;
use super::super::error::ApiError;
use super::validate::{is_model, wrong_model};
use super::{Management, WHAT, current};
use crate::credentials::{self, Opened};
use crate::db::Conn;
use crate::directory::upstream_entry::{Address, UpstreamEntry, UpstreamModel};
use crate::domain::headers::{ANTHROPIC_VERSION, USUAL_ANTHROPIC_VERSION};
use crate::domain::metadata::Metadata;
use crate::domain::policy::Subject;
use crate::domain::pricing::model_names::without_date;
use crate::domain::provider::UpstreamApi;
use crate::telemetry::request_ids::RequestIds;
use crate::upstream::{
    BaseUrl, UpstreamBody, UpstreamClient, UpstreamError, UpstreamRequest, UpstreamResponse,
    UpstreamTimeouts,
};
use advice::{
    advice, advice_for_credentials, advice_for_failure, advice_for_refused_token,
    advice_without_answer, advice_without_token,
};
use token::{CheckRequest, Token};

/// The time for all requests to the upstream: a person waits for the result.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The time for the connection, so that the message can say which part failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest list of models that is read; the longest known ones have a few hundred KiB.
const MAX_LISTING: usize = 4 * 1024 * 1024;

/// What to check.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"model": "gpt-4o-mini"}))]
pub(super) struct CheckModelConfiguration {
    /// The model to ask for if the configuration has none. A configuration's own model is used instead of
    /// it.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    model: Option<String>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(super) struct ModelConfigurationCheck {
    /// Whether requests can be expected to work.
    pub(super) ok: bool,
    /// Whether the upstream answered at all.
    pub(super) reachable: bool,
    /// The status of its last answer.
    pub(super) status: Option<u16>,
    /// How long the check took.
    pub(super) latency_ms: u64,
    /// Whether the upstream's list of models has the model; null if there is no readable list.
    pub(super) model_listed: Option<bool>,
    /// The result in words, and what to do.
    pub(super) message: String,
}

/// The result of the requests to the upstream.
struct Findings {
    /// Of the last answer.
    status: StatusCode,
    /// Whether the list of models has the model, if there is a list.
    model_listed: Option<bool>,
    /// Why no token was requested although there is no list.
    no_token_because: Option<String>,
    /// A success status came without an answer.
    is_without_answer: bool,
}

/// Check that the upstream answers
///
/// Requests the list of models with the real credential, or, if there is none, one token. The upstream
/// may take 10 seconds in total, and so may the token endpoint of an OAuth client. If all is well,
/// fallback chains no longer leave the configuration out because it failed lately (in this process). The
/// body may be left out unless the configuration has no model.
///
/// A token may cost money: it is requested under the policies that apply to the key of this call, and
/// each request is in the ledger, with the route `check`.
#[utoipa::path(
    post,
    path = "/workspaces/{workspace_id}/model-configurations/{configuration_id}/check",
    request_body = Option<CheckModelConfiguration>,
    responses((status = 200, description = "The result, good or bad", body = ModelConfigurationCheck)),
)]
pub(super) async fn check_model_configuration(
    caller: InWorkspace<ModelConfigurationsWrite>,
    plane: web::Data<Management>,
    client: web::Data<UpstreamClient>,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    body: OptionalJson<CheckModelConfiguration>,
) -> Result<web::Json<ModelConfigurationCheck>, ApiError> {
    let scope = caller.scope;
    let id = path.into_inner().1;
    let row =
        plane.database.read(async move |conn: &mut Conn| current(conn, scope, &id).await).await?;
    let directory = &plane.directory;
    let entry = directory.find_configuration(scope, row.columns.name.as_str()).await?;
    let entry = entry.ok_or(ApiError::NotFound(WHAT))?;
    let model = model_to_check(&entry, body.0.model.as_deref())?;
    let policies = directory.find_policies(scope.organization_id).await?;
    let headers = request.headers().iter();
    let metadata =
        Metadata::from_headers(headers.map(|(name, value)| (name.as_str(), value.as_bytes())))
            .map_err(|invalid| ApiError::Malformed(format!("{invalid}.")))?;
    let ids = request.extensions().get::<RequestIds>().cloned();
    let asker = CheckRequest {
        accounting: &plane.accounting,
        principal: caller.principal,
        subject: Subject {
            organization_id: scope.organization_id,
            workspace_id: scope.workspace_id,
            user_id: caller.principal.user_id,
            api_key_id: caller.principal.api_key_id(),
            metadata: &metadata,
        },
        policies: &policies,
        ids: ids.unwrap_or_else(|| RequestIds {
            request_id: plane.clock.new_id(),
            client_request_id: None,
        }),
    };
    let began = Instant::now();
    let Address::Fixed(base_url) = &entry.address else {
        return Err(ApiError::Internal("a configuration without base_url".to_owned()));
    };
    let opened = credentials::open(&entry, base_url, &plane.keyring, &plane.tokens, &client).await;
    let mut oauth_token = None;
    let mut before_message = String::new();
    let outcome = match opened {
        Ok(Opened { credentials, token, no_token_because, .. }) => {
            oauth_token = token;
            if let Some(error) = no_token_because {
                before_message = advice_for_credentials(&error);
                before_message.push_str(" The key of api_key_name was sent instead. ");
            }
            let upstream = Upstream {
                client: &client,
                entry: &entry,
                model: &model,
                base_url,
                credentials: credentials.headers.into_iter().collect(),
                deadline: Instant::now() + TIMEOUT,
            };
            ask(&upstream, asker).await.map_err(|error| advice_for_failure(&error))
        }
        Err(error) => Err(advice_for_credentials(&error)),
    };
    let latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let check = match outcome {
        Ok(Findings { status, model_listed, no_token_because, is_without_answer }) => {
            let refused = oauth_token.filter(|_| status == StatusCode::UNAUTHORIZED);
            let message = match (no_token_because, &refused) {
                (Some(why), _) => advice_without_token(status, &why),
                (None, Some(token)) => {
                    token.forget();
                    advice_for_refused_token(token.host())
                }
                (None, None) if is_without_answer => advice_without_answer(status),
                (None, None) => advice(status, model_listed, &model.name),
            };
            ModelConfigurationCheck {
                ok: status.is_success() && model_listed != Some(false) && !is_without_answer,
                reachable: true,
                status: Some(status.as_u16()),
                latency_ms,
                model_listed,
                message: before_message + &message,
            }
        }
        Err(message) => ModelConfigurationCheck {
            ok: false,
            reachable: false,
            status: None,
            latency_ms,
            model_listed: None,
            message: before_message + &message,
        },
    };
    if check.ok {
        plane.health.clear(scope.workspace_id, entry.id, plane.clock.now());
    }
    Ok(web::Json(check))
}

/// Requests the list of models, or a token if there is none.
async fn ask(upstream: &Upstream<'_>, asker: CheckRequest<'_>) -> Result<Findings, UpstreamError> {
    let listing = upstream.send(Method::GET, "/models", Bytes::new()).await?;
    let status = listing.status;
    if !has_no_listing(status) {
        let listed = if status.is_success() {
            let mut all = BytesMut::new();
            upstream.read(listing.body, &mut all, MAX_LISTING).await?;
            names_model(&all, &upstream.model.name)
        } else {
            None
        };
        let model_listed = listed;
        return Ok(Findings {
            status,
            model_listed,
            no_token_because: None,
            is_without_answer: false,
        });
    }
    drop(listing);
    let (status, no_token_because, is_without_answer) = match token::ask(upstream, asker).await? {
        Token::Answered(status) => (status, None, false),
        Token::Failed(status) => (status, None, true),
        Token::NotAsked(why) => (status, Some(why), false),
    };
    Ok(Findings { status, model_listed: None, no_token_because, is_without_answer })
}

/// The upstream with its model, the credentials and the deadline of a check.
struct Upstream<'r> {
    client: &'r UpstreamClient,
    entry: &'r Arc<UpstreamEntry>,
    model: &'r Arc<UpstreamModel>,
    base_url: &'r BaseUrl,
    credentials: HeaderMap,
    deadline: Instant,
}

impl Upstream<'_> {
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let is_anthropic = self.entry.provider.api() == UpstreamApi::Anthropic;
        let mut headers = self.credentials.clone();
        if is_anthropic {
            let version = HeaderValue::from_static(USUAL_ANTHROPIC_VERSION);
            headers.insert(HeaderName::from_static(ANTHROPIC_VERSION), version);
        }
        // Anthropic's API lists 20 models at a time unless it is asked for more.
        let query = (is_anthropic && method == Method::GET).then_some("limit=1000");
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION"))),
        );
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = UpstreamRequest {
            method,
            target: self.base_url.join(path, query),
            headers,
            body: body.into(),
            timeouts: UpstreamTimeouts {
                connect: CONNECT_TIMEOUT,
                first_byte: TIMEOUT,
                idle: TIMEOUT,
            },
        };
        let request = self.client.prepare(request)?;
        match timeout_at(self.deadline, self.client.send(&request)).await {
            Ok(sent) => sent.map_err(|failure| failure.error),
            Err(_) => Err(UpstreamError::FirstByteTimeout),
        }
    }

    /// Reads a body to its end, or until it is longer than `max_bytes`.
    async fn read(
        &self,
        mut body: UpstreamBody,
        into: &mut BytesMut,
        max_bytes: usize,
    ) -> Result<(), UpstreamError> {
        while into.len() <= max_bytes {
            match timeout_at(self.deadline, body.next()).await {
                Ok(Some(chunk)) => into.extend_from_slice(&chunk?),
                Ok(None) => break,
                Err(_) => return Err(UpstreamError::IdleTimeout),
            }
        }
        Ok(())
    }
}

/// The model that the configuration is checked with: its own, or else the one that the call names.
fn model_to_check(
    entry: &UpstreamEntry,
    asked: Option<&str>,
) -> Result<Arc<UpstreamModel>, ApiError> {
    match (&entry.model, asked) {
        (_, Some(name)) if !is_model(name) => Err(ApiError::field("model", wrong_model())),
        (Some(model), _) => Ok(Arc::clone(model)),
        (None, Some(name)) => Ok(entry.chosen_model(name)),
        (None, None) => {
            let message = "must name the model to ask for, because the configuration has none";
            Err(ApiError::field("model", message))
        }
    }
}

fn has_no_listing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
    )
}

/// Whether a list of models has the model; `None` if the list has another form than OpenAI's.
fn names_model(listing: &[u8], model: &str) -> Option<bool> {
    #[derive(Deserialize)]
    struct Listing {
        data: Vec<Listed>,
    }
    #[derive(Deserialize)]
    struct Listed {
        id: String,
    }

    let Listing { data } = serde_json::from_slice(listing).ok()?;
    // Some upstreams list only the dated names of models that have an undated one, too.
    let undated = model.strip_suffix("-latest").unwrap_or(model);
    Some(data.iter().any(|Listed { id }| id == model || without_date(id) == Some(undated)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lists_of_models_are_read() {
        let listing = br#"{"object":"list","data":[{"id":"a","owned_by":"x"},{"id":"b"}]}"#;
        assert_eq!(names_model(listing, "b"), Some(true));
        assert_eq!(names_model(listing, "c"), Some(false));
        let dated =
            br#"{"data":[{"id":"claude-sonnet-4-5-20250929","type":"model"}],"has_more":false}"#;
        for (model, is_listed) in [
            ("claude-sonnet-4-5", true),
            ("claude-sonnet-4-5-latest", true),
            ("claude-sonnet-4-5-20250929", true),
            ("claude-sonnet-4-5-20250101", false),
            ("claude-sonnet-4", false),
        ] {
            assert_eq!(names_model(dated, model), Some(is_listed), "{model}");
        }
        assert_eq!(names_model(b"<html>", "c"), None);
        assert_eq!(names_model(br#"{"models":[]}"#, "c"), None);
    }
}
