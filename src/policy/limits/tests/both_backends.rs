//! What both kinds of counters have to do.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::{Counters, LimitStatuses, Reserved};
use super::support::{Tenant, claim, redis_at, redis_url};
use crate::domain::money::NanoUsd;
use crate::domain::policy::RateMetric;
use crate::domain::window::{RateWindow, SpendWindow};
use crate::policy::limit::Limit;

macro_rules! both_backends {
    ($($name:ident)+) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Tenant::new(super::Counters::in_memory())).await;
            })+
        }
        mod redis {
            $(#[tokio::test]
            async fn $name() {
                let redis = super::redis_at(&super::redis_url());
                super::$name(super::Tenant::new(super::Counters::Redis(redis))).await;
            })+
        }
    };
}

both_backends! {
    a_new_spend_counter_begins_with_what_was_spent_before
    a_cap_holds_under_concurrency
    a_settlement_counts_once
    a_release_leaves_nothing
    all_claims_move_together
    spend_windows_begin_at_zero
    rate_windows_roll
    limits_say_when_they_are_reset
    tokens_are_corrected_while_in_the_window
    amounts_above_2_to_the_53_are_exact
    amounts_saturate
    a_claim_that_never_fits_has_no_retry_time
    a_free_request_passes_an_exceeded_cap
    ending_an_unknown_request_changes_nothing
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn statuses(reserved: Reserved) -> LimitStatuses {
    match reserved {
        Reserved::Admitted(statuses) | Reserved::Refused(statuses) => statuses,
        Reserved::Unknown(places) => panic!("unknown: {places:?}"),
    }
}

async fn a_new_spend_counter_begins_with_what_was_spent_before(tenant: Tenant) {
    let now = tenant.clock.now();
    let mut claims = super::super::Claims {
        organization_id: tenant.organization_id,
        request_id: tenant.clock.new_id(),
        at: now,
        list: [
            tenant.spend(SpendWindow::Daily, 100, 10),
            tenant.rate(RateMetric::Requests, RateWindow::Minute, 10, 1),
            tenant.spend(SpendWindow::Monthly, 100, 10),
        ]
        .into_iter()
        .collect(),
    };
    let counters = &tenant.counters;
    let unknown = Reserved::Unknown(vec![0, 2]);
    assert_eq!(counters.reserve(&claims).await.unwrap(), unknown);
    assert_eq!(counters.reserve(&claims).await.unwrap(), unknown, "nothing was made");
    let history = |nanos| Some(NanoUsd::from_nanos(nanos));
    claims.list[2].spent_before = history(70);
    let half = counters.reserve(&claims).await.unwrap();
    assert_eq!(half, Reserved::Unknown(vec![0]));
    (claims.list[0].spent_before, claims.list[2].spent_before) = (history(30), history(5));
    let reserved = counters.reserve(&claims).await.unwrap();
    let Reserved::Admitted(statuses) = reserved else { panic!("{reserved:?}") };
    let used: Vec<_> = statuses.iter().map(|status| status.used).collect();
    assert_eq!(used, [40, 1, 80], "a counter that exists ignores spent_before");
    tenant.release(claims.request_id).await;
    assert_eq!(tenant.used().await, 70, "settled only");
}

async fn a_cap_holds_under_concurrency(tenant: Tenant) {
    let claim = tenant.spend(SpendWindow::Monthly, 100_000, 1_000);
    let asking = (0..400).map(|_| tenant.admit(std::slice::from_ref(&claim)));
    let admitted: Vec<_> =
        futures_util::future::join_all(asking).await.into_iter().flatten().collect();
    assert_eq!(admitted.len(), 100);
    let settling = admitted.iter().map(|request| tenant.settle(*request, 900, 0));
    futures_util::future::join_all(settling).await;
    assert_eq!(tenant.used().await, 90_000);
}

async fn a_settlement_counts_once(tenant: Tenant) {
    let request = tenant.admit(&[tenant.spend(SpendWindow::Monthly, 100, 60)]).await.unwrap();
    assert_eq!(tenant.used().await, 60);
    for _ in 0..3 {
        tenant.settle(request, 25, 0).await;
        assert_eq!(tenant.used().await, 25);
    }
    tenant.release(request).await;
    assert_eq!(tenant.used().await, 25);
}

async fn a_release_leaves_nothing(tenant: Tenant) {
    let claims = [
        tenant.spend(SpendWindow::Monthly, 100, 60),
        tenant.rate(RateMetric::Requests, RateWindow::Hour, 1, 1),
        tenant.rate(RateMetric::Tokens, RateWindow::Hour, 10, 7),
    ];
    for _ in 0..3 {
        let request = tenant.admit(&claims).await.expect("room");
        tenant.release(request).await;
        tenant.settle(request, 50, 50).await;
    }
    assert_eq!(tenant.used().await, 0);
}

async fn all_claims_move_together(tenant: Tenant) {
    let wide = tenant.spend(SpendWindow::Monthly, 1_000, 60);
    let narrow = tenant.spend(SpendWindow::Hourly, 100, 60);
    let rate = tenant.rate(RateMetric::Requests, RateWindow::Minute, 5, 1);
    let now = at("2028-02-29T13:00:00.5Z");
    let (_, first) = tenant.reserve_at(now, &[wide, narrow, rate]).await;
    assert!(matches!(first, Ok(Reserved::Admitted(_))), "{first:?}");
    for _ in 0..2 {
        let (_, second) = tenant.reserve_at(now, &[wide, narrow, rate]).await;
        let Ok(Reserved::Refused(statuses)) = second else { panic!("{second:?}") };
        let found: Vec<_> = statuses.iter().map(|one| (one.used, one.violated)).collect();
        assert_eq!(found, [(60, false), (60, true), (1, false)]);
        let waits: Vec<_> = statuses.iter().map(|one| one.retry_after).collect();
        assert_eq!(waits, [Some(0), Some(3_600), Some(0)], "until two o'clock");
    }
}

async fn spend_windows_begin_at_zero(tenant: Tenant) {
    let claim = tenant.spend(SpendWindow::Hourly, 100, 80);
    let before = at("2028-02-29T13:59:59.999999Z");
    let (old, reserved) = tenant.reserve_at(before, &[claim]).await;
    assert!(matches!(reserved, Ok(Reserved::Admitted(_))));
    let (_, refused) = tenant.reserve_at(before, &[claim]).await;
    assert_eq!(statuses(refused.unwrap())[0].retry_after, Some(1));
    let after = at("2028-02-29T14:00:00Z");
    let (_, reserved) = tenant.reserve_at(after, &[claim]).await;
    assert_eq!(statuses(reserved.unwrap())[0].used, 80, "the new window alone");
    tenant.settle(old, 30, 0).await;
    let used = async |at| tenant.used_at(at, SpendWindow::Hourly).await;
    assert_eq!((used(before).await, used(after).await), (30, 80), "the window of its admission");
}

async fn rate_windows_roll(tenant: Tenant) {
    for (window, bucket) in [(RateWindow::Minute, 1), (RateWindow::Hour, 60)] {
        let start = at("2028-02-29T13:00:00.25Z");
        let claim = tenant.rate(RateMetric::Requests, window, 3, 1);
        let step = |buckets: i64| start + TimeDelta::seconds(buckets * bucket);
        for buckets in [0, 0, 10] {
            let (_, reserved) = tenant.reserve_at(step(buckets), &[claim]).await;
            assert!(matches!(reserved, Ok(Reserved::Admitted(_))), "{reserved:?}");
        }
        let (_, refused) = tenant.reserve_at(step(20), &[claim]).await;
        let refused = statuses(refused.unwrap())[0];
        assert_eq!((refused.used, refused.violated), (3, true));
        let wait = i64::try_from(refused.retry_after.unwrap()).unwrap();
        assert_eq!(wait, 40 * bucket);
        let too_early = step(20) + TimeDelta::seconds(wait - 1);
        let (_, reserved) = tenant.reserve_at(too_early, &[claim]).await;
        assert!(matches!(reserved, Ok(Reserved::Refused(_))), "{reserved:?}");
        let then = step(20) + TimeDelta::seconds(wait);
        let (_, reserved) = tenant.reserve_at(then, &[claim]).await;
        let Ok(Reserved::Admitted(statuses)) = reserved else { panic!("{reserved:?}") };
        assert_eq!(statuses[0].used, 2);
    }
}

async fn limits_say_when_they_are_reset(tenant: Tenant) {
    let start = at("2028-02-29T13:00:30.25Z");
    let claims = |tokens: i64| {
        [
            tenant.rate(RateMetric::Requests, RateWindow::Minute, 2, 1),
            tenant.rate(RateMetric::Tokens, RateWindow::Minute, 100, tokens),
            tenant.rate(RateMetric::Requests, RateWindow::Hour, 100, 1),
            tenant.rate(RateMetric::Tokens, RateWindow::Hour, 100, tokens),
            tenant.spend(SpendWindow::Hourly, 100, tokens),
        ]
    };
    let ask = async |seconds, tokens| {
        let now = start + TimeDelta::seconds(seconds);
        let (request, reserved) = tenant.reserve_at(now, &claims(tokens)).await;
        let admitted = matches!(reserved, Ok(Reserved::Admitted(_)));
        let whole: Vec<_> = statuses(reserved.unwrap()).iter().map(|one| one.reset_after).collect();
        (request, admitted, whole)
    };
    // An hour goes by minutes: what comes in the middle of one leaves at its end.
    let hour_left = 3_600 - 30;
    let (_, admitted, whole) = ask(0, 0).await;
    assert_eq!((admitted, whole), (true, vec![60, 0, 3_600 - 30, 0, 0]), "no tokens, no wait");
    let (second, admitted, whole) = ask(10, 7).await;
    let hourly = 3_600 - 40;
    assert_eq!((admitted, whole), (true, vec![60, 60, hour_left - 10, hour_left - 10, hourly]));
    // A refused request hears when what the others use is reset.
    let (_, admitted, whole) = ask(25, 7).await;
    assert_eq!(
        (admitted, whole),
        (false, vec![45, 45, hour_left - 25, hour_left - 25, hourly - 15])
    );
    // What turned out to be nothing is not waited for.
    tenant.settle(second, 0, 0).await;
    let (_, admitted, whole) = ask(26, 0).await;
    assert_eq!((admitted, whole), (false, vec![44, 0, hour_left - 26, 0, 0]));
    // A minute later only hours hold anything, until they do not.
    let (third, admitted, whole) = ask(120, 1).await;
    assert_eq!((admitted, whole), (true, vec![60, 60, hour_left, hour_left, hourly - 110]));
    tenant.release(third).await;
    let (_, admitted, whole) = ask(3_900, 0).await;
    assert_eq!((admitted, whole), (true, vec![60, 0, hour_left, 0, 0]));
}

async fn tokens_are_corrected_while_in_the_window(tenant: Tenant) {
    let start = at("2028-02-29T13:00:00Z");
    let claim = tenant.rate(RateMetric::Tokens, RateWindow::Minute, 100, 60);
    let (first, _) = tenant.reserve_at(start, &[claim]).await;
    tenant.settle(first, 0, 90).await;
    let (_, refused) = tenant.reserve_at(start + TimeDelta::seconds(1), &[claim]).await;
    assert_eq!(statuses(refused.unwrap())[0].used, 90);
    let (second, reserved) = tenant.reserve_at(start + TimeDelta::seconds(60), &[claim]).await;
    assert_eq!(statuses(reserved.unwrap())[0].used, 60, "the first has left");
    let other = tenant.rate(RateMetric::Tokens, RateWindow::Minute, 100, 10);
    let (_, reserved) = tenant.reserve_at(start + TimeDelta::seconds(120), &[other]).await;
    assert_eq!(statuses(reserved.unwrap())[0].used, 10, "the second has left");
    tenant.settle(second, 0, 5_000).await;
    let (_, reserved) = tenant.reserve_at(start + TimeDelta::seconds(120), &[other]).await;
    assert_eq!(statuses(reserved.unwrap())[0].used, 20, "too late to matter");
}

async fn amounts_above_2_to_the_53_are_exact(tenant: Tenant) {
    // 2^53 + 1 is the first whole number that a double does not hold.
    let limit = (1 << 53) + 1;
    let one = |limit| tenant.spend(SpendWindow::Monthly, limit, 1);
    tenant.admit(&[tenant.spend(SpendWindow::Monthly, limit, 1 << 53)]).await.expect("room");
    assert_eq!(tenant.used().await, 1 << 53);
    assert_eq!(tenant.admit(&[one(limit - 1)]).await, None);
    let last = tenant.admit(&[one(limit)]).await.expect("one nano-dollar is left");
    assert_eq!(tenant.used().await, limit);
    assert_eq!(tenant.admit(&[one(limit)]).await, None);
    tenant.settle(last, 0, 0).await;
    assert!(tenant.admit(&[one(limit)]).await.is_some());
    let tokens = |amount| tenant.rate(RateMetric::Tokens, RateWindow::Hour, limit, amount);
    assert!(tenant.admit(&[tokens(1 << 53)]).await.is_some());
    assert!(tenant.admit(&[tokens(2)]).await.is_none());
    assert!(tenant.admit(&[tokens(1)]).await.is_some());
}

async fn amounts_saturate(tenant: Tenant) {
    let claim = tenant.spend(SpendWindow::Monthly, i64::MAX, 10);
    let first = tenant.admit(&[claim]).await.unwrap();
    let second = tenant.admit(&[claim]).await.unwrap();
    tenant.settle(first, i64::MAX, 0).await;
    tenant.settle(second, i64::MAX, 0).await;
    assert_eq!(tenant.used().await, i64::MAX);
    assert_eq!(tenant.admit(&[claim]).await, None);
}

async fn a_claim_that_never_fits_has_no_retry_time(tenant: Tenant) {
    let claims = [
        tenant.spend(SpendWindow::Daily, 10, 11),
        tenant.rate(RateMetric::Tokens, RateWindow::Minute, 10, 11),
        tenant.rate(RateMetric::Requests, RateWindow::Hour, 10, 1),
    ];
    let (_, refused) = tenant.reserve_at(tenant.clock.now(), &claims).await;
    let found: Vec<_> = statuses(refused.unwrap()).iter().map(|one| one.retry_after).collect();
    assert_eq!(found, [None, None, Some(0)]);
}

async fn a_free_request_passes_an_exceeded_cap(tenant: Tenant) {
    let cap = |amount| tenant.spend(SpendWindow::Monthly, 100, amount);
    let request = tenant.admit(&[cap(60)]).await.unwrap();
    tenant.settle(request, 150, 0).await;
    assert_eq!(tenant.admit(&[cap(1)]).await, None);
    let (free, reserved) = tenant.reserve_at(tenant.clock.now(), &[cap(0)]).await;
    let Ok(Reserved::Admitted(statuses)) = reserved else { panic!("{reserved:?}") };
    assert_eq!((statuses[0].used, statuses[0].retry_after), (150, Some(0)));
    tenant.settle(free, 0, 0).await;
    assert_eq!(tenant.used().await, 150);
    let one_a_minute =
        |amount| [cap(amount), tenant.rate(RateMetric::Requests, RateWindow::Minute, 1, 1)];
    assert!(tenant.admit(&one_a_minute(0)).await.is_some());
    assert!(tenant.admit(&one_a_minute(0)).await.is_none(), "other limits hold");
}

async fn ending_an_unknown_request_changes_nothing(tenant: Tenant) {
    tenant.settle(tenant.clock.new_id(), 100, 100).await;
    tenant.release(tenant.clock.new_id()).await;
    assert_eq!(tenant.used().await, 0);
}

#[test]
fn counters_of_past_windows_are_dropped() {
    let (memory, clock) = (super::super::Memory::default(), crate::clock::Clock::default());
    let organization_id = clock.new_id();
    let start = at("2028-02-01T00:00:00Z");
    for hour in 0..500 {
        let bucket = clock.new_id();
        let spend = Limit::Spend { window: SpendWindow::Hourly, limit: NanoUsd::MAX };
        let rate =
            Limit::Rate { metric: RateMetric::Tokens, window: RateWindow::Minute, value: 10 };
        let mut claims = [spend, rate].map(|limit| claim(bucket, limit, 1));
        claims[0].spent_before = Some(NanoUsd::ZERO);
        let at = start + TimeDelta::hours(hour);
        let request_id = clock.new_id();
        let claims = super::super::Claims {
            organization_id,
            request_id,
            at,
            list: claims.into_iter().collect(),
        };
        memory.reserve(&claims);
    }
    assert!(memory.len(organization_id) < 15, "{}", memory.len(organization_id));
    // It says what it may have forgotten: who sets the clock back asks elsewhere.
    let last = start + TimeDelta::hours(499);
    assert!(memory.keeps_window(last + TimeDelta::hours(1)) && memory.keeps_window(last));
    assert!(!memory.keeps_window(last - TimeDelta::hours(2)) && !memory.keeps_window(start));
}
