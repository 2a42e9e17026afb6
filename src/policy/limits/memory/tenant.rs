//! The counters of one organization.

use std::collections::hash_map::Entry;

use chrono::{DateTime, Utc};
use foldhash::HashMap;
use smallvec::SmallVec;

use super::super::retry_times::{saturated, until_bucket_left, until_next_window};
use super::super::{Amounts, Claim, Claims, LimitStatus, LimitStatuses, Reserved};
use super::open_reservation::{CounterKey, OpenReservation, RateKey, SpendKey};
use super::ring::Ring;
use crate::domain::ids::RequestId;
use crate::domain::policy::RateMetric;
use crate::domain::window::RateWindow;
use crate::policy::limit::Limit;

/// Money of one window, in nano-dollars.
#[derive(Clone, Copy, Debug)]
struct Spend {
    settled: i64,
    reserved: i64,
    /// When the window ends, in seconds.
    end: i64,
}

/// The counters of one organization, and what its open requests have reserved.
#[derive(Debug, Default)]
pub(super) struct Tenant {
    spend: HashMap<SpendKey, Spend>,
    rates: HashMap<RateKey, Box<Ring>>,
    open: HashMap<RequestId, OpenReservation>,
}

impl Tenant {
    /// All claims or none.
    pub(super) fn reserve(&mut self, claims: &Claims) -> Reserved {
        let at = claims.at;
        let keys: SmallVec<[CounterKey; 3]> =
            claims.list.iter().map(|claim| CounterKey::of(claim, at)).collect();
        let keyed = || claims.list.iter().zip(&keys);
        let unknown = self.create_spend_counters(keyed(), at);
        if !unknown.is_empty() {
            return Reserved::Unknown(unknown);
        }
        let mut statuses: LimitStatuses =
            keyed().map(|(claim, key)| self.status(claim, key, at)).collect();
        if statuses.iter().any(|status| status.violated) {
            for ((claim, key), status) in keyed().zip(&mut statuses) {
                status.reset_after = self.reset_after(claim, key, status.used, at);
            }
            return Reserved::Refused(statuses);
        }
        let mut open = OpenReservation { parts: SmallVec::new(), until: i64::MIN };
        for ((claim, key), status) in keyed().zip(&mut statuses) {
            status.used = self.add(claim, key, &mut open);
            status.reset_after = self.reset_after(claim, key, status.used, at);
        }
        self.open.insert(claims.request_id, open);
        Reserved::Admitted(statuses)
    }

