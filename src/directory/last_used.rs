//! Roughly when keys were last used, gathered in memory and written now and then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::domain::ids::ApiKeyId;

/// How exactly uses are told apart, in seconds. Between two, a use costs one comparison.
const GRAIN: i64 = 60;

/// The uses that are not written yet. At most one a key.
#[derive(Debug, Default)]
pub(super) struct LastUses {
    waiting: Mutex<HashMap<ApiKeyId, NaiveDateTime>>,
}

/// When a key's use was last noted, in seconds of the epoch; stands in the key's entry.
#[derive(Debug, Default)]
pub(super) struct Noted(AtomicI64);

impl LastUses {
    pub(super) fn note(&self, key: ApiKeyId, noted: &Noted, now: DateTime<Utc>) {
        let seconds = now.timestamp();
        let before = noted.0.load(Ordering::Relaxed);
        if seconds - before < GRAIN {
            return;
        }
        noted.0.store(seconds, Ordering::Relaxed);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(key, now.naive_utc());
    }

    pub(super) fn take(&self) -> Vec<(ApiKeyId, NaiveDateTime)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.drain().collect()
    }

    /// Lets uses wait on that could not be written.
    pub(super) fn put_back(&self, uses: Vec<(ApiKeyId, NaiveDateTime)>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, used_at) in uses {
            // It may have been used again meanwhile.
            waiting.entry(key).or_insert(used_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn what_could_not_be_written_waits_on_unless_a_later_use_does() {
        let uses = LastUses::default();
        let (clock, noted) = (crate::clock::Clock::default(), Noted::default());
        let (busy, quiet): (ApiKeyId, ApiKeyId) = (clock.new_id(), clock.new_id());
        let (now, later) = (clock.now(), clock.now() + TimeDelta::seconds(GRAIN));
        uses.note(busy, &noted, now);
        uses.note(quiet, &Noted::default(), now);
        let taken = uses.take();
        assert!(uses.take().is_empty());
        uses.note(busy, &noted, later);
        uses.put_back(taken);
        let mut waiting = uses.take();
        waiting.sort();
        assert_eq!(waiting, [(busy, later.naive_utc()), (quiet, now.naive_utc())]);
    }
}
