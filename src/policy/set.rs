//! An organization's policies, arranged so that a request looks at those that may concern it and at
//! no others: a default policy may have ten thousand children.
//!
//! A policy that does not parse makes the whole set fail to load: rather no answer than one by half
//! the rules.

mod access;
mod defaults;
mod index;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::domain::ids::PolicyId;
use crate::domain::policy::{
    Audience, Epochs, InvalidField, MAX_CHILDREN_OF_ORGANIZATION, Matchers, PolicyConfig,
    PolicyType, Subject, SubjectKind, SubjectMatcher,
};

pub use access::Target;
pub(super) use access::forbidding;
pub use defaults::{ChildSeed, child_id, overflow_id};
use defaults::{DefaultPolicy, Seat};
use index::Index;

/// A policy as it is stored.
#[derive(Clone, Debug)]
pub struct StoredPolicy {
    /// Its id.
    pub id: PolicyId,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub policy_type: PolicyType,
    /// Whom it is for, in normal form.
    pub subject_matchers: Vec<SubjectMatcher>,
    /// What it says.
    pub config: Value,
    /// Whether it counts. One that does not may still stand in a default's place.
    pub enabled: bool,
    /// Where it stands among its peers; the smaller first.
    pub priority: i64,
    /// The default policy that it was made of.
    pub parent_policy_id: Option<PolicyId>,
    /// Whether it goes its own way since.
    pub detached: bool,
    /// Which counters its limits go by.
    pub epochs: Epochs,
}

impl StoredPolicy {
    /// What it counts, of whom: not what it is called.
    fn hash(&self, state: &mut impl Hasher) {
        (self.id, self.enabled, self.detached).hash(state);
        (&self.subject_matchers, self.config.to_string()).hash(state);
        serde_json::to_string(&self.epochs).unwrap_or_default().hash(state);
    }
}

/// A stored policy can't be read; somebody wrote to the database by hand.
#[derive(Clone, Debug, thiserror::Error)]
#[error("gateway policy {id}: {field} {message}")]
pub struct BadPolicy {
    /// Which.
    pub id: PolicyId,
    /// What of it.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// How narrow a policy is, by the most specific identity that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Everybody, or those with certain metadata.
    Organization,
    /// Workspaces.
    Workspace,
    /// People.
    User,
    /// API keys.
    ApiKey,
}

/// A policy, ready for use.
#[derive(Debug)]
pub struct Policy {
    /// Its id.
    pub id: PolicyId,
    /// What people call it.
    pub name: Arc<str>,
    /// What it is.
    pub policy_type: PolicyType,
    /// What it says.
    pub config: PolicyConfig,
    /// How narrow it is.
    pub tier: Tier,
    /// Of each limit, in the order of the configuration; none is the first.
    epochs: Vec<Option<Uuid>>,
}

/// A policy for those who match.
#[derive(Debug)]
struct Rule {
    policy: Policy,
    matchers: Matchers,
    /// What a default policy would have as its subject, if this is for exactly such subjects.
    alike: Option<(SubjectKind, Option<String>)>,
}

/// An organization's live policies.
#[derive(Debug, Default)]
pub struct PolicySet {
    /// The broadest first, then by priority.
    rules: Vec<Rule>,
    defaults: Vec<DefaultPolicy>,
    index: Index,
    version: u64,
}

/// A policy that a request falls under.
#[derive(Clone, Debug)]
pub struct Applied<'s> {
    /// What it is told as: the policy's id, that of the subject's child of a default, or the one
    /// that all share who came after the last child.
    pub bucket: PolicyId,
    /// What it says. Of a child, its default.
    pub policy: &'s Policy,
    /// Whose spending it counts.
    pub audience: Counted<'s>,
    /// The child that is still to be made.
    pub unmade: Option<ChildSeed>,
}

/// Whose spending a bucket counts.
#[derive(Clone, Debug)]
pub enum Counted<'s> {
    /// Of all who match.
    Matching(&'s Matchers),
    /// Of one subject.
    Child(ChildSeed),
    /// Of all who share this bucket, which only the ledger's rows tell.
    Shared(PolicyId),
}

impl PolicySet {
    /// Arranges an organization's live policies, in any order.
    pub fn compile(policies: impl IntoIterator<Item = StoredPolicy>) -> Result<Self, BadPolicy> {
        let (mut rules, mut defaults, mut children) = (Vec::new(), Vec::new(), Vec::new());
        let mut others = Vec::new();
        let mut version = DefaultHasher::new();
        for stored in policies {
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
                // Its default speaks for it, before it is made as well as after.
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
        Ok(Self { rules, defaults, index, version: version.finish() })
    }

    /// Tells apart what policies say and whom they are for; the same in one process as long as
    /// whatever was counted by this set would have been counted alike. Children that a default makes
    /// are not told apart.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether there are no policies at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.defaults.is_empty()
    }