    /// Creates the missing spend counters for which `spent_before` is given. Returns the places of the
    /// others.
    fn create_spend_counters<'c>(
        &mut self,
        keyed: impl Iterator<Item = (&'c Claim, &'c CounterKey)>,
        at: DateTime<Utc>,
    ) -> Vec<usize> {
        let mut unknown = Vec::new();
        for (place, (claim, key)) in keyed.enumerate() {
            let (Limit::Spend { window, .. }, CounterKey::Spend(key)) = (claim.limit, key) else {
                continue;
            };
            if let Entry::Vacant(entry) = self.spend.entry(*key) {
                match claim.spent_before {
                    Some(spent) => {
                        let end = window.end(at).timestamp();
                        entry.insert(Spend { settled: spent.nanos().max(0), reserved: 0, end });
                    }
                    None => unknown.push(place),
                }
            }
        }
        unknown
    }

    /// Before this request, and without `reset_after`.
    fn status(&mut self, claim: &Claim, key: &CounterKey, at: DateTime<Utc>) -> LimitStatus {
        let amount = i128::from(claim.amount.max(0));
        let limit = i128::from(claim.limit.max());
        let ring = match key {
            CounterKey::Spend(_) => None,
            CounterKey::Rate(key, bucket) => self.rates.get_mut(key).map(|ring| {
                ring.advance(*bucket);
                &*ring
            }),
        };
        let used = match key {
            CounterKey::Spend(key) => self
                .spend
                .get(key)
                .map_or(0, |spend| i128::from(spend.settled) + i128::from(spend.reserved)),
            CounterKey::Rate(..) => ring.map_or(0, |ring| ring.total()),
        };
        // A request that costs nothing passes a cap that is already exceeded.
        let is_free = amount == 0 && claim.limit.is_spend();
        let violated = !is_free && used + amount > limit;
        let retry_after = match claim.limit {
            _ if !violated => Some(0),
            _ if amount > limit => None,
            Limit::Spend { window, .. } => Some(until_next_window(window, at)),
            Limit::Rate { window, .. } => ring.map(|ring| {
                until_bucket_left(window, ring.last_to_leave(used + amount - limit), at)
            }),
        };
        LimitStatus { used: saturated(used), violated, retry_after, reset_after: 0 }
    }

    fn reset_after(&self, claim: &Claim, key: &CounterKey, used: i64, at: DateTime<Utc>) -> u64 {
        match (claim.limit, key) {
            _ if used == 0 => 0,
            (Limit::Spend { window, .. }, _) => until_next_window(window, at),
            (Limit::Rate { window, .. }, CounterKey::Rate(key, _)) => {
                let newest = self.rates.get(key).and_then(|ring| ring.newest_used());
                newest.map_or(0, |bucket| until_bucket_left(window, bucket, at))
            }
            (Limit::Rate { .. }, CounterKey::Spend(_)) => 0,
        }
    }

    /// Counts a claim that fits. Returns what is used then.
    fn add(&mut self, claim: &Claim, key: &CounterKey, open: &mut OpenReservation) -> i64 {
        let amount = claim.amount.max(0);
        let (part, until, used) = match key {
            CounterKey::Spend(key) => {
                let Some(spend) = self.spend.get_mut(key) else { return amount };
                spend.reserved = spend.reserved.saturating_add(amount);
                let used = spend.settled.saturating_add(spend.reserved);
                (CounterKey::Spend(*key), spend.end, used)
            }
            CounterKey::Rate(key, bucket) => {
                let ring = self.rates.entry(*key).or_insert_with(|| Box::new(Ring::new(*bucket)));
                let bucket = ring.advance(*bucket);
                ring.add(bucket, i128::from(amount));
                let until = bucket.saturating_add(RateWindow::BUCKETS);
                let until = until.saturating_mul(key.window.bucket_seconds());
                (CounterKey::Rate(*key, bucket), until, saturated(ring.total()))
            }
        };
        open.parts.push((part, amount));
        open.until = open.until.max(until);
        used
    }

    /// Replaces what was reserved by what was used, if anything. Only the first call has an effect.
    pub(super) fn end(&mut self, request_id: RequestId, used: Option<Amounts>) {
        let Some(open) = self.open.remove(&request_id) else { return };
        for (key, amount) in &open.parts {
            match key {
                CounterKey::Spend(key) => {
                    if let Some(spend) = self.spend.get_mut(key) {
                        let cost = used.map_or(0, |used| used.cost.nanos().max(0));
                        spend.reserved = spend.reserved.saturating_sub(*amount);
                        spend.settled = spend.settled.saturating_add(cost);
                    }
                }
                CounterKey::Rate(key, bucket) => {
                    let used = match (used, key.metric) {
                        (None, _) => 0,
                        (Some(_), RateMetric::Requests) => continue,
                        (Some(used), RateMetric::Tokens) => i128::from(used.tokens.max(0)),
                    };
                    if let Some(ring) = self.rates.get_mut(key) {
                        ring.add(*bucket, used - i128::from(*amount));
                    }
                }
            }
        }
    }

    /// Drops what no request can use any more: counters of windows that ended by `before`, in
    /// seconds.
    pub(super) fn sweep(&mut self, at: DateTime<Utc>, before: i64) {
        self.spend.retain(|_, spend| spend.end > before);
        self.rates.retain(|key, ring| !ring.is_over(key.window, at));
        self.open.retain(|_, open| open.until > before);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spend.is_empty() && self.rates.is_empty() && self.open.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.spend.len() + self.rates.len() + self.open.len()
    }
}
