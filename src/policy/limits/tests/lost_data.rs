//! Redis after it has lost data, and what it does not have to do while it has not.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::super::{Claim, Counters, Redis, Reserved};
use super::redis_server::RedisServer;
use super::support::{Tenant, eventually, redis_at};
use crate::domain::window::SpendWindow;

fn tenant_on(redis: &Redis) -> Tenant {
    Tenant::new(Counters::Redis(redis.clone()))
}

fn on(server: &RedisServer) -> Counters {
    Counters::Redis(redis_at(&server.url))
}

/// Asks until Redis answers.
async fn first_answer(tenant: &Tenant, claim: Claim) -> Reserved {
    let mut answer = None;
    eventually("Redis answers", async || {
        answer = tenant.ask(claim, None).await.ok();
        answer.is_some()
    })
    .await;
    answer.unwrap()
}

fn is_unknown(reserved: &Reserved) -> bool {
    *reserved == Reserved::Unknown(vec![0])
}

fn used(reserved: Reserved) -> i64 {
    match reserved {
        Reserved::Admitted(statuses) | Reserved::Refused(statuses) => statuses[0].used,
        Reserved::Unknown(places) => panic!("unknown: {places:?}"),
    }
}

#[tokio::test]
async fn counters_of_a_redis_restarted_from_an_old_file_are_not_used() {
    let mut server = RedisServer::start().await;
    let tenant = Tenant::new(on(&server));
    let claim = |amount| tenant.spend(SpendWindow::Monthly, 1_000, amount);
    let early = tenant.admit(&[claim(50)]).await.unwrap();
    tenant.settle(early, 50, 0).await;
    let saved = tenant.admit(&[claim(10)]).await.unwrap();
    server.command(&["SAVE"]).await;
    let unsaved = tenant.admit(&[claim(900)]).await.unwrap();
    tenant.settle(unsaved, 900, 0).await;
    let lost = tenant.admit(&[claim(20)]).await.unwrap();
    server.die_and_start_again().await;

    let answer = first_answer(&tenant, claim(100)).await;
    assert!(is_unknown(&answer), "{answer:?}");
    let refused = tenant.ask(claim(100), Some(950)).await.unwrap();
    assert!(matches!(refused, Reserved::Refused(_)), "{refused:?}");
    assert_eq!(used(refused), 980, "what the ledger knows, and what is open");
    tenant.settle(saved, 4, 0).await;
    tenant.settle(lost, 6, 0).await;
    for request in [early, saved, unsaved, lost] {
        tenant.settle(request, 900, 0).await;
    }
    assert_eq!(tenant.used().await, 960);
}

#[tokio::test]
async fn a_request_that_ends_while_redis_restarts_is_charged() {
    let mut server = RedisServer::start().await;
    let tenant = Tenant::new(on(&server));
    let claim = |amount| tenant.spend(SpendWindow::Monthly, 1_000, amount);
    let request = tenant.admit(&[claim(100)]).await.unwrap();
    server.command(&["SAVE"]).await;
    server.die_and_start_again().await;
    tenant.settle(request, 30, 0).await;
    eventually("Redis has counted it", async || {
        tenant.ask(claim(2_000), Some(0)).await.is_ok_and(|answer| used(answer) == 30)
    })
    .await;
}

#[tokio::test]
async fn counters_of_a_promoted_replica_are_not_used() {
    let (one, two) = (RedisServer::start().await, RedisServer::start().await);
    let first = Tenant::new(on(&one));
    let claim = |amount| first.spend(SpendWindow::Monthly, 1_000, amount);
    let request = first.admit(&[claim(50)]).await.unwrap();
    first.settle(request, 50, 0).await;

    two.follow(&one).await;
    two.command(&["REPLICAOF", "NO", "ONE"]).await;
    let second = first.through(on(&two));
    assert!(is_unknown(&second.ask(claim(900), None).await.unwrap()), "it may have been behind");
    let admitted = second.ask(claim(900), Some(50)).await.unwrap();
    assert!(matches!(admitted, Reserved::Admitted(_)), "{admitted:?}");

    one.follow(&two).await;
    one.command(&["REPLICAOF", "NO", "ONE"]).await;
    // One that was connected all along, and one that is connected anew.
    for third in [first.clone(), first.through(on(&one))] {
        let answer = third.ask(claim(100), None).await.unwrap();
        assert!(is_unknown(&answer), "the same run, but it has missed something: {answer:?}");
    }
}

#[tokio::test]
async fn a_server_without_info_is_used() {
    let server = RedisServer::start_with(&["--rename-command", "INFO", ""]).await;
    let tenant = Tenant::new(on(&server));
    let claim = tenant.spend(SpendWindow::Monthly, 100, 60);
    assert!(tenant.admit(&[claim]).await.is_some());
    assert!(tenant.through(on(&server)).admit(&[claim]).await.is_none());
}

#[tokio::test]
async fn a_replica_restores_its_reservations_before_it_reserves_more() {
    let server = RedisServer::start().await;
    let one = Tenant::new(on(&server));
    let two = one.through(on(&server));
    let claim = one.spend(SpendWindow::Monthly, 1_000, 600);
    let request = two.admit(&[claim]).await.unwrap();
    server.command(&["FLUSHALL"]).await;
    assert_eq!(one.used().await, 0, "rebuilt by one that does not know of it");
    assert!(two.admit(&[claim]).await.is_none());
    assert_eq!(one.used().await, 600);
    two.settle(request, 500, 0).await;
    assert_eq!(one.used().await, 500);
}

