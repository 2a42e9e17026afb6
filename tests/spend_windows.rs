//! What a spend cap counts: everything spent in its window, also if counters were lost.

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows::{self, Rates},
    policies::{POLICIES, has_spent, make, over_cap, refused, spend_cap},
    redis::OwnRedis,
    script::{Script, data},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        windows_end_on_time,
        each_limit_of_a_cap_counts,
        a_new_cap_counts_past_spend,
        a_raised_cap_admits_more_at_once,
        a_cap_that_was_disabled_counts_past_spend,
        input_named_by_reference_is_charged_as_reserved,
        a_restart_keeps_what_was_spent,
        counters_in_an_emptied_redis_are_rebuilt,
        a_cap_refuses_models_without_a_price,
        the_strictest_of_several_caps_applies,
    ]
}

/// The cost of a call: a cent.
const FEE: i128 = 10_000_000;

/// A gateway with a stopped clock, and a workspace whose calls cost [`FEE`].
async fn at_a_cent_each(database: &Database, options: &[&str]) -> (TestApp, Fixture) {
    let app = TestApp::with_stopped_clock(database, options).await;
    let team = app.workspace().await;
    team.set_price(Rates::fee(FEE)).await;
    (app, team)
}

async fn call(team: &Fixture) -> Answer {
    team.caller().send(Fixture::chat()).await
}

/// Makes this many calls, all of which must pass.
async fn passes(team: &Fixture, times: usize) {
    for _ in 0..times {
        call(team).await.expect(200);
    }
}

/// The start of the next window, calculated independently of the gateway.
fn next(window: &str, now: DateTime<Utc>) -> DateTime<Utc> {
    let mut instant = now.with_nanosecond(0).unwrap() + TimeDelta::seconds(1);
    let begins = |at: DateTime<Utc>| {
        let hour = at.minute() == 0 && at.second() == 0;
        let day = hour && at.hour() == 0;
        match window {
            "hourly" => hour,
            "daily" => day,
            "weekly" => day && at.weekday() == chrono::Weekday::Mon,
            "monthly" => day && at.day() == 1,
            other => panic!("{other}"),
        }
    };
    while !begins(instant) {
        let step = if instant.second() != 0 { 1 } else { 60 };
        instant += TimeDelta::seconds(step);
    }
    instant
}

async fn windows_end_on_time(database: Database) {
    let (app, team) = at_a_cent_each(&database, &[]).await;
    for window in ["hourly", "daily", "weekly", "monthly"] {
        let (id, key) = team.key("GATEWAY_CALLER").await;
        let cap = spend_cap(&app.admin(), window, &[("api_key_id", &id)], (window, FEE)).await;
        let caller = app.as_key(&key);
        let call = || caller.send(Fixture::chat());
        for _ in 0..2 {
            call().await.expect(200);
            has_spent(&app.admin(), &cap, FEE).await;
            over_cap(&call().await, window);
            let ends = next(window, app.now());
            app.advance_to(ends - TimeDelta::microseconds(1));
            over_cap(&call().await, window);
            app.advance_to(ends);
            has_spent(&app.admin(), &cap, 0).await;
        }
    }
}

async fn each_limit_of_a_cap_counts(database: Database) {
    let (app, team) = at_a_cent_each(&database, &[]).await;
    app.advance_to(next("daily", app.now()));
    let limit = |window: &str, calls: i128| json!({"window": window, "limit_usd": ledger_rows::usd(calls * FEE)});
    let config = json!({"version": 2, "limits": [limit("hourly", 2), limit("daily", 3)]});
    let subject = [("workspace_id", team.workspace_id.as_str())];
    make(&app.admin(), ("spend_cap", "both"), &subject, config).await;
    passes(&team, 2).await;
    over_cap(&call(&team).await, "both");
    app.advance_to(next("hourly", app.now()));
    passes(&team, 1).await;
    over_cap(&call(&team).await, "both");
    app.advance_to(next("hourly", app.now()));
    over_cap(&call(&team).await, "both");
    app.advance_to(next("daily", app.now()));
    passes(&team, 2).await;
    over_cap(&call(&team).await, "both");
}

