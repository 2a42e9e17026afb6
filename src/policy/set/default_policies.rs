//! Default policies: every subject of a kind gets a child policy, and so a bucket of its own.
//!
//! A child's id is computed from its parent and its subject, so all replicas count in the same bucket
//! before the child's row is written.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::child_id::{child_id, overflow_id};
use super::policy::{BadPolicy, Policy, StoredPolicy, Tier};
use crate::domain::ids::PolicyId;
use crate::domain::policy::{
    Audience, MAX_CHILDREN, PolicyConfig, PolicyType, Subject, SubjectKind, SubjectMatcher,
};

/// The child that a default policy has for one subject, whether or not its row exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildPolicy {
    pub id: PolicyId,
    pub parent: PolicyId,
    pub parent_type: PolicyType,
    /// The parent's name; a child's row begins with it.
    pub name: Arc<str>,
    pub subject_kind: SubjectKind,
    pub subject_id: String,
    /// The metadata key, normalized, and its value.
    pub header: Option<(String, String)>,
}

impl ChildPolicy {
    /// The child's matchers.
    pub fn subject_matchers(&self) -> Vec<SubjectMatcher> {
        let subject = (self.subject_kind.key().as_str().to_owned(), self.subject_id.clone());
        [Some(subject), self.header.clone()]
            .into_iter()
            .flatten()
            .map(|(key, value)| SubjectMatcher { key, value })
            .collect()
    }
}

/// A default policy and its known children.
#[derive(Debug)]
pub(super) struct DefaultPolicy {
    pub(super) policy: Arc<Policy>,
    pub(super) subject: (SubjectKind, Option<String>),
    children: HashSet<PolicyId>,
    /// Whether the organization has no room for more children.
    pub(super) is_full: bool,
    /// Children that no longer follow this policy.
    detached: HashSet<PolicyId>,
    /// Children first seen since the set was loaded, and whether they are queued to be written.
    new_children: Mutex<HashMap<PolicyId, bool>>,
}

/// The bucket that a default policy counts a subject in.
pub(super) enum ChildBucket {
    Own { child: ChildPolicy, is_known: bool },
    Overflow(PolicyId),
}

impl DefaultPolicy {
    /// None if it is disabled.
    pub(super) fn of(stored: &StoredPolicy) -> Result<Option<Self>, BadPolicy> {
        if !stored.enabled {
            return Ok(None);
        }
        let bad = |mistakes| BadPolicy::of(stored.id, mistakes);
        let audience =
            Audience::parse(stored.policy_type, &stored.subject_matchers).map_err(bad)?;
        let Audience::Each(kind, header) = audience.0 else {
            return Err(BadPolicy::of(stored.id, Vec::new()));
        };
        let config = PolicyConfig::parse(stored.policy_type, &stored.config).map_err(bad)?;
        Ok(Some(Self {
            policy: Arc::new(Policy::new(stored, config, Tier::of_kind(kind))),
            subject: (kind, header),
            children: HashSet::new(),
            is_full: false,
            detached: HashSet::new(),
            new_children: Mutex::default(),
        }))
    }

    pub(super) fn add_child(&mut self, id: PolicyId, detached: bool) {
        self.children.insert(id);
        if detached {
            self.detached.insert(id);
        }
    }

    /// None if the request has no such subject, or one with a detached child.
    pub(super) fn bucket(&self, subject: &Subject<'_>) -> Option<ChildBucket> {
        let child = self.child(subject)?;
        if self.detached.contains(&child.id) {
            return None;
        }
        if self.children.contains(&child.id) {
            return Some(ChildBucket::Own { child, is_known: true });
        }
        let mut new_children = self.new_children();
        if let Some(is_queued) = new_children.get(&child.id) {
            return Some(ChildBucket::Own { child, is_known: *is_queued });
        }
        if self.is_full || self.children.len() + new_children.len() >= usize::from(MAX_CHILDREN) {
            return Some(ChildBucket::Overflow(overflow_id(self.policy.id)));
        }
        new_children.insert(child.id, false);
        Some(ChildBucket::Own { child, is_known: false })
    }

    /// The child of the request's subject, if it is detached.
    pub(super) fn detached_child(&self, subject: &Subject<'_>) -> Option<ChildPolicy> {
        if self.detached.is_empty() {
            return None;
        }
        self.child(subject).filter(|child| self.detached.contains(&child.id))
    }

    fn child(&self, subject: &Subject<'_>) -> Option<ChildPolicy> {
        let (kind, header) = &self.subject;
        let subject_id = kind.id_of(subject)?;
        let header = match header {
            Some(key) => Some((key.clone(), subject.metadata.get(key)?.to_owned())),
            None => None,
        };
        let value = header.as_ref().map(|(_, value)| value.as_str());
        Some(ChildPolicy {
            id: child_id(self.policy.id, &subject_id, value),
            parent: self.policy.id,
            parent_type: self.policy.policy_type,
            name: self.policy.name.clone(),
            subject_kind: *kind,
            subject_id,
            header,
        })
    }

    pub(super) fn mark_queued(&self, child: PolicyId) {
        if let Some(is_queued) = self.new_children().get_mut(&child) {
            *is_queued = true;
        }
    }

    fn new_children(&self) -> MutexGuard<'_, HashMap<PolicyId, bool>> {
        self.new_children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
