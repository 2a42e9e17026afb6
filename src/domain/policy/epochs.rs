//! Which counter a limit goes by, over the changes of its policy.
//!
//! A counter is right only as long as it sees everything that it should count. Where a limit begins
//! to count (it is new, or its policy was off, or was for others), a counter that it had before may
//! have holes: it begins a new epoch, with a new counter, which learns from the ledger what it has
//! missed. A limit that counts on through a change keeps its epoch, and its counter with what is
//! under way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The epochs of a policy's limits, by the limits' [names](super::PolicyConfig::limit_names). The
/// first epoch goes without saying.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epochs(BTreeMap<String, Uuid>);

impl Epochs {
    /// The limit's epoch; none is the first.
    pub fn of(&self, limit: &str) -> Option<Uuid> {
        self.0.get(limit).copied()
    }

    /// The epochs after a change: of `limits`, those that `counted` before count on, others begin
    /// the epoch `new`.
    pub fn after(&self, counted: &[&str], limits: &[&str], new: Uuid) -> Self {
        let epoch = |limit: &str| if counted.contains(&limit) { self.of(limit) } else { Some(new) };
        let named = |limit: &&str| epoch(limit).map(|epoch| ((*limit).to_owned(), epoch));
        Self(limits.iter().filter_map(named).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_on_keeps_its_epoch() {
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
