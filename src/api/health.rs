//! What load balancers and operators ask, outside of `/api/v1`: `/healthz`, `/readyz`, `/version`,
//! `/metrics`.

use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{Error, FromRequest, HttpRequest, HttpResponse, web};
use futures_util::future::LocalBoxFuture;
use serde::Serialize;

use super::access::{Anyone, Caller, OperationsRead, Permitted};
use super::error::ApiError;
use super::middleware::{as_error, error_response};
use super::routes::Routes;
use super::{Exposure, Management};
use crate::crypto::{KeyringHandle, WrappedDataKey, unwrap_data_key};
use crate::db::data_keys::{DataKeyRow, list_one_per_master_key};
use crate::db::{Conn, Database};
use crate::presidio::{BreakerState, Presidio};
use crate::routing::health::CoolingTargets;
use crate::telemetry::METRICS_CONTENT_TYPE;
use crate::telemetry::readiness::Phase;

/// How long the database may take to say which master keys it needs.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the result of a check of the master keys is used again. Readiness needs no key, so its
/// callers must not be able to load the database.
const CACHE_TIME: Duration = Duration::from_secs(1);

/// The answer of a process that runs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Health {
    /// Always `ok`.
    pub(super) status: &'static str,
}

/// The program and its version.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Version {
    /// Always `tollgate`.
    pub(super) name: &'static str,
    #[schema(example = "0.1.0")]
    pub(super) version: &'static str,
}

/// Whether this process accepts requests.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ReadinessReport {
    pub(super) ready: bool,
    pub(super) phase: Phase,
    /// More, for a platform key or on the admin port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) details: Option<ReadinessDetails>,
}

/// The reasons for the readiness of the process.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ReadinessDetails {
    /// Why this process is not ready.
    pub(super) failing: Vec<String>,
    /// Whether the database answers. Known callers are served without it.
    pub(super) database_reachable: bool,
    /// How long ago the change sequence was last read, in milliseconds.
    pub(super) directory_age_ms: u64,
    /// Targets of fallback chains that this process leaves out because they failed lately. They are no
    /// reason not to be ready.
    pub(super) targets_cooling_down: CoolingTargets,
    /// Whether Presidio is called: not for some seconds after several failures. That is no reason not to
    /// be ready. Left out if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) presidio_breaker: Option<BreakerState>,
    /// The master keys that the database needs, and whether each of them works.
    pub(super) master_keys: Vec<MasterKeyReport>,
}

/// A master key that data keys in the database are wrapped with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(super) struct MasterKeyReport {
    pub(super) id: String,
    /// Whether it decrypts the data keys that it wrapped.
    pub(super) opens: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<String>,
}

/// The check whether the master keys decrypt the data keys, with its last result.
#[derive(Default)]
pub(super) struct KeyCheck {
    last: tokio::sync::Mutex<Option<KeyCheckResult>>,
}

#[derive(Clone)]
struct KeyCheckResult {
    at: Instant,
    database_reachable: bool,
    master_keys: Vec<MasterKeyReport>,
}

/// Adds what load balancers ask.
pub(super) fn configure_health(routes: &mut Routes) {
    routes
        .tag("operations")
        .add(__path_get_health, get_health)
        .answer_head(get_health)
        .add(__path_get_readiness, get_readiness)
        .answer_head(get_readiness)
        .add(__path_get_version, get_version);
}

/// Adds what operators ask.
pub(super) fn configure_metrics(routes: &mut Routes) {
    routes.tag("operations").add(__path_get_metrics, get_metrics);
}

/// Whether the process runs
#[utoipa::path(
    get,
    path = "/healthz",
    responses((status = 200, description = "It runs", body = Health)),
)]
async fn get_health(_: Anyone) -> HttpResponse {
    uncached(StatusCode::OK, &Health { status: "ok" })
}

