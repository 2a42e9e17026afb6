//! What is recorded of guarded requests: counts by category, and no value, wherever it stood.

use serde_json::{Value, json};

use crate::data_policy::{EMAIL, USAGE, chat, guard, says};
use crate::data_policy_limits::{pii, with_providers};
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows::rows_at_least,
    logs, openai,
    policies::{refused, spend_cap},
    secrets, sql,
    wait::eventually,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        records_have_no_values_wherever_they_stood,
        a_request_that_fails_before_its_guard_is_recorded_without_values,
        metadata_that_policies_count_by_is_kept,
        the_ledger_has_counts_by_category,
        the_size_of_tables_is_reported,
    ]
}

/// A request whose record could have the value in each of its texts.
fn request(model: &str) -> Request {
    let mut body = says("Hello");
    body["model"] = json!(model);
    let metadata = format!(r#"{{"customer":"acme {EMAIL}","team":"search"}}"#);
    Request::post_json("/openai/v1/chat/completions", &body)
        .header("x-request-id", EMAIL)
        .header("user-agent", EMAIL)
        .header("x-tollgate-session-id", EMAIL)
        .header("x-gateway-sender", EMAIL)
        .header("x-gateway-metadata", &metadata)
}

/// The log line of an answered request.
async fn line(app: &TestApp, answer: &Answer) -> String {
    let id = answer.header("x-request-id").expect("an id").to_owned();
    let mut found = Vec::new();
    eventually("the request's line is written", async || {
        // Also writes the lines of requests that have ended.
        app.platform().get("/metrics").await.expect(200);
        let lines = logs::lines_with(&id);
        found = lines.into_iter().filter(|line| line.contains("message=proxy request")).collect();
        !found.is_empty()
    })
    .await;
    assert!(logs::lines_with(&id).iter().all(|line| !line.contains(EMAIL)), "{found:?}");
    found.remove(0)
}

/// The texts of the ledger's rows, as they are stored.
async fn stored(app: &TestApp) -> Vec<String> {
    let texts = "coalesce(model_asked, '-') || ' ' || model || ' ' || coalesce(model_used, '-') || \
                 ' ' || coalesce(client_request_id, '-') || ' ' || metadata";
    let query = format!("SELECT {texts} AS value FROM ledger ORDER BY id");
    sql::texts(app.database(), &query).await
}

async fn attempts(app: &TestApp, team: &Fixture) -> Value {
    let list = app.admin().get(&team.path("requests")).await.expect(200);
    assert!(!list.text().contains(EMAIL), "{}", list.text());
    list.json()["data"].clone()
}

async fn records_have_no_values_wherever_they_stood(database: Database) {
    let (app, team) = with_providers(&database, pii(json!({"action": "report"}))).await;
    let blocking = json!({"version": 1, "detect": {"pii": ["email"]}, "action": "block"});
    let mut answer = openai::chat_object("Fine.", USAGE);
    // The provider repeats the model's name.
    answer["model"] = json!(EMAIL);
    team.upstream.push(crate::support::script::Script::json(200, &answer));
    let reported = team.caller().send(request(EMAIL).header("user-agent", "curl/8")).await;
    assert_eq!(reported.status, 200, "{}", reported.text());
    assert!(line(&app, &reported).await.contains("model_asked=REDACTED_EMAIL"));
    guard(&app.admin(), &team, blocking).await;
    app.caught_up().await;
    let blocked = team.caller().send(request(EMAIL)).await;
    refused(&blocked, 403, "content_blocked", "No personal data");
    assert!(line(&app, &blocked).await.contains("client_request_id=REDACTED_EMAIL"));

    rows_at_least(app.database(), 2).await;
    let metadata =
        r#"{"customer":"acme REDACTED_EMAIL","sender":"REDACTED_EMAIL","team":"search"}"#;
    let of = |used: &str| format!("REDACTED_EMAIL REDACTED_EMAIL {used} REDACTED_EMAIL {metadata}");
    assert_eq!(stored(&app).await, [of("REDACTED_EMAIL"), of("-")]);
    let list = attempts(&app, &team).await;
    assert_eq!(list[0]["metadata"]["sender"], "REDACTED_EMAIL");
    assert_eq!(list[1]["model"], "REDACTED_EMAIL");
    let usage = "usage?group_by=model&from=2020-01-01T00:00:00Z";
    let usage = app.admin().get(&team.path(usage)).await.text();
    assert!(!usage.contains(EMAIL), "{usage}");
}

async fn a_request_that_fails_before_its_guard_is_recorded_without_values(database: Database) {
    let (app, team) = with_providers(&database, pii(json!({}))).await;
    let mut body = says("Hello");
    body["model"] = json!(format!("nobody/{EMAIL}"));
    for path in ["/v1/chat/completions", "/providers/nobody/v1/chat/completions", "/v1/models/x"] {
        let request = match path {
            "/v1/models/x" => Request::get(path),
            path => Request::post_json(path, &body),
        };
        let answer = team.caller().send(request.header("x-request-id", EMAIL)).await;
        // The lists of models say whether there is such a model, and cannot be read.
        assert!(matches!(answer.status, 404 | 503), "{path}: {}", answer.text());
        let line = line(&app, &answer).await;
        assert!(line.contains("client_request_id=REDACTED_EMAIL"), "{line}");
    }
}

async fn metadata_that_policies_count_by_is_kept(database: Database) {
    let (app, team) = with_providers(&database, pii(json!({}))).await;
    let [one, other] = ["one@bank.example", "other@bank.example"];
    spend_cap(&app.admin(), "of one", &[("sender", other)], ("daily", 1_000_000_000)).await;
    app.caught_up().await;
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    let mut body = says("Hello");
    body["model"] = json!("gpt-4o");
    let request = Request::post_json("/openai/v1/chat/completions", &body)
        .header("x-request-id", one)
        .header("x-gateway-sender", one)
        .header("x-gateway-customer", one);
    team.caller().send(request).await.expect(200);
    rows_at_least(app.database(), 1).await;
    let stored = stored(&app).await;
    assert!(stored[0].contains(&format!(r#""sender":"{one}""#)), "{stored:?}");
    assert!(stored[0].contains(r#""customer":"REDACTED_EMAIL""#), "{stored:?}");
    assert_eq!(stored[0].matches(one).count(), 1, "{stored:?}");
}

async fn the_ledger_has_counts_by_category(database: Database) {
    secrets::register(EMAIL);
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let config = pii(json!({"scan": {"answers": true}}));
    guard(&app.admin(), &team, config).await;
    let other = "grace.hopper@example.org";
    let question = says(&format!("{EMAIL}, {other}, 4111 1111 1111 1111"));
    team.upstream.push(openai::chat_completion("Call +1 650 253 0000.", USAGE));
    team.caller().send(chat(&question)).await.expect(200);
    let plain = app.workspace().await;
    plain.upstream.push(openai::chat_completion("Fine.", USAGE));
    plain.caller().send(chat(&question)).await.expect(200);
    // What cannot be changed blocks.
    let in_query = format!("{}?user={EMAIL}", Fixture::route("chat/completions"));
    team.caller().send(Request::post_json(&in_query, &says("Hello"))).await.expect(403);

    rows_at_least(app.database(), 3).await;
    let finding = |place: &str, category: &str, action: &str, count: u64| json!({"place": place, "category": category, "action": action, "count": count});
    let list = attempts(&app, &team).await;
    assert_eq!(list[0]["guard_findings"], json!([finding("request", "email", "block", 1)]));
    assert_eq!(
        list[1]["guard_findings"],
        json!([
            finding("request", "email", "redact", 2),
            finding("request", "payment_card", "redact", 1),
            finding("answer", "phone", "mask", 1)
        ])
    );
    let list = app.admin().get(&plain.path("requests")).await.expect(200).json();
    assert_eq!(list["data"][0]["guard_findings"], json!([]));
    let nothing = "SELECT cast(count(*) AS text) AS value FROM ledger WHERE guard_findings IS NULL";
    assert_eq!(sql::texts(app.database(), nothing).await, ["1"]);
}

async fn the_size_of_tables_is_reported(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    guard(&app.admin(), &team, pii(json!({}))).await;
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller().send(chat(&says("Hello"))).await.expect(200);
    let bytes: f64 = app.metric("tollgate_guard_table_bytes").await;
    assert!((1_000.0..10e6).contains(&bytes), "{bytes}");
}
