//! What balancers and operators ask, outside `/api/v1`: `/healthz`, `/readyz`, `/version`,
//! `/metrics`.

use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{FromRequest, HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa_actix_web::service_config::ServiceConfig;

use super::access::{OperationsRead, Permitted};
use super::edge;
use super::error::Problem;
use super::{Management, Offer};
use crate::crypto::{KeyringHandle, WrappedDataKey, unwrap_data_key};
use crate::db::data_keys::{DataKeyRow, list_any_of_each_master_key};
use crate::db::{Conn, Database};
use crate::telemetry::METRICS_CONTENT_TYPE;
use crate::telemetry::readiness::Phase;

/// How long the database may take to say which master keys it needs.
const DATABASE_LIMIT: Duration = Duration::from_secs(1);
/// How long what was found about the master keys is believed: anybody may ask for readiness, and
/// must not reach the database by it.
const BELIEVED: Duration = Duration::from_secs(1);

/// That the process runs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: &'static str,
}

/// What runs here.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Version {
    /// Always `tollgate`.
    pub name: &'static str,
    /// The version.
    #[schema(example = "0.1.0")]
    pub version: &'static str,
}

/// Whether this process wants requests.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ReadinessReport {
    /// Whether it does.
    pub ready: bool,
    /// How far the process is in its life.
    pub phase: Phase,
    /// More, for a platform key or on the admin port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<ReadinessDetails>,
}

/// What stands behind readiness.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ReadinessDetails {
    /// Why this process is not ready, in words.
    pub failing: Vec<String>,
    /// Whether the database answers. Known callers are served without it.
    pub database_reachable: bool,
    /// How long ago the change sequence was last read, in milliseconds.
    pub directory_age_ms: u64,
    /// Which of the master keys that the database needs open what they should.
    pub master_keys: Vec<MasterKeyReport>,
}

/// One of the master keys that wrap something in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct MasterKeyReport {
    /// Its id.
    pub id: String,
    /// Whether it opens what it wrapped.
    pub opens: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// What was last found about the master keys.
#[derive(Default)]
pub(super) struct KeyCheck {
    last: tokio::sync::Mutex<Option<Found>>,
}

#[derive(Clone)]
struct Found {
    at: Instant,
    database_reachable: bool,
    master_keys: Vec<MasterKeyReport>,
}

/// Adds what balancers ask.
pub(super) fn configure_health(config: &mut ServiceConfig) {
    config.service(get_health).service(get_readiness).service(get_version);
}

/// Adds what operators ask.
pub(super) fn configure_metrics(config: &mut ServiceConfig) {
    config.service(get_metrics);
}

/// Whether the path is one of those that [`configure_health`] adds.
pub(super) fn is_health(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/version")
}

/// Whether the process runs
#[utoipa::path(
    tag = "operations",
    operation_id = "get_health",
    responses((status = 200, description = "It runs", body = Health)),
    security(()),
    extensions(("x-permission" = json!("none"))),
)]
#[get("/healthz")]
async fn get_health() -> HttpResponse {
    uncached(StatusCode::OK, &Health { status: "ok" })
}

