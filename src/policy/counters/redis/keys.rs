//! The names of keys, and claims as the scripts read them. All keys of an organization carry its id
//! in braces, which makes a cluster keep them together.

use chrono::{DateTime, Utc};
use redis::{Script, ScriptInvocation};

use super::super::{Actual, Claim, Claims, LEASE, Limit};
use crate::domain::ids::{OrganizationId, PolicyId, RequestId};
use crate::domain::money::NanoUsd;
use crate::domain::policy::RateMetric;
use crate::domain::window::{RateWindow, SpendWindow};

/// How long keys are kept after their window: for clocks that differ, and for requests that were
/// admitted just before its end. In milliseconds.
const MARGIN: i64 = 3_600_000;
/// How long it is remembered that a request has ended: longer than anything that was said of it
/// can take to arrive. In milliseconds.
const TOMBSTONE: i64 = 900_000;
/// The longest that a reservation can matter. In milliseconds.
const LONGEST: i64 = 32 * 86_400_000 + MARGIN;

/// The scripts, each with what they share in front.
#[derive(Debug)]
pub(super) struct Scripts {
    reserve: Script,
    settle: Script,
    renew: Script,
    restore: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |own: &str| Script::new(&[include_str!("shared.lua"), own].join("\n"));
        Self {
            reserve: script(include_str!("reserve.lua")),
            settle: script(include_str!("settle.lua")),
            renew: script(include_str!("renew.lua")),
            restore: script(include_str!("restore.lua")),
        }
    }

    /// Every script, for loading them ahead.
    pub(super) fn all(&self) -> [&Script; 4] {
        [&self.reserve, &self.settle, &self.renew, &self.restore]
    }

    pub(super) fn reserve(
        &self,
        claims: &Claims,
        history: &[Option<NanoUsd>],
        now: DateTime<Utc>,
    ) -> ScriptInvocation<'_> {
        let prefix = prefix(claims.organization_id);
        let id = claims.request_id.to_string();
        let mut call = self.reserve.key(format!("{prefix}leases"));
        call.key(record(&prefix, &id)).key(tombstone(&prefix, &id));
        call.arg(&prefix).arg(&id).arg(now.timestamp_millis()).arg(lease_end(now));
        call.arg(record_time(claims, claims.at));
        for (place, claim) in claims.claims.iter().enumerate() {
            call.key(counter(&prefix, claim, claims.at));
            call.arg(letter(claim)).arg(most(claim).max(0)).arg(claim.amount.max(0));
            match claim.limit {
                Limit::Spend { .. } => {
                    let told = history.get(place).copied().flatten();
                    call.arg(told.map(|told| told.nanos().max(0).to_string()).unwrap_or_default());
                }
                Limit::Rate { window, .. } => {
                    call.arg(window.bucket(claims.at));
                }
            }
            call.arg(time_left(claim, claims.at, claims.at) + MARGIN);
        }
        call
    }

    /// What ends a reservation: with what was used, or as if it had never been. `claims`, where they
    /// are known, are charged if Redis does not know the reservation.
    pub(super) fn settle(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
        actual: Option<Actual>,
        claims: Option<&Claims>,
        now: DateTime<Utc>,
    ) -> ScriptInvocation<'_> {
        let prefix = prefix(organization_id);
        let id = request_id.to_string();
        let mut call = self.settle.key(format!("{prefix}leases"));
        call.key(record(&prefix, &id)).key(tombstone(&prefix, &id));
        let used = actual.unwrap_or_default();
        call.arg(if actual.is_some() { "s" } else { "x" }).arg(&id).arg(now.timestamp_millis());
        call.arg(used.cost.nanos().max(0)).arg(used.tokens.max(0)).arg(TOMBSTONE);
        if let Some(claims) = claims {
            for claim in &claims.claims {
                call.key(counter(&prefix, claim, claims.at));
                call.arg(letter(claim)).arg(bucket(claim, claims.at));
                call.arg(time_left(claim, claims.at, now));
            }
        }
        call
    }

    pub(super) fn renew(
        &self,
        organization_id: OrganizationId,
        requests: &[RequestId],
        now: DateTime<Utc>,
    ) -> ScriptInvocation<'_> {
        let prefix = prefix(organization_id);
        let mut call = self.renew.key(format!("{prefix}leases"));
        call.arg(&prefix).arg(now.timestamp_millis()).arg(lease_end(now)).arg(LONGEST);
        for request in requests {
            call.arg(request.to_string());
        }
        call
    }

    pub(super) fn restore(&self, claims: &Claims, now: DateTime<Utc>) -> ScriptInvocation<'_> {
        let prefix = prefix(claims.organization_id);
        let id = claims.request_id.to_string();
        let mut call = self.restore.key(format!("{prefix}leases"));
        call.key(record(&prefix, &id)).key(tombstone(&prefix, &id));
        call.arg(&id).arg(now.timestamp_millis()).arg(lease_end(now));
        call.arg(record_time(claims, now));
        for claim in &claims.claims {
            call.key(counter(&prefix, claim, claims.at));
            call.arg(letter(claim)).arg(claim.amount.max(0)).arg(bucket(claim, claims.at));
            call.arg(time_left(claim, claims.at, now));
        }
        call
    }
}

