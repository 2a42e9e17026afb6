//! The data plane: an application's call on its way to a model and back. Below `/v1` for any model, below
//! `/providers/...` and its synonym `/models/...`, `/{provider}/...` and `/routes/...` for theirs.
//!
//! `pipeline` is the whole of it; each step is a file.

pub mod admit;
pub mod answer;
pub mod answer_converter;
pub mod answer_reader;
pub mod attempt;
pub mod candidates;
pub mod concurrency;
pub mod content_coding;
pub mod context;
pub mod conversion;
pub mod error;
pub mod guard;
pub mod headers;
pub mod key_mask;
pub mod key_scrubber;
pub mod model_list;
pub mod off_worker;
pub mod path_segment;
pub mod policy_headers;
pub mod prologue;
pub mod rate_limit_headers;
pub mod read;
pub mod relay_body;
pub mod relay_head;
pub mod restore;
pub mod route;
pub mod scanned_answer;
pub mod shared_account;
pub mod subscription;
pub mod target;
pub mod unmetered;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};

use crate::accounting::Accounting;
use crate::accounting::budget::{Budget, Share};
use crate::auth::client_address::TrustedProxies;
use crate::auth::{AuthError, Principal, Scope, authenticate};
use crate::clock::Clock;
use crate::credentials::token_cache::TokenCache;
use crate::crypto::KeyringHandle;
use crate::directory::Directory;
use crate::directory::own_responses::OwnResponses;
use crate::domain::metadata::Metadata;
use crate::domain::permissions::Permission;
use crate::domain::policy::Subject;
use crate::domain::provider::Provider;
use crate::domain::scope::WorkspaceScope;
use crate::llm::format::Operation;
use crate::presidio::Presidio;
use crate::providers::built_in::BuiltInProviders;
use crate::routing::health::TargetHealth;
use crate::telemetry::request_ids::RequestIds;
use crate::upstream::{RequestBody, UpstreamClient, UpstreamTimeouts};
use admit::metadata_of;
use answer::Answer;
use attempt::Attempts;
use candidates::{ModelPlane, ModelRequest, model_asked};
use concurrency::Concurrency;
use context::RequestContext;
use conversion::conversions;
use error::ProxyError;
use guard::GuardStage;
use guard::record::RecordGuard;
use model_list::cache::ModelLists;
use read::{BodyLimits, CallerBody, read_whole};
use relay_head::Relayed;
use route::{ProxyRoute, RouteMatch, UpstreamName};
use shared_account::keep_to_own_state;
use unmetered::{StreamLimits, streamed_body};

/// What the data plane works with. One for all workers.
pub struct DataPlane {
    /// Keys and upstreams.
    pub directory: Directory,
    /// The providers that are called by name.
    pub built_in: BuiltInProviders,
    /// Opens provider secrets.
    pub keyring: KeyringHandle,
    /// The upstreams' OAuth tokens.
    pub tokens: TokenCache,
    pub clock: Clock,
    /// Admits requests and records them.
    pub accounting: Arc<Accounting>,
    /// Limits of callers' bodies.
    pub body_limits: BodyLimits,
    /// Limits of bodies that are sent on as they arrive.
    pub stream_limits: StreamLimits,
    /// Memory for all callers' bodies together, in bytes.
    pub body_memory: Budget,
    /// Places for requests, in all.
    pub requests: Budget,
    /// Requests under way of each upstream.
    pub concurrency: Concurrency,
    /// The responses in shared accounts that workspaces may continue.
    pub own_responses: OwnResponses,
    /// How the targets of chains have done lately.
    pub health: TargetHealth,
    /// The models that providers have listed.
    pub model_lists: ModelLists,
    /// Recognizes names for guards, if there is one.
    pub presidio: Option<Presidio>,
    /// The proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: TrustedProxies,
    /// Time limits for upstreams that set none.
    pub timeouts: UpstreamTimeouts,
}

/// Answers one request of the data plane.
pub async fn handle(
    request: HttpRequest,
    payload: web::Payload,
    plane: web::Data<DataPlane>,
    client: web::Data<UpstreamClient>,
) -> HttpResponse {
    if route::is_reachability_check(request.method(), request.uri().path()) {
        return HttpResponse::Ok().finish();
    }
    let ids = RequestIds::new(plane.clock.new_id(), request.headers());
    // One line is logged for a request, which holds the ids, so the cost of a span is only worth it
    // while debugging.
    // The caller's own id may have values in it that only the line is kept clear of.
    let span = tracing::debug_span!("request", request_id = %ids.request_id);
    // Polled where it is: to instrument it would be to copy it, and it has several kilobytes.
    let mut work = pin!(answer(request, payload, plane, client, ids));
    poll_fn(|cx| span.in_scope(|| work.as_mut().poll(cx))).await
}

