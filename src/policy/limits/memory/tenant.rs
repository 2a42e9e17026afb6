//! The counters of one organization.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::{DateTime, Utc};

use super::super::waiting::{saturated, until_bucket_left, until_next_window};
use super::super::{Actual, Claim, Claims, Limit, Reserved, Standing};
use super::held::{Held, Hold, RateKey, SpendKey};
use super::ring::Ring;
use crate::domain::ids::RequestId;
use crate::domain::money::NanoUsd;
use crate::domain::policy::RateMetric;
use crate::domain::window::RateWindow;

/// Money of one window.
#[derive(Clone, Copy, Debug)]
struct Spend {
    settled: i64,
    open: i64,
    /// When the window is over, in seconds.
    end: i64,
}

/// The counters of one organization, and what its open requests hold of them.
#[derive(Debug, Default)]
pub(super) struct Tenant {
    spend: HashMap<SpendKey, Spend>,
    rates: HashMap<RateKey, Box<Ring>>,
    held: HashMap<RequestId, Held>,
}

impl Tenant {
    /// All claims or none.
    pub(super) fn reserve(&mut self, claims: &Claims, history: &[Option<NanoUsd>]) -> Reserved {
        let unknown = self.learn(claims, history);
        if !unknown.is_empty() {
            return Reserved::Unknown(unknown);
        }
        let mut standings = Vec::with_capacity(claims.claims.len());
        standings.extend(claims.claims.iter().map(|claim| self.standing(claim, claims.at)));
        if standings.iter().any(|standing| standing.violated) {
            for (claim, standing) in claims.claims.iter().zip(&mut standings) {
                standing.whole_after = self.whole_after(claim, standing.used, claims.at);
            }
            return Reserved::Refused(standings);
        }
        let mut held = Held::new();
        for (claim, standing) in claims.claims.iter().zip(&mut standings) {
            standing.used = self.take(claim, claims.at, &mut held);
            standing.whole_after = self.whole_after(claim, standing.used, claims.at);
        }
        // A request reserves once. If it does so again all the same, what it held stays counted.
        self.held.insert(claims.request_id, held);
        Reserved::Admitted(standings)
    }

    /// Makes the spend counters that are new and whose past is told; gives the places of the others.
    fn learn(&mut self, claims: &Claims, history: &[Option<NanoUsd>]) -> Vec<usize> {
        let mut unknown = Vec::new();
        for (place, claim) in claims.claims.iter().enumerate() {
            let Limit::Spend { window, .. } = claim.limit else { continue };
            let key = SpendKey::new(claim.bucket, window, claims.at);
            if let Entry::Vacant(entry) = self.spend.entry(key) {
                match history.get(place).copied().flatten() {
                    Some(settled) => {
                        let end = window.end(claims.at).timestamp();
                        entry.insert(Spend { settled: settled.nanos().max(0), open: 0, end });
                    }
                    None => unknown.push(place),
                }
            }
        }
        unknown
    }

    /// How a limit stands before this request, but for when it is whole.
    fn standing(&mut self, claim: &Claim, at: DateTime<Utc>) -> Standing {
        let amount = i128::from(claim.amount.max(0));
        let (used, limit) = match claim.limit {
            Limit::Spend { window, limit } => {
                let key = SpendKey::new(claim.bucket, window, at);
                let spend = self.spend.get(&key);
                let used =
                    spend.map_or(0, |spend| i128::from(spend.settled) + i128::from(spend.open));
                (used, i128::from(limit.nanos()))
            }
            Limit::Rate { metric, window, value } => {
                let key = RateKey { bucket: claim.bucket, metric, window };
                let used = self.rates.get_mut(&key).map_or(0, |ring| {
                    ring.advance(window.bucket(at));
                    ring.total()
                });
                (used, i128::from(value))
            }
        };
        // What costs nothing passes a cap that is already overdrawn: it takes nothing from it.
        let is_free = amount == 0 && matches!(claim.limit, Limit::Spend { .. });
        let violated = !is_free && used + amount > limit;
        let retry_after = match claim.limit {
            _ if !violated => Some(0),
            _ if amount > limit => None,
            Limit::Spend { window, .. } => Some(until_next_window(window, at)),
            Limit::Rate { metric, window, .. } => {
                let key = RateKey { bucket: claim.bucket, metric, window };
                self.rates.get(&key).map(|ring| {
                    let bucket = ring.last_to_leave(used + amount - limit);
                    until_bucket_left(window, bucket, at)
                })
            }
        };
        Standing { used: saturated(used), violated, retry_after, whole_after: 0 }
    }

