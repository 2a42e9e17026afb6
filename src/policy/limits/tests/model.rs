//! A naive model: a list of what happened, summed up again for every query.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use uuid::Uuid;

use super::super::{Amounts, Claim, Claims, LimitStatus, LimitStatuses, Memory, Reserved};
use super::support::claim;
use crate::domain::ids::{OrganizationId, PolicyId, RequestId};
use crate::domain::money::NanoUsd;
use crate::domain::policy::RateMetric;
use crate::domain::window::{RateWindow, SpendWindow};
use crate::policy::limit::Limit;

#[derive(Clone)]
struct Event {
    at: DateTime<Utc>,
    claim: Claim,
    amount: i64,
}

/// All that is counted, one event a claim.
#[derive(Clone, Default)]
struct Model {
    events: Vec<(RequestId, Event)>,
}

impl Model {
    fn used(&self, claim: &Claim, at: DateTime<Utc>) -> i64 {
        let counts = |event: &Event| match (claim.limit, event.claim.limit) {
            (Limit::Spend { window, .. }, Limit::Spend { window: other, .. }) => {
                window == other && window.start(at) == window.start(event.at)
            }
            (
                Limit::Rate { metric, window, .. },
                Limit::Rate { metric: other_metric, window: other, .. },
            ) => {
                let ago = window.bucket(at) - window.bucket(event.at);
                (metric, window) == (other_metric, other) && ago < RateWindow::BUCKETS
            }
            _ => false,
        };
        let events = self.events.iter().map(|(_, event)| event);
        let same = events.filter(|event| event.claim.counter == claim.counter && counts(event));
        same.map(|event| event.amount).sum()
    }

    fn violates(&self, claim: &Claim, at: DateTime<Utc>) -> bool {
        let is_free = claim.amount == 0 && claim.limit.is_spend();
        !is_free && self.used(claim, at) + claim.amount > claim.limit.max()
    }

    /// By trying every second.
    fn retry_after(&self, claim: &Claim, at: DateTime<Utc>) -> Option<u64> {
        let most_seconds = 32 * 86_400;
        let step = |seconds: u64| at + TimeDelta::seconds(i64::try_from(seconds).unwrap());
        if let Limit::Spend { window, .. } = claim.limit {
            // Only the end of the window changes anything; look around it.
            let end = u64::try_from((window.end(at) - at).num_seconds()).unwrap();
            let around = end.saturating_sub(3).max(1)..end + 3;
            return around.into_iter().find(|seconds| !self.violates(claim, step(*seconds)));
        }
        (1..most_seconds.min(3_700)).find(|seconds| !self.violates(claim, step(*seconds)))
    }

    /// By trying every second.
    fn reset_after(&self, claim: &Claim, at: DateTime<Utc>) -> u64 {
        let end = match claim.limit {
            Limit::Spend { window, .. } => (window.end(at) - at).num_seconds(),
            Limit::Rate { .. } => 0,
        };
        let is_whole = |seconds: &i64| self.used(claim, at + TimeDelta::seconds(*seconds)) == 0;
        let after = (0..1).chain(end.saturating_sub(3).max(1)..end + 3_700).find(is_whole);
        u64::try_from(after.unwrap()).unwrap()
    }

    fn reserve(&mut self, claims: &Claims) -> Reserved {
        let statuses: LimitStatuses = claims
            .list
            .iter()
            .map(|claim| {
                let violated = self.violates(claim, claims.at);
                let retry_after =
                    if violated { self.retry_after(claim, claims.at) } else { Some(0) };
                let used = self.used(claim, claims.at);
                let reset_after = self.reset_after(claim, claims.at);
                LimitStatus { used, violated, retry_after, reset_after }
            })
            .collect();
        if statuses.iter().any(|status| status.violated) {
            return Reserved::Refused(statuses);
        }
        for claim in &claims.list {
            let event = Event { at: claims.at, claim: *claim, amount: claim.amount };
            self.events.push((claims.request_id, event));
        }
        let used = |(status, claim): (LimitStatus, &Claim)| LimitStatus {
            used: self.used(claim, claims.at),
            reset_after: self.reset_after(claim, claims.at),
            ..status
        };
        Reserved::Admitted(statuses.into_iter().zip(&claims.list).map(used).collect())
    }

