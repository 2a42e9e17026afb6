//! Finds the policies that may match a request: by the narrowest identity that they name, then by one
//! of the metadata keys that they ask for.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::domain::ids::{ApiKeyId, UserId, WorkspaceId};
use crate::domain::policy::{Matchers, Subject};

/// Places of policies in the set's list.
pub(super) type Places = SmallVec<[usize; 8]>;

#[derive(Debug, Default)]
pub(super) struct Index {
    organization: ByMetadata,
    workspaces: foldhash::HashMap<WorkspaceId, ByMetadata>,
    users: foldhash::HashMap<UserId, ByMetadata>,
    keys: foldhash::HashMap<ApiKeyId, ByMetadata>,
}

#[derive(Debug, Default)]
struct ByMetadata {
    /// Policies that ask for no metadata.
    any: Vec<usize>,
    /// The others, by one of their keys and its values.
    keyed: HashMap<String, HashMap<String, Vec<usize>>>,
}

impl Index {
    pub(super) fn of<'a>(policies: impl Iterator<Item = &'a Matchers>) -> Self {
        let mut index = Self::default();
        for (place, matchers) in policies.enumerate() {
            if !matchers.api_key_ids().is_empty() {
                for id in matchers.api_key_ids() {
                    index.keys.entry(*id).or_default().add(place, matchers);
                }
            } else if !matchers.user_ids().is_empty() {
                for id in matchers.user_ids() {
                    index.users.entry(*id).or_default().add(place, matchers);
                }
            } else if !matchers.workspace_ids().is_empty() {
                for id in matchers.workspace_ids() {
                    index.workspaces.entry(*id).or_default().add(place, matchers);
                }
            } else {
                index.organization.add(place, matchers);
            }
        }
        index
    }

    /// Adds the places of all policies that may match, each once.
    pub(super) fn candidates(&self, subject: &Subject<'_>, places: &mut Places) {
        self.organization.candidates(subject, places);
        let narrower = [
            self.workspaces.get(&subject.workspace_id),
            subject.user_id.and_then(|id| self.users.get(&id)),
            subject.api_key_id.and_then(|id| self.keys.get(&id)),
        ];
        for policies in narrower.into_iter().flatten() {
            policies.candidates(subject, places);
        }
    }
}

impl ByMetadata {
    fn add(&mut self, place: usize, matchers: &Matchers) {
        let Some((key, values)) = matchers.headers().iter().next() else {
            self.any.push(place);
            return;
        };
        let keyed = self.keyed.entry(key.clone()).or_default();
        for value in values {
            keyed.entry(value.clone()).or_default().push(place);
        }
    }

    fn candidates(&self, subject: &Subject<'_>, places: &mut Places) {
        places.extend_from_slice(&self.any);
        if self.keyed.is_empty() {
            return;
        }
        for (key, value) in subject.metadata.iter() {
            if let Some(found) = self.keyed.get(key).and_then(|values| values.get(value)) {
                places.extend_from_slice(found);
            }
        }
    }
}
