//! Workers, and the connections to Redis that they have of their own.

use std::time::Duration;

use super::super::{Amounts, Counters, Redis, Reserved};
use super::redis_server::{Proxy, RedisServer};
use super::support::{Tenant, eventually, redis_at, redis_url, redis_with};
use crate::clock::Clock;
use crate::config::SpendWithoutRedis;
use crate::domain::money::NanoUsd;
use crate::domain::window::SpendWindow;

/// A client in the server's list.
struct Client {
    id: String,
    last_command: String,
}

/// All clients but the one that lists them, oldest first.
async fn clients(server: &RedisServer) -> Vec<Client> {
    let list: String = redis::from_redis_value(server.command(&["CLIENT", "LIST"]).await).unwrap();
    let field = |line: &str, name: &str| {
        line.split(' ')
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    let clients = list.lines().map(|line| Client {
        id: field(line, "id").unwrap(),
        last_command: field(line, "cmd").unwrap(),
    });
    clients.filter(|client| client.last_command != "client|list").collect()
}

/// The shared connection and the worker's, which a call makes.
async fn shared_and_own(server: &RedisServer, asking: &Tenant) -> [Client; 2] {
    let claim = asking.spend(SpendWindow::Monthly, 1_000, 1);
    let mut found = Vec::new();
    eventually("the worker has a connection", async || {
        let _ = asking.reserve_at(asking.clock.now(), &[claim]).await;
        found = clients(server).await;
        found.len() == 2
    })
    .await;
    found.try_into().unwrap_or_else(|_| panic!("two"))
}

#[tokio::test]
async fn a_worker_uses_a_connection_of_its_own() {
    let server = RedisServer::start().await;
    let redis = redis_at(&server.url);
    redis.attach_worker();
    let tenant = Tenant::new(Counters::Redis(redis.clone()));
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 10);
    let [shared, own] = shared_and_own(&server, &tenant).await;

    let admitted = tenant.admit(&[claim]).await.unwrap();
    tenant.settle(admitted, 1, 0).await;
    let now = clients(&server).await;
    let command = |id: &str| {
        now.iter().find(|client| client.id == id).map(|client| client.last_command.as_str())
    };
    assert_eq!(command(&own.id), Some("evalsha"));
    assert!(command(&shared.id).is_some());

    // Lost, it is made again, and the shared one stays.
    server.command(&["CLIENT", "KILL", "ID", &own.id]).await;
    let [same_shared, another] = shared_and_own(&server, &tenant).await;
    assert!(redis.is_up());
    assert_eq!(same_shared.id, shared.id);
    assert_ne!(another.id, own.id);

    // It ends with the shared one.
    server.command(&["CLIENT", "KILL", "ID", &shared.id]).await;
    eventually("both are made again", async || {
        let [new_shared, new_own] = shared_and_own(&server, &tenant).await;
        new_shared.id != shared.id && new_own.id != another.id
    })
    .await;
    assert!(matches!(tenant.ask(claim, None).await, Ok(Reserved::Admitted(_))));
}

#[tokio::test]
async fn settlements_of_a_worker_that_ends_are_sent() {
    let redis = redis_at(&redis_url());
    let tenant = Tenant::new(Counters::Redis(redis.clone()));
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 100);
    let worker = tenant.clone();
    let ending = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let Counters::Redis(redis) = &worker.counters else { unreachable!() };
            redis.attach_worker();
            let [settled, released] =
                [worker.admit(&[claim]).await.unwrap(), worker.admit(&[claim]).await.unwrap()];
            let used = Amounts { cost: NanoUsd::from_nanos(40), tokens: 0 };
            worker.counters.end_in_background(worker.organization_id, settled, Some(used));
            worker.counters.end_in_background(worker.organization_id, released, None);
        });
        // The runtime ends before it has run the settlements.
    });
    ending.join().unwrap();
    assert!(tenant.counters.finish(Duration::from_secs(30)).await);
    assert_eq!(tenant.used().await, 40);
}

/// A worker whose own connection is the second through the proxy, after the shared one.
async fn worker_through_a_proxy(
    server: &RedisServer,
    deadline: Duration,
) -> (Proxy, Redis, Tenant) {
    let proxy = Proxy::to(&server.url).await;
    let redis = redis_with(&proxy.url, deadline, SpendWithoutRedis::Refuse, &Clock::default());
    redis.attach_worker();
    let tenant = Tenant::new(Counters::Redis(redis.clone()));
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 1);
    eventually("the worker's own connection is used", async || {
        let _ = tenant.reserve_at(tenant.clock.now(), &[claim]).await;
        let clients = clients(server).await;
        clients.len() == 2 && clients[1].last_command == "evalsha"
    })
    .await;
    assert_eq!(proxy.count(), 2);
    (proxy, redis, tenant)
}

#[tokio::test]
async fn a_stalled_worker_connection_is_replaced_by_the_shared_one() {
    let server = RedisServer::start().await;
    let (proxy, redis, tenant) = worker_through_a_proxy(&server, Duration::from_secs(1)).await;
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 1);
    proxy.hold_one(1);
    assert!(tenant.ask(claim, None).await.is_err());
    eventually("the shared one is used", async || tenant.ask(claim, None).await.is_ok()).await;
    assert!(redis.is_up());
    eventually("another is made", async || proxy.count() == 3).await;
}

#[tokio::test]
async fn a_lost_worker_connection_does_not_open_the_breaker() {
    let server = RedisServer::start().await;
    let (proxy, redis, tenant) = worker_through_a_proxy(&server, Duration::from_secs(30)).await;
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 1);
    proxy.hold_one(1);
    let asking = futures_util::future::join_all((0..5).map(|_| tenant.ask(claim, None)));
    let (answers, ()) = tokio::join!(asking, async {
        // All of them are under proxy.
        tokio::task::yield_now().await;
        proxy.cut_one(1);
    });
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert!(redis.is_up());
    assert!(tenant.ask(claim, None).await.is_ok());
}

#[tokio::test]
async fn a_stalled_shared_connection_is_noticed_although_workers_get_answers() {
    let server = RedisServer::start().await;
    let (proxy, redis, tenant) = worker_through_a_proxy(&server, Duration::from_secs(1)).await;
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 1);
    proxy.hold_one(0);
    eventually("the shared one is made again", async || {
        let _ = tenant.ask(claim, None).await;
        redis.renew().await;
        proxy.count() > 3 && redis.is_up()
    })
    .await;
}

#[tokio::test]
async fn a_worker_connection_is_tried_again_after_one_that_could_not_be_used() {
    let server = RedisServer::start().await;
    let redis = redis_at(&server.url);
    let tenant = Tenant::new(Counters::Redis(redis.clone()));
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 1);
    tenant.admit(&[claim]).await.unwrap();
    // A connection that does not know the run is not used together with one that does.
    server.command(&["ACL", "SETUSER", "default", "-info"]).await;
    redis.attach_worker();
    eventually("one is tried", async || {
        tenant.admit(&[claim]).await.unwrap();
        let refused = server.command(&["ACL", "LOG"]).await;
        matches!(refused, redis::Value::Array(entries) if !entries.is_empty())
    })
    .await;
    server.command(&["ACL", "SETUSER", "default", "+info"]).await;
    eventually("one is made and used", async || {
        tenant.admit(&[claim]).await.unwrap();
        let clients = clients(&server).await;
        clients.len() == 2 && clients[1].last_command == "evalsha"
    })
    .await;
}
