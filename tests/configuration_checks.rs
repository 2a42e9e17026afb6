//! The cost of checking a model configuration: nothing if the upstream lists its models, otherwise one
//! token, which is admitted and accounted for like a request of the key.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Client, Request},
    ledger_rows::{self, Rates, nanos, rows_at_least, usd},
    openai::{self, Usage},
    policies::{has_spent, over_cap, rate_limit, spend_cap},
    script::Script,
    server_process::ServerProcess,
    two_tenants::text,
    upstream::{RecordedRequest, ScriptedUpstream},
    wait::eventually,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_check_by_model_list_is_free,
        a_check_by_token_is_in_the_ledger,
        every_outcome_of_a_check_is_in_the_ledger,
        each_attempt_of_a_check_is_a_request,
        a_check_counts_against_the_callers_caps,
        a_check_that_policies_refuse_is_not_sent,
        a_check_whose_caller_disconnects_is_charged,
        a_check_in_a_killed_process_is_lost,
    ]
}

const RATES: Rates = Rates {
    input: 2_500_000_000,
    cached_input: 1_250_000_000,
    output: 10_000_000_000,
    reasoning: 12_000_000_000,
    request: 1_000,
};
/// The usage of the answer to a check.
const TOKEN: Usage = Usage { prompt: 8, completion: 1, cached: 0, reasoning: 0 };

async fn upstream_without_model_list() -> ScriptedUpstream {
    ScriptedUpstream::with(|request: &RecordedRequest| match request.method.as_str() {
        "GET" => no_model_list(),
        _ => openai::chat_completion("Good", TOKEN),
    })
    .await
}

fn no_model_list() -> Script {
    Script::json(404, &json!({}))
}

/// A workspace with such an upstream and a price.
async fn priced(admin: &Client, gateway: std::net::SocketAddr) -> Fixture {
    let team = Fixture::before(admin, gateway, upstream_without_model_list().await).await;
    team.set_price(RATES).await;
    team
}

fn path(team: &Fixture) -> String {
    format!("{}/check", team.configuration_path())
}

async fn check(caller: &Client, team: &Fixture) -> Value {
    caller.send(Request::new("POST", &path(team))).await.expect(200).json()
}

/// The requests of the workspace from the API, newest first.
async fn requests(app: &TestApp, team: &Fixture, count: usize) -> Vec<Value> {
    rows_at_least(app.database(), count).await;
    let page = app.admin().get(&team.path("requests")).await.expect(200).json();
    let all = page["data"].as_array().unwrap().clone();
    assert_eq!(all.len(), count, "{page}");
    all
}

async fn a_check_by_model_list_is_free(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let found = check(&app.admin(), &team).await;
    assert_eq!((&found["ok"], &found["model_listed"]), (&true.into(), &true.into()), "{found}");
    // Records arrive in order, so a record of the check would have arrived.
    team.caller().send(Fixture::chat()).await.expect(200);
    let all = requests(&app, &team, 1).await;
    assert_eq!(all[0]["route"], "chat_completions");
}

async fn a_check_by_token_is_in_the_ledger(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app.admin(), app.address()).await;
    let (key_id, key) = team.key("WORKSPACE_EDITOR").await;
    let request = Request::new("POST", &path(&team))
        .header("x-request-id", "mine")
        .header("x-gateway-stage", "setup");
    let answer = app.as_key(&key).send(request).await.expect(200);
    let found = answer.json();
    assert_eq!((&found["ok"], &found["status"]), (&true.into(), &200.into()), "{found}");
    assert_eq!(team.upstream.last_request().json()["max_tokens"], 1);

    let all = requests(&app, &team, 1).await;
    let row = &all[0];
    let expected = json!({
        "request_id": answer.header("x-request-id"),
        "client_request_id": "mine",
        "attempt": 1,
        "api_key_id": key_id,
        "configuration_id": team.configuration_id,
        "route": "check",
        "model_asked": null,
        "model": Fixture::MODEL,
        "model_used": "gpt-test-2025",
        "status": 200,
        "outcome": "completed",
        "code": null,
        "usage_source": "provider",
        "metadata": {"stage": "setup"},
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&row[field], value, "{field}: {row}");
    }
    let tokens = (&row["usage"]["input_tokens"], &row["usage"]["output_tokens"]);
    assert_eq!(tokens, (&8.into(), &1.into()), "{row}");
    assert_eq!(nanos(&row["cost_usd"]), RATES.bill(TOKEN));
    assert!(row["first_byte_ms"].is_u64() && row["duration_ms"].is_u64(), "{row}");
    assert!(text(row, "price_version").contains(&team.configuration_id), "{row}");

    let report = app.admin().get("/api/v1/usage?group_by=api_key").await.expect(200).json();
    assert_eq!(
        ledger_rows::sums_of_report(&report["total"]),
        ledger_rows::sums_of_rows(&database).await
    );
    assert!(report.to_string().contains(&key_id), "{report}");
    let cost = u64::try_from(RATES.bill(TOKEN)).unwrap();
    for (metric, count) in [
        ("tollgate_cost_nano_usd_total", cost),
        ("tollgate_usage_tokens_total{kind=\"input\"}", 8),
        ("tollgate_usage_tokens_total{kind=\"output\"}", 1),
        ("tollgate_ledger_rows_total", 1),
    ] {
        assert_eq!(app.counter(metric).await, count, "{metric}");
    }
}

