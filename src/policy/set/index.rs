//! Finds the policies that may concern a request: by the narrowest identity that they name, then by
//! one of the metadata keys that they ask for.

use std::collections::HashMap;

use crate::domain::ids::{ApiKeyId, UserId, WorkspaceId};
use crate::domain::policy::{Matchers, Subject};

/// Places of policies in their list.
type Places = Vec<usize>;

#[derive(Debug, Default)]
pub(super) struct Index {
    organization: Shelf,
    workspaces: HashMap<WorkspaceId, Shelf>,
    users: HashMap<UserId, Shelf>,
    keys: HashMap<ApiKeyId, Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// Those that ask for no metadata.
    plain: Places,
    /// The others, by one of their keys and its values.
    tagged: HashMap<String, HashMap<String, Places>>,
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
        let shelves = [
            self.workspaces.get(&subject.workspace_id),
            subject.user_id.and_then(|id| self.users.get(&id)),
            subject.api_key_id.and_then(|id| self.keys.get(&id)),
        ];
        for shelf in shelves.into_iter().flatten() {
            shelf.candidates(subject, places);
        }
    }
}

impl Shelf {
    fn add(&mut self, place: usize, matchers: &Matchers) {
        let Some((key, values)) = matchers.headers().iter().next() else {
            self.plain.push(place);
            return;
        };
        let tagged = self.tagged.entry(key.clone()).or_default();
        for value in values {
            tagged.entry(value.clone()).or_default().push(place);
        }
    }

    fn candidates(&self, subject: &Subject<'_>, places: &mut Places) {
        places.extend(&self.plain);
        if self.tagged.is_empty() {
            return;
        }
        for (key, value) in subject.metadata.iter() {
            if let Some(found) = self.tagged.get(key).and_then(|values| values.get(value)) {
                places.extend(found);
            }
        }
    }
}
