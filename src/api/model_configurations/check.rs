//! `POST .../{configuration_id}/check`: does the upstream answer, with the real credential?
//!
//! Nothing of what the upstream says is passed on but its status: its body may quote the key, and
//! a base URL must not become a way to read what stands behind it.

mod advice;
mod token;

use std::time::Duration;

use actix_web::http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::super::access::{InWorkspace, ModelConfigurationsWrite};
use super::super::error::ApiError;
use super::{Management, WHAT, current};
use crate::db::Conn;
use crate::directory::configuration::{ConfigurationEntry, SecretUnavailable};
use crate::domain::metadata::Metadata;
use crate::domain::policy::Subject;
use crate::telemetry::requests::RequestIds;
use crate::upstream::{
    UpstreamBody, UpstreamClient, UpstreamError, UpstreamRequest, UpstreamResponse,
    UpstreamTimeouts,
};
use advice::{advice, advice_for_failure, advice_for_silence};
use token::{Asker, Token};

/// For all that the upstream is asked: somebody waits for it.
const LIMIT: Duration = Duration::from_secs(10);
/// For the connection alone, so that what is wrong can be told apart.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How much of a listing is read; the longest known ones have a few hundred KiB.
const MOST_LISTING: usize = 4 * 1024 * 1024;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ModelConfigurationCheck {
    /// Whether requests should work.
    pub ok: bool,
    /// Whether the upstream answered at all.
    pub reachable: bool,
    /// The status of its last answer.
    pub status: Option<u16>,
    /// How long that took, in milliseconds.
    pub latency_ms: u64,
    /// Whether its listing names the model; null if it has no listing that can be read.
    pub model_listed: Option<bool>,
    /// What was found, and what to fix.
    pub message: String,
}

/// What was found out, as far as it matters here.
struct Found {
    /// The status of the last answer.
    status: StatusCode,
    /// Whether the listing names the model, if there is one.
    listed: Option<bool>,
    /// Why no token was asked for, where there is no listing.
    silence: Option<String>,
}

/// Check that the upstream answers
///
/// Asks it for its models with the real credential, or, if it has no listing, for one token. The
/// upstream may take 10 seconds in all.
///
/// A token may cost money: it is asked for under the policies that apply to the key of this call,
/// and each time stands in the ledger, with `check` as its route.
#[utoipa::path(
    post,
    path = "/workspaces/{workspace_id}/model-configurations/{configuration_id}/check",
    responses((status = 200, description = "What was found, good or bad", body = ModelConfigurationCheck)),
)]
pub(super) async fn check_model_configuration(
    caller: InWorkspace<ModelConfigurationsWrite>,
    plane: web::Data<Management>,
    client: web::Data<UpstreamClient>,
    path: web::Path<(String, String)>,
    request: HttpRequest,
) -> Result<web::Json<ModelConfigurationCheck>, ApiError> {
    let scope = caller.scope;
    let id = path.into_inner().1;
    let row =
        plane.database.read(async move |conn: &mut Conn| current(conn, scope, &id).await).await?;
    let entry = plane
        .directory
        .find_configuration(scope, row.name.as_str())
        .await
        .map_err(|error| ApiError::Unavailable(error.to_string()))?
        .ok_or(ApiError::NotFound(WHAT))?;
    let headers = request.headers().iter();
    let metadata =
        Metadata::from_headers(headers.map(|(name, value)| (name.as_str(), value.as_bytes())))
            .map_err(|invalid| ApiError::Malformed(format!("{invalid}.")))?;
    let ids = request.extensions().get::<RequestIds>().cloned();
    let asker = Asker {
        accounting: &plane.accounting,
        principal: caller.principal,
        subject: Subject {
            organization_id: scope.organization_id,
            workspace_id: scope.workspace_id,
            user_id: caller.principal.user_id,
            api_key_id: caller.principal.api_key_id(),
            metadata: &metadata,
        },
        ids: ids.unwrap_or_else(|| RequestIds {
            request_id: plane.clock.new_id(),
            client_request_id: None,
        }),
    };
    let began = Instant::now();
    let outcome = match entry.open(&plane.keyring) {
        Ok(credentials) => {
            let upstream = Upstream {
                client: &client,
                entry: &entry,
                credentials: credentials.headers,
                deadline: began + LIMIT,
            };
            ask(&upstream, asker).await.map_err(|error| advice_for_failure(&error))
        }
        Err(SecretUnavailable { name, .. }) => Err(format!(
            "The secret {name} can't be used; store its value again. If that fails, the server \
             lacks the master key."
        )),
    };
    let latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(web::Json(match outcome {
        Ok(Found { status, listed, silence }) => ModelConfigurationCheck {
            ok: status.is_success() && listed != Some(false),
            reachable: true,
            status: Some(status.as_u16()),
            latency_ms,
            model_listed: listed,
            message: match silence {
                Some(why) => advice_for_silence(status, &why),
                None => advice(status, listed, &entry),
            },
        },
        Err(message) => ModelConfigurationCheck {
            ok: false,
            reachable: false,
            status: None,
            latency_ms,
            model_listed: None,
            message,
        },
    }))
}

