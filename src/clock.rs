//! What time it is. Everything else is told; the change log alone ([`crate::db`]) asks the machine by
//! itself, since its rows need nothing but to grow old.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// The wall clock, in UTC and whole microseconds (what both databases keep). Clones share one
/// offset, which tests use to move time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    offset_micros: Arc<AtomicI64>,
}

impl Clock {
    /// The instant now.
    pub fn now(&self) -> DateTime<Utc> {
        let offset = TimeDelta::microseconds(self.offset_micros.load(Ordering::Relaxed));
        (Utc::now() + offset).trunc_subsecs(6)
    }

    /// Moves this clock and all its clones forward.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.offset_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// A new id made of this instant and fresh randomness.
    pub fn new_id<T: From<uuid::Uuid>>(&self) -> T {
        let millis = u64::try_from(self.now().timestamp_millis()).unwrap_or(0);
        let (seconds, rest) = (millis / 1000, (millis % 1000) as u32 * 1_000_000);
        T::from(uuid::Uuid::new_v7(uuid::Timestamp::from_unix(
            uuid::timestamp::context::NoContext,
            seconds,
            rest,
        )))
    }
}
