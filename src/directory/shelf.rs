//! One kind of entry: bounded, loaded once however many ask, forgotten when told.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use tokio::sync::watch;

use crate::db::DbError;

/// How long an unknown id is remembered as such, so that guessing does not reach the database.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

enum Slot<V> {
    Found(Arc<V>),
    Unknown { until: Instant },
}

impl<V> Clone for Slot<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(entry) => Self::Found(entry.clone()),
            Self::Unknown { until } => Self::Unknown { until: *until },
        }
    }
}

/// What a load ended with. The error is text, since all who waited are told the same.
type Outcome<V> = Result<Option<Arc<V>>, Arc<str>>;
type Waiting<V> = watch::Receiver<Option<Outcome<V>>>;

/// What a lookup found.
pub(super) enum Found<V> {
    /// In memory; `None` for an id known to be unknown.
    Held(Option<Arc<V>>),
    /// A load is under way; wait for it.
    Loading(Waiting<V>),
    /// Nothing is known: the caller starts the load and hands its ticket back with the outcome.
    Missing(Ticket<V>, Waiting<V>),
}

/// The right, and the duty, to finish one load.
pub(super) struct Ticket<V> {
    sender: watch::Sender<Option<Outcome<V>>>,
    number: u64,
}

struct Loads<K, V> {
    under_way: HashMap<K, (u64, Waiting<V>)>,
    next: u64,
}

pub(super) struct Shelf<K, V> {
    held: Cache<K, Slot<V>>,
    loads: Mutex<Loads<K, V>>,
}

impl<K: Hash + Eq + Clone, V> Shelf<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            held: Cache::new(capacity),
            loads: Mutex::new(Loads { under_way: HashMap::new(), next: 0 }),
        }
    }

    pub(super) fn find(&self, key: &K) -> Found<V> {
        if let Some(found) = self.held(key) {
            return Found::Held(found);
        }
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, waiting)) = loads.under_way.get(key) {
            return Found::Loading(waiting.clone());
        }
        // Its load may have ended since the first look.
        if let Some(found) = self.held(key) {
            return Found::Held(found);
        }
        let (sender, waiting) = watch::channel(None);
        let number = loads.next;
        loads.next += 1;
        loads.under_way.insert(key.clone(), (number, waiting.clone()));
        Found::Missing(Ticket { sender, number }, waiting)
    }

    fn held(&self, key: &K) -> Option<Option<Arc<V>>> {
        match self.held.get(key)? {
            Slot::Found(entry) => Some(Some(entry)),
            Slot::Unknown { until } if until > Instant::now() => Some(None),
            Slot::Unknown { .. } => None,
        }
    }

    /// Ends a load. Its outcome is kept only if nothing was forgotten meanwhile; those who already
    /// waited get it either way.
    pub(super) fn finish(&self, key: K, ticket: Ticket<V>, outcome: Result<Option<V>, DbError>) {
        let outcome: Outcome<V> = match outcome {
            Ok(entry) => Ok(entry.map(Arc::new)),
            Err(error) => Err(error.to_string().into()),
        };
        {
            let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
            let attached =
                loads.under_way.get(&key).is_some_and(|(number, _)| *number == ticket.number);
            if attached {
                loads.under_way.remove(&key);
                match &outcome {
                    Ok(Some(entry)) => self.held.insert(key, Slot::Found(entry.clone())),
                    Ok(None) => {
                        self.held.insert(key, Slot::Unknown { until: Instant::now() + UNKNOWN_FOR })
                    }
                    Err(_) => {}
                }
            }
        }
        ticket.sender.send_replace(Some(outcome));
    }

    /// Forgets what `concerned` names, all that is known to be unknown, and detaches the loads
    /// that are under way: they may have read what was there before.
    pub(super) fn forget(&self, concerned: impl Fn(&V) -> bool) {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        loads.under_way.clear();
        self.held.retain(|_, slot| match slot {
            Slot::Found(entry) => !concerned(entry),
            Slot::Unknown { .. } => false,
        });
    }
}

/// Waits for a load that somebody has started.
pub(super) async fn wait<V>(mut waiting: Waiting<V>) -> Outcome<V> {
    let gone = || Arc::<str>::from("the load was given up");
    match waiting.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(gone())),
        Err(_) => Err(gone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(shelf: &Shelf<u32, String>, key: u32) -> (Ticket<String>, Waiting<String>) {
        match shelf.find(&key) {
            Found::Missing(ticket, waiting) => (ticket, waiting),
            _ => panic!("expected nothing to be known of {key}"),
        }
    }

    #[tokio::test]
    async fn many_who_ask_share_one_load() {
        let shelf = Shelf::new(10);
        let (ticket, first) = start(&shelf, 1);
        let Found::Loading(second) = shelf.find(&1) else { panic!("expected a load under way") };
        shelf.finish(1, ticket, Ok(Some("one".to_owned())));
        assert_eq!(*wait(first).await.unwrap().unwrap(), "one");
        assert_eq!(*wait(second).await.unwrap().unwrap(), "one");
        assert!(matches!(shelf.find(&1), Found::Held(Some(_))));
    }

    #[tokio::test]
    async fn a_change_detaches_the_load_under_way() {
        let shelf = Shelf::new(10);
        let (old, waited) = start(&shelf, 1);
        shelf.forget(|_| false);
        let (new, _) = start(&shelf, 1);
        shelf.finish(1, old, Ok(Some("old".to_owned())));
        assert_eq!(*wait(waited).await.unwrap().unwrap(), "old");
        assert!(matches!(shelf.find(&1), Found::Loading(_)), "the old outcome was kept");
        shelf.finish(1, new, Ok(Some("new".to_owned())));
        let Found::Held(Some(entry)) = shelf.find(&1) else { panic!("expected an entry") };
        assert_eq!(*entry, "new");
    }

    #[tokio::test]
    async fn unknown_is_remembered_until_something_changes() {
        let shelf = Shelf::new(10);
        let (ticket, _) = start(&shelf, 1);
        shelf.finish(1, ticket, Ok(None));
        assert!(matches!(shelf.find(&1), Found::Held(None)));
        shelf.forget(|_| false);
        assert!(matches!(shelf.find(&1), Found::Missing(..)));
    }

    #[tokio::test]
    async fn a_failed_load_is_told_and_not_kept() {
        let shelf = Shelf::new(10);
        let (ticket, waiting) = start(&shelf, 1);
        shelf.finish(1, ticket, Err(DbError::Unavailable("gone".into())));
        assert!(wait(waiting).await.is_err());
        assert!(matches!(shelf.find(&1), Found::Missing(..)));
    }
}
