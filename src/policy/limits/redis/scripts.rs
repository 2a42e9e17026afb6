//! The scripts, and claims as they read them.
//!
//! All keys of an organization contain its id in braces, so that a cluster keeps them together. Only
//! the key of the organization's generation is named here; the scripts derive the others from it.

use chrono::{DateTime, Utc};
use redis::{Script, ScriptInvocation};

use super::super::{Claim, Claims, LEASE};
use super::pending_corrections::Correction;
use crate::domain::ids::{OrganizationId, RequestId};
use crate::domain::policy::RateMetric;
use crate::domain::window::RateWindow;
use crate::policy::limit::Limit;

/// How long keys are kept after their window, for clocks that differ and for requests that were
/// admitted just before its end. In milliseconds.
const MARGIN: i64 = 3_600_000;
/// How long Redis remembers the end of a reservation that it did not hold: the reservation may still
/// arrive, or the end may be sent again after an outage. Rare; of other reservations nothing is kept.
/// In milliseconds.
const TOMBSTONE: i64 = 86_400_000;
/// The longest time that a reservation can matter. In milliseconds.
const MAX_LIFETIME: i64 = 32 * 86_400_000 + MARGIN;

/// The scripts, each behind the functions that they share.
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

    /// All scripts, to load them when connecting.
    pub(super) fn all(&self) -> [&Script; 4] {
        [&self.reserve, &self.settle, &self.renew, &self.restore]
    }

    /// Counts all claims or none. `held_in` is the generation of keys that holds the organization's open
    /// requests; empty if there are none.
    pub(super) fn reserve(
        &self,
        claims: &Claims,
        held_in: &str,
        run: &str,
        now: DateTime<Utc>,
    ) -> ScriptInvocation<'_> {
        let mut call = begin(&self.reserve, claims.organization_id, run, now);
        call.arg(held_in).arg(claims.request_id.to_string()).arg(lease_end(now));
        call.arg(record_time(claims, claims.at));
        for claim in &claims.list {
            call.arg(kind(claim)).arg(counter_name(claim, claims.at));
            call.arg(claim.limit.max().max(0)).arg(claim.amount.max(0));
            match claim.limit {
                Limit::Spend { .. } => {
                    let spent = claim.spent_before.map(|spent| spent.nanos().max(0).to_string());
                    call.arg(spent.unwrap_or_default());
                }
                Limit::Rate { window, .. } => {
                    call.arg(window.bucket(claims.at));
                }
            }
            call.arg(time_left(claim, claims.at, claims.at) + MARGIN);
        }
        call
    }

    /// Ends a reservation. If Redis has lost it, its claims are charged where they are known.
    pub(super) fn settle(
        &self,
        correction: &Correction,
        run: &str,
        now: DateTime<Utc>,
    ) -> ScriptInvocation<'_> {
        let mut call = begin(&self.settle, correction.organization_id, run, now);
        let used = correction.used.unwrap_or_default();
        call.arg(if correction.used.is_some() { "s" } else { "x" });
        call.arg(correction.request_id.to_string())
            .arg(correction.generation.as_deref().unwrap_or(""));
        call.arg(used.cost.nanos().max(0)).arg(used.tokens.max(0)).arg(TOMBSTONE);
        if let Some(claims) = &correction.claims {
            for claim in &claims.list {
                call.arg(kind(claim)).arg(counter_name(claim, claims.at));
                call.arg(bucket(claim, claims.at)).arg(time_left(claim, claims.at, now));
            }
        }
        call
    }

    pub(super) fn renew(
        &self,
        organization_id: OrganizationId,
        requests: &[RequestId],
        run: &str,
        now: DateTime<Utc>,
    ) -> ScriptInvocation<'_> {
        let mut call = begin(&self.renew, organization_id, run, now);
        call.arg(lease_end(now));
        for request in requests {
            call.arg(request.to_string());
        }
        call
    }

    pub(super) fn restore(
        &self,
        claims: &Claims,
        run: &str,
        now: DateTime<Utc>,
    ) -> ScriptInvocation<'_> {
        let mut call = begin(&self.restore, claims.organization_id, run, now);
        call.arg(claims.request_id.to_string()).arg(lease_end(now)).arg(record_time(claims, now));
        for claim in &claims.list {
            call.arg(kind(claim)).arg(counter_name(claim, claims.at)).arg(claim.amount.max(0));
            call.arg(bucket(claim, claims.at)).arg(time_left(claim, claims.at, now));
        }
        call
    }
}

/// What every script takes: the organization, the run of the server that is called, and the time.
fn begin<'s>(
    script: &'s Script,
    organization_id: OrganizationId,
    run: &str,
    now: DateTime<Utc>,
) -> ScriptInvocation<'s> {
    let mut call = script.key(format!("tg:{{{organization_id}}}:g"));
    call.arg(run).arg(now.timestamp_millis()).arg(MAX_LIFETIME);
    call
}

fn counter_name(claim: &Claim, at: DateTime<Utc>) -> String {
    let id = claim.counter;
    match claim.limit {
        Limit::Spend { window, .. } => {
            format!("s:{id}:{}:{}", window.as_str(), window.start(at).timestamp())
        }
        Limit::Rate { metric, window, .. } => {
            format!("q:{id}:{}:{}", metric.as_str(), window.as_str())
        }
    }
}

fn kind(claim: &Claim) -> &'static str {
    match claim.limit {
        Limit::Spend { .. } => "s",
        Limit::Rate { metric: RateMetric::Tokens, .. } => "t",
        Limit::Rate { metric: RateMetric::Requests, .. } => "q",
    }
}

fn bucket(claim: &Claim, at: DateTime<Utc>) -> i64 {
    match claim.limit {
        Limit::Spend { .. } => 0,
        Limit::Rate { window, .. } => window.bucket(at),
    }
}

/// Milliseconds from `now` until what was admitted at `at` no longer counts; negative if it no longer
/// does.
fn time_left(claim: &Claim, at: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    let end = match claim.limit {
        Limit::Spend { window, .. } => window.end(at).timestamp(),
        Limit::Rate { window, .. } => {
            (window.bucket(at) + RateWindow::BUCKETS) * window.bucket_seconds()
        }
    };
    end.saturating_mul(1_000).saturating_sub(now.timestamp_millis())
}

/// Until the last window has ended, and a margin.
fn record_time(claims: &Claims, now: DateTime<Utc>) -> i64 {
    let left = claims.list.iter().map(|claim| time_left(claim, claims.at, now));
    left.max().unwrap_or(0).max(0) + MARGIN
}

fn lease_end(now: DateTime<Utc>) -> i64 {
    now.timestamp_millis() + i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX / 2)
}
