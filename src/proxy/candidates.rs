//! Which targets a request may be sent to, in the order in which they are tried: one, unless a fallback
//! chain is for the request.

mod by_model;
mod chain;

use std::sync::Arc;

use actix_web::http::header::HeaderMap;
use smallvec::{SmallVec, smallvec};

use super::DataPlane;
use super::context::RequestContext;
use super::error::ProxyError;
use super::read::CallerBody;
use super::route::{ProxyRoute, UpstreamName, decode_model_id};
use super::subscription::Subscription;
use super::unmetered::{endpoint_for, label};
use crate::directory::Unavailable;
use crate::directory::upstream_entry::{UpstreamEntry, UpstreamModel};
use crate::domain::policy::Subject;
use crate::domain::policy::fallback::Candidate as ChainCandidate;
use crate::domain::provider::UpstreamId;
use crate::domain::scope::WorkspaceScope;
use crate::llm::format::{Format, Operation};
use crate::llm::usage::model_name;
use crate::policy::set::{Chain, PolicySet};
use crate::providers::native::native_format;
use crate::routing::health::Cooling;
use crate::upstream::UpstreamClient;
use by_model::ModelLookup;
pub use chain::key_of;
use chain::of_chain;

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
    /// The cool-downs of targets that were left out for them.
    pub left_out: Vec<Cooling>,
    /// By which the request is admitted.
    pub policies: Arc<PolicySet>,
    /// What the only one is called with, if that is the caller's own.
    pub subscription: Option<Subscription>,
    /// In which format they are asked.
    pub formats: FormatChoice,
}

/// In which format targets are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatChoice {
    /// In the caller's.
    Callers,
    /// Configurations in the caller's if their API has it; others in the one that loses least.
    CallersFirst,
    /// In the one that loses least.
    Best,
}

impl FormatChoice {
    /// The format of the request to this target, if the operation is one whose format may change.
    pub fn format_for(self, operation: &Operation, candidate: &Candidate) -> Option<Format> {
        let Candidate { upstream, model } = candidate;
        let asked = operation.format().filter(|_| operation.is_convertible())?;
        let is_configuration = upstream.id.configuration_id().is_some();
        let keeps = match self {
            Self::Callers => true,
            Self::CallersFirst => is_configuration && operation.is_in(upstream.provider.api()),
            Self::Best => false,
        };
        match keeps {
            true => Some(asked),
            false => {
                Some(native_format(upstream.provider, &upstream.provider_name, &model.name, asked))
            }
        }
    }
}

/// What models are looked up with.
#[derive(Clone, Copy)]
pub struct ModelPlane<'p> {
    pub plane: &'p DataPlane,
    /// Asks providers for their lists of models.
    pub client: &'p UpstreamClient,
}

/// What is asked of a model.
pub struct ModelRequest<'r> {
    pub operation: &'r Operation,
    /// The model that the request names.
    pub model: Option<String>,
    pub headers: &'r HeaderMap,
    pub body: Option<&'r CallerBody>,
}

/// What the path leads to, known before the body is.
pub enum Resolved {
    Upstream(Arc<UpstreamEntry>),
    /// Anthropic, with the caller's own subscription.
    Subscribed(Arc<UpstreamEntry>, Subscription),
    /// The route with this name.
    Route(String),
    /// What the model that the body names leads to.
    OfModel,
}

