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
    pub(super) fn of(
        applied: &[Applied<'_>],
        request: &AdmissionRequest<'_>,
        cost: NanoUsd,
    ) -> Self {
        let mut claimed = Self::default();
        for (owner, one) in applied.iter().enumerate() {
            let bucket = one.counter;
            match &one.policy.config {
                PolicyConfig::Spend(limits) => claimed.add(
                    owner,
                    limits.iter().map(|limit| Claim {
                        bucket,
                        limit: Limit::Spend { window: limit.window, limit: limit.limit_usd },
                        amount: cost.nanos(),
                    }),
                ),
                PolicyConfig::Rate(limits) => claimed.add(
                    owner,
                    limits.iter().map(|limit| Claim {
                        bucket,
                        limit: Limit::Rate {
                            metric: limit.metric,
                            window: limit.window,
                            value: i64::try_from(limit.value).unwrap_or(i64::MAX),
                        },
                        amount: match limit.metric {
                            RateMetric::Requests => 1,
                            RateMetric::Tokens => request.bound.estimate_tokens,
                        },
                    }),
                ),
                PolicyConfig::ModelAccess(_) => {}
            }
        }
        claimed
    }

    fn add(&mut self, owner: usize, claims: impl Iterator<Item = Claim>) {
        for claim in claims {
            self.claims.push(claim);
            self.owners.push(owner);
        }
    }
}
