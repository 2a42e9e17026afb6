//! Redis over two replicas, and when it is slow, stopped, emptied or called too late.

use std::time::{Duration, Instant};

use super::super::{Claim, Claims, Counters, LEASE, Redis, Reserved};
use super::redis_server::{Proxy, RedisServer};
use super::support::{Tenant, eventually, redis_at, redis_url, redis_with};
use crate::clock::Clock;
use crate::config::SpendWithoutRedis;
use crate::domain::money::NanoUsd;
use crate::domain::policy::RateMetric;
use crate::domain::window::{RateWindow, SpendWindow};

fn tenant_on(redis: &Redis) -> Tenant {
    Tenant::new(Counters::Redis(redis.clone()))
}

async fn is_up(redis: &Redis) {
    eventually("Redis is reached", async || redis.is_up()).await;
}

#[tokio::test]
async fn a_cap_holds_over_two_replicas() {
    let one = tenant_on(&redis_at(&redis_url()));
    let two = one.through(Counters::Redis(redis_at(&redis_url())));
    let claim = one.spend(SpendWindow::Monthly, 200, 2);
    let claim = std::slice::from_ref(&claim);
    let asking = (0..400).map(|i| if i % 2 == 0 { one.admit(claim) } else { two.admit(claim) });
    let admitted: Vec<_> = futures_util::future::join_all(asking).await;
    assert_eq!(admitted.iter().flatten().count(), 100);
    for request in admitted.into_iter().flatten() {
        // On either replica, any number of times.
        two.settle(request, 1, 0).await;
        one.settle(request, 1, 0).await;
    }
    assert_eq!(two.used().await, 100);
}

#[tokio::test]
async fn a_stalled_redis_fails_calls_fast_and_leaks_no_reservation() {
    let proxy = Proxy::to(&redis_url()).await;
    let deadline = Duration::from_millis(250);
    let redis = redis_with(&proxy.url, deadline, SpendWithoutRedis::Refuse, &Clock::default());
    is_up(&redis).await;
    let tenant = tenant_on(&redis);
    let witness = tenant.through(Counters::Redis(redis_at(&redis_url())));
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 10);
    let open = witness.admit(&[claim]).await.unwrap();
    let settled_late = loop {
        // A busy machine may be slow by itself.
        if let (request, Ok(Reserved::Admitted(_))) =
            tenant.reserve_at(tenant.clock.now(), &[claim]).await
        {
            break request;
        }
        is_up(&redis).await;
    };
    proxy.hold(true);
    let begun = Instant::now();
    let claims = [claim];
    let asking = (0..20).map(|_| tenant.reserve_at(tenant.clock.now(), &claims));
    for (_, reserved) in futures_util::future::join_all(asking).await {
        assert!(reserved.is_err(), "{reserved:?}");
    }
    tenant.settle(settled_late, 3, 0).await;
    assert!(begun.elapsed() < deadline * 2 + Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(!redis.is_up());
    let begun = Instant::now();
    for _ in 0..100 {
        assert!(tenant.reserve_at(tenant.clock.now(), &claims).await.1.is_err());
    }
    assert!(begun.elapsed() < deadline, "the breaker is open");
    let rate = tenant.rate(RateMetric::Requests, RateWindow::Hour, 2, 1);
    for _ in 0..2 {
        assert!(tenant.admit(&[rate]).await.is_some(), "rates are counted here");
    }
    assert!(tenant.admit(&[rate]).await.is_none());
    proxy.hold(false);
    is_up(&redis).await;
    assert!(tenant.counters.catch_up(Duration::from_secs(30)).await);
    // One is open, the other was settled; of the twenty nothing is left.
    assert_eq!(witness.used().await, 13, "nothing leaks");
    witness.settle(open, 1, 0).await;
    assert_eq!(witness.used().await, 4);
}

