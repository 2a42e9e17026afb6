//! How much of every limit is used. A request's claims on all limits that it falls under move
//! together or not at all.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::ids::{OrganizationId, PolicyId, RequestId};
use crate::domain::money::NanoUsd;
use crate::domain::policy::RateMetric;
use crate::domain::window::{RateWindow, SpendWindow};

/// One limit, and what a request takes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose counter: a policy's, or the one that the overflow of a default policy shares.
    pub bucket: PolicyId,
    /// What is limited.
    pub limit: Limit,
    /// What the request takes: nano-dollars, requests or tokens.
    pub amount: i64,
}

/// What is limited, and to how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Money in a calendar window.
    Spend {
        /// The window.
        window: SpendWindow,
        /// The most that may be spent in it.
        limit: NanoUsd,
    },
    /// Requests or tokens in a rolling window.
    Rate {
        /// Which of them.
        metric: RateMetric,
        /// The window.
        window: RateWindow,
        /// The most that may be in it.
        value: i64,
    },
}

/// The claims of one request.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The request; settles what it has reserved.
    pub request_id: RequestId,
    /// The instant of admission, which all windows are told by.
    pub at: DateTime<Utc>,
    /// One for each limit.
    pub claims: Vec<Claim>,
}

/// How one limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is used, reservations included; this request's own too if it was admitted.
    pub used: i64,
    /// Whether this request does not fit.
    pub violated: bool,
    /// After how many whole seconds this same request would pass this limit, if it waits for
    /// nothing else; none if it never will. 0 if it fits.
    pub retry_after: Option<u64>,
}

/// What became of the claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// All are counted. In the order of the claims.
    Admitted(Vec<Standing>),
    /// At least one does not fit; nothing was counted.
    Refused(Vec<Standing>),
    /// Nothing was counted: these spend counters (by their place among the claims) are new, and
    /// have to be told what their windows have already seen. Ask again with that.
    Unknown(Vec<usize>),
}

/// The counters can't be asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the counters can't be reached: {0}")]
pub struct CountersUnavailable(pub String);

/// What a request has used, once that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// What all its attempts cost.
    pub cost: NanoUsd,
    /// Input and output tokens of all its attempts.
    pub tokens: i64,
}

/// How long before a lease that nobody renews is over.
pub const LEASE: Duration = Duration::from_secs(60);
