//! Editing limits keeps what they have counted.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    ledger_rows::{self, Rates},
    policies::{POLICIES, make, over_cap, rate_limit, rates, refused, spend_cap},
    script::{Script, data},
    two_tenants::text,
    wait::eventually,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        adding_a_window_keeps_what_others_counted,
        removing_a_rate_keeps_what_others_counted,
        a_window_that_is_added_again_knows_past_spend,
        an_edited_child_keeps_its_count,
        a_default_knows_what_a_deleted_child_spent,
        a_disabled_child_keeps_counting,
        a_new_window_needs_no_database_query,
    ]
}

/// The cost of a call: a cent.
const FEE: i128 = 10_000_000;

/// A gateway with a stopped clock, and a workspace whose calls cost [`FEE`].
async fn at_a_cent_each(database: &Database) -> (TestApp, Fixture) {
    let app = TestApp::with_stopped_clock(database, &[]).await;
    let team = app.workspace().await;
    team.set_price(Rates::fee(FEE)).await;
    (app, team)
}

/// Makes as many calls as pass, and checks that the cap refuses the next.
async fn use_up(team: &Fixture, times: usize, name: &str) {
    for _ in 0..times {
        team.caller().send(Fixture::chat()).await.expect(200);
    }
    over_cap(&team.caller().send(Fixture::chat()).await, name);
}

async fn change(app: &TestApp, policy: &Value, patch: Value) -> Value {
    let path = format!("{POLICIES}/{}", text(policy, "id"));
    app.admin().patch(&path, &patch).await.expect(200).json()
}

fn limits(limits: &[(&str, i128)]) -> Value {
    let limits = limits.iter().map(
        |(window, calls)| json!({"window": window, "limit_usd": ledger_rows::usd(calls * FEE)}),
    );
    json!({"version": 2, "limits": limits.collect::<Vec<_>>()})
}

/// A default spend cap of this many calls per key, and its child for the caller's key.
async fn default_and_child(app: &TestApp, team: &Fixture, calls: i128) -> (Value, Value) {
    let default = ("default_spend_cap", "for each");
    let config = limits(&[("monthly", calls)]);
    let default = make(&app.admin(), default, &[("api_key_id", "")], config).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    let child = child_of(app, &default).await;
    (default, child)
}

async fn child_of(app: &TestApp, default: &Value) -> Value {
    let find = async || -> Option<Value> {
        let all = app.admin().get(POLICIES).await.expect(200).json();
        let is_child = |one: &&Value| one["parent_policy_id"] == default["id"];
        all.as_array().unwrap().iter().find(is_child).cloned()
    };
    eventually("the child is made", async || find().await.is_some()).await;
    find().await.unwrap()
}

async fn adding_a_window_keeps_what_others_counted(database: Database) {
    let (app, team) = at_a_cent_each(&database).await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    let cap = spend_cap(&app.admin(), "monthly", &subject, ("monthly", 2 * FEE)).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    // A request in progress holds the rest.
    team.upstream.push(Script::sse_head().chunk(data(json!({"choices": []}))).keep_open());
    let (head, stream) = team.caller().stream(Fixture::chat_stream()).await;
    assert_eq!(head.status, 200);
    over_cap(&team.caller().send(Fixture::chat()).await, "monthly");
    let more = json!({"config": limits(&[("daily", 100), ("monthly", 2)])});
    change(&app, &cap, more).await;
    over_cap(&team.caller().send(Fixture::chat()).await, "monthly");
    drop(stream);
}

async fn removing_a_rate_keeps_what_others_counted(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let team = app.workspace().await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    let both = [("requests", "minute", 1), ("tokens", "minute", 1_000_000)];
    let limit = rate_limit(&app.admin(), "pace", &subject, &both).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    let is_over = async || {
        let answer = team.caller().send(Fixture::chat()).await;
        refused(&answer, 429, "rate_limit_exceeded", "pace");
    };
    is_over().await;
    change(&app, &limit, json!({"config": rates(&[("requests", "minute", 1)])})).await;
    is_over().await;
}

async fn a_window_that_is_added_again_knows_past_spend(database: Database) {
    let (app, team) = at_a_cent_each(&database).await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    let cap = spend_cap(&app.admin(), "both", &subject, ("monthly", 2 * FEE)).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    change(&app, &cap, json!({"config": limits(&[("daily", 100)])})).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    change(&app, &cap, json!({"config": limits(&[("daily", 100), ("monthly", 2)])})).await;
    over_cap(&team.caller().send(Fixture::chat()).await, "both");
}

async fn an_edited_child_keeps_its_count(database: Database) {
    let (app, team) = at_a_cent_each(&database).await;
    let (default, child) = default_and_child(&app, &team, 3).await;
    change(&app, &default, json!({"enabled": false})).await;
    change(&app, &default, json!({"enabled": true})).await;
    use_up(&team, 2, "for each").await;
    // Any edit detaches the child.
    let edited = change(&app, &child, json!({"description": "an important one"})).await;
    assert_eq!(edited["is_system_generated"], false);
    over_cap(&team.caller().send(Fixture::chat()).await, "for each");
}

async fn a_default_knows_what_a_deleted_child_spent(database: Database) {
    let (app, team) = at_a_cent_each(&database).await;
    let (_, child) = default_and_child(&app, &team, 2).await;
    let wider = json!({"config": limits(&[("daily", 100), ("monthly", 100)])});
    change(&app, &child, wider).await;
    for _ in 0..4 {
        team.caller().send(Fixture::chat()).await.expect(200);
    }
    let path = format!("{POLICIES}/{}", text(&child, "id"));
    app.admin().delete(&path).await.success();
    over_cap(&team.caller().send(Fixture::chat()).await, "for each");
}

async fn a_disabled_child_keeps_counting(database: Database) {
    let (app, team) = at_a_cent_each(&database).await;
    let (_, child) = default_and_child(&app, &team, 2).await;
    change(&app, &child, json!({"enabled": false})).await;
    for _ in 0..4 {
        let answer = team.caller().send(Fixture::chat()).await.expect(200);
        assert_eq!(answer.header("x-tollgate-policies"), None, "{:?}", answer.headers);
    }
    // Deleting the child makes the default apply, which counts everything.
    let path = format!("{POLICIES}/{}", text(&child, "id"));
    app.admin().delete(&path).await.success();
    over_cap(&team.caller().send(Fixture::chat()).await, "for each");
}

async fn a_new_window_needs_no_database_query(database: Database) {
    let (app, team) = at_a_cent_each(&database).await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    spend_cap(&app.admin(), "hourly", &subject, ("hourly", 2 * FEE)).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    const QUERIES: &str = "tollgate_database_request_transactions_total";
    let before = app.counter(QUERIES).await;
    for _ in 0..3 {
        app.advance(std::time::Duration::from_secs(3600));
        use_up(&team, 2, "hourly").await;
    }
    assert_eq!(app.counter(QUERIES).await, before);
}
