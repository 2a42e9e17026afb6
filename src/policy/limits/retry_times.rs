//! When a request that does not fit would fit.

use chrono::{DateTime, Utc};

use crate::domain::window::{RateWindow, SpendWindow};

/// Whole seconds until this instant; at least 1.
fn until(seconds: i64, at: DateTime<Utc>) -> u64 {
    u64::try_from(seconds.saturating_sub(at.timestamp())).unwrap_or(0).max(1)
}

/// Until the next spend window.
pub(super) fn until_next_window(window: SpendWindow, at: DateTime<Utc>) -> u64 {
    until(window.end(at).timestamp(), at)
}

/// Until this bucket has left the rolling window.
pub(super) fn until_bucket_left(window: RateWindow, bucket: i64, at: DateTime<Utc>) -> u64 {
    let leaves = bucket.saturating_add(RateWindow::BUCKETS);
    until(leaves.saturating_mul(window.bucket_seconds()), at)
}

/// A sum within the range of the counters.
pub(super) fn saturated(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX })
}
