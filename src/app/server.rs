//! The HTTP servers: what is served on which port, and how connections are treated.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, HttpMessage, HttpResponse, HttpServer, guard, web};
use tracing_actix_web::TracingLogger;

use super::management_log::ManagementRequest;
use super::open::Store;
use super::{StartError, http1};
use crate::accounting::Accounting;
use crate::accounting::budget::Budget;
use crate::api::{self, Management};
use crate::auth::client_address::TrustedProxies;
use crate::clock::Clock;
use crate::config::{ListenSettings, Settings};
use crate::credentials::token_cache::TokenCache;
use crate::db::Database;
use crate::directory::Directory;
use crate::directory::own_responses::OwnResponses;
use crate::domain::provider::Provider;
use crate::policy::guard::tables;
use crate::presidio::Presidio;
use crate::providers::built_in::{self, BuiltInProviders};
use crate::proxy::concurrency::Concurrency;
use crate::proxy::model_list::{self, cache::ModelLists};
use crate::proxy::read::BodyLimits;
use crate::proxy::route::SCOPES;
use crate::proxy::unmetered::StreamLimits;
use crate::proxy::{self, DataPlane};
use crate::routing::health::TargetHealth;
use crate::telemetry::Metrics;
use crate::telemetry::readiness::Readiness;
use crate::telemetry::request_ids::{RequestIds, RequestSpan};
use crate::upstream::{
    EgressRules, UpstreamClient, UpstreamSettings, UpstreamTimeouts, tls_config,
};

/// The sockets that are listened on.
pub(super) struct Listeners {
    callers: TcpListener,
    admins: Option<TcpListener>,
}

impl Listeners {
    pub(super) fn bind(settings: &ListenSettings) -> Result<Self, StartError> {
        Ok(Self {
            callers: bind(settings.listen)?,
            admins: settings.admin_listen.map(bind).transpose()?,
        })
    }
}

/// What the servers are made of.
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) directory: Directory,
    pub(super) accounting: Arc<Accounting>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) presidio: Option<Presidio>,
}

pub(super) struct Servers {
    pub(super) address: SocketAddr,
    pub(super) admin_address: Option<SocketAddr>,
    pub(super) servers: Vec<Server>,
}

/// Which planes a port serves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    /// Both: there is no admin port.
    Both,
    /// The data plane; admins have a port of their own.
    Callers,
    /// The management plane. Metrics and details of readiness need no key here.
    Admins,
}

/// What both planes work with.
#[derive(Clone)]
struct BothPlanes {
    tokens: TokenCache,
    built_in: BuiltInProviders,
    health: TargetHealth,
}

/// Shows how many targets of chains cool down.
fn watch_cool_downs(parts: &Parts, health: &TargetHealth) {
    let (health, clock) = (health.clone(), parts.clock.clone());
    parts.metrics.watch_gauge(
        "guard_table_bytes",
        "Memory of the guards' tables of fixed strings, in bytes; they are built at first use",
        || tables::bytes() as f64,
    );
    parts.metrics.watch_gauge(
        "targets_cooling_down",
        "Targets of fallback chains that are left out because they failed lately",
        #[expect(clippy::cast_precision_loss, reason = "there are at most some thousands")]
        move || health.cooling(clock.now()).total() as f64,
    );
}

/// Shows the counts that the database keeps.
pub(super) fn watch_counters(metrics: &Metrics, database: &Database) {
    let counted = database.clone();
    metrics.watch_counter(
        "database_request_transactions",
        "Database transactions that requests caused",
        move || counted.requested_transactions(),
    );
    let counted = database.clone();
    metrics.watch_counter(
        "database_housekeeping_transactions",
        "Database transactions of periodic tasks",
        move || counted.housekeeping_transactions(),
    );
}

/// Makes the servers, which serve once they are polled.
pub(super) fn start(
    settings: &Settings,
    listeners: Listeners,
    parts: Parts,
) -> Result<Servers, StartError> {
    let upstream = upstream_settings(settings)?;
    let both = BothPlanes {
        tokens: TokenCache::new(parts.clock.clone()),
        built_in: BuiltInProviders::new(&settings.egress.provider_origins)
            .map_err(|error| StartError::ProviderOrigin(error.to_string()))?,
        health: TargetHealth::default(),
    };
    watch_cool_downs(&parts, &both.health);
    let plane = web::Data::new(data_plane(settings, &parts, both.clone()));
    let management = web::Data::new(management(settings, &parts, both, &upstream));
    let address = listeners.callers.local_addr()?;
    let port = if listeners.admins.is_some() { Port::Callers } else { Port::Both };
    let workers = settings.limits.workers();
    let serve = |listener, port, workers| {
        serve(settings, listener, port, workers, plane.clone(), management.clone(), &upstream)
    };
    let mut servers = vec![serve(listeners.callers, port, workers)?];
    let mut admin_address = None;
    if let Some(listener) = listeners.admins {
        admin_address = Some(listener.local_addr()?);
        servers.push(serve(listener, Port::Admins, 1)?);
    }
    Ok(Servers { address, admin_address, servers })
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|error| StartError::Listen(address, error))
}

fn upstream_settings(settings: &Settings) -> Result<UpstreamSettings, StartError> {
    let ca = match &settings.egress.upstream_ca_file {
        Some(path) => Some(
            std::fs::read(path)
                .map_err(|error| StartError::UpstreamCa(format!("{}: {error}", path.display())))?,
        ),
        None => None,
    };
    Ok(UpstreamSettings {
        egress: EgressRules::new(settings.egress.egress_allow.0.clone()),
        tls: tls_config(ca.as_deref())
            .map_err(|error| StartError::UpstreamCa(error.to_string()))?,
        idle_keep_alive: settings.timeouts.upstream_keep_alive,
    })
}

