//! `POST .../{configuration_id}/check`: does the upstream answer, with the real credential?
//!
//! Nothing of what the upstream says is passed on but its status: its body may quote the key, and
//! a base URL must not become a way to read what stands behind it.

use std::time::{Duration, Instant};

use actix_web::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT};
use actix_web::http::{Method, StatusCode};
use actix_web::{post, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::super::access::{InWorkspace, ModelConfigurationsWrite};
use super::super::error::{ApiError, Problem};
use super::{Management, WHAT, current};
use crate::db::Conn;
use crate::directory::configuration::{ConfigurationEntry, SecretUnavailable};
use crate::domain::ids::{ConfigurationId, WorkspaceId};
use crate::upstream::{
    UpstreamBody, UpstreamClient, UpstreamError, UpstreamRequest, UpstreamTimeouts,
};

/// For the whole check: somebody waits for it.
const LIMIT: Duration = Duration::from_secs(10);
/// For the connection alone, so that what is wrong can be told apart.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How much of a listing is read; the longest known ones have a few hundred KiB.
const MOST_LISTING: usize = 4 * 1024 * 1024;
/// The names that upstreams know the bound on an answer's length by: older ones the first, newer
/// models the second alone.
const LENGTH_BOUNDS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ModelConfigurationCheck {
    /// Whether requests should work.
    pub ok: bool,
    /// Whether the upstream answered at all.
    pub reachable: bool,
    /// The status of its answer.
    pub status: Option<u16>,
    /// How long that took, in milliseconds.
    pub latency_ms: u64,
    /// Whether its listing names the model; null if it has no listing that can be read.
    pub model_listed: Option<bool>,
    /// What was found, and what to fix.
    pub message: String,
}

/// An answer, as far as it matters here.
struct Answer {
    status: StatusCode,
    listed: Option<bool>,
}

/// Check that the upstream answers
///
/// Asks it for its models with the real credential, or, if it has no listing, for one token.
/// Takes at most 10 seconds.
#[utoipa::path(
    tag = "model-configurations",
    operation_id = "check_model_configuration",
    params(
        ("workspace_id" = WorkspaceId, Path, description = "The workspace"),
        ("configuration_id" = ConfigurationId, Path, description = "The model configuration"),
    ),
    responses(
        (status = 200, description = "What was found, good or bad", body = ModelConfigurationCheck),
        (status = 401, description = "No valid API key",
            body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Not allowed",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such model configuration",
            body = Problem, content_type = "application/problem+json"),
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("model-configurations:write"))),
)]
#[post("/workspaces/{workspace_id}/model-configurations/{configuration_id}/check")]
pub(super) async fn check_model_configuration(
    caller: InWorkspace<ModelConfigurationsWrite>,
    plane: web::Data<Management>,
    client: web::Data<UpstreamClient>,
    path: web::Path<(String, String)>,
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
    let began = Instant::now();
    let outcome = match entry.open(&plane.keyring) {
        Ok(credentials) => {
            let asking = ask(&client, &entry, credentials.headers);
            tokio::time::timeout(LIMIT, asking)
                .await
                .unwrap_or(Err(UpstreamError::FirstByteTimeout))
                .map_err(|error| advice_for_failure(&error))
        }
        Err(SecretUnavailable { name, .. }) => Err(format!(
            "The secret {name} can't be used; store its value again. If that fails, the server \
             lacks the master key."
        )),
    };
    let latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(web::Json(match outcome {
        Ok(Answer { status, listed }) => ModelConfigurationCheck {
            ok: status.is_success() && listed != Some(false),
            reachable: true,
            status: Some(status.as_u16()),
            latency_ms,
            model_listed: listed,
            message: advice(status, listed, &entry),
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
async fn ask(
    client: &UpstreamClient,
    entry: &ConfigurationEntry,
    credentials: actix_web::http::header::HeaderMap,
) -> Result<Answer, UpstreamError> {
    let request = |method: Method, path: &str, body: Bytes| {
        let mut headers = credentials.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION"))),
        );
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        UpstreamRequest {
            method,
            target: entry.base_url.join(path, None),
            headers,
            body,
            timeouts: UpstreamTimeouts { connect: CONNECT_LIMIT, first_byte: LIMIT, idle: LIMIT },
        }
    };
    let send = async |request: UpstreamRequest| {
        client.send(&request).await.map_err(|failure| failure.error)
    };
    let listing = send(request(Method::GET, "/models", Bytes::new())).await?;
    if !has_no_listing(listing.status) {
        let status = listing.status;
        let listed = if status.is_success() {
            names_model(&read(listing.body).await?, &entry.model)
        } else {
            None
        };
        return Ok(Answer { status, listed });
    }
    drop(listing);
    let mut status = StatusCode::BAD_REQUEST;
    for bound in LENGTH_BOUNDS {
        let body = one_token(&entry.model, bound);
        status = send(request(Method::POST, "/chat/completions", body)).await?.status;
        if status != StatusCode::BAD_REQUEST {
            break;
        }
    }
    Ok(Answer { status, listed: None })
}

fn has_no_listing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
    )
}

fn one_token(model: &str, bound: &str) -> Bytes {
    let body = serde_json::json!({
        "model": model,
        "messages": [{"role": "user", "content": "Hi"}],
        bound: 1,
    });
    Bytes::from(body.to_string())
}

async fn read(mut body: UpstreamBody) -> Result<Bytes, UpstreamError> {
    let mut all = BytesMut::new();
    while let Some(chunk) = body.next().await {
        all.extend_from_slice(&chunk?);
        if all.len() > MOST_LISTING {
            break;
        }
    }
    Ok(all.freeze())
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

/// What an answer means for whoever runs the configuration.
fn advice(status: StatusCode, listed: Option<bool>, entry: &ConfigurationEntry) -> String {
    let code = status.as_u16();
    match code {
        200..=299 => match listed {
            Some(true) => "The upstream accepts the key and lists the model.".to_owned(),
            Some(false) => format!(
                "The upstream accepts the key, but does not list the model '{}'. Compare model \
                 with the upstream's own names; some upstreams also serve models that they do not \
                 list.",
                entry.model
            ),
            None => "The upstream accepts the key.".to_owned(),
        },
        300..=399 => format!(
            "The upstream answered {code}, a redirect, which is never followed. Set base_url to \
             where it leads."
        ),
        400 | 422 => format!(
            "The upstream answered {code} to a request for one token: it may not know the model. \
             Check model and base_url."
        ),
        401 => "The upstream answered 401: it does not accept the key. Store the right value in \
                the secret of api_key_name, and check that auth names the place where this \
                upstream expects the key."
            .to_owned(),
        403 => "The upstream answered 403: it knows the key and does not allow this. Check what \
                the key may do at the provider, and whether the provider is open to this network."
            .to_owned(),
        404 | 405 | 501 => format!(
            "The upstream answered {code}: nothing is there. Check base_url, which usually ends in \
             the API's version such as /v1, and model."
        ),
        429 => "The upstream answered 429: the key has reached a limit at the provider. Check its \
                quota and billing there."
            .to_owned(),
        500..=599 => format!(
            "The upstream answered {code}: it is in trouble itself. Try again later, and look at \
             the provider's status page."
        ),
        _ => format!("The upstream answered {code}, which this check does not know."),
    }
}

/// What no answer means.
fn advice_for_failure(error: &UpstreamError) -> String {
    let what_to_do = match error {
        UpstreamError::Refused(_) => {
            "Use a base_url that is reachable from the internet at large, or ask whoever runs this \
             installation to admit the network with --egress-allow."
        }
        UpstreamError::Resolve(_) => "Check the host in base_url.",
        UpstreamError::Connect(_) => "Check host and port in base_url, and that the upstream runs.",
        UpstreamError::ConnectTimeout => {
            "Check host and port in base_url, and that no firewall is in between."
        }
        UpstreamError::Tls(_) => {
            "Check that base_url has the host that the certificate is for; a private certificate \
             authority is added with --upstream-ca-file."
        }
        UpstreamError::FirstByteTimeout | UpstreamError::IdleTimeout => {
            "It was reached, and said nothing or not enough within 10 seconds. Try again, and look \
             at the provider's status page."
        }
        UpstreamError::Closed | UpstreamError::Protocol(_) => {
            "Check that base_url has the right port and the right one of http and https."
        }
        UpstreamError::InvalidRequest(_) => "Check base_url, extra_headers and the secrets.",
    };
    let mut told = error.to_string();
    if let Some(first) = told.get(..1).map(str::to_uppercase) {
        told.replace_range(..1, &first);
    }
    format!("{told}. {what_to_do}")
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

    #[test]
    fn failures_say_what_to_do() {
        let told = advice_for_failure(&UpstreamError::ConnectTimeout);
        assert!(told.starts_with("Connecting to the upstream took too long. Check"), "{told}");
    }
}
