//! What a request takes of each limit.

use super::AdmissionRequest;
use crate::domain::money::NanoUsd;
use crate::domain::policy::{PolicyConfig, RateMetric};
use crate::policy::limits::{Claim, Limit};
use crate::policy::set::Applied;

/// A request's claims, and whose each is.
#[derive(Default)]
pub(super) struct Claimed {
    pub(super) claims: Vec<Claim>,
    /// For each claim, the place of its policy.
    pub(super) owners: Vec<usize>,
}

impl Claimed {
    /// What the request takes of the policies that it falls under, and of those that it is `apart`
    /// from: those are counted, and forbid nothing.
    pub(super) fn of(
        applied: &[Applied<'_>],
        apart: &[Applied<'_>],
        request: &AdmissionRequest<'_>,
        cost: NanoUsd,
    ) -> Self {
        let mut claimed = Self::default();
        for (owner, one) in applied.iter().enumerate() {
            for claim in claims_of(one, request, cost) {
                claimed.add(owner, claim);
            }
        }
        for (place, one) in apart.iter().enumerate() {
            for mut claim in claims_of(one, request, cost) {
                claim.limit = without_bound(claim.limit);
                // The subject's own policy may still count in the same counter.
                if !claimed.claims.iter().any(|other| is_same_counter(other, &claim)) {
                    claimed.add(applied.len() + place, claim);
                }
            }
        }
        claimed
    }

    fn add(&mut self, owner: usize, claim: Claim) {
        self.claims.push(claim);
        self.owners.push(owner);
    }
}

fn claims_of<'a>(
    one: &'a Applied<'_>,
    request: &'a AdmissionRequest<'_>,
    cost: NanoUsd,
) -> impl Iterator<Item = Claim> + 'a {
    (0..).map_while(move |place| claim_of(one, place, request, cost))
}

/// What the request takes of the limit in this place; none beyond the last.
fn claim_of(
    one: &Applied<'_>,
    place: usize,
    request: &AdmissionRequest<'_>,
    cost: NanoUsd,
) -> Option<Claim> {
    let (limit, amount) = match &one.policy.config {
        PolicyConfig::Spend(limits) => {
            let limit = limits.get(place)?;
            (Limit::Spend { window: limit.window, limit: limit.limit_usd }, cost.nanos())
        }
        PolicyConfig::Rate(limits) => {
            let limit = limits.get(place)?;
            let value = i64::try_from(limit.value).unwrap_or(i64::MAX);
            let amount = match limit.metric {
                RateMetric::Requests => 1,
                RateMetric::Tokens => request.bound.estimate_tokens,
            };
            (Limit::Rate { metric: limit.metric, window: limit.window, value }, amount)
        }
        PolicyConfig::ModelAccess(_) => return None,
    };
    Some(Claim { bucket: one.counter(place), limit, amount })
}

fn without_bound(limit: Limit) -> Limit {
    match limit {
        Limit::Spend { window, .. } => {
            Limit::Spend { window, limit: NanoUsd::from_nanos(i64::MAX) }
        }
        Limit::Rate { metric, window, .. } => Limit::Rate { metric, window, value: i64::MAX },
    }
}

fn is_same_counter(one: &Claim, other: &Claim) -> bool {
    one.bucket == other.bucket && without_bound(one.limit) == without_bound(other.limit)
}
