//! What a request takes of the limits that apply to it.

use super::AdmissionRequest;
use crate::domain::money::NanoUsd;
use crate::domain::policy::RateMetric;
use crate::policy::limit::Limit;
use crate::policy::limits::{Claim, ClaimList, Claims, LimitSource};
use crate::policy::set::MatchedPolicy;

/// The claims of a request on all policies that it matches. Policies that are not enforced claim
/// without a limit.
pub(super) fn claims_of(
    matched: &[MatchedPolicy<'_>],
    request: &AdmissionRequest<'_>,
    cost: NanoUsd,
) -> Claims {
    let mut list = ClaimList::new();
    for (policy, one) in matched.iter().enumerate() {
        let is_capped = one.policy.caps(request.bound.metering);
        let limits = one.policy.limits.iter().enumerate();
        for (place, own) in limits.filter(|(_, own)| is_capped || !own.limit.is_spend()) {
            let claim = Claim {
                counter: one.counter(own),
                limit: if one.is_enforced { own.limit } else { own.limit.unlimited() },
                amount: match own.limit {
                    Limit::Spend { .. } => cost.nanos(),
                    Limit::Rate { metric: RateMetric::Requests, .. } => 1,
                    Limit::Rate { metric: RateMetric::Tokens, .. } => request.bound.estimate_tokens,
                },
                spent_before: None,
                source: LimitSource { policy, limit: place },
            };
            // A detached child may share the counter with its parent.
            if one.is_enforced || !list.iter().any(|other| is_same_counter(other, &claim)) {
                list.push(claim);
            }
        }
    }
    Claims {
        organization_id: request.subject.organization_id,
        request_id: request.request_id,
        at: request.at,
        list,
    }
}

fn is_same_counter(one: &Claim, other: &Claim) -> bool {
    one.counter == other.counter && one.limit.unlimited() == other.limit.unlimited()
}
