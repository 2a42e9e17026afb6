//! One policy, compiled from its stored form.

use std::fmt::Write;
use std::hash::Hash;
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::child_id::child_id;
use crate::domain::ids::PolicyId;
use crate::domain::policy::{
    Epochs, InvalidField, Matchers, PolicyConfig, PolicyFamily, PolicyType, SubjectKind,
    SubjectMatcher,
};
use crate::llm::limits::Metering;
use crate::policy::limit::Limit;

/// A policy as it is stored.
#[derive(Clone, Debug)]
pub struct StoredPolicy {
    pub id: PolicyId,
    pub name: String,
    pub policy_type: PolicyType,
    /// In normal form.
    pub subject_matchers: Vec<SubjectMatcher>,
    pub config: Value,
    /// A disabled policy has no effect, except that a disabled child still replaces its default policy.
    pub enabled: bool,
    /// Order within a tier; the smaller first.
    pub priority: i64,
    /// The default policy that it is a child of.
    pub parent_policy_id: Option<PolicyId>,
    /// Whether it was edited since, and no longer follows its parent.
    pub detached: bool,
    pub epochs: Epochs,
}

impl StoredPolicy {
    /// Hashes what decides which requests are counted where. Its name does not.
    pub(super) fn hash(&self, state: &mut impl std::hash::Hasher) {
        (self.id, self.enabled, self.detached).hash(state);
        (&self.subject_matchers, self.config.to_string()).hash(state);
        serde_json::to_string(&self.epochs).unwrap_or_default().hash(state);
    }
}

/// An enabled policy for the organization 1; a default policy for each of its users.
#[cfg(test)]
pub(crate) fn sample_policy(
    number: u128,
    name: &str,
    policy_type: PolicyType,
    config: Value,
) -> StoredPolicy {
    let (key, value) = match policy_type.is_default() {
        true => ("user_id", String::new()),
        false => ("organization_id", Uuid::from_u128(1).to_string()),
    };
    StoredPolicy {
        id: Uuid::from_u128(number).into(),
        name: name.to_owned(),
        policy_type,
        subject_matchers: vec![SubjectMatcher { key: key.to_owned(), value }],
        config,
        enabled: true,
        priority: i64::try_from(number).unwrap(),
        parent_policy_id: None,
        detached: false,
        epochs: Epochs::default(),
    }
}

/// A stored policy can't be read: the database was edited by hand.
#[derive(Clone, Debug, thiserror::Error)]
#[error("gateway policy {id}: {field} {message}")]
pub struct BadPolicy {
    pub id: PolicyId,
    pub field: String,
    pub message: String,
}

impl BadPolicy {
    pub(super) fn of(id: PolicyId, mistakes: Vec<InvalidField>) -> Self {
        let first = mistakes.into_iter().next();
        let (field, message) = first.map_or_else(
            || ("subject_matchers".to_owned(), "do not go with its type".to_owned()),
            |mistake| (mistake.field, mistake.message),
        );
        Self { id, field, message }
    }
}

/// How narrow a policy is, by the most specific identity that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Names no identity, or the organization; may name metadata.
    Organization,
    Workspace,
    User,
    ApiKey,
}

impl Tier {
    pub(super) fn of(matchers: &Matchers) -> Self {
        if !matchers.api_key_ids().is_empty() {
            Self::ApiKey
        } else if !matchers.user_ids().is_empty() {
            Self::User
        } else if !matchers.workspace_ids().is_empty() {
            Self::Workspace
        } else {
            Self::Organization
        }
    }

    pub(super) fn of_kind(kind: SubjectKind) -> Self {
        match kind {
            SubjectKind::Workspace => Self::Workspace,
            SubjectKind::User => Self::User,
            SubjectKind::ApiKey => Self::ApiKey,
        }
    }
}

/// A policy, ready for use.
#[derive(Debug)]
pub struct Policy {
    pub id: PolicyId,
    pub name: Arc<str>,
    pub policy_type: PolicyType,
    pub config: PolicyConfig,
    pub tier: Tier,
    /// In the order of the configuration; none of model access and guards.
    pub limits: Vec<PolicyLimit>,
    /// `"name":...,"type":...`: JSON members in ASCII. Of a default policy, those of its children.
    pub json: String,
}

