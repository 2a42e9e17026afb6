//! Database outages under load: known callers are served, others get 503 with `Retry-After`, and changes
//! made meanwhile take effect afterwards.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    app::{TestApp, master_key_file, options, write_master_key},
    background_load::BackgroundLoad,
    case::{Case, cases},
    database::{Database, Kind},
    fault_proxy::FaultProxy,
    fixture::Fixture,
    http::Request,
    ledger_rows,
    process::{run, tollgate},
    sql::WriteLock,
    wait::{eventually, within},
};

/// More than all timeouts together.
const BOUNDED: Duration = Duration::from_secs(45);

pub(crate) fn cases() -> Vec<Case> {
    cases![
        postgres known_callers_are_served_while_the_database_refuses_connections,
        postgres known_callers_are_served_while_the_database_does_not_answer,
        postgres dead_connections_are_dropped,
        postgres connections_that_die_in_a_transaction_are_dropped,
        postgres known_callers_are_served_for_a_limited_time,
        postgres a_gateway_stops_while_the_database_does_not_answer,
        postgres a_replica_does_not_start_without_the_database,
        postgres read_only_sessions_are_dropped,
        another_writer_delays_only_writes,
    ]
}

async fn known_callers_are_served_while_the_database_refuses_connections(database: Database) {
    known_callers_are_served_during(&database, FaultProxy::reset_connections).await;
}

async fn known_callers_are_served_while_the_database_does_not_answer(database: Database) {
    known_callers_are_served_during(&database, FaultProxy::stall).await;
}

async fn known_callers_are_served_during(database: &Database, fault: fn(&FaultProxy)) {
    let (proxy, proxied) = FaultProxy::to(database).await;
    let beside = TestApp::start(database).await;
    let app = beside.replica_over(&proxied).await;
    let team = beside.workspace().await;
    let (doomed_id, doomed) = team.key("GATEWAY_CALLER").await;
    let (_, unasked) = team.key("GATEWAY_CALLER").await;
    app.caught_up().await;
    app.admin().get("/api/v1/me").await.expect(200);
    app.as_key(&doomed).send(Fixture::chat()).await.expect(200);
    let load = BackgroundLoad::start(&team.caller_at(app.address()), Fixture::chat(), 4).await;
    let streams =
        BackgroundLoad::start(&team.caller_at(app.address()), Fixture::chat_stream(), 4).await;

    fault(&proxy);
    load.wait_for_progress().await;
    // An unknown key gets 503, not 401.
    let strangers = (0..3).map(|_| app.as_key(&unasked));
    let strangers = strangers.map(|client| async move { client.send(Fixture::chat()).await });
    let strangers = futures_util::future::join_all(strangers);
    for answer in within(BOUNDED, "strangers are answered", strangers).await {
        assert_eq!(answer.header("x-tollgate-error"), Some("gateway"));
        answer.expect_retry_later();
    }
    // So do administrators.
    let secret = json!({"value": "never-stored-value"});
    let listing = app.admin();
    let listing = listing.get("/api/v1/workspaces");
    within(BOUNDED, "a listing is answered", listing).await.expect_retry_later();
    let path = team.path("secrets/ANOTHER");
    let admin = app.admin();
    let writing = admin.put(&path, &secret);
    within(BOUNDED, "a write is answered", writing).await.expect_retry_later();
    app.anonymous().get("/healthz").await.expect(200);
    let ready = app.anonymous();
    within(BOUNDED, "readiness is answered", ready.get("/readyz")).await.expect(200);

    // Meanwhile, a change through another replica.
    let path = team.path(&format!("api-keys/{doomed_id}"));
    beside.admin().delete(&path).await.success();
    beside.as_key(&doomed).send(Fixture::chat()).await.expect(401);
    app.as_key(&doomed).send(Fixture::chat()).await.expect(200);
    load.wait_for_progress().await;
    streams.wait_for_progress().await;

    proxy.restore();
    eventually("the change made meanwhile is seen", async || {
        app.as_key(&doomed).send(Fixture::chat()).await.status == 401
    })
    .await;
    eventually("a key that was not held works", async || {
        app.as_key(&unasked).send(Fixture::chat()).await.status == 200
    })
    .await;
    eventually("admins are served", async || {
        app.admin().put(&team.path("secrets/ANOTHER"), &secret).await.status / 100 == 2
    })
    .await;
    load.end().await;
    streams.end().await;
}

