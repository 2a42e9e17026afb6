//! PostgreSQL stops in every way, recovers and is back: known callers are served, others get 503 with
//! `Retry-After`, and the gateway needs no restart.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    app::TestApp,
    background_load::BackgroundLoad,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    ledger_rows,
    postgres::{OwnPostgres, StopMode},
    wait::{eventually, within},
};

/// More than all timeouts together.
const BOUNDED: Duration = Duration::from_secs(45);

pub(crate) fn cases() -> Vec<Case> {
    cases![
        postgres known_callers_are_served_while_the_server_restarts,
        postgres interrupted_work_can_be_retried,
        postgres answered_changes_survive_a_server_crash,
    ]
}

async fn known_callers_are_served_while_the_server_restarts(_: Database) {
    let mut server = OwnPostgres::start().await;
    let app = TestApp::start(&server.database()).await;
    let team = app.workspace().await;
    for how in StopMode::ALL {
        let (_, unasked) = team.key("GATEWAY_CALLER").await;
        let load = BackgroundLoad::start(&team.caller(), Fixture::chat(), 4).await;
        let streams = BackgroundLoad::start(&team.caller(), Fixture::chat_stream(), 4).await;
        app.admin().get("/api/v1/me").await.expect(200);
        app.caught_up().await;

        server.stop(how).await;
        load.wait_for_progress().await;
        assert_database_is_away(&app, &team, &unasked).await;
        let recovering = async |server: &OwnPostgres| {
            let before = server.times_told("57P03");
            let is_told = async || server.times_told("57P03") > before;
            eventually("the gateway is turned away", is_told).await;
            assert_database_is_away(&app, &team, &unasked).await;
            load.wait_for_progress().await;
            streams.wait_for_progress().await;
        };
        server.recover(recovering).await;

        // The first request of each kind succeeds.
        let value = json!({"value": format!("stored-after-{how:?}")});
        app.admin().put(&team.path("secrets/ANOTHER"), &value).await.success();
        app.as_key(&unasked).send(Fixture::chat()).await.expect(200);
        app.admin().get("/api/v1/workspaces").await.expect(200);
        eventually("the database is reported to be back", async || {
            reports_database_reachable(&app).await
        })
        .await;
        load.end().await;
        streams.end().await;
    }
    ledger_rows::has_all(&app, &team.upstream).await;
    app.stop().await;
}

/// Checks the answers to requests that need the database.
async fn assert_database_is_away(app: &TestApp, team: &Fixture, unasked: &str) {
    let stranger = app.as_key(unasked);
    let answer = within(BOUNDED, "a stranger is answered", stranger.send(Fixture::chat())).await;
    assert_eq!(answer.header("x-tollgate-error"), Some("gateway"));
    answer.expect_retry_later();
    let admin = app.admin();
    let listing = admin.get("/api/v1/workspaces");
    within(BOUNDED, "a listing is answered", listing).await.expect_retry_later();
    let (path, value) = (team.path("secrets/ANOTHER"), json!({"value": "never-stored-value"}));
    let writing = admin.put(&path, &value);
    within(BOUNDED, "a write is answered", writing).await.expect_retry_later();
    app.anonymous().get("/healthz").await.expect(200);
    eventually("the database is reported to be away", async || {
        !reports_database_reachable(app).await
    })
    .await;
}

async fn reports_database_reachable(app: &TestApp) -> bool {
    let report = app.platform().get("/readyz").await.expect(200).json();
    report["details"]["database_reachable"].as_bool().expect("details, for the platform's key")
}

/// The server's messages are in French.
async fn interrupted_work_can_be_retried(_: Database) {
    let server = OwnPostgres::start().await;
    let database = server.database();
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let holder = database.connect().await;
    holder.batch_execute("BEGIN; UPDATE change_sequence SET value = value").await.unwrap();
    let write = |name: &str| {
        let (admin, path) = (app.admin(), team.path(&format!("secrets/{name}")));
        let value = json!({"value": "written-by-nobody-knows"});
        actix_rt::spawn(async move { admin.put(&path, &value).await })
    };
    let waiting = "FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let operator = database.connect().await;
    let broken_off = write("FIRST");
    eventually("it waits for its turn", async || {
        let count = format!("SELECT count(*) {waiting}");
        operator.query_one(&count, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    operator.batch_execute(&format!("SELECT pg_terminate_backend(pid) {waiting}")).await.unwrap();
    broken_off.await.unwrap().expect_retry_later();
    assert!(server.times_told("57P01") > 0);

    let in_vain = write("SECOND");
    within(BOUNDED, "a write is answered", in_vain).await.unwrap().expect_retry_later();
    holder.batch_execute("ROLLBACK").await.unwrap();
    write("THIRD").await.unwrap().success();
    app.stop().await;
}

/// Also with `synchronous_commit` off.
async fn answered_changes_survive_a_server_crash(_: Database) {
    let mut server = OwnPostgres::start().await;
    let database = server.database();
    let hasty =
        "ALTER SYSTEM SET synchronous_commit = off; ALTER SYSTEM SET wal_writer_delay = 10000";
    let operator = database.connect().await;
    for statement in hasty.split(';').chain(["SELECT pg_reload_conf()"]) {
        operator.batch_execute(statement).await.unwrap();
    }
    let (app, team) = TestApp::start_with_workspace(&database).await;
    for _ in 0..20 {
        team.caller().send(Fixture::chat()).await.expect(200);
    }
    ledger_rows::has_all(&app, &team.upstream).await;
    let path = team.path("secrets/ANOTHER");
    app.admin().put(&path, &json!({"value": "stored-just-in-time"})).await.success();
    server.stop(StopMode::Killed).await;
    server.start_again().await;
    app.admin().get(&path).await.expect(200);
    ledger_rows::has_all(&app, &team.upstream).await;
    app.stop().await;
}
