//! Roughly when keys were last used, gathered in memory and written now and then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::domain::ids::ApiKeyId;

/// How exactly uses are told apart, in seconds. Between two, a use costs one comparison.
const GRAIN: i64 = 60;

/// The uses that are not written yet. At most one a key of the directory.
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
}
