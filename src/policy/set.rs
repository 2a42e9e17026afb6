//! An organization's policies, indexed so that a request looks only at those that may match it: a
//! default policy may have ten thousand children.
//!
//! If one policy can't be parsed, the whole set fails to load: requests are refused rather than
//! checked against a part of the policies.

mod access;
mod chains;
mod child_id;
mod default_policies;
mod guards;
mod index;
mod policy;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::domain::ids::{PolicyId, WorkspaceId};
use crate::domain::policy::fallback::Candidate;
use crate::domain::policy::{
    Audience, InvalidField, MAX_CHILDREN_OF_ORGANIZATION, Matchers, PolicyConfig, PolicyFamily,
    PolicyType, Subject, SubjectKind,
};

pub(super) use access::denies_model;
pub use access::{Target, allows_model, has_spend_cap};
use chains::Chains;
pub use chains::{Chain, NamedChain};
pub use child_id::{child_id, overflow_id};
pub use default_policies::ChildPolicy;
use default_policies::{ChildBucket, DefaultPolicy};
use guards::Guards;
pub use guards::MatchedGuard;
use index::{Index, Places};
#[cfg(test)]
pub(crate) use policy::sample_policy;
pub use policy::{BadPolicy, Policy, PolicyLimit, StoredPolicy, Tier};

/// A policy for the requests that match.
#[derive(Debug)]
struct Rule {
    policy: Arc<Policy>,
    matchers: Matchers,
    /// The subject of a default policy that this rule would replace.
    default_subject: Option<(SubjectKind, Option<String>)>,
}

/// An organization's live policies.
#[derive(Debug, Default)]
pub struct PolicySet {
    /// The broadest first, then by priority.
    rules: Vec<Rule>,
    defaults: Vec<DefaultPolicy>,
    index: Index,
    chains: Chains,
    guards: Guards,
    /// The keys of metadata that policies match or count by.
    metadata_keys: BTreeSet<String>,
    version: u64,
}

/// A policy that a request matches.
#[derive(Clone, Debug)]
pub struct MatchedPolicy<'s> {
    /// The policy's own id; of a default policy, the id of the subject's child or of the overflow
    /// bucket. Reports and the ledger name the policy by it.
    pub bucket: PolicyId,
    /// For a child: its parent.
    pub policy: &'s Arc<Policy>,
    pub counted: CountedRequests<'s>,
    is_new_child: bool,
    /// Otherwise its limits count the request and never refuse it.
    pub is_enforced: bool,
}

/// The policies that a request matches: the enforced ones, the broadest first, then the others.
pub type MatchedPolicies<'s> = SmallVec<[MatchedPolicy<'s>; 3]>;

/// Which requests a bucket counts.
#[derive(Clone, Debug)]
pub enum CountedRequests<'s> {
    Matching(&'s Matchers),
    /// Those of one subject.
    Child(ChildPolicy),
    /// Those of the subjects that share an overflow bucket. Only the rows of the ledger show which.
    Overflow(PolicyId),
}