fn management(
    settings: &Settings,
    parts: &Parts,
    both: BothPlanes,
    upstream: &UpstreamSettings,
) -> Management {
    let BothPlanes { tokens, built_in, health } = both;
    Management {
        database: parts.store.database.clone(),
        directory: parts.directory.clone(),
        keyring: parts.store.keyring.clone(),
        tokens,
        built_in,
        health,
        accounting: parts.accounting.clone(),
        clock: parts.clock.clone(),
        trusted_proxies: TrustedProxies::new(settings.listen.trusted_proxies.0.clone()),
        egress: upstream.egress.clone(),
        metrics: parts.metrics.clone(),
        readiness: parts.readiness.clone(),
        presidio: parts.presidio.clone(),
    }
}

fn data_plane(settings: &Settings, parts: &Parts, both: BothPlanes) -> DataPlane {
    let (limits, timeouts) = (&settings.limits, &settings.timeouts);
    let BothPlanes { tokens, built_in, health } = both;
    DataPlane {
        directory: parts.directory.clone(),
        built_in,
        keyring: parts.store.keyring.clone(),
        tokens,
        clock: parts.clock.clone(),
        accounting: parts.accounting.clone(),
        body_limits: BodyLimits { bytes: limits.max_body_bytes, time: timeouts.body_timeout },
        stream_limits: StreamLimits {
            bytes: limits.max_unmetered_body_bytes as u64,
            idle: timeouts.body_timeout,
        },
        body_memory: Budget::new(limits.body_memory_bytes),
        requests: Budget::new(limits.max_concurrent_requests),
        concurrency: Concurrency::default(),
        own_responses: OwnResponses::start(parts.store.database.clone(), parts.clock.clone()),
        health,
        model_lists: ModelLists::new(parts.clock.clone()),
        presidio: parts.presidio.clone(),
        trusted_proxies: TrustedProxies::new(settings.listen.trusted_proxies.0.clone()),
        timeouts: UpstreamTimeouts {
            connect: timeouts.connect_timeout,
            first_byte: timeouts.first_byte_timeout,
            idle: timeouts.idle_timeout,
        },
    }
}

fn serve(
    settings: &Settings,
    listener: TcpListener,
    port: Port,
    workers: usize,
    plane: web::Data<DataPlane>,
    management: web::Data<Management>,
    upstream: &UpstreamSettings,
) -> Result<Server, StartError> {
    let upstream = upstream.clone();
    let write_timeout = settings.timeouts.downstream_write_timeout;
    let server = HttpServer::new(move || {
        plane.accounting.admission.attach_worker();
        App::new()
            .app_data(plane.clone())
            .app_data(management.clone())
            // One for each worker: connections stay on the thread that opened them.
            .app_data(web::Data::new(UpstreamClient::new(&upstream)))
            .configure(|config| {
                if port != Port::Admins {
                    // The plane matches raw paths, and observes its requests, by itself.
                    let providers = built_in::providers().map(Provider::as_str);
                    for name in SCOPES.into_iter().chain(providers) {
                        let everything = web::scope(&format!("/{name}"));
                        config.service(everything.default_service(web::to(proxy::handle)));
                    }
                    let list = web::scope(model_list::PATH);
                    config.service(list.default_service(web::to(proxy::handle)));
                    // Anthropic's clients look with it whether anybody is there.
                    for path in ["/", "/api/hello"] {
                        let resource = web::resource(path).guard(guard::Head());
                        config.service(resource.to(HttpResponse::Ok));
                    }
                }
                let exposure = match port {
                    Port::Both => api::Exposure::Full,
                    Port::Callers => api::Exposure::HealthOnly,
                    Port::Admins => api::Exposure::AdminPort,
                };
                config.default_service(web::to(api::not_found));
                let management = web::scope("")
                    .configure(|config| api::configure(config, exposure))
                    .wrap(from_fn(observe_request))
                    .wrap(TracingLogger::<RequestSpan>::new());
                config.service(management);
            })
            .wrap_fn(http1::answer)
    })
    .workers(workers)
    .max_connections(settings.limits.connections_per_worker())
    .keep_alive(settings.timeouts.keep_alive)
    .client_request_timeout(settings.timeouts.head_timeout)
    .shutdown_timeout(settings.timeouts.shutdown_timeout.as_secs().max(1))
    .tcp_nodelay(true)
    // Without this a handler goes on when its caller hangs up while a stream is idle.
    .h1_allow_half_closed(false)
    .on_connect(move |connection, _| limit_write_time(connection, write_timeout))
    .disable_signals()
    .listen(listener)?
    .run();
    Ok(server)
}

/// Limits how long a caller may take no bytes: the kernel closes a connection whose data stays
/// unacknowledged, or unsent because the receive window stays closed, for this long (tcp(7),
/// `TCP_USER_TIMEOUT`). actix-web has no time limit for writing.
fn limit_write_time(connection: &dyn std::any::Any, limit: Duration) {
    #[cfg(target_os = "linux")]
    if let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>()
        && let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(limit))
    {
        tracing::debug!(%error, "cannot limit the time for writing to a connection");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (connection, limit);
}

/// Puts the request's id on the answer, and counts and logs the request.
async fn observe_request(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let ids = request.extensions().get::<RequestIds>().cloned();
    let management = ManagementRequest::begin(&request, ids.clone());
    let mut outcome = next.call(request).await;
    if let (Ok(response), Some(ids)) = (&mut outcome, ids) {
        ids.insert_into(response.headers_mut());
    }
    if let Some(management) = management {
        management.end(&outcome);
    }
    outcome
}
