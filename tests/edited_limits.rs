//! Limits that are edited while they count: what they counted stays counted.

use serde_json::{Value, json};

use crate::support::{
    accounts::{self, Rates},
    app::TestApp,
    case::{Case, cases},
    database::Database,
    eventually::eventually,
    fixture::Fixture,
    policies::{POLICIES, make, over_cap, rate_limit, rates, refused, spend_cap},
    script::{Script, data},
    world::text,
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_window_that_is_added_leaves_the_others,
        a_rate_that_is_taken_off_leaves_the_others,
        a_window_that_comes_back_learns,
        a_child_that_is_edited_counts_on,
        a_default_knows_what_its_edited_child_spent,
        a_switched_off_child_is_still_counted,
        a_new_window_asks_no_database,
    ]
}

/// What each call costs: a cent.
const FEE: i128 = 10_000_000;

/// A gateway whose time stands still, and a team whose calls cost [`FEE`].
async fn at_a_cent_each(database: &Database) -> (TestApp, Fixture) {
    let app = TestApp::with_stopped_clock(database, &[]).await;
    let team = app.workspace().await;
    let path = team.path(&format!("model-configurations/{}", team.configuration_id));
    app.admin().patch(&path, &json!({"price": Rates::fee(FEE).json()})).await.expect(200);
    (app, team)
}

/// Calls so often that the cap of that name is used up, which has to be then.
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
    let limits = limits
        .iter()
        .map(|(window, calls)| json!({"window": window, "limit_usd": accounts::usd(calls * FEE)}));
    json!({"version": 2, "limits": limits.collect::<Vec<_>>()})
}

/// A default spend cap of so many calls for each key, and the team's child of it, once that is made.
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

async fn a_window_that_is_added_leaves_the_others(database: Database) {
    let (app, team) = at_a_cent_each(&database).await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    let cap = spend_cap(&app.admin(), "monthly", &subject, ("monthly", 2 * FEE)).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    // One is under way, and holds the rest.
    team.upstream.push(Script::sse_head().chunk(data(json!({"choices": []}))).keep_open());
    let (head, stream) = team.caller().stream(Fixture::chat_stream()).await;
    assert_eq!(head.status, 200);
    over_cap(&team.caller().send(Fixture::chat()).await, "monthly");
    let more = json!({"config": limits(&[("daily", 100), ("monthly", 2)])});
    change(&app, &cap, more).await;
    over_cap(&team.caller().send(Fixture::chat()).await, "monthly");
    drop(stream);
}

async fn a_rate_that_is_taken_off_leaves_the_others(database: Database) {
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

async fn a_window_that_comes_back_learns(database: Database) {
    let (app, team) = at_a_cent_each(&database).await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    let cap = spend_cap(&app.admin(), "both", &subject, ("monthly", 2 * FEE)).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    change(&app, &cap, json!({"config": limits(&[("daily", 100)])})).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    change(&app, &cap, json!({"config": limits(&[("daily", 100), ("monthly", 2)])})).await;
    over_cap(&team.caller().send(Fixture::chat()).await, "both");
}

async fn a_child_that_is_edited_counts_on(database: Database) {
    let (app, team) = at_a_cent_each(&database).await;
    let (default, child) = default_and_child(&app, &team, 3).await;
    change(&app, &default, json!({"enabled": false})).await;
    change(&app, &default, json!({"enabled": true})).await;
    use_up(&team, 2, "for each").await;
    // Words alone, and it goes its own way from now on.
    let edited = change(&app, &child, json!({"description": "an important one"})).await;
    assert_eq!(edited["is_system_generated"], false);
    over_cap(&team.caller().send(Fixture::chat()).await, "for each");
}

async fn a_default_knows_what_its_edited_child_spent(database: Database) {
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

async fn a_switched_off_child_is_still_counted(database: Database) {
    let (app, team) = at_a_cent_each(&database).await;
    let (_, child) = default_and_child(&app, &team, 2).await;
    change(&app, &child, json!({"enabled": false})).await;
    for _ in 0..4 {
        let answer = team.caller().send(Fixture::chat()).await.expect(200);
        assert_eq!(answer.header("x-tollgate-policies"), None, "{:?}", answer.headers);
    }
    // Nobody holds the key to anything; when that ends, all of it counts.
    let path = format!("{POLICIES}/{}", text(&child, "id"));
    app.admin().delete(&path).await.success();
    over_cap(&team.caller().send(Fixture::chat()).await, "for each");
}

async fn a_new_window_asks_no_database(database: Database) {
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