    /// The policies that a request falls under, the broadest first.
    ///
    /// A default rate limit does not hold for a subject that has one of its own; a default spend cap
    /// always does, since no cap loosens another.
    pub fn matching(&self, subject: &Subject<'_>) -> Vec<Applied<'_>> {
        let mut places = Vec::new();
        self.index.candidates(subject, &mut places);
        places.sort_unstable();
        let mut applied: Vec<Applied<'_>> = Vec::new();
        let mut replaced: Vec<&(SubjectKind, Option<String>)> = Vec::new();
        for rule in places.iter().filter_map(|place| self.rules.get(*place)) {
            if !rule.matchers.matches(subject) {
                continue;
            }
            if rule.policy.policy_type == PolicyType::RateLimit {
                replaced.extend(&rule.alike);
            }
            applied.push(Applied {
                bucket: rule.policy.id,
                policy: &rule.policy,
                audience: Counted::Matching(&rule.matchers),
                unmade: None,
            });
        }
        let of_rules = applied.len();
        for default in &self.defaults {
            let is_rate = default.policy.policy_type == PolicyType::DefaultRateLimit;
            if is_rate && replaced.contains(&&default.subject) {
                continue;
            }
            let Some(seat) = default.seat(subject) else { continue };
            applied.push(match seat {
                Seat::Own { seed, made } => Applied {
                    bucket: seed.id,
                    policy: &default.policy,
                    unmade: (!made).then(|| seed.clone()),
                    audience: Counted::Child(seed),
                },
                Seat::Shared(bucket) => Applied {
                    bucket,
                    policy: &default.policy,
                    audience: Counted::Shared(bucket),
                    unmade: None,
                },
            });
        }
        if applied.len() > of_rules {
            // Stable: of one tier, a policy comes before a default's child.
            applied.sort_by_key(|one| one.policy.tier);
        }
        applied
    }

    /// What the request's subject is counted in and not held to: its place in a default whose child
    /// for it goes its own way. When that child is deleted, the default knows what was spent.
    pub fn counted_apart(&self, subject: &Subject<'_>) -> Vec<Applied<'_>> {
        let apart = |default: &'_ DefaultPolicy| default.detached_child(subject);
        let seeds = self.defaults.iter().filter_map(|one| apart(one).map(|seed| (one, seed)));
        let applied = seeds.map(|(default, seed)| Applied {
            bucket: seed.id,
            policy: &default.policy,
            audience: Counted::Child(seed),
            unmade: None,
        });
        applied.collect()
    }

    /// Says that the child waits to be made, so that it need not be asked for again.
    pub fn note_queued(&self, seed: &ChildSeed) {
        if let Some(default) = self.defaults.iter().find(|one| one.policy.id == seed.parent) {
            default.note_queued(seed.id);
        }
    }
}

impl Policy {
    fn of(stored: &StoredPolicy, config: PolicyConfig, tier: Tier) -> Self {
        let epochs = config.limit_names().into_iter().map(|limit| stored.epochs.of(limit));
        Self {
            id: stored.id,
            name: stored.name.as_str().into(),
            policy_type: stored.policy_type,
            epochs: epochs.collect(),
            config,
            tier,
        }
    }
}

impl Applied<'_> {
    /// What the limit in this place of the configuration is counted under. A child that goes its
    /// own way counts on under what its default counted it under, as long as neither began anew.
    pub fn counter(&self, limit: usize) -> PolicyId {
        match self.policy.epochs.get(limit).copied().flatten() {
            None => self.bucket,
            Some(epoch) => child_id(self.bucket, &epoch.to_string(), None),
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
        let tier = tier_of(&matchers);
        let alike = alike(&matchers);
        let policy = Policy::of(&stored, config, tier);
        Ok(Self { policy, matchers, alike })
    }
}

impl BadPolicy {
    fn of(id: PolicyId, invalid: Vec<InvalidField>) -> Self {
        let first = invalid.into_iter().next();
        let (field, message) = first.map_or_else(
            || ("subject_matchers".to_owned(), "do not go with its type".to_owned()),
            |field| (field.field, field.message),
        );
        Self { id, field, message }
    }
}

fn tier_of(matchers: &Matchers) -> Tier {
    if !matchers.api_key_ids().is_empty() {
        Tier::ApiKey
    } else if !matchers.user_ids().is_empty() {
        Tier::User
    } else if !matchers.workspace_ids().is_empty() {
        Tier::Workspace
    } else {
        Tier::Organization
    }
}

/// The kind of subject, and the metadata key, if those are all that the matchers ask for. The
/// organization goes without saying.
fn alike(matchers: &Matchers) -> Option<(SubjectKind, Option<String>)> {
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