async fn a_new_cap_counts_past_spend(database: Database) {
    let (app, team) = at_a_cent_each(&database, &[]).await;
    passes(&team, 3).await;
    ledger_rows::rows_at_least(&database, 3).await;
    let subject = [("api_key_id", team.caller_key_id.as_str())];
    let cap = spend_cap(&app.admin(), "late", &subject, ("monthly", 5 * FEE)).await;
    assert_eq!(ledger_rows::nanos(&cap["current_spend_usd"]), 3 * FEE, "{cap}");
    passes(&team, 2).await;
    over_cap(&call(&team).await, "late");
}

async fn a_raised_cap_admits_more_at_once(database: Database) {
    let (app, team) = at_a_cent_each(&database, &[]).await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    let cap = spend_cap(&app.admin(), "narrow", &subject, ("monthly", 2 * FEE)).await;
    let path = format!("{POLICIES}/{}", cap["id"].as_str().unwrap());
    passes(&team, 2).await;
    over_cap(&call(&team).await, "narrow");
    let wider = json!({"config": {"window": "monthly", "limit_usd": ledger_rows::usd(3 * FEE)}});
    app.admin().patch(&path, &wider).await.expect(200);
    passes(&team, 1).await;
    over_cap(&call(&team).await, "narrow");
    app.admin().patch(&path, &json!({"enabled": false})).await.expect(200);
    passes(&team, 1).await;
    app.admin().patch(&path, &json!({"enabled": true})).await.expect(200);
    over_cap(&call(&team).await, "narrow");
    app.admin().delete(&path).await.success();
    passes(&team, 1).await;
}

async fn a_cap_that_was_disabled_counts_past_spend(database: Database) {
    let (app, team) = at_a_cent_each(&database, &[]).await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    let cap = spend_cap(&app.admin(), "learns", &subject, ("monthly", 5 * FEE)).await;
    let path = format!("{POLICIES}/{}", cap["id"].as_str().unwrap());
    let change = async |change| app.admin().patch(&path, &change).await.expect(200);
    passes(&team, 1).await;
    change(json!({"enabled": false})).await;
    passes(&team, 2).await;
    change(json!({"enabled": true})).await;
    passes(&team, 1).await;
    change(json!({"config": {"window": "hourly", "limit_usd": 1}})).await;
    passes(&team, 1).await;
    change(json!({"config": {"window": "monthly", "limit_usd": ledger_rows::usd(5 * FEE)}})).await;
    over_cap(&call(&team).await, "learns");
    // For another subject, it counts what that subject has spent.
    change(json!({"subject_matchers": [{"key": "X-Gateway-Team", "value": "red"}]})).await;
    passes(&team, 1).await;
    let of_red = || Fixture::chat().header("X-Gateway-Team", "red");
    for _ in 0..5 {
        team.caller().send(of_red()).await.expect(200);
    }
    over_cap(&team.caller().send(of_red()).await, "learns");
}

async fn input_named_by_reference_is_charged_as_reserved(database: Database) {
    let app = TestApp::with(&database, &["--assumed-context-tokens", "5000"]).await;
    let team = app.workspace().await;
    let event = data(json!({"type": "response.output_text.delta", "delta": "Good"}));
    team.upstream.push(Script::sse_head().chunk(event).close());
    let body = json!({"input": "And then?", "previous_response_id": "resp_1", "stream": true});
    let request = Request::post_json(&Fixture::route("responses"), &body);
    // It breaks off before the provider reports usage.
    let (head, mut stream) = team.caller().stream(request).await;
    assert_eq!(head.status, 200);
    while let Ok(Some(_)) = stream.piece().await {}
    let rows = ledger_rows::rows_at_least(&database, 1).await;
    let row = &rows[0];
    assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("upstream_broke", "estimated"));
    assert_eq!((row.input_tokens, row.output_tokens), (Some(5000), Some(1)));
}

