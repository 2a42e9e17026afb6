//! The data plane, `/providers/...`: an application's call on its way to a model and back.
//!
//! `pipeline` is the whole of it; each step is a file.

pub mod admit;
pub mod budget;
pub mod error;
pub mod exchange;
pub mod headers;
pub mod key_scrubber;
pub mod prepare;
pub mod read;
pub mod relay;
pub mod route;
pub mod send;
pub mod sent;

use std::sync::Arc;

use actix_web::body::{BoxBody, EitherBody};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, ResponseError, web};
use bytes::Bytes;

use crate::accounting::books::Books;
use crate::auth::{AuthError, Principal, Scope, authenticate};
use crate::clock::Clock;
use crate::crypto::KeyringHandle;
use crate::directory::Directory;
use crate::directory::configuration::ConfigurationEntry;
use crate::domain::permissions::Permission;
use crate::domain::scope::WorkspaceScope;
use crate::json::object::JsonBody;
use crate::llm::limits::Bound;
use crate::llm::usage::model_name;
use crate::telemetry::Metrics;
use crate::telemetry::requests::RequestIds;
use crate::upstream::{UpstreamClient, UpstreamTimeouts};
use admit::Asked;
use budget::{Budget, InFlight, Share};
use error::ProxyError;
use exchange::Exchange;
use prepare::Prepared;
use read::{BodyLimits, read_body};
use relay::{Held, RelayBody};
use route::{ProxyRoute, RouteMatch};

/// What the data plane works with. One for all workers.
pub struct DataPlane {
    /// Keys and configurations.
    pub directory: Directory,
    /// Opens provider secrets.
    pub keyring: KeyringHandle,
    /// What time it is.
    pub clock: Clock,
    /// Asks the policies, and keeps the accounts of requests.
    pub books: Books,
    /// Where requests are counted.
    pub metrics: Metrics,
    /// Limits of callers' bodies.
    pub body_limits: BodyLimits,
    /// Memory for all callers' bodies together, in bytes.
    pub body_memory: Budget,
    /// Places for requests, in all.
    pub requests: Budget,
    /// Requests under way of each configuration.
    pub in_flight: InFlight,
    /// Time limits for configurations that set none.
    pub timeouts: UpstreamTimeouts,
}

/// Answers one request under `/providers/`.
pub async fn handle(
    request: HttpRequest,
    payload: web::Payload,
    plane: web::Data<DataPlane>,
    client: web::Data<UpstreamClient>,
) -> HttpResponse<EitherBody<RelayBody, BoxBody>> {
    let ids = request.extensions().get::<RequestIds>().cloned();
    let mut exchange = Some(Exchange::begin(&plane.metrics, ids));
    match pipeline(&request, payload, &plane, &client, &mut exchange).await {
        Ok(response) => response.map_into_left_body(),
        Err(error) => {
            let mut response = error.error_response();
            if let Some(exchange) = &mut exchange {
                exchange.refused(&error);
                for (name, value) in exchange.policy_headers() {
                    response.headers_mut().insert(name, value);
                }
            }
            response.map_into_right_body()
        }
    }
}

/// The stages of a request, in order. The exchange is taken by the relay, which settles it when the
/// last byte is out; whatever ends the request before that settles it too.
async fn pipeline(
    request: &HttpRequest,
    payload: web::Payload,
    plane: &DataPlane,
    client: &UpstreamClient,
    exchange_slot: &mut Option<Exchange>,
) -> Result<HttpResponse<RelayBody>, ProxyError> {
    let Some(exchange) = exchange_slot else { return Err(ProxyError::Internal) };

    let principal = authenticate(request.headers(), &plane.directory, &plane.clock).await;
    let principal = principal.map_err(refusal)?;
    exchange.principal = Some(principal);
    let scope = may_invoke(&principal)?;

    let route = match_route(request)?;
    exchange.operation = route.operation.label();

    let configuration = resolve(plane, scope, &route, exchange).await?;

    let places = Held {
        request: plane.requests.take(1).ok_or(ProxyError::Overloaded)?,
        slot: plane
            .in_flight
            .enter(configuration.id, configuration.max_concurrent_requests)
            .ok_or_else(|| ProxyError::ConcurrencyLimited { name: route.config_name.clone() })?,
    };

    let Outgoing { body, memory, withhold_usage, bound, is_background } =
        if route.operation.is_post() {
            read_outgoing(plane, request, payload, &route, &configuration, exchange).await?
        } else {
            Outgoing::nothing()
        };

    let asked = Asked {
        request,
        principal: &principal,
        scope,
        operation: &route.operation,
        configuration: &configuration,
        bound,
        body: &body,
        is_background,
    };
    admit::admit(plane, asked, memory, exchange).await?;

    let credentials = configuration.open(&plane.keyring).map_err(|unavailable| {
        exchange.cause = Some(unavailable.to_string());
        ProxyError::SecretUnavailable { name: unavailable.name }
    })?;
    let Prepared { request, credentials } =
        prepare::prepare(request, &route, &configuration, credentials, body, plane.timeouts);

    let response = send::send(client, &request, exchange).await?;
    // It is not sent again. The account holds the body on, as long as it may have to be counted.
    drop(request);

    let Some(exchange) = exchange_slot.take() else { return Err(ProxyError::Internal) };
    let secrets = &credentials.secrets;
    Ok(relay::relay(response, &route.operation, withhold_usage, secrets, exchange, places).await)
}