#[tokio::test]
async fn a_dropped_reservation_is_taken_back() {
    let proxy = Proxy::to(&redis_url()).await;
    let redis = redis_at(&proxy.url);
    is_up(&redis).await;
    let tenant = tenant_on(&redis);
    let witness = tenant.through(Counters::Redis(redis_at(&redis_url())));
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 10);
    assert_eq!(witness.used().await, 0);
    proxy.hold(true);
    let asking = tenant.admit(std::slice::from_ref(&claim));
    assert!(tokio::time::timeout(Duration::from_millis(100), asking).await.is_err());
    proxy.hold(false);
    assert!(tenant.admit(&[claim]).await.is_some(), "asked after the other");
    eventually("the other is taken back", async || witness.used().await == 10).await;
}

#[tokio::test]
async fn a_release_that_arrives_first_wins() {
    let redis = redis_at(&redis_url());
    let tenant = tenant_on(&redis);
    let claims = Claims {
        organization_id: tenant.organization_id,
        request_id: tenant.clock.new_id(),
        at: tenant.clock.now(),
        list: [Claim {
            spent_before: Some(NanoUsd::ZERO),
            ..tenant.spend(SpendWindow::Monthly, 100, 10)
        }]
        .into_iter()
        .collect(),
    };
    redis.abandon(&claims).await;
    let reserved = tenant.counters.reserve(&claims).await;
    assert!(reserved.is_err(), "{reserved:?}");
    assert_eq!(tenant.used().await, 0);
}

#[tokio::test]
async fn local_counts_are_sent_when_redis_is_back() {
    let proxy = Proxy::to(&redis_url()).await;
    proxy.hold(true);
    let deadline = Duration::from_millis(100);
    let redis = redis_with(&proxy.url, deadline, SpendWithoutRedis::Local, &Clock::default());
    let tenant = tenant_on(&redis);
    let claims = [
        tenant.spend(SpendWindow::Monthly, 100, 60),
        tenant.rate(RateMetric::Tokens, RateWindow::Hour, 100, 50),
    ];
    let request = tenant.admit(&claims).await.expect("counted locally");
    assert!(tenant.admit(&claims).await.is_none(), "and limited locally");
    tenant.settle(request, 40, 80).await;
    proxy.hold(false);
    let witness = tenant.through(Counters::Redis(redis_at(&redis_url())));
    eventually("Redis has counted it", async || witness.used().await == 40).await;
    let tokens = witness.rate(RateMetric::Tokens, RateWindow::Hour, 100, 30);
    assert!(witness.admit(&[tokens]).await.is_none());
}

#[tokio::test]
async fn a_release_of_a_local_count_is_sent_to_redis_too() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(&server.url).await;
    let deadline = Duration::from_millis(500);
    let redis = redis_with(&proxy.url, deadline, SpendWithoutRedis::Refuse, &Clock::default());
    is_up(&redis).await;
    let tenant = tenant_on(&redis);
    proxy.hold(true);
    let rate = tenant.rate(RateMetric::Requests, RateWindow::Hour, 1, 1);
    let request = tenant.admit(&[rate]).await.expect("counted locally");
    tenant.release(request).await;
    proxy.hold(false);
    eventually("Redis counts it late", async || server.calls("evalsha").await > 0).await;
    eventually("it is taken back", async || server.keys("tg:*:r:*").await.is_empty()).await;
    let witness = tenant.through(Counters::Redis(redis_at(&server.url)));
    assert!(witness.admit(&[rate]).await.is_some());
}

#[tokio::test]
async fn catch_up_ends_when_redis_has_answered() {
    let proxy = Proxy::to(&redis_url()).await;
    let redis = redis_at(&proxy.url);
    is_up(&redis).await;
    let tenant = tenant_on(&redis);
    let request = tenant.admit(&[tenant.spend(SpendWindow::Monthly, 100, 60)]).await.unwrap();
    proxy.hold(true);
    let settling = tenant.settle(request, 40, 0);
    assert!(tokio::time::timeout(Duration::from_millis(50), settling).await.is_err());
    for _ in 0..2 {
        let catching_up = || tenant.counters.catch_up(Duration::from_millis(100));
        let caught_up = tokio::join!(catching_up(), catching_up());
        assert_eq!(caught_up, (false, false), "it is being sent, or is queued again");
    }
    proxy.hold(false);
    assert!(tenant.counters.catch_up(Duration::from_secs(30)).await);
    let witness = tenant.through(Counters::Redis(redis_at(&redis_url())));
    assert_eq!(witness.used().await, 40);
}

