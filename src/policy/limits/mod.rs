//! Counters of what is used of each limit. All limits that apply to a request are reserved in one
//! step: all of them or none.
//!
//! [`Counters`] live in this process if there is one replica, in Redis if there are several. A spend
//! counter that does not exist yet is not taken for zero: the caller has to supply what the ledger says
//! was spent in its window.

mod memory;
mod redis;
mod retry_times;

use std::time::Duration;

use chrono::{DateTime, Utc};
use smallvec::SmallVec;

use super::limit::Limit;
use crate::clock::Clock;
use crate::config::PolicySettings;
use crate::domain::ids::{OrganizationId, PolicyId, RequestId};
use crate::domain::money::NanoUsd;
use crate::telemetry::Metrics;
pub use memory::Memory;
pub use redis::{Redis, RedisOptions, RedisSetupError};

/// What a request takes of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The counter; with the limit's window, and its metric if it is a rate.
    pub counter: PolicyId,
    pub limit: Limit,
    /// In nano-dollars, requests or tokens.
    pub amount: i64,
    /// What the ledger says was spent in the window before, for a counter that does not exist yet.
    /// One that exists ignores it.
    pub spent_before: Option<NanoUsd>,
    /// Whose limit it is. The counters do not look at it.
    pub source: LimitSource,
}

/// Which limit of which policy, by their places among those that a request matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSource {
    pub policy: usize,
    pub limit: usize,
}

/// All claims of one request.
#[derive(Clone, Debug)]
pub struct Claims {
    pub organization_id: OrganizationId,
    /// The reservation ends under this id.
    pub request_id: RequestId,
    /// The instant of admission. It decides which windows the request counts in.
    pub at: DateTime<Utc>,
    /// No counter twice.
    pub list: ClaimList,
}

/// Few enough claims are kept without an allocation.
pub type ClaimList = SmallVec<[Claim; 3]>;
/// One for each claim, in the order of the claims.
pub type LimitStatuses = SmallVec<[LimitStatus; 3]>;

/// What is used of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// Reservations included, and this request's own if it was admitted.
    pub used: i64,
    /// Whether this request does not fit.
    pub violated: bool,
    /// After how many whole seconds this request would fit, if nothing else changes; 0 if it fits,
    /// none if it never will.
    pub retry_after: Option<u64>,
    /// After how many whole seconds all that is used now has left the window; 0 if nothing is used.
    pub reset_after: u64,
}

/// The answer to a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// All claims are counted.
    Admitted(LimitStatuses),
    /// At least one claim does not fit; nothing was counted.
    Refused(LimitStatuses),
    /// Nothing was counted: the spend counters of the claims in these places do not exist. Reserve
    /// again with their `spent_before`.
    Unknown(Vec<usize>),
}

/// The counters can't be reached.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the counters can't be reached: {0}")]
pub struct CountersUnavailable(pub String);

/// What all attempts of a request have used or may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cost: NanoUsd,
    /// Input and output tokens together.
    pub tokens: i64,
}

impl Amounts {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self { cost: self.cost + other.cost, tokens: self.tokens.saturating_add(other.tokens) }
    }
}

/// How long a reservation in Redis is valid without being renewed by its process.
pub const LEASE: Duration = Duration::from_secs(15);

/// The counters. Clones share them.
#[derive(Clone, Debug)]
pub enum Counters {
    Memory(Memory),
    Redis(Redis),
}

impl Counters {
    /// Counters in this process.
    pub fn in_memory() -> Self {
        Self::Memory(Memory::default())
    }

    /// The counters that the settings ask for: in Redis if they have a URL, else in this process.
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

    /// Counts all claims or none, in one step. What is admitted stays reserved until
    /// [`end`](Self::end). A request reserves once.
    pub async fn reserve(&self, claims: &Claims) -> Result<Reserved, CountersUnavailable> {
        match self {
            Self::Memory(memory) => Ok(memory.reserve(claims)),
            // Boxed, so that it takes no room in the requests of a single process.
            Self::Redis(redis) => Box::pin(redis.reserve(claims)).await,
        }
    }

    /// Replaces what a request has reserved by what it has used: the cost in the spend window of its
    /// admission, the tokens in the second or minute of its admission if that is still in the rate
    /// window. Releases the reservation if the request was not sent (`None`). Only the first call has an
    /// effect. What can't be counted now is counted later.
    pub async fn end(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
        used: Option<Amounts>,
    ) {
        match self {
            Self::Memory(memory) => memory.end(organization_id, request_id, used),
            Self::Redis(redis) => redis.end(organization_id, request_id, used).await,
        }
    }

    /// [`end`](Self::end) in the background.
    pub fn end_in_background(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
        used: Option<Amounts>,
    ) {
        match self {
            // Takes a microsecond.
            Self::Memory(memory) => memory.end(organization_id, request_id, used),
            Self::Redis(redis) => redis.end_in_background(organization_id, request_id, used),
        }
    }

    /// Declares this thread a worker's: it gets a connection of its own.
    pub fn attach_worker(&self) {
        if let Self::Redis(redis) = self {
            redis.attach_worker();
        }
    }

    /// Waits until all reservations have ended and their ends are counted, for at most `max_wait`.
    /// Whether they are.
    pub async fn finish(&self, max_wait: Duration) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(redis) => redis.finish(max_wait).await,
        }
    }

    /// Waits until Redis is connected and all pending corrections are counted, for at most
    /// `max_wait`. Whether they are.
    pub async fn catch_up(&self, max_wait: Duration) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(redis) => redis.catch_up(max_wait).await,
        }
    }
}

#[cfg(test)]
mod tests;
