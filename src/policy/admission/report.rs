//! The report to a caller about the policies that a request matches. How it is written into an answer is
//! not decided here.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use smallvec::SmallVec;

use super::AdmissionRequest;
use crate::domain::ids::PolicyId;
use crate::domain::policy::RateMetric;
use crate::policy::limit::Limit;
use crate::policy::limits::{Claims, LimitSource, LimitStatus};
use crate::policy::set::{MatchedPolicy, Policy, PolicyLimit};

/// The policies that a request matches, and what is left of their limits.
#[derive(Clone, Debug, Default)]
pub struct PolicyReport {
    /// The broadest first.
    pub policies: SmallVec<[ReportedPolicy; 2]>,
    /// In the order of the policies. Empty if no limit was checked.
    pub limits: SmallVec<[ReportedLimit; 2]>,
    /// When the request came, which decides when its windows end.
    pub at: DateTime<Utc>,
    /// Whether the cost that caps reserve can't be exceeded; otherwise a part of it is assumed.
    pub is_cost_hard: bool,
}

/// A policy that a request matches.
#[derive(Clone, Debug)]
pub struct ReportedPolicy {
    /// Of a default policy, the id of the subject's child.
    pub id: PolicyId,
    pub policy: Arc<Policy>,
}

/// One limit of a [`ReportedPolicy`].
#[derive(Clone, Copy, Debug)]
pub struct ReportedLimit {
    pub source: LimitSource,
    pub limit: Limit,
    /// What the request would have taken of it.
    pub amount: i64,
    pub status: LimitStatus,
}

impl ReportedLimit {
    /// In nano-dollars, requests or tokens.
    pub fn remaining(&self) -> i64 {
        self.limit.max().saturating_sub(self.status.used).max(0)
    }
}

impl PolicyReport {
    pub(super) fn new(request: &AdmissionRequest<'_>, matched: &[MatchedPolicy<'_>]) -> Self {
        let enforced = matched.iter().filter(|one| one.is_enforced);
        Self {
            policies: enforced
                .map(|one| ReportedPolicy { id: one.bucket, policy: Arc::clone(one.policy) })
                .collect(),
            limits: SmallVec::new(),
            at: request.at,
            is_cost_hard: request.bound.hard,
        }
    }

    /// Adds the limits that were checked.
    pub(super) fn add_limits(&mut self, claims: &Claims, statuses: &[LimitStatus]) {
        let policies = self.policies.len();
        let checked = claims.list.iter().zip(statuses);
        // Policies that are not enforced come last and are not reported.
        let checked = checked.filter(|(claim, _)| claim.source.policy < policies);
        self.limits.extend(checked.map(|(claim, status)| ReportedLimit {
            source: claim.source,
            limit: claim.limit,
            amount: claim.amount,
            status: *status,
        }));
    }

    /// The ids of the policies, the broadest first.
    pub fn policy_ids(&self) -> impl Iterator<Item = PolicyId> {
        self.policies.iter().map(|one| one.id)
    }

    /// The limits that were checked of the policy in this place, with how they are written.
    pub fn limits_of(&self, place: usize) -> impl Iterator<Item = (&ReportedLimit, &PolicyLimit)> {
        let policy = self.policies.get(place).map(|one| &one.policy);
        let own = self.limits.iter().filter(move |one| one.source.policy == place);
        own.filter_map(move |one| Some((one, policy?.limits.get(one.source.limit)?)))
    }

    /// The rate limit of a metric that has the least left; of several, the one that takes longest.
    pub fn tightest(&self, metric: RateMetric) -> Option<&ReportedLimit> {
        let is_of = |one: &&ReportedLimit| matches!(one.limit, Limit::Rate { metric: own, .. } if own == metric);
        let tightness =
            |one: &&ReportedLimit| (one.remaining(), std::cmp::Reverse(one.status.reset_after));
        self.limits.iter().filter(is_of).min_by_key(tightness)
    }
}