#[tokio::test]
async fn a_claim_without_a_limit_never_refuses_while_redis_is_down() {
    let proxy = Proxy::to(&redis_url()).await;
    proxy.hold(true);
    let deadline = Duration::from_millis(100);
    let redis = redis_with(&proxy.url, deadline, SpendWithoutRedis::Refuse, &Clock::default());
    let tenant = tenant_on(&redis);
    let counted = tenant.spend(SpendWindow::Monthly, i64::MAX, 60);
    let rate = tenant.rate(RateMetric::Requests, RateWindow::Hour, 1, 1);
    let cap = tenant.spend(SpendWindow::Daily, i64::MAX - 1, 60);
    let now = tenant.clock.now();
    assert!(tenant.reserve_at(now, &[counted, cap]).await.1.is_err());
    let (request, reserved) = tenant.reserve_at(now, &[counted, rate]).await;
    let Ok(Reserved::Admitted(statuses)) = reserved else { panic!("{reserved:?}") };
    assert_eq!(statuses.iter().map(|status| status.used).collect::<Vec<_>>(), [0, 1]);
    let refused = tenant.reserve_at(now, &[counted, rate]).await.1;
    let Ok(Reserved::Refused(statuses)) = refused else { panic!("{refused:?}") };
    let violated: Vec<_> = statuses.iter().map(|status| status.violated).collect();
    assert_eq!(violated, [false, true], "each in its place");
    tenant.settle(request, 40, 0).await;
    proxy.hold(false);
    let witness = tenant.through(Counters::Redis(redis_at(&redis_url())));
    eventually("Redis has counted it", async || witness.used().await == 40).await;
}

#[tokio::test]
async fn an_emptied_redis_is_rebuilt_and_never_counts_too_little() {
    let server = RedisServer::start().await;
    let redis = redis_at(&server.url);
    let tenant = tenant_on(&redis);
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 100);
    let open = tenant.admit(&[claim]).await.unwrap();
    let ending = tenant.admit(&[claim]).await.unwrap();
    let settled = tenant.admit(&[claim]).await.unwrap();
    tenant.settle(settled, 70, 0).await;
    server.command(&["FLUSHALL"]).await;
    // One ends before anybody has asked for the counter again.
    tenant.settle(ending, 30, 0).await;
    tenant.settle(ending, 30, 0).await;
    let mut claims = Claims {
        organization_id: tenant.organization_id,
        request_id: tenant.clock.new_id(),
        at: tenant.clock.now(),
        list: [claim].into_iter().collect(),
    };
    let reserved = tenant.counters.reserve(&claims).await.unwrap();
    assert_eq!(reserved, Reserved::Unknown(vec![0]));
    claims.list[0].spent_before = Some(NanoUsd::from_nanos(70));
    let reserved = tenant.counters.reserve(&claims).await.unwrap();
    let Reserved::Admitted(statuses) = reserved else { panic!("{reserved:?}") };
    assert_eq!(statuses[0].used, 300, "the ledger's 70, the 30 since, what is open, and its own");
    redis.renew().await;
    redis.renew().await;
    assert_eq!(tenant.used().await, 300, "the open one is counted once");
    tenant.settle(open, 40, 0).await;
    tenant.settle(open, 40, 0).await;
    assert_eq!(tenant.used().await, 240);
    // A single counter that is lost is noticed as well.
    let keys = server.keys("tg:*:s:*").await;
    server.command(&["DEL", &keys[0]]).await;
    redis.renew().await;
    assert_eq!(tenant.used().await, 100, "restored when leases are renewed");
    tenant.settle(claims.request_id, 5, 0).await;
    assert_eq!(tenant.used().await, 5);
}

