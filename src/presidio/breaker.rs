//! The breaker: after several failures in a row there are no calls for some seconds, then one that tries.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::Clock;

/// The failures in a row that open it.
const FAILURES: u32 = 5;
/// How long it stays open before a call tries.
const OPEN: Duration = Duration::from_secs(5);

/// Whether calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// No calls are made.
    Open,
    /// One call finds out whether it is back.
    Probing,
}

/// Counts failures in a row.
pub(super) struct Breaker {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: DateTime<Utc> },
    Probing,
}

/// The permission for one call. A dropped one, of a call that was given up, says nothing.
pub(super) struct Permit<'b> {
    breaker: &'b Breaker,
    is_probe: bool,
}

impl Breaker {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Whether calls are made.
    pub(super) fn state(&self) -> BreakerState {
        match *self.lock() {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing => BreakerState::Probing,
        }
    }

    /// The permission for a call; `None` while there are none.
    pub(super) fn admit(&self) -> Option<Permit<'_>> {
        let mut state = self.lock();
        let is_probe = match *state {
            State::Closed { .. } => false,
            State::Open { until } if self.clock.now() >= until => {
                *state = State::Probing;
                true
            }
            State::Open { .. } | State::Probing => return None,
        };
        Some(Permit { breaker: self, is_probe })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The call was answered.
    pub(super) fn answered(mut self) {
        self.is_probe = false;
        *self.breaker.lock() = State::Closed { failures: 0 };
    }

    /// The call had too little time to tell. The next one tries again.
    pub(super) fn undecided(self) {}

    /// The call failed. Whether that opened the breaker.
    pub(super) fn failed(mut self) -> bool {
        let mut state = self.breaker.lock();
        let open = State::Open { until: self.breaker.clock.now() + OPEN };
        let (new, is_opened) = match *state {
            _ if self.is_probe => (open, false),
            State::Closed { failures } if failures + 1 >= FAILURES => (open, true),
            State::Closed { failures } => (State::Closed { failures: failures + 1 }, false),
            // A call from before it opened.
            other => (other, false),
        };
        *state = new;
        drop(state);
        self.is_probe = false;
        is_opened
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            let mut state = self.breaker.lock();
            if matches!(*state, State::Probing) {
                *state = State::Open { until: self.breaker.clock.now() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        let clock = Clock::default();
        clock.stop();
        Breaker::new(clock)
    }

    fn open() -> Breaker {
        let breaker = breaker();
        let opened: Vec<bool> = (0..FAILURES).map(|_| breaker.admit().unwrap().failed()).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let breaker = open();
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(breaker.admit().is_none());
        let breaker = self::breaker();
        for _ in 0..FAILURES {
            (1..FAILURES).for_each(|_| assert!(!breaker.admit().unwrap().failed()));
            breaker.admit().unwrap().answered();
        }
        breaker.admit().unwrap().undecided();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn one_call_tries_and_its_outcome_counts() {
        let breaker = open();
        breaker.clock.advance(OPEN);
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_none());
        assert_eq!(breaker.state(), BreakerState::Probing);
        assert!(!probe.failed());
        assert!(breaker.admit().is_none());
        breaker.clock.advance(OPEN);
        // One that is given up leaves the next one to try.
        drop(breaker.admit().unwrap());
        breaker.admit().unwrap().answered();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn calls_from_before_it_opened_do_not_keep_it_open() {
        let breaker = breaker();
        let late: Vec<Permit<'_>> = (0..FAILURES + 2).map(|_| breaker.admit().unwrap()).collect();
        let opened = late.into_iter().filter_map(|permit| permit.failed().then_some(())).count();
        assert_eq!(opened, 1);
        breaker.clock.advance(OPEN);
        assert!(breaker.admit().is_some());
    }
}