async fn answer(
    request: HttpRequest,
    payload: web::Payload,
    plane: web::Data<DataPlane>,
    client: web::Data<UpstreamClient>,
    ids: RequestIds,
) -> HttpResponse {
    let client_address = plane.trusted_proxies.client_address(&request);
    let reporter = &plane.accounting.reporter;
    let mut context = RequestContext::new(reporter, ids.clone(), client_address);
    let outcome = if model_list::is_at(request.uri().path()) {
        // Boxed, so that it takes no room in the calls of models.
        let listed = Box::pin(list_models(&request, &plane, &client, &mut context)).await;
        listed.map(Reply::Own)
    } else {
        let answer = pipeline(&request, payload, &plane, &client, &mut context).await;
        answer.map(Reply::Upstream)
    };
    let mut response = match outcome {
        Ok(Reply::Upstream(mut answer)) => {
            let memory = &plane.body_memory;
            let beginning = relay_head::begin(&mut answer, memory, &mut context).await;
            match relay_head::relay(answer, beginning, (memory, plane.clock.now()), context) {
                Relayed::Begun(response) => response,
                // Boxed, since most answers are not scanned.
                Relayed::Scanning(answer) => Box::pin(answer.begin()).await,
            }
        }
        Ok(Reply::Own(response)) => context.complete(response),
        Err(error) => {
            let format = route::error_format(request.headers(), request.uri().path());
            context.refuse(&error, format)
        }
    };
    ids.insert_into(response.headers_mut());
    response
}

/// What a request is answered with, if not with an error of the gateway.
enum Reply {
    Upstream(Box<Answer>),
    Own(HttpResponse),
}

async fn list_models(
    request: &HttpRequest,
    plane: &DataPlane,
    client: &UpstreamClient,
    context: &mut RequestContext,
) -> Result<HttpResponse, ProxyError> {
    let caller = authorize(request, plane, context).await?;
    model_list::answer(request, plane, client, caller, context).await
}

/// The stages of a request, in order, up to the head of the upstream's answer.
async fn pipeline(
    request: &HttpRequest,
    payload: web::Payload,
    plane: &DataPlane,
    client: &UpstreamClient,
    context: &mut RequestContext,
) -> Result<Box<Answer>, ProxyError> {
    let changes = plane.directory.changes();
    let (principal, scope) = authorize(request, plane, context).await?;

    let mut route = match_route(request)?;
    context.request.record().operation = route.operation.label();

    let metadata = metadata_of(request.headers());
    let none = Metadata::default();
    let subject = Subject {
        organization_id: scope.organization_id,
        workspace_id: scope.workspace_id,
        user_id: principal.user_id,
        api_key_id: principal.api_key_id(),
        metadata: metadata.as_ref().unwrap_or(&none),
    };
    let recorded = RecordGuard::find(plane, &subject, context).await?;
    let mut resolved =
        candidates::resolve(plane, &subject, &route, request.headers(), context).await?;
    route.operation = candidates::in_format_of(&resolved, route.operation);

    context.permit = Some(plane.requests.take(1).ok_or(ProxyError::Overloaded)?);
    context.streams_body = matches!(route.operation, Operation::Unmetered { .. });
    let Body { json: body, mut share, unparsed } =
        read_body(plane, request, payload, &route).await?;
    if plane.directory.changes() != changes {
        // A body may take a while, and a key that was revoked meanwhile calls nothing. Boxed, since this is rare.
        resolved = Box::pin(async {
            authorize(request, plane, context).await?;
            candidates::resolve(plane, &subject, &route, request.headers(), context).await
        })
        .await?;
    }
    let asked = model_asked(&route.operation, body.as_deref());
    recorded.note_model(asked.as_ref().ok().cloned().flatten(), context);
    metadata.as_ref().map_err(Clone::clone)?;
    let (operation, headers) = (&route.operation, request.headers());
    let asked = ModelRequest { operation, model: asked?, headers, body: body.as_deref() };
    let lookup = ModelPlane { plane, client };
    let mut candidates =
        candidates::candidates(lookup, &subject, resolved, &asked, context).await?;
    let guard =
        GuardStage { plane, client, caller: request, operation, subject, candidates: &candidates };
    let body = guard.pass(body, &mut share, context).await?;
    candidates.list.retain(|one| body.may_go_to(one));
    keep_to_own_state(plane, &subject, &mut candidates, body.get(), context).await?;
    let asked = (operation, headers);
    let conversions = conversions(plane, asked, &candidates, &body, &mut share, context).await?;
    let region = route.place.as_ref().and_then(|place| place.region.as_deref());
    let targets =
        target::targets(plane, (operation, headers, region), &candidates, &body, &conversions)?;

    let answers_later = body.get().is_some_and(|body| body.facts.answers_later());
    let policies = &candidates.policies;
    admit::admit(plane, subject, policies, &targets, answers_later, context).await?;

    let (chain, left_out) = (candidates.chain.clone(), &*candidates.left_out);
    let (unparsed, subscription) = (RefCell::new(unparsed), candidates.subscription.as_ref());
    let attempts = Attempts {
        plane,
        client,
        caller: request,
        route: &route,
        subject,
        chain,
        left_out,
        unparsed,
        subscription,
    };
    attempts.first_answer(&targets, share, context).await
}