/// The workspace that the principal may call models in.
fn may_invoke(principal: &Principal) -> Result<WorkspaceScope, ProxyError> {
    match principal.scope {
        Scope::Workspace(scope) if principal.may(Permission::GatewayInvoke) => Ok(scope),
        Scope::Workspace(_) => {
            Err(ProxyError::PermissionDenied { permission: Permission::GatewayInvoke.as_str() })
        }
        Scope::Organization(_) | Scope::Platform => Err(ProxyError::OrganizationKey),
    }
}

fn match_route(request: &HttpRequest) -> Result<ProxyRoute, ProxyError> {
    if headers::asks_for_websocket(request.headers()) {
        return Err(ProxyError::NotServed);
    }
    match route::match_route(request.method(), request.uri().path()) {
        RouteMatch::Matched(route) => Ok(route),
        RouteMatch::BadName => Err(ProxyError::UnknownConfiguration { name: String::new() }),
        RouteMatch::BadModelId => Err(ProxyError::BadModelId),
        RouteMatch::NotServed | RouteMatch::NotProxy => Err(ProxyError::NotServed),
    }
}

async fn resolve(
    plane: &DataPlane,
    scope: WorkspaceScope,
    route: &ProxyRoute,
    exchange: &mut Exchange,
) -> Result<Arc<ConfigurationEntry>, ProxyError> {
    let name = &route.config_name;
    let found = plane.directory.find_configuration(scope, name).await.map_err(|error| {
        exchange.cause = Some(error.to_string());
        ProxyError::DirectoryUnavailable
    })?;
    let configuration =
        found.ok_or_else(|| ProxyError::UnknownConfiguration { name: name.clone() })?;
    exchange.configuration_id = Some(configuration.id);
    if !configuration.enabled {
        return Err(ProxyError::DisabledConfiguration { name: name.clone() });
    }
    Ok(configuration)
}

/// What goes up, and what is known of it.
struct Outgoing {
    body: Bytes,
    /// The right to hold the body in memory.
    memory: Option<Share>,
    /// Whether the answer's usage was not the caller's wish, and so not theirs to see.
    withhold_usage: bool,
    /// The most that it can use.
    bound: Bound,
    /// Whether the provider answers before it has done the work.
    is_background: bool,
}

impl Outgoing {
    fn nothing() -> Self {
        Self {
            body: Bytes::new(),
            memory: None,
            withhold_usage: false,
            bound: Bound::FREE,
            is_background: false,
        }
    }
}

/// Reads the caller's body, and makes of it what goes up.
async fn read_outgoing(
    plane: &DataPlane,
    request: &HttpRequest,
    payload: web::Payload,
    route: &ProxyRoute,
    configuration: &ConfigurationEntry,
    exchange: &mut Exchange,
) -> Result<Outgoing, ProxyError> {
    let (bytes, memory) =
        read_body(request.headers(), payload, plane.body_limits, &plane.body_memory).await?;
    let mut body = JsonBody::parse(bytes).map_err(ProxyError::Body)?;
    exchange.model_asked = body.get("model").and_then(model_name);
    let withhold_usage = prepare::edit_body(&mut body, &route.operation, configuration)?;
    let bound = admit::bound_of(plane, &route.operation, &body, configuration);
    let is_background = body.get("background").is_some_and(|raw| !matches!(raw, "false" | "null"));
    Ok(Outgoing {
        body: body.into_bytes(),
        memory: Some(memory),
        withhold_usage,
        bound,
        is_background,
    })
}

fn refusal(error: AuthError) -> ProxyError {
    match error {
        AuthError::Missing => ProxyError::MissingKey,
        AuthError::Malformed(_) | AuthError::Unknown => ProxyError::InvalidKey,
        AuthError::Expired => ProxyError::ExpiredKey,
        AuthError::Revoked => ProxyError::RevokedKey,
        AuthError::Disabled => ProxyError::DisabledKey,
        AuthError::UserDeactivated => ProxyError::UserDeactivated,
        AuthError::OrganizationSuspended => ProxyError::OrganizationSuspended,
        AuthError::Limited => ProxyError::KeyAttemptsLimited { retry_after: 10 },
        AuthError::Unavailable(_) => ProxyError::DirectoryUnavailable,
    }
}
