//! What time it is. Everything else is told; the change log alone ([`crate::db`]) asks the machine by
//! itself, since its rows need nothing but to grow old.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// The wall clock, in UTC and whole microseconds (what both databases keep). Clones share one
/// offset, which tests use to move time, and stop together.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    offset_micros: Arc<AtomicI64>,
    /// Where it was stopped; 0 while it runs.
    stopped_micros: Arc<AtomicI64>,
}

impl Clock {
    /// The instant now.
    pub fn now(&self) -> DateTime<Utc> {
        let offset = TimeDelta::microseconds(self.offset_micros.load(Ordering::Relaxed));
        let stopped = self.stopped_micros.load(Ordering::Relaxed);
        let running = match stopped {
            0 => Utc::now(),
            stopped => DateTime::from_timestamp_micros(stopped).unwrap_or_default(),
        };
        (running + offset).trunc_subsecs(6)
    }

    /// Stops this clock and all its clones: from now on only [`Self::advance`] moves them.
    pub fn stop(&self) {
        self.stopped_micros.store(Utc::now().timestamp_micros(), Ordering::Relaxed);
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