/// The caller's body, as the operation takes it.
#[derive(Default)]
struct Body {
    /// Parsed, with its share of the memory.
    json: Option<Box<CallerBody>>,
    share: Option<Share>,
    /// Of an endpoint that is passed through.
    unparsed: Option<RequestBody>,
}

/// Who calls, and the workspace that they may call models in.
async fn authorize(
    request: &HttpRequest,
    plane: &DataPlane,
    context: &mut RequestContext,
) -> Result<(Principal, WorkspaceScope), ProxyError> {
    let principal = authenticate(request.headers(), &plane.directory, &plane.clock).await;
    let principal = principal.map_err(refusal)?;
    context.request.record().principal = Some(principal);
    Ok((principal, may_invoke(&principal)?))
}

async fn read_body(
    plane: &DataPlane,
    request: &HttpRequest,
    payload: web::Payload,
    route: &ProxyRoute,
) -> Result<Body, ProxyError> {
    if matches!(route.operation, Operation::Unmetered { .. }) {
        let (headers, limits) = (request.headers(), plane.stream_limits);
        if route.upstream == UpstreamName::Provider(Provider::Bedrock) {
            // A signature covers all of it.
            let (limits, memory) = (plane.body_limits, &plane.body_memory);
            let (bytes, share) = read_whole(headers, payload, limits, memory).await?;
            let unparsed = Some(RequestBody::from(bytes));
            return Ok(Body { json: None, share: Some(share), unparsed });
        }
        let unparsed = streamed_body(headers, payload, limits)?.map(RequestBody::Streamed);
        return Ok(Body { unparsed, ..Body::default() });
    }
    let Some(format) = route.operation.format() else { return Ok(Body::default()) };
    let (limits, memory) = (plane.body_limits, &plane.body_memory);
    let read = CallerBody::read(format, request.headers(), payload, limits, memory).await?;
    let (json, share) = Some(read).unzip();
    Ok(Body { json, share, unparsed: None })
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
    let (path, query) = (request.uri().path(), request.query_string());
    let route = match route::match_route(request.method(), path) {
        RouteMatch::Matched(route) => route,
        RouteMatch::BadName => {
            return Err(ProxyError::UnknownConfiguration { name: String::new() });
        }
        RouteMatch::BadRoute => return Err(ProxyError::UnknownRoute { name: String::new() }),
        RouteMatch::BadModelId => return Err(ProxyError::BadModelId),
        RouteMatch::BadRegion => return Err(ProxyError::RegionInvalid),
        RouteMatch::DoubledVersion(provider) => {
            return Err(ProxyError::DoubledVersion { provider });
        }
        RouteMatch::NotServed | RouteMatch::NotProxy => return Err(ProxyError::NotServed),
    };
    if let Some(name) = headers::credential_in_query(query) {
        return Err(ProxyError::CredentialInQuery { name });
    }
    let is_vertex = route.upstream == UpstreamName::Provider(Provider::Vertex);
    if (is_vertex || matches!(route.operation, Operation::Gemini { .. }))
        && let Some(name) = headers::unsupported_by_gemini(query)
    {
        return Err(ProxyError::UnsupportedQuery { name });
    }
    Ok(route)
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
