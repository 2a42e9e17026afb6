//! A bounded cache of one kind of entry. However many requests look for the same key at once, it is
//! loaded once; entries stay until they are invalidated or evicted.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use tokio::sync::watch;

use crate::db::DbError;

/// How long the cache remembers that a key does not exist, so that guessed keys do not reach the
/// database.
const NEGATIVE_TTL: Duration = Duration::from_secs(1);

enum Slot<V> {
    Present(Arc<V>),
    Absent { until: Instant },
}

impl<V> Clone for Slot<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Present(entry) => Self::Present(entry.clone()),
            Self::Absent { until } => Self::Absent { until: *until },
        }
    }
}

/// The result of a load. The error is text, since every waiting request gets a clone of it.
type Outcome<V> = Result<Option<Arc<V>>, Arc<str>>;
type OutcomeReceiver<V> = watch::Receiver<Option<Outcome<V>>>;

pub(super) enum Lookup<V> {
    /// `None` if the key is known not to exist.
    Cached(Option<Arc<V>>),
    /// Another request is loading the entry.
    Loading(OutcomeReceiver<V>),
    /// The caller has to load the entry and pass the ticket to [`LoadingCache::finish`].
    Missing(LoadTicket<V>, OutcomeReceiver<V>),
}

/// Identifies a load that was started.
pub(super) struct LoadTicket<V> {
    sender: watch::Sender<Option<Outcome<V>>>,
    number: u64,
}

struct Loads<K, V> {
    running: HashMap<K, (u64, OutcomeReceiver<V>)>,
    next_number: u64,
}

pub(super) struct LoadingCache<K, V> {
    entries: Cache<K, Slot<V>>,
    loads: Mutex<Loads<K, V>>,
}

impl<K: Hash + Eq + Clone, V> LoadingCache<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: Cache::new(capacity),
            loads: Mutex::new(Loads { running: HashMap::new(), next_number: 0 }),
        }
    }

    pub(super) fn find(&self, key: &K) -> Lookup<V> {
        if let Some(cached) = self.cached(key) {
            return Lookup::Cached(cached);
        }
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, receiver)) = loads.running.get(key) {
            return Lookup::Loading(receiver.clone());
        }
        // A load may have finished between the first check and the lock.
        if let Some(cached) = self.cached(key) {
            return Lookup::Cached(cached);
        }
        let (sender, receiver) = watch::channel(None);
        let number = loads.next_number;
        loads.next_number += 1;
        loads.running.insert(key.clone(), (number, receiver.clone()));
        Lookup::Missing(LoadTicket { sender, number }, receiver)
    }

    fn cached(&self, key: &K) -> Option<Option<Arc<V>>> {
        match self.entries.get(key)? {
            Slot::Present(entry) => Some(Some(entry)),
            Slot::Absent { until } if until > Instant::now() => Some(None),
            Slot::Absent { .. } => None,
        }
    }

    /// Ends a load. Requests that are waiting get the outcome; it is cached only if nothing was
    /// invalidated since the load began, because it may have read the state before the change.
    pub(super) fn finish(
        &self,
        key: K,
        ticket: LoadTicket<V>,
        outcome: Result<Option<V>, DbError>,
    ) {
        let outcome: Outcome<V> = match outcome {
            Ok(entry) => Ok(entry.map(Arc::new)),
            Err(error) => Err(error.to_string().into()),
        };
        {
            let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
            let is_current =
                loads.running.get(&key).is_some_and(|(number, _)| *number == ticket.number);
            if is_current {
                loads.running.remove(&key);
                match &outcome {
                    Ok(Some(entry)) => self.entries.insert(key, Slot::Present(entry.clone())),
                    Ok(None) => {
                        let until = Instant::now() + NEGATIVE_TTL;
                        self.entries.insert(key, Slot::Absent { until });
                    }
                    Err(_) => {}
                }
            }
        }
        ticket.sender.send_replace(Some(outcome));
    }

    /// Removes the entries that match and every key known not to exist, and detaches running loads:
    /// they may have read the state before the change.
    pub(super) fn invalidate(&self, matches: impl Fn(&V) -> bool) {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        loads.running.clear();
        self.entries.retain(|_, slot| match slot {
            Slot::Present(entry) => !matches(entry),
            Slot::Absent { .. } => false,
        });
    }
}

/// Waits for the outcome of a running load.
pub(super) async fn outcome_of<V>(mut receiver: OutcomeReceiver<V>) -> Outcome<V> {
    let aborted = || Arc::<str>::from("the load was aborted");
    match receiver.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(aborted())),
        Err(_) => Err(aborted()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(
        cache: &LoadingCache<u32, String>,
        key: u32,
    ) -> (LoadTicket<String>, OutcomeReceiver<String>) {
        match cache.find(&key) {
            Lookup::Missing(ticket, receiver) => (ticket, receiver),
            _ => panic!("{key} is cached or loading"),
        }
    }

    #[tokio::test]
    async fn concurrent_lookups_share_one_load() {
        let cache = LoadingCache::new(10);
        let (ticket, first) = start(&cache, 1);
        let Lookup::Loading(second) = cache.find(&1) else { panic!("expected a running load") };
        cache.finish(1, ticket, Ok(Some("one".to_owned())));
        assert_eq!(*outcome_of(first).await.unwrap().unwrap(), "one");
        assert_eq!(*outcome_of(second).await.unwrap().unwrap(), "one");
        assert!(matches!(cache.find(&1), Lookup::Cached(Some(_))));
    }

    #[tokio::test]
    async fn an_invalidation_detaches_a_running_load() {
        let cache = LoadingCache::new(10);
        let (old, receiver) = start(&cache, 1);
        cache.invalidate(|_| false);
        let (new, _) = start(&cache, 1);
        cache.finish(1, old, Ok(Some("old".to_owned())));
        assert_eq!(*outcome_of(receiver).await.unwrap().unwrap(), "old");
        assert!(matches!(cache.find(&1), Lookup::Loading(_)), "the old outcome was cached");
        cache.finish(1, new, Ok(Some("new".to_owned())));
        let Lookup::Cached(Some(entry)) = cache.find(&1) else { panic!("expected an entry") };
        assert_eq!(*entry, "new");
    }

    #[tokio::test]
    async fn an_absent_key_is_remembered_until_an_invalidation() {
        let cache = LoadingCache::new(10);
        let (ticket, _) = start(&cache, 1);
        cache.finish(1, ticket, Ok(None));
        assert!(matches!(cache.find(&1), Lookup::Cached(None)));
        cache.invalidate(|_| false);
        assert!(matches!(cache.find(&1), Lookup::Missing(..)));
    }

    #[tokio::test]
    async fn a_failed_load_is_reported_and_not_cached() {
        let cache = LoadingCache::new(10);
        let (ticket, receiver) = start(&cache, 1);
        cache.finish(1, ticket, Err(DbError::Unavailable("gone".into())));
        assert!(outcome_of(receiver).await.is_err());
        assert!(matches!(cache.find(&1), Lookup::Missing(..)));
    }
}
