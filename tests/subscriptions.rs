//! Callers who pay Anthropic by a subscription of their own: only where the organization allows it, only to
//! Anthropic, and never in a log or in the database.

use serde_json::{Value, json};

use crate::data_policy::{EMAIL, guard};
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows,
    policies::{self, rate_limit, spend_cap},
    script::{Pause, Script},
    secrets,
    upstream::ScriptedUpstream,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_subscription_goes_up_in_place_of_the_stored_key,
        without_the_setting_it_stays_here,
        it_goes_to_anthropic_only,
        spend_caps_do_not_count_it_and_other_policies_do,
        a_cap_may_count_them_at_their_list_price,
        a_refused_subscription_is_the_callers_to_see,
        a_guard_applies_and_the_bearer_is_stored_nowhere,
    ]
}

const BEARER: &str = "sk-ant-oat-of-the-user-alone";
const STORED: &str = "sk-ant-of-the-workspace";
const SETTINGS: &str = "/api/v1/provider-settings/anthropic";

async fn start(database: &Database) -> (TestApp, Fixture) {
    for secret in [BEARER, STORED] {
        secrets::register(secret);
    }
    let upstream = ScriptedUpstream::start().await;
    let origin = upstream.origin();
    let origins = format!("anthropic={origin}/anthropic,openai={origin}/openai");
    let app = TestApp::with(database, &["--provider-origin", &origins]).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    (app, team)
}

async fn allow(app: &TestApp) {
    let settings = json!({"subscription_pass_through": true});
    app.admin().put(SETTINGS, &settings).await.expect(200);
}

/// As Claude Code sends it: the gateway's key beside the user's own bearer.
fn asks(team: &Fixture, path: &str, body: &Value) -> Request {
    Request::post_json(path, body)
        .header("x-api-key", &team.caller_key)
        .header("authorization", &format!("Bearer {BEARER}"))
        .header("anthropic-beta", "oauth-2025-04-20")
}

fn question() -> Value {
    json!({"model": "claude-sonnet-4-5", "max_tokens": 50,
        "messages": [{"role": "user", "content": "Good morning?"}]})
}

const MESSAGES: &str = "/anthropic/v1/messages";

