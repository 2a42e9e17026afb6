//! The names of keys, and claims as the scripts read them. All keys of an organization carry its id
//! in braces, which makes a cluster keep them together. Only one is named here, that of the
//! organization's generation; the scripts name the others under that.

use chrono::{DateTime, Utc};
use redis::{Script, ScriptInvocation};

use super::super::{Claim, Claims, LEASE, Limit};
use super::late::Ending;
use crate::domain::ids::{OrganizationId, PolicyId, RequestId};
use crate::domain::money::NanoUsd;
use crate::domain::policy::RateMetric;
use crate::domain::window::{RateWindow, SpendWindow};

/// How long keys are kept after their window: for clocks that differ, and for requests that were
/// admitted just before its end. In milliseconds.
const MARGIN: i64 = 3_600_000;
/// How long it is remembered of a reservation that Redis did not hold that it has ended: longer than
/// it may be on its way still, and than Redis may be out of reach for one that has not heard that its
/// settlement was counted, and says it again then. These are rare: where Redis held the reservation,
/// nothing is remembered, which would be the most of what Redis keeps. In milliseconds.
const TOMBSTONE: i64 = 86_400_000;
/// The longest that a reservation can matter. In milliseconds.
const LONGEST: i64 = 32 * 86_400_000 + MARGIN;

/// The scripts, each with what they share in front.
#[derive(Debug)]
pub(super) struct Scripts {
    reserve: Script,
    settle: Script,
    renew: Script,
    restore: Script,
    spent: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |own: &str| Script::new(&[include_str!("shared.lua"), own].join("\n"));
        Self {
            reserve: script(include_str!("reserve.lua")),
            settle: script(include_str!("settle.lua")),
            renew: script(include_str!("renew.lua")),
            restore: script(include_str!("restore.lua")),
            spent: script(include_str!("spent.lua")),
        }
    }

    /// Every script, for loading them ahead.
    pub(super) fn all(&self) -> [&Script; 5] {
        [&self.reserve, &self.settle, &self.renew, &self.restore, &self.spent]
    }

    /// Counts all claims or none. `held_in` is the generation that the organization's living requests
    /// are held in; empty if there are none.
    pub(super) fn reserve(
        &self,
        claims: &Claims,
        history: &[Option<NanoUsd>],
        held_in: &str,
        run: &str,
        now: DateTime<Utc>,
    ) -> ScriptInvocation<'_> {
        let mut call = begin(&self.reserve, claims.organization_id, run, now);
        call.arg(held_in).arg(claims.request_id.to_string()).arg(lease_end(now));
        call.arg(record_time(claims, claims.at));
        for (place, claim) in claims.claims.iter().enumerate() {
            call.arg(letter(claim)).arg(counter(claim, claims.at));
            call.arg(most(claim).max(0)).arg(claim.amount.max(0));
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

    /// What ends a reservation. Its claims, where they are known, are charged if Redis has lost it.
    pub(super) fn settle(
        &self,
        ending: &Ending,
        run: &str,
        now: DateTime<Utc>,
    ) -> ScriptInvocation<'_> {
        let mut call = begin(&self.settle, ending.organization_id, run, now);
        let used = ending.actual.unwrap_or_default();
        call.arg(if ending.actual.is_some() { "s" } else { "x" });
        call.arg(ending.request_id.to_string()).arg(ending.generation.as_deref().unwrap_or(""));
        call.arg(used.cost.nanos().max(0)).arg(used.tokens.max(0)).arg(TOMBSTONE);
        if let Some(claims) = &ending.claims {
            for claim in &claims.claims {
                call.arg(letter(claim)).arg(counter(claim, claims.at));
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
        for claim in &claims.claims {
            call.arg(letter(claim)).arg(counter(claim, claims.at)).arg(claim.amount.max(0));
            call.arg(bucket(claim, claims.at)).arg(time_left(claim, claims.at, now));
        }
        call
    }

    /// What is settled in the windows that hold `at`.
    pub(super) fn spent(
        &self,
        organization_id: OrganizationId,
        counters: &[(PolicyId, SpendWindow)],
        at: DateTime<Utc>,
        run: &str,
        now: DateTime<Utc>,
    ) -> ScriptInvocation<'_> {
        let mut call = begin(&self.spent, organization_id, run, now);
        for (bucket, window) in counters {
            call.arg(spend_counter(*bucket, *window, at));
        }
        call
    }
}

/// What every script is told: the organization, the run of the server that is asked, and the time.
fn begin<'s>(
    script: &'s Script,
    organization_id: OrganizationId,
    run: &str,
    now: DateTime<Utc>,
) -> ScriptInvocation<'s> {
    let mut call = script.key(format!("tg:{{{organization_id}}}:g"));
    call.arg(run).arg(now.timestamp_millis()).arg(LONGEST);
    call
}

fn counter(claim: &Claim, at: DateTime<Utc>) -> String {
    let bucket = claim.bucket;
    match claim.limit {
        Limit::Spend { window, .. } => spend_counter(bucket, window, at),
        Limit::Rate { metric, window, .. } => {
            format!("q:{bucket}:{}:{}", metric.as_str(), window.as_str())
        }
    }
}

fn spend_counter(bucket: PolicyId, window: SpendWindow, at: DateTime<Utc>) -> String {
    format!("s:{bucket}:{}:{}", window.as_str(), window.start(at).timestamp())
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