/// One limit of a policy.
#[derive(Debug)]
pub struct PolicyLimit {
    pub limit: Limit,
    /// What it limits and to how much: JSON members in ASCII.
    pub json: String,
    epoch: Option<Uuid>,
    /// The counter of the policy's own bucket.
    counter: PolicyId,
}

impl Policy {
    pub(super) fn new(stored: &StoredPolicy, config: PolicyConfig, tier: Tier) -> Self {
        let policy_type = stored.policy_type;
        let mut json = "\"name\":".to_owned();
        write_ascii_string(&mut json, &stored.name);
        let shown_type = policy_type.child_type().unwrap_or(policy_type).as_str();
        let _ = write!(json, ",\"type\":\"{shown_type}\"");
        let epochs = config.limit_names().into_iter().map(|limit| stored.epochs.of(limit));
        let limits = limits_of(&config).into_iter().zip(epochs);
        Self {
            id: stored.id,
            name: stored.name.as_str().into(),
            policy_type,
            limits: limits
                .map(|(limit, epoch)| PolicyLimit::new(stored.id, limit, epoch))
                .collect(),
            config,
            tier,
            json,
        }
    }

    /// Whether it caps spending.
    pub fn is_spend(&self) -> bool {
        self.policy_type.family() == PolicyFamily::Spend
    }

    /// Whether it caps what requests cost of which this is charged: not what a caller's own subscription
    /// pays for, unless the policy says so.
    pub fn caps(&self, metering: Metering) -> bool {
        match &self.config {
            PolicyConfig::Spend(cap) => {
                metering != Metering::Subscription || cap.include_subscriptions
            }
            _ => false,
        }
    }

    /// Whether it counts what callers' own subscriptions pay for.
    pub fn includes_subscriptions(&self) -> bool {
        self.caps(Metering::Subscription)
    }
}

impl PolicyLimit {
    fn new(policy: PolicyId, limit: Limit, epoch: Option<Uuid>) -> Self {
        let json = match limit {
            Limit::Spend { window, limit } => {
                format!("\"window\":\"{}\",\"limit_usd\":{limit}", window.as_str())
            }
            Limit::Rate { metric, window, value } => {
                let (metric, window) = (metric.as_str(), window.as_str());
                format!("\"metric\":\"{metric}\",\"window\":\"{window}\",\"limit\":{value}")
            }
        };
        Self { limit, json, epoch, counter: counter_of(policy, epoch) }
    }

    /// The counter of this limit for a bucket of the policy. A child that no longer follows its
    /// parent keeps the counter that it had, until either begins a new epoch.
    pub(super) fn counter(&self, policy: PolicyId, bucket: PolicyId) -> PolicyId {
        if bucket == policy { self.counter } else { counter_of(bucket, self.epoch) }
    }
}

fn counter_of(bucket: PolicyId, epoch: Option<Uuid>) -> PolicyId {
    epoch.map_or(bucket, |epoch| child_id(bucket, &epoch.to_string(), None))
}

fn limits_of(config: &PolicyConfig) -> Vec<Limit> {
    match config {
        PolicyConfig::Spend(cap) => cap
            .limits
            .iter()
            .map(|limit| Limit::Spend { window: limit.window, limit: limit.limit_usd })
            .collect(),
        PolicyConfig::Rate(limits) => limits
            .iter()
            .map(|limit| Limit::Rate {
                metric: limit.metric,
                window: limit.window,
                value: i64::try_from(limit.value).unwrap_or(i64::MAX),
            })
            .collect(),
        PolicyConfig::ModelAccess(_)
        | PolicyConfig::ModelFallback(_)
        | PolicyConfig::Route(_)
        | PolicyConfig::Guard(_) => Vec::new(),
    }
}

/// A JSON string that is ASCII, since it is sent in a header.
fn write_ascii_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}