async fn every_outcome_of_a_check_is_in_the_ledger(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app.admin(), app.address()).await;
    let uncounted = json!({"choices": [{"message": {"content": "Good"}}]});
    let broken = Script::new().sized_head(200, &[], 100).raw("{\"choices\":").reset();
    let cases = [
        (Script::json(401, &json!({})), Some(401), "completed", None, "none"),
        (Script::json(503, &json!({})), Some(503), "completed", None, "none"),
        (Script::new().reset(), None, "failed", Some("closed"), "none"),
        (broken, Some(200), "upstream_broke", Some("closed"), "estimated"),
        (Script::json(200, &uncounted), Some(200), "completed", None, "estimated"),
        (
            Script::json(200, &json!({"error": {"message": "no quota"}})),
            Some(200),
            "failed",
            Some("upstream_reported_error"),
            "none",
        ),
    ];
    for (number, (script, status, outcome, code, source)) in cases.into_iter().enumerate() {
        team.upstream.push(no_model_list());
        team.upstream.push(script);
        let found = check(&app.admin(), &team).await;
        assert_eq!(found["ok"], status == Some(200) && outcome == "completed", "{found}");
        let row = requests(&app, &team, number + 1).await.swap_remove(0);
        let actual = (&row["route"], &row["status"], &row["outcome"], &row["code"]);
        assert_eq!(
            actual,
            (&"check".into(), &json!(status), &outcome.into(), &json!(code)),
            "{row}"
        );
        assert_eq!(row["usage_source"], source, "{row}");
        let cost = nanos(&row["cost_usd"]);
        assert_eq!(cost > 0, source == "estimated", "{row}");
    }
}

async fn each_attempt_of_a_check_is_a_request(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app.admin(), app.address()).await;
    team.upstream.push(no_model_list());
    // As newer models refuse `max_tokens`.
    team.upstream.push(Script::json(400, &json!({})));
    let found = check(&app.admin(), &team).await;
    assert_eq!((&found["ok"], &found["status"]), (&true.into(), &200.into()), "{found}");
    let received = team.upstream.last_request().json();
    assert_eq!(
        (&received["max_completion_tokens"], &received["max_tokens"]),
        (&1.into(), &Value::Null)
    );
    let all = requests(&app, &team, 2).await;
    let actual: Vec<_> = all.iter().map(|row| (&row["status"], nanos(&row["cost_usd"]))).collect();
    assert_eq!(actual, [(&200.into(), RATES.bill(TOKEN)), (&400.into(), 0)]);
    assert_ne!(all[0]["request_id"], all[1]["request_id"]);
}

