//! A rolling window: sixty buckets up to and including the newest.

use chrono::{DateTime, Utc};

use crate::domain::window::RateWindow;

/// Slots of a ring, one a bucket.
const SLOTS: usize = RateWindow::BUCKETS as usize;

/// What each of the last sixty buckets holds.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    /// The newest bucket, counted from the epoch.
    newest: i64,
    slots: [i64; SLOTS],
    total: i128,
}

impl Ring {
    pub(super) fn new(bucket: i64) -> Self {
        Self { newest: bucket, slots: [0; SLOTS], total: 0 }
    }

    /// Moves on to this bucket and returns the bucket to count in: a request that comes late counts in
    /// the newest. If the clock was set back by more than a window, the ring starts empty, so that
    /// requests need not wait until the clock has caught up.
    pub(super) fn advance(&mut self, bucket: i64) -> i64 {
        let behind = bucket.saturating_sub(self.newest);
        if behind.unsigned_abs() >= RateWindow::BUCKETS.unsigned_abs() {
            *self = Self::new(bucket);
        } else {
            for step in 1..=behind {
                if let Some(slot) = self.slots.get_mut(place(self.newest + step)) {
                    self.total -= i128::from(std::mem::take(slot));
                }
            }
            self.newest = self.newest.max(bucket);
        }
        self.newest
    }

    /// What is in the window.
    pub(super) fn total(&self) -> i128 {
        self.total
    }

    /// The oldest bucket such that `excess` has left once it and all before it have left.
    pub(super) fn last_to_leave(&self, excess: i128) -> i64 {
        let mut left = 0;
        for bucket in self.newest - RateWindow::BUCKETS + 1..=self.newest {
            left += i128::from(self.slots.get(place(bucket)).copied().unwrap_or(0));
            if left >= excess {
                return bucket;
            }
        }
        self.newest
    }

    /// The newest bucket that holds anything.
    pub(super) fn newest_used(&self) -> Option<i64> {
        let buckets = self.newest - RateWindow::BUCKETS + 1..=self.newest;
        let holds = |bucket: &i64| self.slots.get(place(*bucket)).is_some_and(|slot| *slot > 0);
        buckets.rev().find(holds)
    }

    /// Adds to a bucket, if it is still in the window; a negative amount takes away.
    pub(super) fn add(&mut self, bucket: i64, amount: i128) {
        let in_window = bucket > self.newest - RateWindow::BUCKETS && bucket <= self.newest;
        if in_window && let Some(slot) = self.slots.get_mut(place(bucket)) {
            let sum = (i128::from(*slot) + amount).clamp(0, i128::from(i64::MAX));
            self.total += sum - i128::from(*slot);
            *slot = i64::try_from(sum).unwrap_or(i64::MAX);
        }
    }

    /// Whether nothing of it is left at this instant.
    pub(super) fn is_over(&self, window: RateWindow, at: DateTime<Utc>) -> bool {
        window.bucket(at) >= self.newest.saturating_add(RateWindow::BUCKETS)
    }
}

fn place(bucket: i64) -> usize {
    usize::try_from(bucket.rem_euclid(RateWindow::BUCKETS)).unwrap_or(0)
}
