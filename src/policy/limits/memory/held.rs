//! What one request holds of its counters until it is settled.

use chrono::{DateTime, Utc};

use crate::domain::ids::PolicyId;
use crate::domain::policy::RateMetric;
use crate::domain::window::{RateWindow, SpendWindow};

/// A spend counter: one window of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SpendKey {
    pub(super) bucket: PolicyId,
    pub(super) window: SpendWindow,
    /// When the window began, in seconds.
    pub(super) start: i64,
}

impl SpendKey {
    pub(super) fn new(bucket: PolicyId, window: SpendWindow, at: DateTime<Utc>) -> Self {
        Self { bucket, window, start: window.start(at).timestamp() }
    }
}

/// A rate counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RateKey {
    pub(super) bucket: PolicyId,
    pub(super) metric: RateMetric,
    pub(super) window: RateWindow,
}

/// A part of a reservation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hold {
    Spend {
        key: SpendKey,
        amount: i64,
    },
    Rate {
        key: RateKey,
        /// Which bucket of the ring it counts in.
        at: i64,
        amount: i64,
    },
}

/// Parts kept without an allocation.
const FEW: usize = 4;

/// A reservation.
#[derive(Debug)]
pub(super) struct Held {
    few: [Option<Hold>; FEW],
    more: Vec<Hold>,
    /// When the last of its windows is over, in seconds: then nobody needs it any more.
    pub(super) until: i64,
}

impl Held {
    pub(super) fn new() -> Self {
        Self { few: [None; FEW], more: Vec::new(), until: i64::MIN }
    }

    pub(super) fn push(&mut self, hold: Hold, until: i64) {
        self.until = self.until.max(until);
        match self.few.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(hold),
            None => self.more.push(hold),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Hold> {
        self.few.iter().flatten().chain(&self.more).copied()
    }
}
