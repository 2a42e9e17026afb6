//! The data plane, `/providers/...`: an application's call on its way to a model and back.
//!
//! `pipeline` is the whole of it; each step is a file.

pub mod admit;
pub mod concurrency;
pub mod content_coding;
pub mod context;
pub mod error;
pub mod headers;
pub mod key_scrubber;
pub mod policy_headers;
pub mod prepare;
pub mod read;
pub mod relay;
pub mod route;
pub mod send;

use std::sync::Arc;

use actix_web::body::{BoxBody, EitherBody};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use bytes::Bytes;

use crate::accounting::budget::{Budget, Share};
use crate::accounting::engine::Accounting;
use crate::auth::{AuthError, Principal, Scope, authenticate};
use crate::clock::Clock;
use crate::crypto::KeyringHandle;
use crate::directory::Directory;
use crate::directory::configuration::ConfigurationEntry;
use crate::domain::permissions::Permission;
use crate::domain::scope::WorkspaceScope;
use crate::llm::limits::{BodyFacts, Bound};
use crate::llm::usage::model_name;
use crate::telemetry::requests::RequestIds;
use crate::upstream::{UpstreamClient, UpstreamTimeouts};
use concurrency::Concurrency;
use context::RequestContext;
use error::ProxyError;
use prepare::Prepared;
use read::{BodyLimits, read_body};
use relay::{Answer, Permits, RelayBody};
use route::{ProxyRoute, RouteMatch};

/// What the data plane works with. One for all workers.
pub struct DataPlane {
    /// Keys and configurations.
    pub directory: Directory,
    /// Opens provider secrets.
    pub keyring: KeyringHandle,
    /// What time it is.
    pub clock: Clock,
    /// Admits requests and records them.
    pub accounting: Accounting,
    /// Limits of callers' bodies.
    pub body_limits: BodyLimits,
    /// Memory for all callers' bodies together, in bytes.
    pub body_memory: Budget,
    /// Places for requests, in all.
    pub requests: Budget,
    /// Requests under way of each configuration.
    pub concurrency: Concurrency,
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
    let ids = request.extensions().get::<RequestIds>().cloned().unwrap_or_default();
    let peer = request.peer_addr().map(|address| address.ip());
    let mut context = RequestContext::new(&plane.accounting.reporter, ids, peer);
    match pipeline(&request, payload, &plane, &client, &mut context).await {
        Ok(answer) => relay::relay(answer, context).await.map_into_left_body(),
        Err(error) => context.refuse(&error).map_into_right_body(),
    }
}

/// The stages of a request, in order, up to the head of the upstream's answer.
async fn pipeline(
    request: &HttpRequest,
    payload: web::Payload,
    plane: &DataPlane,
    client: &UpstreamClient,
    context: &mut RequestContext,
) -> Result<Answer, ProxyError> {
    let principal = authenticate(request.headers(), &plane.directory, &plane.clock).await;
    let principal = principal.map_err(refusal)?;
    context.request.record().principal = Some(principal);
    let scope = may_invoke(&principal)?;

    let route = match_route(request)?;
    context.request.record().operation = route.operation.label();

    let configuration = resolve(plane, scope, &route, context).await?;

    let permits = Permits {
        _request: plane.requests.take(1).ok_or(ProxyError::Overloaded)?,
        _configuration: plane
            .concurrency
            .enter(configuration.id, configuration.max_concurrent_requests)
            .ok_or_else(|| ProxyError::ConcurrencyLimited { name: route.config_name.clone() })?,
    };

    let mut outgoing = if route.operation.is_post() {
        read_outgoing(plane, request, payload, &route, &configuration, context).await?
    } else {
        Outgoing::empty()
    };

    admit::admit(plane, request, &principal, scope, &configuration, &mut outgoing, context).await?;

    let credentials = configuration.open(&plane.keyring).map_err(|unavailable| {
        context.request.record().cause = Some(unavailable.to_string());
        ProxyError::SecretUnavailable { name: unavailable.name }
    })?;
    let Outgoing { body, withhold_usage, .. } = outgoing;
    let Prepared { request, credentials } =
        prepare::prepare(request, &route, &configuration, credentials, body, plane.timeouts);

    let response = send::send(client, &request, &mut context.request).await?;
    Ok(Answer {
        response,
        operation: route.operation,
        withhold_usage,
        secrets: credentials.secrets,
        permits,
    })
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
    context: &mut RequestContext,
) -> Result<Arc<ConfigurationEntry>, ProxyError> {
    let name = &route.config_name;
    let found = plane.directory.find_configuration(scope, name).await.map_err(|error| {
        context.request.record().cause = Some(error.to_string());
        ProxyError::DirectoryUnavailable
    })?;
    let configuration =
        found.ok_or_else(|| ProxyError::UnknownConfiguration { name: name.clone() })?;
    context.request.record().configuration =
        Some((configuration.id, Arc::clone(&configuration.name)));
    if !configuration.enabled {
        return Err(ProxyError::DisabledConfiguration { name: name.clone() });
    }
    Ok(configuration)
}

/// What goes up, and what is known of it.
pub struct Outgoing {
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
    fn empty() -> Self {
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
    context: &mut RequestContext,
) -> Result<Outgoing, ProxyError> {
    let (bytes, memory) =
        read_body(request.headers(), payload, plane.body_limits, &plane.body_memory).await?;
    let (body, facts) = BodyFacts::parse(bytes).map_err(ProxyError::Body)?;
    context.request.record().model_asked = body.get("model").and_then(model_name);
    let (edits, withhold_usage) =
        prepare::edit_body(&body, &facts, &route.operation, configuration)?;
    let is_background = facts.answers_later();
    let bound = admit::bound_of(plane, &route.operation, facts, &edits, configuration);
    Ok(Outgoing {
        body: edits.to_bytes(),
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