#[tokio::test]
async fn an_expired_lease_is_charged_as_reserved_until_it_is_settled() {
    let (server, clock) = (RedisServer::start().await, Clock::default());
    let deadline = Duration::from_secs(10);
    let redis = redis_with(&server.url, deadline, SpendWithoutRedis::Refuse, &clock);
    let tenant = tenant_on(&redis);
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 100);
    let request = tenant.admit(&[claim]).await.unwrap();
    let counter = server.keys("tg:*:s:*").await.remove(0);
    let settled = async || match server.command(&["HGET", &counter, "u"]).await {
        redis::Value::BulkString(amount) => String::from_utf8(amount).unwrap(),
        odd => panic!("{odd:?}"),
    };
    clock.advance(LEASE / 2);
    redis.renew().await;
    clock.advance(LEASE * 3 / 4);
    assert_eq!((tenant.used().await, &*settled().await), (100, "0"), "it was renewed");
    clock.advance(LEASE);
    assert_eq!((tenant.used().await, &*settled().await), (100, "100"), "charged");
    redis.renew().await;
    assert_eq!(tenant.used().await, 100, "renewed too late");
    // Another replica learns it from this one's journal.
    let other = tenant.through(Counters::Redis(redis_at(&server.url)));
    for replica in [&other, &other, &tenant] {
        replica.settle(request, 20, 0).await;
        assert_eq!((tenant.used().await, &*settled().await), (20, "20"));
    }
}

#[tokio::test]
async fn every_key_in_redis_expires() {
    let server = RedisServer::start().await;
    let redis = redis_at(&server.url);
    let tenant = tenant_on(&redis);
    let claims = [
        tenant.spend(SpendWindow::Hourly, 100, 10),
        tenant.rate(RateMetric::Tokens, RateWindow::Minute, 100, 10),
    ];
    let request = tenant.admit(&claims).await.unwrap();
    tenant.admit(&claims).await.unwrap();
    tenant.settle(request, 1, 1).await;
    server.command(&["FLUSHALL"]).await;
    redis.renew().await;
    tenant.settle(tenant.clock.new_id(), 1, 1).await;
    tenant.admit(&claims).await.unwrap();
    let keys = server.keys("*").await;
    assert!(keys.len() >= 5, "{keys:?}");
    let tag = format!("tg:{{{}}}:", tenant.organization_id);
    for key in keys {
        assert!(key.starts_with(&tag), "{key}");
        let left = server.command(&["PTTL", &key]).await;
        assert!(matches!(left, redis::Value::Int(1..)), "{key}: {left:?}");
    }
}

#[tokio::test]
async fn a_flushed_script_is_loaded_again() {
    let server = RedisServer::start().await;
    let redis = redis_at(&server.url);
    let tenant = tenant_on(&redis);
    let claim = tenant.spend(SpendWindow::Monthly, 100, 10);
    assert!(tenant.admit(&[claim]).await.is_some());
    server.command(&["SCRIPT", "FLUSH"]).await;
    assert!(tenant.admit(&[claim]).await.is_some());
}

#[tokio::test]
async fn a_closed_connection_is_made_again_and_a_dead_redis_is_noticed() {
    let server = RedisServer::start().await;
    let redis = redis_at(&server.url);
    let tenant = tenant_on(&redis);
    let claim = tenant.spend(SpendWindow::Monthly, 100, 10);
    assert!(tenant.admit(&[claim]).await.is_some());
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    eventually("reached again", async || {
        matches!(tenant.reserve_at(tenant.clock.now(), &[claim]).await.1, Ok(Reserved::Admitted(_)))
    })
    .await;
    drop(server);
    eventually("gone", async || tenant.reserve_at(tenant.clock.now(), &[claim]).await.1.is_err())
        .await;
    eventually("known to be gone", async || !redis.is_up()).await;
}