#[tokio::test]
async fn reservations_of_other_replicas_are_restored_before_a_restarted_redis_is_used() {
    let mut server = RedisServer::start().await;
    let one = Tenant::new(on(&server));
    let two = one.through(on(&server));
    let claim = one.spend(SpendWindow::Monthly, 1_000, 600);
    assert!(two.admit(&[claim]).await.is_some());
    assert_eq!(one.used().await, 600);
    let begun = Instant::now();
    server.die_and_start_again().await;
    // The other replica gets no requests.
    assert!(is_unknown(&first_answer(&one, claim).await));
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    let refused = one.ask(claim, Some(0)).await.unwrap();
    assert!(matches!(refused, Reserved::Refused(_)), "{refused:?}");
    assert_eq!(used(refused), 600);
}

#[tokio::test]
async fn a_replica_that_starts_together_with_redis_waits_for_the_others() {
    let mut server = RedisServer::start().await;
    let old = Tenant::new(on(&server));
    let claim = old.spend(SpendWindow::Monthly, 1_000, 600);
    assert!(old.admit(&[claim]).await.is_some());
    server.die_and_start_again().await;
    let new = old.through(on(&server));
    assert!(is_unknown(&first_answer(&new, claim).await));
    let refused = new.ask(claim, Some(0)).await.unwrap();
    assert!(matches!(refused, Reserved::Refused(_)), "{refused:?}");
    assert_eq!(used(refused), 600, "the other replica has restored its own");
}

#[tokio::test]
async fn a_refused_correction_is_sent_again() {
    let server = RedisServer::start().await;
    let tenant = Tenant::new(on(&server));
    let request = tenant.admit(&[tenant.spend(SpendWindow::Monthly, 100, 60)]).await.unwrap();
    server.empty_and_spoil(&[tenant.organization_id]).await;
    tenant.settle(request, 40, 0).await;
    assert!(!tenant.counters.catch_up(Duration::from_secs(2)).await);
    server.command(&["FLUSHALL"]).await;
    assert!(tenant.counters.catch_up(Duration::from_secs(30)).await);
    assert_eq!(tenant.used().await, 40);
}

#[tokio::test]
async fn a_failed_renewal_does_not_stop_the_others() {
    // So many that they are renewed in several rounds.
    const TENANTS: usize = 160;
    let server = RedisServer::start().await;
    let redis = redis_at(&server.url);
    let tenants: Vec<_> = (0..TENANTS).map(|_| tenant_on(&redis)).collect();
    let admitted = tenants.iter().map(async |tenant| {
        tenant.admit(&[tenant.spend(SpendWindow::Monthly, 100, 1)]).await.unwrap();
    });
    join_all(admitted).await;
    // Two: fewer than open the breaker, and hardly both of the last round.
    let spoilt = [&tenants[0], &tenants[1]].map(|tenant| tenant.organization_id);
    server.empty_and_spoil(&spoilt).await;
    redis.renew().await;
    assert_eq!(server.keys("tg:*:r:*").await.len(), TENANTS - 2, "all others are restored");
}

#[tokio::test]
async fn a_new_counter_costs_no_renewal_and_an_emptied_redis_one() {
    const OPEN: u64 = 600;
    const ASKING: u64 = 40;
    let server = RedisServer::start().await;
    let redis = redis_at(&server.url);
    let (one, two) = (tenant_on(&redis), tenant_on(&redis));
    let claim = one.spend(SpendWindow::Monthly, 1_000_000, 1);
    let opening = (0..OPEN).map(|_| one.admit(std::slice::from_ref(&claim)));
    assert_eq!(join_all(opening).await.iter().flatten().count(), 600);
    // What is admitted is leased with one ZADD, and one more at every renewal. Leases fall due every
    // few seconds besides.
    let due = 3 * OPEN;

    let before = server.calls("zadd").await;
    let asking = (0..ASKING).map(async |number| {
        let tenant = if number % 2 == 0 { &one } else { &two };
        let new = Claim { counter: tenant.clock.new_id(), ..claim };
        tenant.admit(&[new]).await.expect("room");
    });
    join_all(asking).await;
    let renewed = server.calls("zadd").await - before - ASKING;
    assert!(renewed <= due, "{renewed} leases were renewed");

    server.command(&["FLUSHALL"]).await;
    let before = server.calls("zadd").await;
    let asking = (0..ASKING).map(async |_| {
        let status = one.ask(claim, Some(0)).await.unwrap();
        assert!(used(status) > 600, "open requests are restored first");
    });
    join_all(asking).await;
    let renewed = server.calls("zadd").await - before - ASKING;
    assert!(renewed >= OPEN && renewed <= OPEN + due, "{renewed} leases were renewed");
    assert_eq!(one.used().await, 640);
}

#[tokio::test]
async fn an_ended_request_leaves_no_key() {
    let server = RedisServer::start().await;
    let tenant = Tenant::new(on(&server));
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 10);
    let mut keys = Vec::new();
    for number in 0..20 {
        let request = tenant.admit(&[claim]).await.unwrap();
        if number % 2 == 0 {
            tenant.settle(request, 1, 0).await;
        } else {
            tenant.release(request).await;
        }
        keys.push(server.keys("*").await.len());
    }
    assert_eq!(keys.iter().max(), Some(&2), "the generation and the counter: {keys:?}");
    // Nor does a request that was never admitted.
    tenant.release(tenant.clock.new_id()).await;
    assert_eq!(server.keys("*").await.len(), 2);
    // A reservation that Redis has lost could still arrive.
    let request = tenant.admit(&[claim]).await.unwrap();
    server.command(&["FLUSHALL"]).await;
    tenant.settle(request, 1, 0).await;
    let remembered = server.keys("tg:*:d:*").await;
    assert_eq!(remembered.len(), 1);
    let left = server.command(&["PTTL", &remembered[0]]).await;
    // Longer than an outage after which the end could be sent again.
    assert!(matches!(left, redis::Value::Int(80_000_000..)), "{left:?}");
}