    /// When nothing of what is used counts any more.
    fn whole_after(&self, claim: &Claim, used: i64, at: DateTime<Utc>) -> u64 {
        match claim.limit {
            _ if used == 0 => 0,
            Limit::Spend { window, .. } => until_next_window(window, at),
            Limit::Rate { metric, window, .. } => {
                let key = RateKey { bucket: claim.bucket, metric, window };
                let newest = self.rates.get(&key).and_then(|ring| ring.newest_used());
                newest.map_or(0, |bucket| until_bucket_left(window, bucket, at))
            }
        }
    }

    /// Counts a claim that fits, and gives what is used then.
    fn take(&mut self, claim: &Claim, at: DateTime<Utc>, held: &mut Held) -> i64 {
        let amount = claim.amount.max(0);
        match claim.limit {
            Limit::Spend { window, .. } => {
                let key = SpendKey::new(claim.bucket, window, at);
                let Some(spend) = self.spend.get_mut(&key) else { return amount };
                spend.open = spend.open.saturating_add(amount);
                held.push(Hold::Spend { key, amount }, spend.end);
                spend.settled.saturating_add(spend.open)
            }
            Limit::Rate { metric, window, .. } => {
                let key = RateKey { bucket: claim.bucket, metric, window };
                let bucket = window.bucket(at);
                let ring = self.rates.entry(key).or_insert_with(|| Box::new(Ring::new(bucket)));
                let at = ring.advance(bucket);
                ring.add(at, i128::from(amount));
                let over = at.saturating_add(RateWindow::BUCKETS);
                let until = over.saturating_mul(window.bucket_seconds());
                held.push(Hold::Rate { key, at, amount }, until);
                saturated(ring.total())
            }
        }
    }

    /// Ends a reservation: what was held becomes what was used, or nothing if that is none. Without
    /// effect the second time.
    pub(super) fn end(&mut self, request_id: RequestId, actual: Option<Actual>) {
        let Some(held) = self.held.remove(&request_id) else { return };
        for hold in held.iter() {
            match hold {
                Hold::Spend { key, amount } => {
                    if let Some(spend) = self.spend.get_mut(&key) {
                        let cost = actual.map_or(0, |actual| actual.cost.nanos().max(0));
                        spend.open = spend.open.saturating_sub(amount);
                        spend.settled = spend.settled.saturating_add(cost);
                    }
                }
                Hold::Rate { key, at, amount } => {
                    let used = match (actual, key.metric) {
                        (None, _) => 0,
                        (Some(_), RateMetric::Requests) => continue,
                        (Some(actual), RateMetric::Tokens) => i128::from(actual.tokens.max(0)),
                    };
                    if let Some(ring) = self.rates.get_mut(&key) {
                        ring.add(at, used - i128::from(amount));
                    }
                }
            }
        }
    }

    pub(super) fn settled(&self, key: &SpendKey) -> Option<NanoUsd> {
        self.spend.get(key).map(|spend| NanoUsd::from_nanos(spend.settled))
    }

    /// Drops what no request can ask for any more: of windows that ended by `before`, in seconds.
    pub(super) fn sweep(&mut self, at: DateTime<Utc>, before: i64) {
        self.spend.retain(|_, spend| spend.end > before);
        self.rates.retain(|key, ring| !ring.is_over(key.window, at));
        self.held.retain(|_, held| held.until > before);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spend.is_empty() && self.rates.is_empty() && self.held.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.spend.len() + self.rates.len() + self.held.len()
    }
}
