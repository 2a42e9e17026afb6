//! What the tests of counters are made of.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::super::{
    Amounts, Claim, Claims, Counters, CountersUnavailable, LimitSource, Redis, RedisOptions,
    Reserved,
};
use crate::clock::Clock;
use crate::config::SpendWithoutRedis;
use crate::domain::ids::{OrganizationId, PolicyId, RequestId};
use crate::domain::money::NanoUsd;
use crate::domain::policy::RateMetric;
use crate::domain::window::{RateWindow, SpendWindow};
use crate::policy::limit::Limit;
use crate::telemetry::Metrics;

/// A claim on a counter, as a caller makes it at first.
pub(super) fn claim(counter: PolicyId, limit: Limit, amount: i64) -> Claim {
    Claim { counter, limit, amount, spent_before: None, source: LimitSource::default() }
}

/// The Redis that tests share.
pub(super) fn redis_url() -> String {
    std::env::var("TOLLGATE_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned())
}

/// Counters behind a URL, with a deadline that a busy machine can keep.
pub(super) fn redis_at(url: &str) -> Redis {
    redis_with(url, Duration::from_secs(10), SpendWithoutRedis::Refuse, &Clock::default())
}

pub(super) fn redis_with(
    url: &str,
    deadline: Duration,
    spend_without: SpendWithoutRedis,
    clock: &Clock,
) -> Redis {
    let options = RedisOptions { url: url.parse().unwrap(), ca_pem: None, deadline, spend_without };
    Redis::open(options, clock, &Metrics::new()).unwrap()
}

/// An organization of its own, with one bucket.
#[derive(Clone)]
pub(super) struct Tenant {
    pub(super) counters: Counters,
    pub(super) organization_id: OrganizationId,
    pub(super) bucket: PolicyId,
    pub(super) clock: Clock,
}

impl Tenant {
    pub(super) fn new(counters: Counters) -> Self {
        let clock = Clock::default();
        Self { counters, organization_id: clock.new_id(), bucket: clock.new_id(), clock }
    }

    /// The same tenant, as another replica sees it.
    pub(super) fn through(&self, counters: Counters) -> Self {
        Self { counters, ..self.clone() }
    }

    pub(super) fn spend(&self, window: SpendWindow, limit: i64, amount: i64) -> Claim {
        let limit = Limit::Spend { window, limit: NanoUsd::from_nanos(limit) };
        claim(self.bucket, limit, amount)
    }

    pub(super) fn rate(
        &self,
        metric: RateMetric,
        window: RateWindow,
        value: i64,
        amount: i64,
    ) -> Claim {
        claim(self.bucket, Limit::Rate { metric, window, value }, amount)
    }

    /// Reserves once, for a new request.
    pub(super) async fn ask(
        &self,
        claim: Claim,
        history: Option<i64>,
    ) -> Result<Reserved, CountersUnavailable> {
        let claims = Claims {
            organization_id: self.organization_id,
            request_id: self.clock.new_id(),
            at: self.clock.now(),
            list: [Claim { spent_before: history.map(NanoUsd::from_nanos), ..claim }]
                .into_iter()
                .collect(),
        };
        self.counters.reserve(&claims).await
    }

    /// Reserves; new counters begin at zero.
    pub(super) async fn reserve_at(
        &self,
        at: DateTime<Utc>,
        claims: &[Claim],
    ) -> (RequestId, Result<Reserved, CountersUnavailable>) {
        let request_id = self.clock.new_id();
        let mut claims = Claims {
            organization_id: self.organization_id,
            request_id,
            at,
            list: claims.iter().copied().collect(),
        };
        let reserved = match self.counters.reserve(&claims).await {
            Ok(Reserved::Unknown(_)) => {
                claims.list.iter_mut().for_each(|one| one.spent_before = Some(NanoUsd::ZERO));
                self.counters.reserve(&claims).await
            }
            reserved => reserved,
        };
        (request_id, reserved)
    }

    /// Reserves now. The request if it was admitted.
    pub(super) async fn admit(&self, claims: &[Claim]) -> Option<RequestId> {
        let (request_id, reserved) = self.reserve_at(self.clock.now(), claims).await;
        match reserved {
            Ok(Reserved::Admitted(_)) => Some(request_id),
            Ok(Reserved::Refused(_)) => None,
            odd => panic!("{odd:?}"),
        }
    }

    pub(super) async fn settle(&self, request_id: RequestId, cost: i64, tokens: i64) {
        let used = Amounts { cost: NanoUsd::from_nanos(cost), tokens };
        self.counters.end(self.organization_id, request_id, Some(used)).await;
    }

    pub(super) async fn release(&self, request_id: RequestId) {
        self.counters.end(self.organization_id, request_id, None).await;
    }

    /// What is used of the month, reservations included.
    pub(super) async fn used(&self) -> i64 {
        self.used_at(self.clock.now(), SpendWindow::Monthly).await
    }

    /// What is used of the window that contains `at`, reservations included.
    pub(super) async fn used_at(&self, at: DateTime<Utc>, window: SpendWindow) -> i64 {
        match self.reserve_at(at, &[self.spend(window, 0, 1)]).await.1 {
            Ok(Reserved::Refused(statuses)) => statuses[0].used,
            odd => panic!("{odd:?}"),
        }
    }
}

/// Waits until this is so.
pub(super) async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !so().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