async fn dead_connections_are_dropped(database: Database) {
    let (proxy, proxied) = FaultProxy::to(&database).await;
    let beside = TestApp::with(&database, &["--database-timeout", "1s"]).await;
    let app = beside.replica_over(&proxied).await;
    let team = beside.workspace().await;
    let (doomed_id, doomed) = team.key("GATEWAY_CALLER").await;
    app.caught_up().await;
    app.as_key(&doomed).send(Fixture::chat()).await.expect(200);
    let load = BackgroundLoad::start(&team.caller_at(app.address()), Fixture::chat(), 4).await;
    // Every connection of the pool has been used.
    let admin = app.admin();
    let reads = (0..8).map(|_| admin.get("/api/v1/workspaces"));
    for answer in futures_util::future::join_all(reads).await {
        answer.expect(200);
    }

    proxy.abandon_connections();
    beside.admin().delete(&team.path(&format!("api-keys/{doomed_id}"))).await.success();
    eventually("the change is seen by a new connection", async || {
        app.as_key(&doomed).send(Fixture::chat()).await.status == 401
    })
    .await;
    eventually("admins are served by new connections", async || {
        app.admin().get("/api/v1/workspaces").await.status == 200
    })
    .await;
    load.end().await;
}

async fn connections_that_die_in_a_transaction_are_dropped(database: Database) {
    let (proxy, proxied) = FaultProxy::to(&database).await;
    let beside = TestApp::start(&database).await;
    let app = beside.replica_over(&proxied).await;
    let team = beside.workspace().await;
    let (doomed_id, doomed) = team.key("GATEWAY_CALLER").await;
    app.caught_up().await;
    app.as_key(&doomed).send(Fixture::chat()).await.expect(200);
    app.admin().get("/api/v1/me").await.expect(200);
    let load = BackgroundLoad::start(&team.caller_at(app.address()), Fixture::chat(), 4).await;

    // As many writes as the pool has connections (see `options`), all waiting in a statement.
    let holder = database.connect().await;
    holder.batch_execute("BEGIN; UPDATE change_sequence SET value = value").await.unwrap();
    let writes = (0..4).map(|number| {
        let (admin, path) = (app.admin(), team.path(&format!("secrets/NUMBER_{number}")));
        let value = json!({"value": "written-by-nobody-knows"});
        actix_rt::spawn(async move { admin.put(&path, &value).await })
    });
    let writes: Vec<_> = writes.collect();
    let onlooker = database.connect().await;
    eventually("all of them wait for their turn", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        onlooker.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 4
    })
    .await;
    proxy.abandon_connections();
    holder.batch_execute("ROLLBACK").await.unwrap();
    load.wait_for_progress().await;
    for write in futures_util::future::join_all(writes).await {
        write.unwrap().expect_retry_later();
    }
    beside.admin().delete(&team.path(&format!("api-keys/{doomed_id}"))).await.success();
    eventually("the change is seen by a new connection", async || {
        app.as_key(&doomed).send(Fixture::chat()).await.status == 401
    })
    .await;
    app.admin().get("/api/v1/workspaces").await.expect(200);
    load.end().await;
}

async fn known_callers_are_served_for_a_limited_time(database: Database) {
    let (proxy, proxied) = FaultProxy::to(&database).await;
    let options = ["--directory-max-stale", "3s", "--directory-poll", "200ms"];
    let app = TestApp::with(&proxied, &options).await;
    let team = app.workspace().await;
    team.caller().send(Fixture::chat()).await.expect(200);
    proxy.reset_connections();
    team.caller().send(Fixture::chat()).await.expect(200);
    eventually("what is held is too old", async || {
        team.caller().send(Fixture::chat()).await.status == 503
    })
    .await;
    team.caller().send(Fixture::chat()).await.expect_retry_later();
    app.admin().get("/api/v1/me").await.expect_retry_later();
    proxy.restore();
    eventually("callers are served again", async || {
        team.caller().send(Fixture::chat()).await.status == 200
    })
    .await;
}

