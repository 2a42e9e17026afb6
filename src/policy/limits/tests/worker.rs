//! Workers, and their own connections to Redis.

use std::time::Duration;

use super::super::{Actual, Counters, Redis, Reserved};
use super::redis_server::{RedisServer, Way};
use super::support::{Tenant, eventually, redis_at, redis_url, redis_with};
use crate::clock::Clock;
use crate::config::SpendWithoutRedis;
use crate::domain::money::NanoUsd;
use crate::domain::window::SpendWindow;

/// A client of the server, as that lists it.
struct Client {
    id: String,
    last_command: String,
}

/// All clients but the one that asks, oldest first.
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

/// The line's connection and the worker's, once both are there; asking has the second one made.
async fn line_and_own(server: &RedisServer, asking: &Tenant) -> [Client; 2] {
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
async fn a_worker_asks_on_a_connection_of_its_own() {
    let server = RedisServer::start().await;
    let redis = redis_at(&server.url);
    redis.attach_worker();
    let tenant = Tenant::new(Counters::Redis(redis.clone()));
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 10);
    let [line, own] = line_and_own(&server, &tenant).await;

    let asked = tenant.admit(&[claim]).await.unwrap();
    tenant.settle(asked, 1, 0).await;
    let now = clients(&server).await;
    let command = |id: &str| {
        now.iter().find(|client| client.id == id).map(|client| client.last_command.as_str())
    };
    assert_eq!(command(&own.id), Some("evalsha"));
    assert!(command(&line.id).is_some());

    // Alone, it is made again, and the line stays up.
    server.command(&["CLIENT", "KILL", "ID", &own.id]).await;
    let [same_line, another] = line_and_own(&server, &tenant).await;
    assert!(redis.is_up());
    assert_eq!(same_line.id, line.id);
    assert_ne!(another.id, own.id);

    // With the line it ends.
    server.command(&["CLIENT", "KILL", "ID", &line.id]).await;
    eventually("both are made again", async || {
        let [new_line, new_own] = line_and_own(&server, &tenant).await;
        new_line.id != line.id && new_own.id != another.id
    })
    .await;
    assert!(matches!(tenant.ask(claim, None).await, Ok(Reserved::Admitted(_))));
}

#[tokio::test]
async fn what_a_worker_leaves_unsaid_is_told_all_the_same() {
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
            let actual = Actual { cost: NanoUsd::from_nanos(40), tokens: 0 };
            worker.counters.end_soon(worker.organization_id, settled, Some(actual));
            worker.counters.end_soon(worker.organization_id, released, None);
        });
        // Nobody has run what was to be done here.
    });
    ending.join().unwrap();
    assert!(tenant.counters.finish(Duration::from_secs(30)).await);
    assert_eq!((tenant.spent().await, tenant.used().await), (Some(40), 40));
}

/// A worker on a way to Redis where its own connection is the second, after the line's.
async fn worker_on_a_way(server: &RedisServer, deadline: Duration) -> (Way, Redis, Tenant) {
    let way = Way::to(&server.url).await;
    let redis = redis_with(&way.url, deadline, SpendWithoutRedis::Refuse, &Clock::default());
    redis.attach_worker();
    let tenant = Tenant::new(Counters::Redis(redis.clone()));
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 1);
    eventually("the worker's own connection is used", async || {
        let _ = tenant.reserve_at(tenant.clock.now(), &[claim]).await;
        let clients = clients(server).await;
        clients.len() == 2 && clients[1].last_command == "evalsha"
    })
    .await;
    assert_eq!(way.count(), 2);
    (way, redis, tenant)
}

#[tokio::test]
async fn an_own_connection_that_is_silent_is_left_for_the_line() {
    let server = RedisServer::start().await;
    let (way, redis, tenant) = worker_on_a_way(&server, Duration::from_secs(1)).await;
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 1);
    way.hold_one(1);
    assert!(tenant.ask(claim, None).await.is_err());
    eventually("asked by the line", async || tenant.ask(claim, None).await.is_ok()).await;
    assert!(redis.is_up());
    eventually("another is made", async || way.count() == 3).await;
}

#[tokio::test]
async fn an_own_connection_that_is_lost_does_not_take_the_line_down() {
    let server = RedisServer::start().await;
    let (way, redis, tenant) = worker_on_a_way(&server, Duration::from_secs(30)).await;
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 1);
    way.hold_one(1);
    let asking = futures_util::future::join_all((0..5).map(|_| tenant.ask(claim, None)));
    let (answers, ()) = tokio::join!(asking, async {
        // All of them are under way.
        tokio::task::yield_now().await;
        way.cut_one(1);
    });
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert!(redis.is_up());
    assert!(tenant.ask(claim, None).await.is_ok());
}

#[tokio::test]
async fn a_line_that_is_silent_is_noticed_whatever_workers_hear() {
    let server = RedisServer::start().await;
    let (way, redis, tenant) = worker_on_a_way(&server, Duration::from_secs(1)).await;
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 1);
    way.hold_one(0);
    eventually("the line is made again", async || {
        let _ = tenant.ask(claim, None).await;
        redis.renew().await;
        way.count() > 3 && redis.is_up()
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_could_not_be_used_does_not_spoil_the_next() {
    let server = RedisServer::start().await;
    let redis = redis_at(&server.url);
    let tenant = Tenant::new(Counters::Redis(redis.clone()));
    let claim = tenant.spend(SpendWindow::Monthly, 1_000, 1);
    tenant.admit(&[claim]).await.unwrap();
    // What does not tell its run is not the line's.
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