async fn a_restart_keeps_what_was_spent(database: Database) {
    let (app, team) = at_a_cent_each(&database, &[]).await;
    let subject = [("api_key_id", team.caller_key_id.as_str())];
    spend_cap(&app.admin(), "kept", &subject, ("monthly", 5 * FEE)).await;
    passes(&team, 3).await;
    let app = app.restart().await;
    let caller = team.caller_at(app.address());
    for _ in 0..2 {
        caller.send(Fixture::chat()).await.expect(200);
    }
    over_cap(&caller.send(Fixture::chat()).await, "kept");
}

async fn counters_in_an_emptied_redis_are_rebuilt(database: Database) {
    let redis = OwnRedis::start().await;
    let url = redis.url();
    let (app, team) = at_a_cent_each(&database, &["--redis-url", &url]).await;
    let other = app.replica().await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    spend_cap(&app.admin(), "kept", &subject, ("monthly", 5 * FEE)).await;
    passes(&team, 2).await;
    team.caller_at(other.address()).send(Fixture::chat()).await.expect(200);
    ledger_rows::rows_at_least(&database, 3).await;
    redis.flush().await;
    passes(&team, 1).await;
    team.caller_at(other.address()).send(Fixture::chat()).await.expect(200);
    over_cap(&call(&team).await, "kept");
    over_cap(&team.caller_at(other.address()).send(Fixture::chat()).await, "kept");
}

async fn a_cap_refuses_models_without_a_price(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let path = team.configuration_path();
    app.admin().patch(&path, &json!({"model": "nobody-prices-this"})).await.expect(200);
    call(&team).await.expect(200);
    let rows = ledger_rows::rows_at_least(&database, 1).await;
    assert_eq!((rows[0].cost, rows[0].price_version.as_deref()), (None, None), "{rows:?}");

    let subject = [("workspace_id", team.workspace_id.as_str())];
    spend_cap(&app.admin(), "needs a price", &subject, ("monthly", FEE)).await;
    let answer = call(&team).await;
    assert_eq!(answer.status, 402, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "price_unknown", "{error}");
    let says = |word: &str| error["message"].as_str().is_some_and(|text| text.contains(word));
    assert!(says("price") && says("nobody-prices-this"), "{error}");

    // Zero is a price.
    team.set_price(Rates::fee(0)).await;
    call(&team).await.expect(200);
}

async fn the_strictest_of_several_caps_applies(database: Database) {
    let (app, team) = at_a_cent_each(&database, &[]).await;
    let (organization, admin) = (app.keys().organization_id.clone(), app.admin());
    let caps: [(&str, &str, &str, i128); 3] = [
        ("of the organization", "organization_id", &organization, 4),
        ("of the workspace", "workspace_id", &team.workspace_id, 3),
        ("of the key", "api_key_id", &team.caller_key_id, 100),
    ];
    let mut made: Vec<Value> = Vec::new();
    for (name, key, value, calls) in caps {
        made.push(spend_cap(&admin, name, &[(key, value)], ("monthly", calls * FEE)).await);
    }
    passes(&team, 3).await;
    over_cap(&call(&team).await, "of the workspace");
    // A request refused by one cap is counted by none.
    for cap in &made {
        has_spent(&admin, cap, 3 * FEE).await;
    }
    let path = format!("{POLICIES}/{}", made[1]["id"].as_str().unwrap());
    admin.delete(&path).await.success();
    passes(&team, 1).await;
    let answer = call(&team).await;
    refused(&answer, 402, "spend_cap_exceeded", "of the organization");
    assert!(!answer.text().contains("of the key"), "{}", answer.text());
}