impl PolicySet {
    /// Arranges an organization's live policies, in any order.
    pub fn compile(policies: impl IntoIterator<Item = StoredPolicy>) -> Result<Self, BadPolicy> {
        let (mut rules, mut defaults, mut children) = (Vec::new(), Vec::new(), Vec::new());
        let mut others = Vec::new();
        let mut chains = Chains::default();
        let mut version = DefaultHasher::new();
        for stored in policies {
            if stored.policy_type.family() == PolicyFamily::Fallback {
                if stored.enabled {
                    chains.add(&stored)?;
                }
                continue;
            }
            if stored.parent_policy_id.is_none() || stored.detached {
                stored.hash(&mut version);
            }
            if stored.policy_type.is_default() {
                if let Some(default) = DefaultPolicy::of(&stored)? {
                    defaults.push((stored.priority, default));
                }
            } else {
                others.push(stored);
            }
        }
        defaults.sort_by_key(|(priority, default)| {
            (default.policy.tier, *priority, std::cmp::Reverse(default.policy.id))
        });
        let mut defaults: Vec<DefaultPolicy> = defaults.into_iter().map(|(_, one)| one).collect();
        for stored in others {
            let parent = stored.parent_policy_id;
            if let Some(parent) = parent {
                children.push((parent, stored.id, stored.detached));
                // Its parent's limits apply to it, before its row is written as well as after.
                if !stored.detached {
                    continue;
                }
            }
            if stored.enabled {
                rules.push((stored.priority, Rule::of(stored)?));
            }
        }
        if children.len() >= usize::from(MAX_CHILDREN_OF_ORGANIZATION) {
            defaults.iter_mut().for_each(|default| default.is_full = true);
        }
        for (parent, id, detached) in children {
            if let Some(default) = defaults.iter_mut().find(|one| one.policy.id == parent) {
                default.add_child(id, detached);
            }
        }
        rules.sort_by_key(|(priority, rule)| {
            (rule.policy.tier, *priority, std::cmp::Reverse(rule.policy.id))
        });
        let rules: Vec<Rule> = rules.into_iter().map(|(_, rule)| rule).collect();
        let index = Index::of(rules.iter().map(|rule| &rule.matchers));
        let guards = Guards::of(&rules)?;
        let of_rules = rules.iter().flat_map(|rule| rule.matchers.headers().keys());
        let of_defaults = defaults.iter().filter_map(|default| default.subject.1.as_ref());
        let metadata_keys = of_rules.chain(of_defaults).cloned().collect();
        let version = version.finish();
        Ok(Self { rules, defaults, index, chains, guards, metadata_keys, version })
    }

    /// Differs, within one process, between sets that would count some request in different
    /// counters. The children that default policies create make no difference.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether a policy matches requests, or counts them, by this key of their metadata.
    pub fn counts_by(&self, metadata_key: &str) -> bool {
        self.metadata_keys.contains(metadata_key)
    }

