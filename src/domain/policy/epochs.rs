//! Epochs: which counter a limit uses after its policy was changed.
//!
//! A counter is right only if it has counted every request of its limit. If a limit starts to apply
//! (it is new, its policy was disabled, or its policy had other subjects), a counter from before may
//! have missed requests. The limit then gets a new epoch and with it a new counter, which is filled
//! from the ledger. A limit that applied before and after the change keeps its epoch, its counter and
//! the reservations in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The epochs of a policy's limits, by the limits' [names](super::PolicyConfig::limit_names). A limit
/// in its first epoch has no entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epochs(BTreeMap<String, Uuid>);

impl Epochs {
    /// The limit's epoch; `None` is the first.
    pub fn of(&self, limit: &str) -> Option<Uuid> {
        self.0.get(limit).copied()
    }

    /// The epochs after a change: those of `limits` that `applied` before keep their epoch, the others
    /// get the epoch `new`.
    pub fn after(&self, applied: &[&str], limits: &[&str], new: Uuid) -> Self {
        let epoch = |limit: &str| if applied.contains(&limit) { self.of(limit) } else { Some(new) };
        let named = |limit: &&str| epoch(limit).map(|epoch| ((*limit).to_owned(), epoch));
        Self(limits.iter().filter_map(named).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_applied_before_keeps_its_epoch() {
        let [one, two, three] = [1, 2, 3].map(Uuid::from_u128);
        let first = Epochs::default();
        assert_eq!(first.of("daily"), None);
        let added = first.after(&["monthly"], &["daily", "monthly"], one);
        assert_eq!((added.of("daily"), added.of("monthly")), (Some(one), None));
        let gone = added.after(&["daily", "monthly"], &["monthly"], two);
        assert_eq!(gone, Epochs::default());
        let back = gone.after(&["monthly"], &["daily", "monthly"], two);
        assert_eq!((back.of("daily"), back.of("monthly")), (Some(two), None));
        let anew = back.after(&[], &["daily", "monthly"], three);
        assert_eq!((anew.of("daily"), anew.of("monthly")), (Some(three), Some(three)));
    }
}