/// Looks up what the path names, and whether it speaks the format of the request.
pub async fn resolve(
    plane: &DataPlane,
    subject: &Subject<'_>,
    route: &ProxyRoute,
    headers: &HeaderMap,
    context: &mut RequestContext,
) -> Result<Resolved, ProxyError> {
    let scope = scope_of(subject);
    let found = match &route.upstream {
        UpstreamName::Configuration(name) => plane.directory.find_configuration(scope, name).await,
        UpstreamName::Provider(provider) => {
            let built_in = plane.built_in.find(*provider).ok_or(ProxyError::NotServed)?;
            plane.directory.find_provider(scope, built_in).await
        }
        UpstreamName::OfModel => return Ok(Resolved::OfModel),
        UpstreamName::Route(name) => {
            let set = plane.directory.find_policies(scope.organization_id).await;
            let set = set.map_err(|error| unavailable(context, &error))?;
            return match set.route(subject, name) {
                Some(_) => Ok(Resolved::Route(name.clone())),
                None => Err(ProxyError::UnknownRoute { name: name.clone() }),
            };
        }
    };
    let found = found.map_err(|error| unavailable(context, &error))?;
    let upstream = found.ok_or_else(|| match &route.upstream {
        UpstreamName::Configuration(name) => {
            ProxyError::UnknownConfiguration { name: name.clone() }
        }
        UpstreamName::Provider(_) | UpstreamName::Route(_) | UpstreamName::OfModel => {
            ProxyError::NotServed
        }
    })?;
    context.request.record().upstream = Some((upstream.id, Arc::clone(&upstream.name)));
    if let Some(own) = Subscription::of(&upstream, &route.operation, headers) {
        check_enabled(&upstream, &route.operation, FormatChoice::Callers)?;
        return Ok(Resolved::Subscribed(upstream, own));
    }
    if let Err(error) = check_usable(&upstream, &route.operation, FormatChoice::Callers) {
        // A chain, which is known only with the body, may lead elsewhere.
        let set = plane.directory.find_policies(scope.organization_id).await;
        let has_fallback = set.is_ok_and(|set| !set.has_no_fallback());
        if !has_fallback || matches!(error, ProxyError::FormatNotServed { .. }) {
            return Err(error);
        }
    }
    Ok(Resolved::Upstream(upstream))
}

/// The operation, whose body is in the format of the configuration's model, or of the one that the
/// path's name refers to, where that is not the caller's.
pub fn in_format_of(resolved: &Resolved, operation: Operation) -> Operation {
    match resolved {
        Resolved::Upstream(upstream) => match &upstream.model {
            Some(model) => operation.in_format_of(&model.name),
            None => match operation.model_in_path().and_then(decode_model_id) {
                Some(name) => operation.in_format_of(upstream.model_meant(&name)),
                None => operation,
            },
        },
        Resolved::Route(..) | Resolved::Subscribed(..) | Resolved::OfModel => operation,
    }
}

/// The targets of the request.
pub async fn candidates(
    lookup: ModelPlane<'_>,
    subject: &Subject<'_>,
    resolved: Resolved,
    request: &ModelRequest<'_>,
    context: &mut RequestContext,
) -> Result<Candidates, ProxyError> {
    let ModelPlane { plane, .. } = lookup;
    let ModelRequest { operation, model: asked, headers, .. } = request;
    // Once for the whole request, and not before the body is there, which may take a while.
    let policies = plane.directory.find_policies(subject.organization_id).await;
    let policies = policies.map_err(|error| unavailable(context, &error))?;
    let (upstream, asked, formats) = match resolved {
        Resolved::OfModel => {
            let id = asked.as_deref().ok_or(ProxyError::ModelMissing)?;
            match by_model::find(lookup, subject, &policies, id, context).await? {
                ModelLookup::Upstream(upstream, model) => {
                    context.request.record().upstream =
                        Some((upstream.id, Arc::clone(&upstream.name)));
                    (upstream, model, FormatChoice::Best)
                }
                ModelLookup::Chain(chain) => {
                    return of_chain(plane, subject, &policies, &chain, request, None, context)
                        .await;
                }
            }
        }
        Resolved::Route(name) => {
            let chain = policies.route(subject, &name).and_then(|chains| {
                let by_alias = chains.iter().find(|(alias, _)| alias.is_some() && alias == asked);
                by_alias.or_else(|| chains.first())
            });
            let Some((alias, chain)) = chain else {
                return Err(ProxyError::UnknownRoute { name });
            };
            let asked = asked.as_deref().filter(|asked| alias.as_deref() != Some(asked));
            return of_chain(plane, subject, &policies, chain, request, asked, context).await;
        }
        Resolved::Subscribed(upstream, own) => {
            let model = model_for(&upstream, operation, asked.as_deref())?;
            let list = smallvec![Candidate { upstream, model }];
            let (chain, left_out, subscription) = (None, Vec::new(), Some(own));
            let formats = FormatChoice::Callers;
            return Ok(Candidates { list, chain, left_out, policies, subscription, formats });
        }
        Resolved::Upstream(upstream) => (upstream, asked.as_deref(), FormatChoice::Callers),
    };
    if operation.format().is_some()
        && !is_switched_off(headers)
        && !policies.has_no_fallback()
        && let Some((chain, asked)) = chain_of(&policies, subject, &upstream, asked)
    {
        return of_chain(plane, subject, &policies, chain, request, asked, context).await;
    }
    check_usable(&upstream, operation, formats)?;
    let model = model_for(&upstream, operation, asked)?;
    let list = smallvec![Candidate { upstream, model }];
    let (chain, left_out, subscription) = (None, Vec::new(), None);
    Ok(Candidates { list, chain, left_out, policies, subscription, formats })
}

