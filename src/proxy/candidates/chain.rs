//! The targets of a chain that a request may be sent to.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    Candidate, Candidates, FormatChoice, ModelRequest, check_usable, model_for, scope_of,
    unavailable,
};
use crate::directory::upstream_entry::{UpstreamEntry, UpstreamModel};
use crate::domain::policy::Subject;
use crate::domain::policy::fallback::Candidate as ChainCandidate;
use crate::policy::set::{Chain, PolicySet, has_spend_cap};
use crate::proxy::DataPlane;
use crate::proxy::context::RequestContext;
use crate::proxy::error::ProxyError;
use crate::routing::find::find_upstream;
use crate::routing::health::{Cooling, TargetKey};
use crate::routing::order::{in_order, seed_of};

type List = SmallVec<[Candidate; 1]>;

/// The targets of a chain that can be used now. What cannot (a missing secret, a disabled configuration,
/// a model that the caller may not use, or without a price under a spend cap, a target that cools down) is
/// left out, unless nothing else is left. `asked` is the model for configurations without one.
pub(super) async fn of_chain(
    plane: &DataPlane,
    subject: &Subject<'_>,
    policies: &Arc<PolicySet>,
    chain: &Arc<Chain>,
    request: &ModelRequest<'_>,
    asked: Option<&str>,
    context: &mut RequestContext,
) -> Result<Candidates, ProxyError> {
    let usable = usable(plane, subject, chain, request, asked, context).await?;
    let matched = policies.matching(subject);
    let is_allowed =
        |one: &&Candidate| plane.accounting.allows(&matched, &one.upstream, &one.model);
    let allowed: List = usable.iter().filter(is_allowed).cloned().collect();
    let needs_price = has_spend_cap(&matched) && !request.operation.counts_tokens();
    let has_price = |one: &&Candidate| !needs_price || one.model.price.is_some();
    let priced: List = allowed.iter().filter(has_price).cloned().collect();
    // If nothing is left, admission says which policies deny it, and why.
    let (list, left_out) = match (allowed.is_empty(), priced.is_empty()) {
        (true, _) => (usable, Vec::new()),
        (false, true) => (allowed, Vec::new()),
        (false, false) => without_cooling(plane, subject, priced)?,
    };
    let (chain, policies) = (Some(Arc::clone(chain)), Arc::clone(policies));
    let (subscription, formats) = (None, FormatChoice::CallersFirst);
    Ok(Candidates { list, chain, left_out, policies, subscription, formats })
}

/// Those that exist, are enabled and have their secret, in the order in which they are tried.
async fn usable(
    plane: &DataPlane,
    subject: &Subject<'_>,
    chain: &Chain,
    request: &ModelRequest<'_>,
    asked: Option<&str>,
    context: &mut RequestContext,
) -> Result<List, ProxyError> {
    let ModelRequest { operation, headers, body, .. } = request;
    let request_id = context.request.record().ids.request_id;
    let body = operation.format().zip(body.map(|body| &body.json));
    let seed = || seed_of(subject.workspace_id, headers, body, request_id);
    let (mut usable, mut obstacle) = (List::new(), None);
    for candidate in in_order(&chain.steps, seed) {
        let found =
            find_upstream(&plane.directory, &plane.built_in, scope_of(subject), candidate).await;
        let upstream = match found {
            Ok(Some(upstream)) => upstream,
            Ok(None) => continue,
            Err(error) => return Err(unavailable(context, &error)),
        };
        if let Err(error) = check_usable(&upstream, operation, FormatChoice::CallersFirst) {
            obstacle.get_or_insert(error);
            continue;
        }
        let model = match candidate {
            ChainCandidate::Model { model, .. } => Ok(upstream.chosen_model(model)),
            ChainCandidate::Configuration(_) => model_for(&upstream, operation, asked),
        };
        match model {
            Ok(model) => usable.push(Candidate { upstream, model }),
            Err(error) => {
                obstacle.get_or_insert(error);
            }
        }
    }
    match usable.is_empty() {
        true => Err(obstacle.unwrap_or(ProxyError::NoTarget { name: chain.name.to_string() })),
        false => Ok(usable),
    }
}

/// The candidates that do not cool down, and the cool-downs of the others. If all cool down, the caller is
/// told when to come back.
fn without_cooling(
    plane: &DataPlane,
    subject: &Subject<'_>,
    candidates: List,
) -> Result<(List, Vec<Cooling>), ProxyError> {
    let now = plane.clock.now();
    let (mut ready, mut left_out) = (List::new(), Vec::new());
    for candidate in candidates {
        let key = key_of(subject, &candidate.upstream, &candidate.model);
        match plane.health.check(&key, now) {
            Some(cooling) => left_out.push(cooling),
            None => ready.push(candidate),
        }
    }
    match left_out.iter().min_by_key(|one| one.until) {
        Some(soonest) if ready.is_empty() => Err(ProxyError::TargetsCoolDown {
            retry_after: soonest.seconds_left(),
            is_rate: left_out.iter().all(Cooling::is_rate),
        }),
        _ => Ok((ready, left_out)),
    }
}

/// What a target's health is kept under.
pub fn key_of(subject: &Subject<'_>, upstream: &UpstreamEntry, model: &UpstreamModel) -> TargetKey {
    TargetKey {
        workspace_id: subject.workspace_id,
        upstream: upstream.id,
        model: Some(model.sent_name().to_owned()),
    }
}
