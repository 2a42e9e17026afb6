//! What one request has reserved until it is settled.

use chrono::{DateTime, Utc};
use smallvec::SmallVec;

use super::super::Claim;
use crate::domain::ids::PolicyId;
use crate::domain::policy::RateMetric;
use crate::domain::window::{RateWindow, SpendWindow};
use crate::policy::limit::Limit;

/// A spend counter: one window of one counter id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SpendKey {
    pub(super) counter: PolicyId,
    pub(super) window: SpendWindow,
    /// When the window began, in seconds.
    pub(super) start: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RateKey {
    pub(super) counter: PolicyId,
    pub(super) metric: RateMetric,
    pub(super) window: RateWindow,
}

/// Where a request counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum CounterKey {
    Spend(SpendKey),
    /// The key, and the slot of the ring.
    Rate(RateKey, i64),
}

impl CounterKey {
    pub(super) fn of(claim: &Claim, at: DateTime<Utc>) -> Self {
        let counter = claim.counter;
        match claim.limit {
            Limit::Spend { window, .. } => {
                Self::Spend(SpendKey { counter, window, start: window.start(at).timestamp() })
            }
            Limit::Rate { metric, window, .. } => {
                Self::Rate(RateKey { counter, metric, window }, window.bucket(at))
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct OpenReservation {
    pub(super) parts: SmallVec<[(CounterKey, i64); 3]>,
    /// When the last of its windows ends, in seconds; it does not matter any more then.
    pub(super) until: i64,
}