/// Asks for the listing, or for a token where there is none.
async fn ask(upstream: &Upstream<'_>, asker: Asker<'_>) -> Result<Found, UpstreamError> {
    let listing = upstream.send(Method::GET, "/models", Bytes::new()).await?;
    let status = listing.status;
    if !has_no_listing(status) {
        let listed = if status.is_success() {
            let mut all = BytesMut::new();
            upstream.read(listing.body, &mut all, MOST_LISTING).await?;
            names_model(&all, &upstream.entry.model)
        } else {
            None
        };
        return Ok(Found { status, listed, silence: None });
    }
    drop(listing);
    Ok(match token::ask(upstream, asker).await? {
        Token::Answered(status) => Found { status, listed: None, silence: None },
        Token::NotAsked(why) => Found { status, listed: None, silence: Some(why) },
    })
}

/// The upstream, as a check speaks to it.
struct Upstream<'r> {
    client: &'r UpstreamClient,
    entry: &'r ConfigurationEntry,
    credentials: HeaderMap,
    /// When somebody has waited long enough.
    deadline: Instant,
}

impl Upstream<'_> {
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let mut headers = self.credentials.clone();
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
            target: self.entry.base_url.join(path, None),
            headers,
            body,
            timeouts: UpstreamTimeouts { connect: CONNECT_LIMIT, first_byte: LIMIT, idle: LIMIT },
        };
        match timeout_at(self.deadline, self.client.send(&request)).await {
            Ok(sent) => sent.map_err(|failure| failure.error),
            Err(_) => Err(UpstreamError::FirstByteTimeout),
        }
    }

    /// Reads a body until it has ended, or so much of it is there.
    async fn read(
        &self,
        mut body: UpstreamBody,
        into: &mut BytesMut,
        most: usize,
    ) -> Result<(), UpstreamError> {
        while into.len() <= most {
            match timeout_at(self.deadline, body.next()).await {
                Ok(Some(chunk)) => into.extend_from_slice(&chunk?),
                Ok(None) => break,
                Err(_) => return Err(UpstreamError::IdleTimeout),
            }
        }
        Ok(())
    }
}

fn has_no_listing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
    )
}

/// Whether a listing names the model; `None` if it is not of OpenAI's form.
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
    Some(data.iter().any(|listed| listed.id == model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_read_if_they_are_listings() {
        let listing = br#"{"object":"list","data":[{"id":"a","owned_by":"x"},{"id":"b"}]}"#;
        assert_eq!(names_model(listing, "b"), Some(true));
        assert_eq!(names_model(listing, "c"), Some(false));
        assert_eq!(names_model(b"<html>", "c"), None);
        assert_eq!(names_model(br#"{"models":[]}"#, "c"), None);
    }
}
