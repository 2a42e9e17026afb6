//! Which targets a request may be sent to, in the order in which they are tried: one, unless a fallback
//! chain is for the request.

use std::sync::Arc;

use actix_web::http::header::HeaderMap;
use smallvec::{SmallVec, smallvec};

use super::DataPlane;
use super::context::RequestContext;
use super::cool_down::{CoolDownKey, Cooling};
use super::error::ProxyError;
use super::read::CallerBody;
use super::route::{ProxyRoute, UpstreamName, decode_model_id};
use crate::directory::Unavailable;
use crate::directory::upstream_entry::{UpstreamEntry, UpstreamModel};
use crate::domain::policy::Subject;
use crate::domain::policy::fallback::Candidate as ChainCandidate;
use crate::domain::provider::UpstreamId;
use crate::domain::scope::WorkspaceScope;
use crate::llm::format::Operation;
use crate::llm::usage::model_name;
use crate::policy::set::{Chain, PolicySet};

/// With this value a request is sent to its own target only.
const OFF: &str = "off";
const FALLBACK_HEADER: &str = "x-tollgate-fallback";

/// An upstream and the model that it is asked for.
#[derive(Clone)]
pub struct Candidate {
    pub upstream: Arc<UpstreamEntry>,
    pub model: Arc<UpstreamModel>,
}

/// What a request may be sent to.
pub struct Candidates {
    /// Not empty.
    pub list: SmallVec<[Candidate; 1]>,
    /// The chain that they are of.
    pub chain: Option<Arc<Chain>>,
}

/// What is asked of a model.
pub struct ModelRequest<'r> {
    pub operation: &'r Operation,
    /// The model that the request names.
    pub model: Option<String>,
    pub headers: &'r HeaderMap,
}

/// What the path leads to, known before the body is.
pub enum Resolved {
    /// One upstream.
    Upstream(Arc<UpstreamEntry>),
    /// The chains of a route, each with its alias.
    Route(Arc<PolicySet>, String),
}

/// Looks up what the path names, and whether it speaks the format of the request.
pub async fn resolve(
    plane: &DataPlane,
    subject: &Subject<'_>,
    route: &ProxyRoute,
    context: &mut RequestContext,
) -> Result<Resolved, ProxyError> {
    let scope = scope_of(subject);
    let found = match &route.upstream {
        UpstreamName::Configuration(name) => plane.directory.find_configuration(scope, name).await,
        UpstreamName::Provider(provider) => {
            let built_in = plane.built_in.find(*provider).ok_or(ProxyError::NotServed)?;
            plane.directory.find_provider(scope, built_in).await
        }
        UpstreamName::Route(name) => {
            let set = plane.directory.find_policies(scope.organization_id).await;
            let set = set.map_err(|error| unavailable(context, &error))?;
            return match set.route(subject, name) {
                Some(_) => Ok(Resolved::Route(set, name.clone())),
                None => Err(ProxyError::UnknownRoute { name: name.clone() }),
            };
        }
    };
    let found = found.map_err(|error| unavailable(context, &error))?;
    let upstream = found.ok_or_else(|| match &route.upstream {
        UpstreamName::Configuration(name) => {
            ProxyError::UnknownConfiguration { name: name.clone() }
        }
        UpstreamName::Provider(_) | UpstreamName::Route(_) => ProxyError::NotServed,
    })?;
    context.request.record().upstream = Some((upstream.id, Arc::clone(&upstream.name)));
    if let Err(error) = check_usable(&upstream, &route.operation) {
        // A chain, which is known only with the body, may lead elsewhere.
        let set = plane.directory.find_policies(scope.organization_id).await;
        let has_fallback = set.is_ok_and(|set| !set.has_no_fallback());
        if !has_fallback || matches!(error, ProxyError::FormatNotServed { .. }) {
            return Err(error);
        }
    }
    Ok(Resolved::Upstream(upstream))
}

/// The operation, whose body is in the format of the configuration's model where that is not the caller's.
pub fn in_format_of(resolved: &Resolved, operation: Operation) -> Operation {
    match resolved {
        Resolved::Upstream(upstream) => match &upstream.model {
            Some(model) => operation.in_format_of(&model.name),
            None => operation,
        },
        Resolved::Route(..) => operation,
    }
}

