//! How much of every limit is used. A request's claims on all limits that it falls under move
//! together or not at all.
//!
//! [`Counters`] are kept in this process for one replica, in Redis for several. A spend counter that
//! is new is not taken for empty: it says so, and is told what the ledger has seen.

mod memory;
mod redis;
mod waiting;

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::config::PolicySettings;
use crate::domain::ids::{OrganizationId, PolicyId, RequestId};
use crate::domain::money::NanoUsd;
use crate::domain::policy::RateMetric;
use crate::domain::window::{RateWindow, SpendWindow};
use crate::telemetry::Metrics;
pub use memory::Memory;
pub use redis::{Redis, RedisOptions, RedisSetupError};

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

impl Limit {
    /// Whether it is only counted: nothing is ever beyond it.
    pub fn holds_nobody(&self) -> bool {
        match self {
            Self::Spend { limit, .. } => limit.nanos() == i64::MAX,
            Self::Rate { value, .. } => *value == i64::MAX,
        }
    }
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
    /// One for each limit; no counter twice.
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
    /// After how many whole seconds nothing that is counted now counts any more; 0 if nothing does.
    pub whole_after: u64,
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
pub const LEASE: Duration = Duration::from_secs(15);

/// The counters. Clones share them; any thread may use them.
#[derive(Clone, Debug)]
pub enum Counters {
    /// In this process.
    Memory(Memory),
    /// In Redis.
    Redis(Redis),
}

impl Counters {
    /// Counters in this process.
    pub fn in_memory() -> Self {
        Self::Memory(Memory::default())
    }

    /// The counters that the settings ask for: in Redis if they name one, else in this process.
    pub fn open(
        settings: &PolicySettings,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Result<Self, RedisSetupError> {
        let Some(url) = settings.redis_url.clone() else { return Ok(Self::in_memory()) };
        let ca_pem = match &settings.redis_ca_file {
            Some(path) => Some(std::fs::read(path).map_err(RedisSetupError::CaFile)?),
            None => None,
        };
        let options = RedisOptions {
            url,
            ca_pem,
            deadline: settings.redis_timeout,
            spend_without: settings.spend_without_redis,
        };
        Redis::open(options, clock, metrics).map(Self::Redis)
    }

    /// Counts all claims or none, in one step. `history[i]` is what the window of the claim in
    /// place `i` has already seen, for when an earlier call answered [`Reserved::Unknown`] with that
    /// place; a counter that exists ignores it, and places beyond its end are not given.
    ///
    /// What is admitted lives until [`settle`](Self::settle) or [`release`](Self::release). A request
    /// reserves once.
    pub async fn reserve(
        &self,
        claims: &Claims,
        history: &[Option<NanoUsd>],
    ) -> Result<Reserved, CountersUnavailable> {
        match self {
            Self::Memory(memory) => Ok(memory.reserve(claims, history)),
            Self::Redis(redis) => redis.reserve(claims, history).await,
        }
    }

    /// Turns what a request has reserved into what it has used: the cost in the window of its
    /// admission, the tokens in the bucket of its admission if that is still in the window. Counted
    /// once, however often it is called. What can't be counted now is counted later.
    pub async fn settle(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
        actual: Actual,
    ) {
        match self {
            Self::Memory(memory) => memory.settle(organization_id, request_id, actual),
            Self::Redis(redis) => redis.settle(organization_id, request_id, actual).await,
        }
    }

    /// Takes back all that a request has reserved, as if it had never come: for one that was admitted
    /// and then not sent.
    pub async fn release(&self, organization_id: OrganizationId, request_id: RequestId) {
        match self {
            Self::Memory(memory) => memory.release(organization_id, request_id),
            Self::Redis(redis) => redis.release(organization_id, request_id).await,
        }
    }

    /// [`settle`](Self::settle), or [`release`](Self::release) where there is nothing to settle,
    /// without waiting for it.
    pub fn end_soon(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
        actual: Option<Actual>,
    ) {
        match (self, actual) {
            // No need to trouble anybody: it takes a microsecond.
            (Self::Memory(memory), Some(actual)) => {
                memory.settle(organization_id, request_id, actual);
            }
            (Self::Memory(memory), None) => memory.release(organization_id, request_id),
            (Self::Redis(redis), actual) => redis.end_soon(organization_id, request_id, actual),
        }
    }

    /// Says that this thread is a worker's, which asks often.
    pub fn attach_worker(&self) {
        if let Self::Redis(redis) = self {
            redis.attach_worker();
        }
    }

    /// Waits until all that was said is counted, if anything is not, but no longer than `most`.
    /// Whether it is.
    pub async fn finish(&self, most: Duration) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(redis) => redis.finish(most).await,
        }
    }

    /// Waits until Redis is reached and all that was said is counted, but no longer than `most`.
    /// Whether it is.
    pub async fn catch_up(&self, most: Duration) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(redis) => redis.catch_up(most).await,
        }
    }

    /// What is settled, open reservations apart, in the window that holds `at`; none if the counter
    /// is not known or can't be asked.
    pub async fn spent(
        &self,
        organization_id: OrganizationId,
        bucket: PolicyId,
        window: SpendWindow,
        at: DateTime<Utc>,
    ) -> Option<NanoUsd> {
        let spent = self.spent_each(organization_id, &[(bucket, window)], at).await;
        spent.into_iter().next().flatten()
    }

    /// [`spent`](Self::spent) of several counters at once, in their order.
    pub async fn spent_each(
        &self,
        organization_id: OrganizationId,
        counters: &[(PolicyId, SpendWindow)],
        at: DateTime<Utc>,
    ) -> Vec<Option<NanoUsd>> {
        match self {
            Self::Memory(memory) => counters
                .iter()
                .map(|(bucket, window)| memory.spent(organization_id, *bucket, *window, at))
                .collect(),
            Self::Redis(redis) => redis.spent_each(organization_id, counters, at).await,
        }
    }
}

#[cfg(test)]
mod tests;