async fn a_gateway_stops_while_the_database_does_not_answer(database: Database) {
    let (proxy, proxied) = FaultProxy::to(&database).await;
    let app = TestApp::start(&proxied).await;
    let team = app.workspace().await;
    team.caller().send(Fixture::chat()).await.expect(200);
    proxy.stall();
    within(Duration::from_secs(20), "it stops", app.stop()).await;
    drop(proxy);
}

async fn a_replica_does_not_start_without_the_database(database: Database) {
    let (proxy, proxied) = FaultProxy::to(&database).await;
    write_master_key(&master_key_file(&database));
    proxy.reset_connections();
    let arguments = options(&proxied);
    let mut command = tollgate(&["serve"]);
    command.args(&arguments);
    let ended = run(command).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("database"), "{}", ended.stderr);
}

/// As after a failover: the server is read-only, and sessions started meanwhile stay read-only.
async fn read_only_sessions_are_dropped(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let load = BackgroundLoad::start(&team.caller(), Fixture::chat(), 4).await;
    let operator = database.connect().await;
    let name = operator.query_one("SELECT current_database()", &[]).await.unwrap();
    let name: &str = name.get(0);
    let end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    operator.batch_execute(&format!("{read_only}; {end_sessions}")).await.unwrap();

    let (admin, path) = (app.admin(), team.path("secrets/ANOTHER"));
    let value = json!({"value": "stored-after-all"});
    // One write per session of the pool.
    let writes = (0..8).map(|_| admin.put(&path, &value));
    for answer in futures_util::future::join_all(writes).await {
        answer.expect_retry_later();
    }
    app.admin().get("/api/v1/workspaces").await.expect(200);
    load.wait_for_progress().await;
    let writable = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    operator.batch_execute(&writable).await.unwrap();
    admin.put(&path, &value).await.success();
    load.end().await;
    ledger_rows::has_all(&app, &team.upstream).await;
}

async fn another_writer_delays_only_writes(database: Database) {
    if database.kind() == Kind::Postgres {
        // There, writers wait for the row of the change sequence.
        return a_locked_row_delays_writes(database).await;
    }
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let (_, unasked) = team.key("GATEWAY_CALLER").await;
    let load = BackgroundLoad::start(&team.caller(), Fixture::chat(), 4).await;

    let lock = WriteLock::take(&database);
    app.as_key(&unasked).send(Fixture::chat()).await.expect(200);
    app.admin().get("/api/v1/workspaces").await.expect(200);
    let path = team.path("secrets/ANOTHER");
    let value = json!({"value": "stored-after-a-wait"});
    let admin = app.admin();
    let refused = admin.put(&path, &value);
    within(BOUNDED, "a write is answered", refused).await.expect_retry_later();
    load.wait_for_progress().await;

    // A write that gets the lock in time succeeds.
    let write = {
        let (admin, path, value) = (app.admin(), path.clone(), value.clone());
        actix_rt::spawn(async move { admin.put(&path, &value).await })
    };
    load.wait_for_progress().await;
    drop(lock);
    write.await.unwrap().success();
    load.end().await;
}

async fn a_locked_row_delays_writes(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let (_, unasked) = team.key("GATEWAY_CALLER").await;
    let load = BackgroundLoad::start(&team.caller(), Fixture::chat(), 4).await;
    let holder = database.connect().await;
    holder.batch_execute("BEGIN; UPDATE change_sequence SET value = value").await.unwrap();
    let (admin, path) = (app.admin(), team.path("secrets/ANOTHER"));
    let value = json!({"value": "stored-after-a-wait"});
    let write = actix_rt::spawn(async move { admin.put(&path, &value).await });
    app.as_key(&unasked).send(Fixture::chat()).await.expect(200);
    app.admin().send(Request::get("/api/v1/workspaces")).await.expect(200);
    load.wait_for_progress().await;
    assert!(!write.is_finished(), "the write did not wait for its turn");
    holder.batch_execute("COMMIT").await.unwrap();
    write.await.unwrap().success();
    load.end().await;
}