    /// The policies that a request matches.
    ///
    /// A default rate limit does not apply to a subject that has a rate limit of its own. A default
    /// spend cap always applies, since no cap loosens another. Where a child was detached, its default
    /// policy still counts the subject's requests, so that it knows what was spent if the child is
    /// deleted.
    pub fn matching(&self, subject: &Subject<'_>) -> MatchedPolicies<'_> {
        let mut places = Places::new();
        self.index.candidates(subject, &mut places);
        places.sort_unstable();
        let mut matched = MatchedPolicies::new();
        let mut replaced: SmallVec<[&(SubjectKind, Option<String>); 2]> = SmallVec::new();
        for rule in places.iter().filter_map(|place| self.rules.get(*place)) {
            if !rule.matchers.matches(subject) {
                continue;
            }
            if rule.policy.policy_type == PolicyType::RateLimit {
                replaced.extend(&rule.default_subject);
            }
            matched.push(MatchedPolicy {
                bucket: rule.policy.id,
                policy: &rule.policy,
                counted: CountedRequests::Matching(&rule.matchers),
                is_new_child: false,
                is_enforced: true,
            });
        }
        let rules = matched.len();
        for default in &self.defaults {
            let is_rate = default.policy.policy_type == PolicyType::DefaultRateLimit;
            if is_rate && replaced.contains(&&default.subject) {
                continue;
            }
            let Some(bucket) = default.bucket(subject) else { continue };
            let (bucket, counted, is_new_child) = match bucket {
                ChildBucket::Own { child, is_known } => {
                    (child.id, CountedRequests::Child(child), !is_known)
                }
                ChildBucket::Overflow(id) => (id, CountedRequests::Overflow(id), false),
            };
            let policy = &default.policy;
            matched.push(MatchedPolicy {
                bucket,
                policy,
                counted,
                is_new_child,
                is_enforced: true,
            });
        }
        if matched.len() > rules {
            // Stable: within a tier, policies come before children of defaults.
            matched.sort_by_key(|one| one.policy.tier);
        }
        for default in &self.defaults {
            let Some(child) = default.detached_child(subject) else { continue };
            matched.push(MatchedPolicy {
                bucket: child.id,
                policy: &default.policy,
                counted: CountedRequests::Child(child),
                is_new_child: false,
                is_enforced: false,
            });
        }
        matched
    }

    /// Whether no request of this organization has a fallback chain of its own.
    pub fn has_no_fallback(&self) -> bool {
        self.chains.is_empty()
    }

    /// The chain of requests that go to this target.
    pub fn chain_for_target(
        &self,
        subject: &Subject<'_>,
        target: &Candidate,
    ) -> Option<&Arc<Chain>> {
        self.chains.for_target(subject, target)
    }

    /// The chain of requests that name this as their model.
    pub fn chain_for_alias(&self, subject: &Subject<'_>, alias: &str) -> Option<&Arc<Chain>> {
        self.chains.for_alias(subject, alias)
    }

    /// The aliases that the caller may use, each with its chain.
    pub fn aliases(&self, subject: &Subject<'_>) -> Vec<(&str, &Arc<Chain>)> {
        self.chains.aliases(subject)
    }

    /// The chains of the route with that name, each with its alias.
    pub fn route(
        &self,
        subject: &Subject<'_>,
        name: &str,
    ) -> Option<&[(Option<String>, Arc<Chain>)]> {
        self.chains.route(subject, name)
    }

    /// The workspace's chains whose alias, policy or route has that name.
    pub fn chains_named<'s>(
        &'s self,
        workspace_id: WorkspaceId,
        name: &'s str,
    ) -> impl Iterator<Item = NamedChain<'s>> {
        self.chains.named(workspace_id, name)
    }

    /// Records that the child is queued to be written.
    pub fn mark_queued(&self, child: &ChildPolicy) {
        if let Some(default) = self.defaults.iter().find(|one| one.policy.id == child.parent) {
            default.mark_queued(child.id);
        }
    }
}

impl MatchedPolicy<'_> {
    /// The counter of one of the policy's limits for this request.
    pub fn counter(&self, limit: &PolicyLimit) -> PolicyId {
        limit.counter(self.policy.id, self.bucket)
    }

    /// The child whose row has still to be written.
    pub fn new_child(&self) -> Option<&ChildPolicy> {
        match &self.counted {
            CountedRequests::Child(child) if self.is_new_child => Some(child),
            _ => None,
        }
    }
}

impl Rule {
    fn of(stored: StoredPolicy) -> Result<Self, BadPolicy> {
        let bad = |invalid: Vec<InvalidField>| BadPolicy::of(stored.id, invalid);
        let audience =
            Audience::parse(stored.policy_type, &stored.subject_matchers).map_err(bad)?;
        let Audience::Matching(matchers) = audience.0 else {
            return Err(BadPolicy::of(stored.id, Vec::new()));
        };
        let config = PolicyConfig::parse(stored.policy_type, &stored.config).map_err(bad)?;
        let policy = Arc::new(Policy::new(&stored, config, Tier::of(&matchers)));
        let default_subject = default_subject(&matchers);
        Ok(Self { policy, matchers, default_subject })
    }
}

/// The kind of subject, and the metadata key, if the matchers ask for nothing else but the
/// organization.
fn default_subject(matchers: &Matchers) -> Option<(SubjectKind, Option<String>)> {
    let kind = match (
        matchers.workspace_ids().is_empty(),
        matchers.user_ids().is_empty(),
        matchers.api_key_ids().is_empty(),
    ) {
        (false, true, true) => SubjectKind::Workspace,
        (true, false, true) => SubjectKind::User,
        (true, true, false) => SubjectKind::ApiKey,
        _ => return None,
    };
    let mut keys = matchers.headers().keys();
    let header = keys.next().cloned();
    keys.next().is_none().then_some((kind, header))
}

#[cfg(test)]
mod tests;