fn answer() -> Script {
    Script::json(
        200,
        &json!({"id": "msg_1", "type": "message", "role": "assistant",
            "model": "claude-sonnet-4-5", "content": [{"type": "text", "text": "Hi"}],
            "stop_reason": "end_turn", "usage": {"input_tokens": 1000, "output_tokens": 100}}),
    )
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

async fn a_subscription_goes_up_in_place_of_the_stored_key(database: Database) {
    let (app, team) = start(&database).await;
    allow(&app).await;
    // No secret is needed for it.
    team.upstream.push(answer());
    app.anonymous().send(asks(&team, MESSAGES, &question())).await.expect(200);
    let sent = team.upstream.last_request();
    let bearer = format!("Bearer {BEARER}");
    for (name, value) in [
        ("authorization", Some(bearer.as_str())),
        ("x-api-key", None),
        ("anthropic-beta", Some("oauth-2025-04-20")),
        ("anthropic-version", Some("2023-06-01")),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
    team.put_secret("ANTHROPIC_API_KEY", STORED).await;
    team.upstream.push(answer());
    app.anonymous().send(asks(&team, MESSAGES, &question())).await.expect(200);
    assert_eq!(team.upstream.last_request().header("x-api-key"), None);
    let rows = ledger_rows::rows_at_least(app.database(), 2).await;
    assert_eq!((rows[1].input_tokens, rows[1].output_tokens), (Some(1000), Some(100)));
    let listed = app.admin().get(&team.path("requests")).await.expect(200).json();
    let row = &listed["data"][0];
    assert_eq!((&row["cost_usd"], &row["cost_kind"]), (&json!(0), &json!("subscription")), "{row}");
    // Without a bearer of their own, callers use the stored key.
    team.upstream.push(answer());
    team.caller().post_json(MESSAGES, &question()).await.expect(200);
    assert_eq!(team.upstream.last_request().header("x-api-key"), Some(STORED));
    ledger_rows::rows_at_least(app.database(), 3).await;
    let listed = app.admin().get(&team.path("requests")).await.expect(200).json();
    assert_eq!(listed["data"][0]["cost_kind"], "metered");
}

async fn without_the_setting_it_stays_here(database: Database) {
    let (app, team) = start(&database).await;
    let refused = app.anonymous().send(asks(&team, MESSAGES, &question())).await;
    assert_eq!((refused.status, code(&refused).as_str()), (400, "provider_secret_missing"));
    team.put_secret("ANTHROPIC_API_KEY", STORED).await;
    team.upstream.push(answer());
    app.anonymous().send(asks(&team, MESSAGES, &question())).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!((sent.header("x-api-key"), sent.header("authorization")), (Some(STORED), None));
    let own = team.path("provider-settings/anthropic");
    app.admin().put(&own, &json!({"subscription_pass_through": true})).await.expect(422);
}

async fn it_goes_to_anthropic_only(database: Database) {
    let (app, team) = start(&database).await;
    allow(&app).await;
    team.put_secret("OPENAI_API_KEY", STORED).await;
    team.configure("claude", json!({"provider": "anthropic", "api_key_name": "OPENAI_API_KEY"}))
        .await;
    for path in ["/openai/v1/chat/completions", "/providers/claude/v1/messages"] {
        team.upstream.push(Script::json(400, &json!({"error": {"message": "no"}})));
        app.anonymous().send(asks(&team, path, &question())).await.expect(400);
        let sent = team.upstream.last_request();
        let headers =
            ["authorization", "x-api-key"].map(|name| sent.header(name).unwrap_or_default());
        assert!(headers.iter().all(|value| !value.contains(BEARER)), "{path}: {headers:?}");
    }
    // A fallback does not get it either: such requests have none.
    team.put_secret("ANTHROPIC_API_KEY", STORED).await;
    let (one, two) = ("claude-sonnet-4-5", "claude-haiku-4-5");
    let target = |model| json!({"type": "provider_model", "provider": "anthropic", "model": model});
    let chain = json!({"triggers": {"status_codes": [529]},
        "chain": {"selector": target(one), "candidates": [target(two)]}});
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    policies::make(&app.admin(), ("model_fallback", "chain"), &workspace, chain).await;
    let before = team.upstream.seen().requests.len();
    team.upstream
        .push(Script::json(529, &json!({"type": "error", "error": {"type": "overloaded_error"}})));
    app.anonymous().send(asks(&team, MESSAGES, &question())).await.expect(529);
    assert_eq!(team.upstream.seen().requests.len(), before + 1);
}

async fn spend_caps_do_not_count_it_and_other_policies_do(database: Database) {
    let (app, team) = start(&database).await;
    allow(&app).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    let cap = spend_cap(&app.admin(), "nothing", &workspace, ("monthly", 0)).await;
    team.upstream.push(answer());
    app.anonymous().send(asks(&team, MESSAGES, &question())).await.expect(200);
    ledger_rows::rows_at_least(app.database(), 1).await;
    assert_eq!(policies::spent(&app.admin(), &cap).await, Some(0));
    rate_limit(&app.admin(), "one", &workspace, &[("requests", "minute", 1)]).await;
    team.upstream.push(answer());
    app.anonymous().send(asks(&team, MESSAGES, &question())).await.expect(200);
    let limited = app.anonymous().send(asks(&team, MESSAGES, &question())).await;
    assert_eq!((limited.status, code(&limited).as_str()), (429, "rate_limit_exceeded"));
    let allowed = json!({"providers": [{"provider": "anthropic", "models": ["claude-haiku-4-5"]}]});
    policies::make(&app.admin(), ("model_access", "small only"), &workspace, allowed).await;
    let denied = app.anonymous().send(asks(&team, MESSAGES, &question())).await;
    assert_eq!((denied.status, code(&denied).as_str()), (403, "model_access_denied"));
}

async fn a_cap_may_count_them_at_their_list_price(database: Database) {
    let (app, team) = start(&database).await;
    allow(&app).await;
    let admin = app.admin();
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    // A request may cost 0.9 mills at most for its answer; the answer below costs 4.5.
    let config = json!({"window": "monthly", "limit_usd": 0.006, "include_subscriptions": true});
    let cap = policies::make(&admin, ("spend_cap", "with them"), &workspace, config).await;
    let key = [("api_key_id", team.caller_key_id.as_str())];
    let other = spend_cap(&admin, "without", &key, ("monthly", 0)).await;
    let ask = async || {
        team.upstream.push(answer());
        app.anonymous().send(asks(&team, MESSAGES, &question())).await
    };
    ask().await.expect(200);
    policies::has_spent(&admin, &cap, 4_500_000).await;
    assert_eq!(policies::spent(&admin, &other).await, Some(0));
    let listed = admin.get(&team.path("requests")).await.expect(200).json();
    let row = &listed["data"][0];
    let costs = (&row["cost_usd"], &row["list_cost_usd"], &row["cost_kind"]);
    assert_eq!(costs, (&json!(0), &json!(0.0045), &json!("subscription")), "{row}");
    ask().await.expect(200);
    let refused = ask().await;
    assert_eq!((refused.status, code(&refused).as_str()), (402, "spend_cap_exceeded"));
    assert!(refused.text().contains("with them"), "{}", refused.text());
    policies::has_spent(&admin, &cap, 9_000_000).await;
    // A cap that begins to count them knows what was spent before.
    let path = format!("{}/{}", policies::POLICIES, other["id"].as_str().unwrap());
    let more =
        json!({"config": {"window": "monthly", "limit_usd": 0.012, "include_subscriptions": true}});
    let changed = admin.patch(&path, &more).await.expect(200).json();
    assert_eq!(policies::spent(&admin, &changed).await, Some(9_000_000));
    let path = format!("{}/{}", policies::POLICIES, cap["id"].as_str().unwrap());
    admin.delete(&path).await.success();
    ask().await.expect(200);
    let refused = ask().await;
    assert_eq!((refused.status, code(&refused).as_str()), (402, "spend_cap_exceeded"));
    // What one stops to count is not in its way.
    let less = json!({"config": {"window": "monthly", "limit_usd": 0}});
    let path = format!("{}/{}", policies::POLICIES, other["id"].as_str().unwrap());
    admin.patch(&path, &less).await.expect(200);
    ask().await.expect(200);
    // A model without a price has no list price.
    let more =
        json!({"config": {"window": "monthly", "limit_usd": 1, "include_subscriptions": true}});
    admin.patch(&path, &more).await.expect(200);
    let mut unknown = question();
    unknown["model"] = "claude-nobody-knows".into();
    let refused = app.anonymous().send(asks(&team, MESSAGES, &unknown)).await;
    assert_eq!((refused.status, code(&refused).as_str()), (402, "price_unknown"));
    // A new process reads the ledger.
    ledger_rows::rows_at_least(app.database(), 7).await;
    let app = app.restart().await;
    let less =
        json!({"config": {"window": "monthly", "limit_usd": 0.018, "include_subscriptions": true}});
    app.admin().patch(&path, &less).await.expect(200);
    let refused = app.anonymous().send(asks(&team, MESSAGES, &question())).await;
    assert_eq!((refused.status, code(&refused).as_str()), (402, "spend_cap_exceeded"));
}

async fn a_refused_subscription_is_the_callers_to_see(database: Database) {
    let (app, team) = start(&database).await;
    allow(&app).await;
    for (status, kind) in [(401, "authentication_error"), (403, "permission_error")] {
        let message = format!("invalid bearer {BEARER}");
        let refusal = json!({"type": "error", "error": {"type": kind, "message": message}});
        team.upstream.push(Script::json(status, &refusal));
        let answer = app.anonymous().send(asks(&team, MESSAGES, &question())).await.expect(status);
        assert_eq!(answer.header("x-tollgate-error"), None);
        assert!(answer.text().contains(kind), "{}", answer.text());
        assert!(!answer.text().contains(BEARER), "{}", answer.text());
    }
}

async fn a_guard_applies_and_the_bearer_is_stored_nowhere(database: Database) {
    let (app, team) = start(&database).await;
    allow(&app).await;
    guard(&app.admin(), &team, json!({"version": 1, "detect": {"pii": true}})).await;
    let mut body = question();
    body["messages"][0]["content"] = format!("Write to {EMAIL}").into();
    let pause = Pause::new();
    team.upstream.push(Script::new().wait(&pause).and(answer()));
    let caller = app.anonymous();
    // The journal has the attempt while it runs.
    let journal = async {
        team.upstream.request(0).await;
        let journal = app.journal_bytes();
        pause.release();
        journal
    };
    let (answered, journal) = tokio::join!(caller.send(asks(&team, MESSAGES, &body)), journal);
    answered.expect(200);
    let sent = team.upstream.last_request();
    assert!(!String::from_utf8_lossy(&sent.body).contains(EMAIL), "{:?}", sent.json());
    assert_eq!(sent.header("authorization"), Some(format!("Bearer {BEARER}").as_str()));
    ledger_rows::rows_at_least(app.database(), 1).await;
    let mut stored: Vec<String> = app.database().dump().await.into_values().flatten().collect();
    let rows = ledger_rows::rows(app.database()).await;
    stored.extend(rows.iter().map(|row| format!("{row:?}")));
    assert!(!stored.iter().any(|row| row.contains(BEARER)));
    let holds = |journal: &[u8], needle: &str| {
        journal.windows(needle.len()).any(|part| part == needle.as_bytes())
    };
    assert!(holds(&journal, "claude-sonnet-4-5"), "{}", String::from_utf8_lossy(&journal));
    assert!(!holds(&journal, BEARER) && !holds(&app.journal_bytes(), BEARER));
}