/// What every key of an organization begins with.
pub(super) fn prefix(organization_id: OrganizationId) -> String {
    format!("tg:{{{organization_id}}}:")
}

fn record(prefix: &str, id: &str) -> String {
    format!("{prefix}r:{id}")
}

fn tombstone(prefix: &str, id: &str) -> String {
    format!("{prefix}d:{id}")
}

fn counter(prefix: &str, claim: &Claim, at: DateTime<Utc>) -> String {
    let bucket = claim.bucket;
    match claim.limit {
        Limit::Spend { window, .. } => spend_counter(prefix, bucket, window, at),
        Limit::Rate { metric, window, .. } => {
            format!("{prefix}q:{bucket}:{}:{}", metric.as_str(), window.as_str())
        }
    }
}

/// The key of a spend counter.
pub(super) fn spend_counter(
    prefix: &str,
    bucket: PolicyId,
    window: SpendWindow,
    at: DateTime<Utc>,
) -> String {
    format!("{prefix}s:{bucket}:{}:{}", window.as_str(), window.start(at).timestamp())
}

fn letter(claim: &Claim) -> &'static str {
    match claim.limit {
        Limit::Spend { .. } => "s",
        Limit::Rate { metric: RateMetric::Tokens, .. } => "t",
        Limit::Rate { metric: RateMetric::Requests, .. } => "q",
    }
}

fn most(claim: &Claim) -> i64 {
    match claim.limit {
        Limit::Spend { limit, .. } => limit.nanos(),
        Limit::Rate { value, .. } => value,
    }
}

fn bucket(claim: &Claim, at: DateTime<Utc>) -> i64 {
    match claim.limit {
        Limit::Spend { .. } => 0,
        Limit::Rate { window, .. } => window.bucket(at),
    }
}

/// Milliseconds from `now` until what was admitted at `at` no longer counts; less than 0 if it is
/// over.
fn time_left(claim: &Claim, at: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    let over = match claim.limit {
        Limit::Spend { window, .. } => window.end(at).timestamp(),
        Limit::Rate { window, .. } => {
            (window.bucket(at) + RateWindow::BUCKETS) * window.bucket_seconds()
        }
    };
    over.saturating_mul(1_000).saturating_sub(now.timestamp_millis())
}

/// Until the longest window is over, and a margin.
fn record_time(claims: &Claims, now: DateTime<Utc>) -> i64 {
    let left = claims.claims.iter().map(|claim| time_left(claim, claims.at, now));
    left.max().unwrap_or(0).max(0) + MARGIN
}

fn lease_end(now: DateTime<Utc>) -> i64 {
    now.timestamp_millis() + i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX / 2)
}