    fn settle(&mut self, request_id: RequestId, used: Amounts) {
        for (id, event) in &mut self.events {
            if *id == request_id {
                match event.claim.limit {
                    Limit::Spend { .. } => event.amount = used.cost.nanos(),
                    Limit::Rate { metric: RateMetric::Tokens, .. } => event.amount = used.tokens,
                    Limit::Rate { .. } => {}
                }
            }
        }
    }
}

fn a_limit() -> impl Strategy<Value = Limit> {
    let spend = (0..4_usize, 0..400_i64).prop_map(|(window, limit)| Limit::Spend {
        window: SpendWindow::ALL[window],
        limit: NanoUsd::from_nanos(limit),
    });
    let rate = (any::<bool>(), any::<bool>(), 1..300_i64).prop_map(|(tokens, hour, value)| {
        let metric = if tokens { RateMetric::Tokens } else { RateMetric::Requests };
        let window = if hour { RateWindow::Hour } else { RateWindow::Minute };
        Limit::Rate { metric, window, value }
    });
    prop_oneof![spend, rate]
}

/// What happens next: so many milliseconds later a request, or the end of one.
#[derive(Clone, Debug)]
enum Step {
    Reserve { wait: i64, amounts: Vec<i64> },
    Settle { which: prop::sample::Index, cost: i64, tokens: i64 },
}

fn a_step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![0..1_500_i64, 0..90_000_i64, 0..5_000_000_i64];
    let reserve = (wait, prop::collection::vec(prop_oneof![1 => Just(0), 9 => 0..120_i64], 6))
        .prop_map(|(wait, amounts)| Step::Reserve { wait, amounts });
    let settle = (any::<prop::sample::Index>(), 0..150_i64, 0..150_i64)
        .prop_map(|(which, cost, tokens)| Step::Settle { which, cost, tokens });
    prop_oneof![3 => reserve, 1 => settle]
}

proptest! {
    #[test]
    fn memory_agrees_with_a_naive_model(
        limits in prop::collection::vec((0..3_u128, a_limit()), 1..6),
        steps in prop::collection::vec(a_step(), 1..60),
    ) {
        let organization_id = OrganizationId::from(Uuid::from_u128(1));
        let mut claims: Vec<Claim> = Vec::new();
        for (bucket, limit) in limits {
            let bucket = PolicyId::from(Uuid::from_u128(bucket));
            let same = |other: &Claim| {
                other.counter == bucket && other.limit.unlimited() == limit.unlimited()
            };
            if !claims.iter().any(same) {
                claims.push(Claim { spent_before: Some(NanoUsd::ZERO), ..claim(bucket, limit, 0) });
            }
        }
        let (memory, mut model) = (Memory::default(), Model::default());
        let mut at: DateTime<Utc> = "2028-02-29T22:58:30.250Z".parse().unwrap();
        let mut requests = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Reserve { wait, amounts } => {
                    at += TimeDelta::milliseconds(wait);
                    let request_id = RequestId::from(Uuid::from_u128(number as u128));
                    requests.push(request_id);
                    for (claim, amount) in claims.iter_mut().zip(amounts) {
                        claim.amount = amount;
                    }
                    let list = claims.iter().copied().collect();
                    let claims = Claims { organization_id, request_id, at, list };
                    prop_assert_eq!(memory.reserve(&claims), model.reserve(&claims));
                }
                Step::Settle { which, cost, tokens } if !requests.is_empty() => {
                    let request_id = requests.swap_remove(which.index(requests.len()));
                    let used = Amounts { cost: NanoUsd::from_nanos(cost), tokens };
                    memory.end(organization_id, request_id, Some(used));
                    memory.end(organization_id, request_id, Some(used));
                    model.settle(request_id, used);
                }
                Step::Settle { .. } => {}
            }
        }
    }
}
