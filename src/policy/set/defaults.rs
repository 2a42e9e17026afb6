//! Default policies, which give every subject of a kind a bucket of its own.
//!
//! A bucket's id is computed, so it is there before the child's row is, and the same on every
//! replica.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::{BadPolicy, Policy, StoredPolicy, Tier};
use crate::domain::ids::PolicyId;
use crate::domain::policy::{
    Audience, MAX_CHILDREN, PolicyConfig, PolicyType, Subject, SubjectKind, SubjectMatcher,
};

/// A child of a default policy, as it is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildSeed {
    /// Its id.
    pub id: PolicyId,
    /// The default policy.
    pub parent: PolicyId,
    /// What the default policy is.
    pub parent_type: PolicyType,
    /// What the default policy is called, and its children are.
    pub name: Arc<str>,
    /// What its subject is.
    pub kind: SubjectKind,
    /// The subject's id, as text.
    pub subject: String,
    /// The metadata key, normalized, and the value that it is for.
    pub header: Option<(String, String)>,
}

impl ChildSeed {
    /// The child's matchers.
    pub fn subject_matchers(&self) -> Vec<SubjectMatcher> {
        let kind = self.kind.key();
        let subject = (kind.as_str().to_owned(), self.subject.clone());
        [Some(subject), self.header.clone()]
            .into_iter()
            .flatten()
            .map(|(key, value)| SubjectMatcher { key, value })
            .collect()
    }
}

/// A default policy and what is known of its children.
#[derive(Debug)]
pub(super) struct DefaultPolicy {
    pub(super) policy: Policy,
    pub(super) subject: (SubjectKind, Option<String>),
    children: HashSet<PolicyId>,
    /// Whether there may be no more children, however few are this policy's.
    pub(super) is_full: bool,
    /// Those that stand for themselves.
    detached: HashSet<PolicyId>,
    /// Children seen since the set was loaded, and whether they wait to be made.
    fresh: Mutex<HashMap<PolicyId, bool>>,
}

/// Where a subject is counted.
pub(super) enum Seat {
    Own { seed: ChildSeed, made: bool },
    Shared(PolicyId),
}

impl DefaultPolicy {
    /// None if it is not in force.
    pub(super) fn of(stored: &StoredPolicy) -> Result<Option<Self>, BadPolicy> {
        if !stored.enabled {
            return Ok(None);
        }
        let bad = |invalid| BadPolicy::of(stored.id, invalid);
        let audience =
            Audience::parse(stored.policy_type, &stored.subject_matchers).map_err(bad)?;
        let Audience::Each(kind, header) = audience.0 else {
            return Err(BadPolicy::of(stored.id, Vec::new()));
        };
        let config = PolicyConfig::parse(stored.policy_type, &stored.config).map_err(bad)?;
        let tier = match kind {
            SubjectKind::Workspace => Tier::Workspace,
            SubjectKind::User => Tier::User,
            SubjectKind::ApiKey => Tier::ApiKey,
        };
        Ok(Some(Self {
            policy: Policy::of(stored, config, tier),
            subject: (kind, header),
            children: HashSet::new(),
            is_full: false,
            detached: HashSet::new(),
            fresh: Mutex::default(),
        }))
    }

    pub(super) fn add_child(&mut self, id: PolicyId, detached: bool) {
        self.children.insert(id);
        if detached {
            self.detached.insert(id);
        }
    }

    /// Where the request's subject is counted; none if it has no such subject, or one that stands
    /// for itself.
    pub(super) fn seat(&self, subject: &Subject<'_>) -> Option<Seat> {
        let seed = self.seed(subject)?;
        let child = seed.id;
        if self.detached.contains(&child) {
            return None;
        }
        if self.children.contains(&child) {
            return Some(Seat::Own { seed, made: true });
        }
        let mut fresh = self.fresh();
        if let Some(queued) = fresh.get(&child) {
            return Some(Seat::Own { seed, made: *queued });
        }
        if self.is_full || self.children.len() + fresh.len() >= usize::from(MAX_CHILDREN) {
            return Some(Seat::Shared(overflow_id(self.policy.id)));
        }
        fresh.insert(child, false);
        Some(Seat::Own { seed, made: false })
    }

    /// The child of the request's subject, if it stands for itself.
    pub(super) fn detached_child(&self, subject: &Subject<'_>) -> Option<ChildSeed> {
        if self.detached.is_empty() {
            return None;
        }
        self.seed(subject).filter(|seed| self.detached.contains(&seed.id))
    }

    /// The child of the request's subject, made or not.
    fn seed(&self, subject: &Subject<'_>) -> Option<ChildSeed> {
        let (kind, header) = &self.subject;
        let id = kind.id_of(subject)?;
        let header = match header {
            Some(key) => Some((key.clone(), subject.metadata.get(key)?.to_owned())),
            None => None,
        };
        let value = header.as_ref().map(|(_, value)| value.as_str());
        Some(ChildSeed {
            id: child_id(self.policy.id, &id, value),
            parent: self.policy.id,
            parent_type: self.policy.policy_type,
            name: self.policy.name.clone(),
            kind: *kind,
            subject: id,
            header,
        })
    }

    pub(super) fn note_queued(&self, child: PolicyId) {
        if let Some(queued) = self.fresh().get_mut(&child) {
            *queued = true;
        }
    }

    fn fresh(&self) -> MutexGuard<'_, HashMap<PolicyId, bool>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The id of a default policy's child for a subject, and for a value of its metadata key.
pub fn child_id(parent: PolicyId, subject: &str, header: Option<&str>) -> PolicyId {
    let mut digest = Sha256::new();
    digest.update(parent.uuid().as_bytes());
    // Ids have no zero byte in them, so what follows can't be taken for a part of them.
    digest.update(subject.as_bytes());
    digest.update([0]);
    if let Some(value) = header {
        digest.update(value.as_bytes());
    }
    let mut bytes = [0; 16];
    for (byte, hashed) in bytes.iter_mut().zip(digest.finalize()) {
        *byte = hashed;
    }
    PolicyId::from(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// The bucket of all subjects beyond the last child.
pub fn overflow_id(parent: PolicyId) -> PolicyId {
    child_id(parent, "", None)
}
