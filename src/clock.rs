//! The wall clock and the generator of ids. Other code gets the time passed in, except the change
//! sequence in [`crate::db`], which uses the machine's clock only to expire its rows.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use uuid::timestamp::context::ContextV7;

/// While the machine's clock is set back by no more than this, new ids keep the later time, so that
/// ids stay ordered. Beyond it, they take the clock's time.
const MAX_SET_BACK_MILLIS: u64 = 10_000;

/// The wall clock, in UTC and whole microseconds (the precision of both databases). Clones share their
/// state; tests stop it and move it forward.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    offset_micros: Arc<AtomicI64>,
    /// The instant at which the clock was stopped; 0 while it runs.
    stopped_micros: Arc<AtomicI64>,
    last_id: Arc<Mutex<LastId>>,
}

/// The next id has to sort after this.
#[derive(Debug, Default)]
struct LastId {
    millis: u64,
    counter: ContextV7,
}

impl Clock {
    /// The current time.
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.micros()).unwrap_or_default()
    }

    /// The current time in microseconds since the Unix epoch. Whole numbers, since a request asks for
    /// the time four times, and sums of instants on the calendar cost more than asking.
    fn micros(&self) -> i64 {
        let micros = match self.stopped_micros.load(Ordering::Relaxed) {
            0 => micros_of_machine(),
            stopped => stopped,
        };
        micros.saturating_add(self.offset_micros.load(Ordering::Relaxed))
    }

    /// Stops this clock and all its clones: from now on only [`Self::advance`] moves them.
    pub fn stop(&self) {
        self.stopped_micros.store(micros_of_machine(), Ordering::Relaxed);
    }

    /// Moves this clock and all its clones forward.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.offset_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// A new id from the current time, a counter and randomness (RFC 9562, section 6.2, method 1): ids
    /// of one process sort in the order of their creation, also within a millisecond. Lists are
    /// sorted by them.
    pub fn new_id<T: From<uuid::Uuid>>(&self) -> T {
        let millis = u64::try_from(self.micros() / 1000).unwrap_or(0);
        let mut last = self.last_id.lock().unwrap_or_else(PoisonError::into_inner);
        if millis.saturating_add(MAX_SET_BACK_MILLIS) < last.millis {
            *last = LastId::default();
        }
        last.millis = last.millis.max(millis);
        let (seconds, rest) = (millis / 1000, (millis % 1000) as u32 * 1_000_000);
        T::from(uuid::Uuid::new_v7(uuid::Timestamp::from_unix(&last.counter, seconds, rest)))
    }
}

/// The machine's clock; the epoch if it is set before that.
fn micros_of_machine() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::ids::AuditEventId;

    #[test]
    fn ids_sort_in_the_order_in_which_they_were_made() {
        let clock = Clock::default();
        clock.stop();
        let made: Vec<AuditEventId> = (0..1000).map(|_| clock.clone().new_id()).collect();
        assert!(made.is_sorted() && made.first() != made.last());
        clock.advance(Duration::from_millis(1));
        assert!(made.last() < Some(&clock.new_id()));
        let next = AuditEventId::first_at(clock.now() + TimeDelta::milliseconds(1));
        assert!(made.iter().all(|id| *id < next));
    }

    #[test]
    fn ids_follow_a_clock_that_is_set_far_back() {
        let clock = Clock::default();
        clock.stop();
        let before = clock.new_id::<AuditEventId>();
        clock.set_back(Duration::from_secs(5));
        assert!(before < clock.new_id());
        clock.set_back(Duration::from_secs(5));
        clock.set_back(Duration::from_secs(1));
        assert!(clock.new_id::<AuditEventId>() < before);
        assert!(AuditEventId::first_at(clock.now()) <= clock.new_id());
    }

    impl Clock {
        fn set_back(&self, by: Duration) {
            let micros = i64::try_from(by.as_micros()).unwrap();
            self.offset_micros.fetch_sub(micros, Ordering::Relaxed);
        }
    }
}
