//! What one limit of a policy allows, as the counters and the callers see it.

use crate::domain::money::NanoUsd;
use crate::domain::policy::RateMetric;
use crate::domain::window::{RateWindow, SpendWindow};

/// What is limited, and to how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Money in a calendar window.
    Spend { window: SpendWindow, limit: NanoUsd },
    /// Requests or tokens in a rolling window.
    Rate { metric: RateMetric, window: RateWindow, value: i64 },
}

impl Limit {
    /// The maximum, in nano-dollars, requests or tokens.
    pub fn max(self) -> i64 {
        match self {
            Self::Spend { limit, .. } => limit.nanos(),
            Self::Rate { value, .. } => value,
        }
    }

    /// The same counter without a maximum: it counts and never refuses.
    pub fn unlimited(self) -> Self {
        match self {
            Self::Spend { window, .. } => Self::Spend { window, limit: NanoUsd::MAX },
            Self::Rate { metric, window, .. } => Self::Rate { metric, window, value: i64::MAX },
        }
    }

    /// Whether it only counts.
    pub fn is_unlimited(self) -> bool {
        self.max() == i64::MAX
    }

    /// Whether it counts requests, however many attempts they take.
    pub fn counts_requests(self) -> bool {
        matches!(self, Self::Rate { metric: RateMetric::Requests, .. })
    }

    /// Whether it limits money.
    pub fn is_spend(self) -> bool {
        matches!(self, Self::Spend { .. })
    }
}