/// Which version runs
#[utoipa::path(
    get,
    path = "/version",
    responses((status = 200, description = "The version", body = Version)),
)]
async fn get_version(_: Anyone) -> HttpResponse {
    uncached(
        StatusCode::OK,
        &Version { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") },
    )
}

/// Whether the process accepts requests
///
/// Details are for a platform key, and for everyone on the admin port.
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, description = "Ready", body = ReadinessReport),
        (status = 503, description = "Starting, draining, the journal is full, or no master key \
            decrypts anything",
            body = ReadinessReport),
    ),
    security((), ("api_key" = []), ("x_api_key" = [])),
)]
async fn get_readiness(
    _: Anyone,
    request: HttpRequest,
    plane: web::Data<Management>,
    check: web::Data<KeyCheck>,
) -> HttpResponse {
    let phase = plane.readiness.phase();
    let checked = check.run(&plane.database, &plane.keyring).await;
    let mut failing = Vec::new();
    match phase {
        Phase::Starting => failing.push("start-up is not complete".to_owned()),
        Phase::Ready => {}
        Phase::Draining => failing.push("the process was told to stop".to_owned()),
    }
    if none_decrypts(&checked.master_keys) {
        failing.push(
            "no master key decrypts anything; restore the master keys from their backup".to_owned(),
        );
    }
    if plane.readiness.is_journal_full() {
        failing.push(
            "the journal is full: attempts can't be recorded until the database accepts records \
             or the disk has room again"
                .to_owned(),
        );
    }
    let ready = failing.is_empty();
    let details = check_operations_read(&request).await.is_ok().then(|| ReadinessDetails {
        failing,
        database_reachable: checked.database_reachable,
        directory_age_ms: u64::try_from(plane.directory.age().as_millis()).unwrap_or(u64::MAX),
        targets_cooling_down: plane.health.cooling(plane.clock.now()),
        presidio_breaker: plane.presidio.as_ref().map(Presidio::state),
        master_keys: checked.master_keys,
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    uncached(status, &ReadinessReport { ready, phase, details })
}

/// Metrics in the OpenMetrics text format
///
/// For a platform key, and for everyone on the admin port.
#[utoipa::path(
    get,
    path = "/metrics",
    responses((status = 200, description = "The metrics", body = String,
        content_type = "application/openmetrics-text")),
)]
async fn get_metrics(_: OperationsReader, plane: web::Data<Management>) -> HttpResponse {
    plane.accounting.reporter.flush();
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, METRICS_CONTENT_TYPE))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(plane.metrics.encode())
}

/// A caller who may see metrics and details: with a platform key, or anyone on the admin port.
struct OperationsReader;

impl Caller for OperationsReader {
    fn permission() -> String {
        <Permitted<OperationsRead> as Caller>::permission()
    }
}

impl FromRequest for OperationsReader {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            match check_operations_read(&request).await {
                Ok(()) => Ok(Self),
                Err(error) => Err(as_error(error_response(&request, &error))),
            }
        })
    }
}

async fn check_operations_read(request: &HttpRequest) -> Result<(), ApiError> {
    match request.app_data::<Exposure>() {
        Some(Exposure::AdminPort) => Ok(()),
        Some(Exposure::HealthOnly) => Err(ApiError::NotFound("path")),
        Some(Exposure::Full) | None => {
            <Permitted<OperationsRead>>::from_request(request, &mut Payload::None).await.map(|_| ())
        }
    }
}

fn uncached(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status).insert_header((CACHE_CONTROL, "no-store")).json(body)
}

/// Whether there are master keys and none of them decrypts. A database without secrets needs none.
fn none_decrypts(keys: &[MasterKeyReport]) -> bool {
    !keys.is_empty() && keys.iter().all(|key| !key.opens)
}

impl KeyCheck {
    async fn run(&self, database: &Database, keyring: &KeyringHandle) -> KeyCheckResult {
        // Locked during the check, so that concurrent callers share one.
        let mut last = self.last.lock().await;
        if let Some(result) = &*last
            && result.at.elapsed() < CACHE_TIME
        {
            return result.clone();
        }
        let rows =
            database.housekeeping_read(async |conn: &mut Conn| list_one_per_master_key(conn).await);
        let result = match tokio::time::timeout(DATABASE_TIMEOUT, rows).await {
            Ok(Ok(rows)) => KeyCheckResult {
                at: Instant::now(),
                database_reachable: true,
                master_keys: rows.into_iter().map(|row| report(keyring, row)).collect(),
            },
            // Without the database, the last result is still valid for the keys.
            Ok(Err(_)) | Err(_) => KeyCheckResult {
                at: Instant::now(),
                database_reachable: false,
                master_keys: last.take().map(|result| result.master_keys).unwrap_or_default(),
            },
        };
        last.insert(result).clone()
    }
}

fn report(keyring: &KeyringHandle, row: DataKeyRow) -> MasterKeyReport {
    let (id, owner) = (row.master_key_id.clone(), row.owner());
    let wrapped = WrappedDataKey { master_key_id: row.master_key_id, sealed: row.wrapped };
    let cause = match keyring.with_key(&wrapped.master_key_id) {
        Ok(keys) => unwrap_data_key(&keys, &wrapped, owner.uuid(), row.id.uuid())
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
    fn one_key_that_decrypts_is_enough() {
        let key = |opens| MasterKeyReport { id: "mk".to_owned(), opens, cause: None };
        assert!(!none_decrypts(&[]));
        assert!(!none_decrypts(&[key(false), key(true)]));
        assert!(none_decrypts(&[key(false), key(false)]));
    }
}