async fn a_check_counts_against_the_callers_caps(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let team = priced(&app.admin(), app.address()).await;
    let of_team = [("workspace_id", team.workspace_id.as_str())];
    let cap = spend_cap(&app.admin(), "the cap", &of_team, ("monthly", 1_000_000)).await;
    let found = check(&app.admin(), &team).await;
    assert_eq!(found["ok"], true, "{found}");
    has_spent(&app.admin(), &cap, RATES.bill(TOKEN)).await;

    // Less is left than a token may cost.
    let limit = RATES.bill(TOKEN) + 1;
    let config = json!({"config": {"window": "monthly", "limit_usd": usd(limit)}});
    let policy = format!("/api/v1/gateway-policies/{}", text(&cap, "id"));
    app.admin().patch(&policy, &config).await.expect(200);
    over_cap(&team.caller().send(Fixture::chat()).await, "the cap");
    let found = check(&app.admin(), &team).await;
    assert_eq!((&found["ok"], &found["reachable"]), (&false.into(), &true.into()), "{found}");
    assert!(text(&found, "message").contains("gateway policies: the cap"), "{found}");
    let row = requests(&app, &team, 3).await.swap_remove(0);
    let actual = (&row["route"], &row["outcome"], &row["code"], &row["policies"]["violated"]);
    let violated = json!([cap["id"]]);
    let expected = (&"check".into(), &"blocked".into(), &"spend_cap_exceeded".into(), &violated);
    assert_eq!(actual, expected, "{row}");
    assert_eq!(team.upstream.last_request().method, "GET", "no token was asked for");
    has_spent(&app.admin(), &cap, RATES.bill(TOKEN)).await;
}

async fn a_check_that_policies_refuse_is_not_sent(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let team =
        Fixture::before(&app.admin(), app.address(), upstream_without_model_list().await).await;
    let (key_id, key) = team.key("WORKSPACE_EDITOR").await;
    let (editor, of_key) = (app.as_key(&key), [("api_key_id", key_id.as_str())]);
    rate_limit(&app.admin(), "slowly", &of_key, &[("requests", "minute", 1)]).await;
    assert_eq!(check(&editor, &team).await["ok"], true);
    let found = check(&editor, &team).await;
    assert_eq!((&found["ok"], &found["status"]), (&false.into(), &404.into()), "{found}");
    assert!(text(&found, "message").contains("gateway policies: slowly"), "{found}");
    // The policy applies to the editor only.
    assert_eq!(check(&app.admin(), &team).await["ok"], true);
    // Without a price the message is the same as for callers.
    spend_cap(&app.admin(), "the cap", &of_key, ("monthly", 1_000_000)).await;
    app.advance(std::time::Duration::from_secs(60));
    let message = text(&check(&editor, &team).await, "message");
    assert!(message.contains("set a price on the configuration"), "{message}");
    let all = requests(&app, &team, 4).await;
    let codes: Vec<_> = all.iter().map(|row| &row["code"]).collect();
    let blocked = ["price_unknown", "rate_limit_exceeded"].map(Value::from);
    assert_eq!(codes, [&blocked[0], &Value::Null, &blocked[1], &Value::Null]);
}

async fn a_check_whose_caller_disconnects_is_charged(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app.admin(), app.address()).await;
    team.upstream.push(no_model_list());
    team.upstream.push(Script::new().keep_open());
    let caller = app.admin().open(Request::new("POST", &path(&team))).await.unwrap();
    team.upstream.request(1).await;
    caller.hang_up();
    let row = requests(&app, &team, 1).await.swap_remove(0);
    let actual = (&row["route"], &row["outcome"], &row["status"], &row["usage_source"]);
    let expected = (&"check".into(), &"caller_left".into(), &Value::Null, &"estimated".into());
    assert_eq!(actual, expected, "{row}");
    assert!(nanos(&row["cost_usd"]) > 0, "{row}");
}

async fn a_check_in_a_killed_process_is_lost(database: Database) {
    let mut gateway = ServerProcess::start(&database, &[]).await;
    let team = priced(&gateway.admin(), gateway.address()).await;
    team.upstream.push(no_model_list());
    team.upstream.push(Script::new().keep_open());
    let caller = gateway.admin().open(Request::new("POST", &path(&team))).await.unwrap();
    let received = team.upstream.request(1).await;
    gateway.kill().await;
    drop(caller);
    gateway.start_again().await;
    let mut page = Value::Null;
    eventually("the row is there", async || {
        page = gateway.admin().get(&team.path("requests")).await.expect(200).json();
        page["data"].as_array().is_some_and(|all| all.len() == 1)
    })
    .await;
    let row = &page["data"][0];
    assert_eq!((&row["route"], &row["outcome"]), (&"check".into(), &"lost".into()), "{row}");
    let prompt = received.body.len() as u64;
    let most = Usage { prompt, completion: 1, cached: 0, reasoning: 1 };
    assert_eq!(nanos(&row["cost_usd"]), RATES.bill(most), "as reserved: {row}");
}
