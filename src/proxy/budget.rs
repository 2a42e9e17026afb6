//! Bounds on what requests may hold at once: memory for bodies, requests in all, requests of one
//! configuration. Beyond a bound the answer is 429 or 503 at once, never a queue.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ids::ConfigurationId;

/// A bound on a sum that many share.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    used: AtomicUsize,
    most: usize,
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Share {
    shared: Arc<Shared>,
    size: usize,
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(most: usize) -> Self {
        Self { shared: Arc::new(Shared { used: AtomicUsize::new(0), most }) }
    }

    /// Takes a part, if so much is left.
    pub fn take(&self, size: usize) -> Option<Share> {
        let mut share = Share { shared: self.shared.clone(), size: 0 };
        share.grow(size).then_some(share)
    }
}

impl Share {
    /// Makes the part larger, if so much is left; says whether it did.
    pub fn grow(&mut self, by: usize) -> bool {
        let most = self.shared.most;
        let grown = self.shared.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
            used.checked_add(by).filter(|sum| *sum <= most)
        });
        if grown.is_ok() {
            self.size += by;
        }
        grown.is_ok()
    }
}

impl Share {
    /// Gives a part back.
    pub fn shrink(&mut self, by: usize) {
        let by = by.min(self.size);
        self.size -= by;
        self.shared.used.fetch_sub(by, Ordering::AcqRel);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.size, Ordering::AcqRel);
    }
}

/// Counts the requests under way of each configuration, on this process.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    counts: Arc<Mutex<HashMap<ConfigurationId, u32>>>,
}

/// One request under way, until dropped.
#[derive(Debug)]
pub struct Slot {
    counts: Arc<Mutex<HashMap<ConfigurationId, u32>>>,
    id: ConfigurationId,
}

impl InFlight {
    /// Counts one more, unless `most` are under way.
    pub fn enter(&self, id: ConfigurationId, most: Option<u32>) -> Option<Slot> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(id).or_insert(0);
        if most.is_some_and(|most| *count >= most) {
            return None;
        }
        *count += 1;
        Some(Slot { counts: self.counts.clone(), id })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded_and_comes_back() {
        let budget = Budget::new(10);
        let mut first = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        assert!(first.grow(4));
        assert!(!first.grow(1));
        assert!(!first.grow(usize::MAX));
        first.shrink(3);
        assert!(first.grow(3) && !first.grow(1));
        drop(first);
        assert!(budget.take(10).is_some());
    }

    #[test]
    fn each_configuration_is_counted_for_itself() {
        let in_flight = InFlight::default();
        let (one, two) =
            (ConfigurationId::from(uuid::Uuid::now_v7()), ConfigurationId::from(uuid::Uuid::nil()));
        let slot = in_flight.enter(one, Some(1)).unwrap();
        assert!(in_flight.enter(one, Some(1)).is_none());
        assert!(in_flight.enter(two, Some(1)).is_some());
        drop(slot);
        assert!(in_flight.enter(one, Some(1)).is_some());
        assert!(in_flight.counts.lock().unwrap().is_empty());
    }
}