/// Which version runs
#[utoipa::path(
    tag = "operations",
    operation_id = "get_version",
    responses((status = 200, description = "The version", body = Version)),
    security(()),
    extensions(("x-permission" = json!("none"))),
)]
#[get("/version")]
async fn get_version() -> HttpResponse {
    uncached(
        StatusCode::OK,
        &Version { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") },
    )
}

/// Whether the process wants requests
///
/// Details are for a platform key, and for everybody on the admin port.
#[utoipa::path(
    tag = "operations",
    operation_id = "get_readiness",
    responses(
        (status = 200, description = "Ready", body = ReadinessReport),
        (status = 503, description = "Starting, draining, the journal is full, or no master key opens \
            anything",
            body = ReadinessReport),
    ),
    security((), ("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("none"))),
)]
#[get("/readyz")]
async fn get_readiness(
    request: HttpRequest,
    plane: web::Data<Management>,
    check: web::Data<KeyCheck>,
) -> HttpResponse {
    let phase = plane.readiness.phase();
    let found = check.look(&plane.database, &plane.keyring).await;
    let mut failing = Vec::new();
    match phase {
        Phase::Starting => failing.push("start-up is not complete".to_owned()),
        Phase::Ready => {}
        Phase::Draining => failing.push("the process was told to stop".to_owned()),
    }
    if opens_nothing(&found.master_keys) {
        failing.push(
            "no master key opens anything; put the master keys back from their backup".to_owned(),
        );
    }
    if plane.readiness.is_journal_full() {
        failing.push(
            "journal full: attempts can't be written down until the database takes them, or the \
             disk has room again"
                .to_owned(),
        );
    }
    let ready = failing.is_empty();
    let details = may_see_details(&request).await.then(|| ReadinessDetails {
        failing,
        database_reachable: found.database_reachable,
        directory_age_ms: u64::try_from(plane.directory.age().as_millis()).unwrap_or(u64::MAX),
        master_keys: found.master_keys,
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    uncached(status, &ReadinessReport { ready, phase, details })
}

/// Metrics in the OpenMetrics text format
///
/// For a platform key, and for everybody on the admin port.
#[utoipa::path(
    tag = "operations",
    operation_id = "get_metrics",
    responses(
        (status = 200, description = "The metrics", body = String,
            content_type = "application/openmetrics-text"),
        (status = 401, description = "No valid API key",
            body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Not allowed",
            body = Problem, content_type = "application/problem+json"),
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("operations:read"))),
)]
#[get("/metrics")]
async fn get_metrics(request: HttpRequest, plane: web::Data<Management>) -> HttpResponse {
    if request.app_data::<Offer>() != Some(&Offer::AdminPort)
        && let Err(error) =
            Permitted::<OperationsRead>::from_request(&request, &mut Payload::None).await
    {
        return edge::fail(&request, &error);
    }
    plane.accounting.reporter.flush();
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, METRICS_CONTENT_TYPE))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(plane.metrics.encode())
}

async fn may_see_details(request: &HttpRequest) -> bool {
    match request.app_data::<Offer>() {
        Some(Offer::AdminPort) => true,
        Some(Offer::Health) => false,
        Some(Offer::Everything) | None => {
            Permitted::<OperationsRead>::from_request(request, &mut Payload::None).await.is_ok()
        }
    }
}

fn uncached(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status).insert_header((CACHE_CONTROL, "no-store")).json(body)
}

/// A database that seals nothing yet needs no key.
fn opens_nothing(keys: &[MasterKeyReport]) -> bool {
    !keys.is_empty() && keys.iter().all(|key| !key.opens)
}

impl KeyCheck {
    async fn look(&self, database: &Database, keyring: &KeyringHandle) -> Found {
        // Held while looking: of many who ask at once, one looks.
        let mut last = self.last.lock().await;
        if let Some(found) = &*last
            && found.at.elapsed() < BELIEVED
        {
            return found.clone();
        }
        let asking = database
            .housekeeping_read(async |conn: &mut Conn| list_any_of_each_master_key(conn).await);
        let found = match tokio::time::timeout(DATABASE_LIMIT, asking).await {
            Ok(Ok(rows)) => Found {
                at: Instant::now(),
                database_reachable: true,
                master_keys: rows.into_iter().map(|row| report(keyring, row)).collect(),
            },
            // What was known of the keys stays true while nobody can look.
            Ok(Err(_)) | Err(_) => Found {
                at: Instant::now(),
                database_reachable: false,
                master_keys: last.take().map(|found| found.master_keys).unwrap_or_default(),
            },
        };
        last.insert(found).clone()
    }
}

fn report(keyring: &KeyringHandle, row: DataKeyRow) -> MasterKeyReport {
    let id = row.master_key_id.clone();
    let wrapped = WrappedDataKey { master_key_id: row.master_key_id, sealed: row.wrapped };
    let cause = match keyring.with_key(&wrapped.master_key_id) {
        Ok(keys) => unwrap_data_key(&keys, &wrapped, row.workspace_id.uuid(), row.id.uuid())
            .err()
            .map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    MasterKeyReport { id, opens: cause.is_none(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_that_opens_is_enough() {
        let key = |opens| MasterKeyReport { id: "mk".to_owned(), opens, cause: None };
        assert!(!opens_nothing(&[]));
        assert!(!opens_nothing(&[key(false), key(true)]));
        assert!(opens_nothing(&[key(false), key(false)]));
    }
}