/// The targets of the request.
pub async fn candidates(
    plane: &DataPlane,
    subject: &Subject<'_>,
    resolved: Resolved,
    request: &ModelRequest<'_>,
    context: &mut RequestContext,
) -> Result<Candidates, ProxyError> {
    let ModelRequest { operation, model: asked, headers } = request;
    let upstream = match resolved {
        Resolved::Route(set, name) => {
            let chain = set.route(subject, &name).and_then(|chains| {
                let by_alias = chains.iter().find(|(alias, _)| alias.is_some() && alias == asked);
                by_alias.or_else(|| chains.first())
            });
            let Some((_, chain)) = chain else {
                return Err(ProxyError::UnknownRoute { name });
            };
            return of_chain(plane, subject, chain, operation, asked.as_deref(), context).await;
        }
        Resolved::Upstream(upstream) => upstream,
    };
    if operation.format().is_some() && !is_switched_off(headers) {
        let set = plane.directory.find_policies(subject.organization_id).await;
        let set = set.map_err(|error| unavailable(context, &error))?;
        if !set.has_no_fallback()
            && let Some(chain) = chain_of(&set, subject, &upstream, asked.as_deref())
        {
            return of_chain(plane, subject, chain, operation, asked.as_deref(), context).await;
        }
    }
    check_usable(&upstream, operation)?;
    let model = model_for(&upstream, operation, asked.as_deref())?;
    Ok(Candidates { list: smallvec![Candidate { upstream, model }], chain: None })
}

fn is_switched_off(headers: &HeaderMap) -> bool {
    let value = headers.get(FALLBACK_HEADER).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.trim().eq_ignore_ascii_case(OFF))
}

/// The chain of requests for this upstream and model.
fn chain_of<'s>(
    set: &'s PolicySet,
    subject: &Subject<'_>,
    upstream: &UpstreamEntry,
    asked: Option<&str>,
) -> Option<&'s Arc<Chain>> {
    let own = match (upstream.id, asked) {
        (UpstreamId::Configuration(id), _) => Some(ChainCandidate::Configuration(id)),
        (UpstreamId::Provider(provider), Some(model)) => {
            Some(ChainCandidate::Model { provider, model: model.to_owned() })
        }
        (UpstreamId::Provider(_), None) => None,
    };
    // A configuration's model is its own, so that what a request names there is no alias.
    let alias = asked.filter(|_| upstream.model.is_none());
    own.and_then(|own| set.chain_for_target(subject, &own))
        .or_else(|| set.chain_for_alias(subject, alias?))
}

/// The targets of a chain that can be used now. What cannot (a missing secret, a disabled configuration,
/// a model that the caller may not use, a target that cools down) is left out, unless nothing else is left.
async fn of_chain(
    plane: &DataPlane,
    subject: &Subject<'_>,
    chain: &Arc<Chain>,
    operation: &Operation,
    asked: Option<&str>,
    context: &mut RequestContext,
) -> Result<Candidates, ProxyError> {
    let mut usable: SmallVec<[Candidate; 1]> = SmallVec::new();
    let mut obstacle = None;
    for candidate in &chain.candidates {
        let upstream = match find(plane, subject, candidate).await {
            Ok(Some(upstream)) => upstream,
            Ok(None) => continue,
            Err(error) => return Err(unavailable(context, &error)),
        };
        if let Err(error) = check_usable(&upstream, operation) {
            obstacle.get_or_insert(error);
            continue;
        }
        let model = match candidate {
            ChainCandidate::Model { model, .. } => upstream.chosen_model(model),
            ChainCandidate::Configuration(_) => model_for(&upstream, operation, asked)?,
        };
        usable.push(Candidate { upstream, model });
    }
    if usable.is_empty() {
        let name = chain.name.to_string();
        return Err(obstacle.unwrap_or(ProxyError::NoTarget { name }));
    }
    let mut allowed: SmallVec<[Candidate; 1]> = SmallVec::new();
    for candidate in &usable {
        let allows = plane.accounting.allows(subject, &candidate.upstream, &candidate.model).await;
        if allows.map_err(|error| unavailable(context, &error))? {
            allowed.push(candidate.clone());
        }
    }
    if allowed.is_empty() {
        // Admission says which policies deny it.
        return Ok(Candidates { list: usable, chain: Some(Arc::clone(chain)) });
    }
    let list = without_cooling(plane, subject, allowed)?;
    Ok(Candidates { list, chain: Some(Arc::clone(chain)) })
}