fn is_switched_off(headers: &HeaderMap) -> bool {
    let value = headers.get(FALLBACK_HEADER).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.trim().eq_ignore_ascii_case(OFF))
}

/// The chain of requests for this upstream and model, and the model that they name unless that is the
/// chain's alias.
fn chain_of<'s, 'r>(
    set: &'s PolicySet,
    subject: &Subject<'_>,
    upstream: &UpstreamEntry,
    asked: Option<&'r str>,
) -> Option<(&'s Arc<Chain>, Option<&'r str>)> {
    let own = match (upstream.id, asked) {
        (UpstreamId::Configuration(id), _) => Some(ChainCandidate::Configuration(id)),
        (UpstreamId::Provider(provider), Some(model)) => {
            Some(ChainCandidate::Model { provider, model: model.to_owned() })
        }
        (UpstreamId::Provider(_), None) => None,
    };
    // A configuration's model is its own, so that what a request names there is no alias.
    let alias = asked.filter(|_| upstream.model.is_none());
    let for_target = own.and_then(|own| set.chain_for_target(subject, &own));
    let for_target = for_target.map(|chain| (chain, asked));
    for_target.or_else(|| set.chain_for_alias(subject, alias?).map(|chain| (chain, None)))
}

/// Whether the upstream speaks the format of the request, is enabled, and has its key.
fn check_usable(
    upstream: &UpstreamEntry,
    operation: &Operation,
    formats: FormatChoice,
) -> Result<(), ProxyError> {
    check_enabled(upstream, operation, formats)?;
    if let (Some(provider), Some(secret)) = (upstream.id.provider(), upstream.missing_secret()) {
        return Err(ProxyError::ProviderSecretMissing { provider, secret: secret.to_string() });
    }
    Ok(())
}

/// Whether the upstream speaks the format of the request, or may speak another, and is enabled.
fn check_enabled(
    upstream: &UpstreamEntry,
    operation: &Operation,
    formats: FormatChoice,
) -> Result<(), ProxyError> {
    let is_spoken = operation.is_in(upstream.provider.api());
    let may_be_converted = formats != FormatChoice::Callers && operation.is_convertible();
    if !is_spoken && !may_be_converted {
        let configuration = upstream.id.configuration_id().map(|_| upstream.name.to_string());
        return Err(ProxyError::FormatNotServed { configuration, provider: upstream.provider });
    }
    if let Operation::Unmetered { method, path } = operation {
        endpoint_for(upstream, *method, path)?;
    }
    if let (false, Some(provider)) = (upstream.enabled, upstream.id.provider()) {
        return Err(ProxyError::ProviderDisabled { provider });
    }
    if !upstream.enabled {
        return Err(ProxyError::DisabledConfiguration { name: upstream.name.to_string() });
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
    if let Operation::Unmetered { method, path } = operation {
        let endpoint = endpoint_for(upstream, *method, path)?;
        return Ok(upstream.chosen_model(&label(endpoint)));
    }
    match asked {
        Some(asked) => Ok(upstream.chosen_model(asked)),
        None if operation.format().is_some() => Err(ProxyError::ModelMissing),
        None => Ok(upstream.chosen_model("")),
    }
}

/// The model that the request names. If the path names it, the body may only repeat it.
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

/// The workspace of the caller.
pub fn scope_of(subject: &Subject<'_>) -> WorkspaceScope {
    WorkspaceScope { organization_id: subject.organization_id, workspace_id: subject.workspace_id }
}

/// The look-up failed; the cause is for the log.
pub fn unavailable(context: &mut RequestContext, error: &Unavailable) -> ProxyError {
    context.request.record().cause = Some(error.to_string());
    ProxyError::DirectoryUnavailable
}
