//! What a request takes of each limit.

use super::AdmissionRequest;
use crate::domain::money::NanoUsd;
use crate::domain::policy::{PolicyConfig, RateMetric};
use crate::policy::counters::{Claim, Limit};
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

fn claims_of(one: &Applied<'_>, request: &AdmissionRequest<'_>, cost: NanoUsd) -> Vec<Claim> {
    match &one.policy.config {
        PolicyConfig::Spend(limits) => limits
            .iter()
            .enumerate()
            .map(|(place, limit)| Claim {
                bucket: one.counter(place),
                limit: Limit::Spend { window: limit.window, limit: limit.limit_usd },
                amount: cost.nanos(),
            })
            .collect(),
        PolicyConfig::Rate(limits) => limits
            .iter()
            .enumerate()
            .map(|(place, limit)| Claim {
                bucket: one.counter(place),
                limit: Limit::Rate {
                    metric: limit.metric,
                    window: limit.window,
                    value: i64::try_from(limit.value).unwrap_or(i64::MAX),
                },
                amount: match limit.metric {
                    RateMetric::Requests => 1,
                    RateMetric::Tokens => request.bound.estimate_tokens,
                },
            })
            .collect(),
        PolicyConfig::ModelAccess(_) => Vec::new(),
    }
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