/// The candidates that do not cool down. If all do, the caller is told when to come back.
fn without_cooling(
    plane: &DataPlane,
    subject: &Subject<'_>,
    candidates: SmallVec<[Candidate; 1]>,
) -> Result<SmallVec<[Candidate; 1]>, ProxyError> {
    let now = plane.clock.now();
    let mut cooling: Vec<Cooling> = Vec::new();
    let mut ready: SmallVec<[Candidate; 1]> = SmallVec::new();
    for candidate in candidates {
        let key = key_of(scope_of(subject), &candidate.upstream, &candidate.model);
        match plane.cool_downs.check(&key, now) {
            Some(one) => cooling.push(one),
            None => ready.push(candidate),
        }
    }
    if ready.is_empty()
        && let Some(soonest) = cooling.iter().map(|one| one.left).min()
    {
        let is_rate = cooling.iter().all(|one| one.is_rate);
        return Err(Cooling { left: soonest, is_rate }.into());
    }
    Ok(ready)
}

/// What a target's cool-down is kept under.
pub fn key_of(
    scope: WorkspaceScope,
    upstream: &UpstreamEntry,
    model: &UpstreamModel,
) -> CoolDownKey {
    CoolDownKey {
        workspace_id: scope.workspace_id,
        upstream: upstream.id,
        model: Some(model.name.clone()),
    }
}

async fn find(
    plane: &DataPlane,
    subject: &Subject<'_>,
    candidate: &ChainCandidate,
) -> Result<Option<Arc<UpstreamEntry>>, Unavailable> {
    let scope = scope_of(subject);
    match candidate {
        ChainCandidate::Configuration(id) => {
            plane.directory.find_configuration_with_id(scope, *id).await
        }
        ChainCandidate::Model { provider, .. } => match plane.built_in.find(*provider) {
            Some(built_in) => plane.directory.find_provider(scope, built_in).await,
            None => Ok(None),
        },
    }
}

/// Whether the upstream speaks the format of the request, is enabled, and has its key.
fn check_usable(upstream: &UpstreamEntry, operation: &Operation) -> Result<(), ProxyError> {
    if !operation.is_in(upstream.provider.api()) {
        let configuration = upstream.id.configuration_id().map(|_| upstream.name.to_string());
        return Err(ProxyError::FormatNotServed { configuration, provider: upstream.provider });
    }
    if !upstream.enabled {
        return Err(ProxyError::DisabledConfiguration { name: upstream.name.to_string() });
    }
    if let (Some(provider), Some(secret)) = (upstream.id.provider(), upstream.missing_secret()) {
        return Err(ProxyError::ProviderSecretMissing { provider, secret: secret.to_string() });
    }
    Ok(())
}

/// The model that the upstream is asked for: its own, or else the one that the caller names, in the body
/// or in the path.
fn model_for(
    upstream: &UpstreamEntry,
    operation: &Operation,
    asked: Option<&str>,
) -> Result<Arc<UpstreamModel>, ProxyError> {
    if let Some(model) = &upstream.model {
        return Ok(Arc::clone(model));
    }
    match asked {
        Some(asked) => Ok(upstream.chosen_model(asked)),
        None if operation.format().is_some() => Err(ProxyError::ModelMissing),
        None => Ok(upstream.chosen_model("")),
    }
}

/// The model that the request names. Where it stands in the path, the body may only repeat it.
pub fn model_asked(
    operation: &Operation,
    body: Option<&CallerBody>,
) -> Result<Option<String>, ProxyError> {
    let Some(in_path) = operation.model_in_path() else {
        return Ok(body.and_then(|body| body.json.get("model")).and_then(model_name));
    };
    let in_path = decode_model_id(in_path).ok_or(ProxyError::BadModelId)?;
    let is_other = |body: &CallerBody| match operation {
        Operation::Invoke { .. } | Operation::RawPredict { .. } | Operation::Deployment { .. } => {
            let in_body = body.json.get("model");
            in_body.is_some_and(|raw| model_name(raw).as_deref() != Some(&in_path))
        }
        _ => body.facts.names_other_model(&in_path).is_some(),
    };
    if body.is_some_and(is_other) { Err(ProxyError::ModelMismatch) } else { Ok(Some(in_path)) }
}

fn scope_of(subject: &Subject<'_>) -> WorkspaceScope {
    WorkspaceScope { organization_id: subject.organization_id, workspace_id: subject.workspace_id }
}

fn unavailable(context: &mut RequestContext, error: &Unavailable) -> ProxyError {
    context.request.record().cause = Some(error.to_string());
    ProxyError::DirectoryUnavailable
}
