//! Approximate times of last use of API keys, collected in memory and written to the database from
//! time to time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::domain::ids::ApiKeyId;

/// Uses of a key within this many seconds of the last noted one are not noted again, so that most
/// uses cost one comparison.
const RESOLUTION_SECONDS: i64 = 60;

/// The uses that are not written yet, at most one for each key.
#[derive(Debug, Default)]
pub(super) struct LastUses {
    unwritten: Mutex<HashMap<ApiKeyId, NaiveDateTime>>,
}

/// When a key's use was last noted, in seconds since the epoch. Part of the key's entry.
#[derive(Debug, Default)]
pub(super) struct LastNoted(AtomicI64);

impl LastUses {
    pub(super) fn note(&self, key: ApiKeyId, last_noted: &LastNoted, now: DateTime<Utc>) {
        let seconds = now.timestamp();
        if seconds - last_noted.0.load(Ordering::Relaxed) < RESOLUTION_SECONDS {
            return;
        }
        last_noted.0.store(seconds, Ordering::Relaxed);
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        unwritten.insert(key, now.naive_utc());
    }

    pub(super) fn take(&self) -> Vec<(ApiKeyId, NaiveDateTime)> {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        unwritten.drain().collect()
    }

    /// Puts back uses that could not be written.
    pub(super) fn put_back(&self, uses: Vec<(ApiKeyId, NaiveDateTime)>) {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, used_at) in uses {
            // A later use may have been noted meanwhile.
            unwritten.entry(key).or_insert(used_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn uses_that_were_put_back_do_not_replace_later_ones() {
        let uses = LastUses::default();
        let (clock, last_noted) = (crate::clock::Clock::default(), LastNoted::default());
        let (used_twice, used_once): (ApiKeyId, ApiKeyId) = (clock.new_id(), clock.new_id());
        let now = clock.now();
        let later = now + TimeDelta::seconds(RESOLUTION_SECONDS);
        uses.note(used_twice, &last_noted, now);
        uses.note(used_once, &LastNoted::default(), now);
        let taken = uses.take();
        assert!(uses.take().is_empty());
        uses.note(used_twice, &last_noted, later);
        uses.put_back(taken);
        let mut unwritten = uses.take();
        unwritten.sort();
        assert_eq!(unwritten, [(used_twice, later.naive_utc()), (used_once, now.naive_utc())]);
    }
}
