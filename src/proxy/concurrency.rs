//! How many requests each upstream may have under way at once on this process. Beyond the limit
//! the answer is 429 at once, never a queue.

use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashMap;

use crate::domain::provider::UpstreamId;

/// Counts the requests under way of each upstream, on this process.
#[derive(Clone, Debug, Default)]
pub struct Concurrency {
    counts: Arc<Mutex<HashMap<UpstreamId, u32>>>,
}

/// One request under way, until dropped.
#[derive(Debug)]
pub struct ConcurrencyPermit {
    counts: Arc<Mutex<HashMap<UpstreamId, u32>>>,
    id: UpstreamId,
}

impl Concurrency {
    /// Counts one more, unless `most` are under way.
    pub fn enter(&self, id: UpstreamId, most: Option<u32>) -> Option<ConcurrencyPermit> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(id).or_insert(0);
        if most.is_some_and(|most| *count >= most) {
            return None;
        }
        *count += 1;
        Some(ConcurrencyPermit { counts: self.counts.clone(), id })
    }
}

impl Drop for ConcurrencyPermit {
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
    use crate::domain::provider::Provider;

    #[test]
    fn each_upstream_is_counted_for_itself() {
        let in_flight = Concurrency::default();
        let (one, two) =
            (UpstreamId::Provider(Provider::Openai), UpstreamId::Provider(Provider::Groq));
        let slot = in_flight.enter(one, Some(1)).unwrap();
        assert!(in_flight.enter(one, Some(1)).is_none());
        assert!(in_flight.enter(two, Some(1)).is_some());
        drop(slot);
        assert!(in_flight.enter(one, Some(1)).is_some());
        assert!(in_flight.counts.lock().unwrap().is_empty());
    }
}
