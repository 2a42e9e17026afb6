//! Providers called by their names, `/{provider}/...`: storing a secret under its usual name is the whole
//! set-up.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tollgate::{
    api::openapi::document, providers::built_in::provider_of_segment, proxy::route::SCOPES,
};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows::{self, last_row},
    openai,
    policies::{self, rate_limit, spend_cap},
    script::Script,
    upstream::ScriptedUpstream,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_stored_secret_is_the_whole_setup,
        paths_are_taken_as_sdks_send_them,
        anthropic_is_called_in_its_own_format,
        a_missing_secret_is_named,
        another_workspaces_secret_is_not_used,
        keys_of_organizations_are_refused,
        the_callers_model_decides_access_price_and_caps,
        a_request_must_name_a_model,
        a_changed_secret_counts_at_once,
        usage_and_requests_tell_the_provider,
        reachability_checks_need_no_key,
        plain no_provider_has_the_name_of_another_path,
    ]
}

const KEY: &str = "sk-built-in-provider";

/// A gateway whose built-in providers are all at the test's upstream, each below a path of its name, and
/// a workspace with `OPENAI_API_KEY`.
async fn start(database: &Database) -> (TestApp, Fixture) {
    let upstream = ScriptedUpstream::start().await;
    let origin = upstream.origin();
    let origins = ["openai", "anthropic", "groq", "fireworks"]
        .map(|name| format!("{name}={origin}/at-{name}"))
        .join(",");
    let app = TestApp::with(database, &["--provider-origin", &origins]).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    team.put_secret("OPENAI_API_KEY", KEY).await;
    (app, team)
}

fn question(model: &str) -> Value {
    json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "Good morning?"}]})
}

fn asks(path: &str, model: &str) -> Request {
    Request::post_json(path, &question(model))
}

const CHAT: &str = "/openai/v1/chat/completions";

/// 1,000 tokens in and 10 out.
fn answer(model: &str) -> Script {
    Script::json(
        200,
        &json!({"id": "c", "object": "chat.completion", "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Good morning."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}}),
    )
}

#[track_caller]
pub(crate) fn is_error(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("x-tollgate-error"), Some("gateway"));
    let body = answer.json();
    assert_eq!(body["error"]["code"], code, "{body}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

async fn a_stored_secret_is_the_whole_setup(database: Database) {
    let (app, team) = start(&database).await;
    team.upstream.push(answer("gpt-4o-mini-2024-07-18"));
    let request = asks(&format!("{CHAT}?a=b"), "gpt-4o-mini")
        .header("openai-organization", "org-of-the-caller")
        .header("x-other", "1");
    let answered = team.caller().send(request).await.expect(200);
    assert_eq!(answered.json()["usage"]["prompt_tokens"], 1000);

    let sent = team.upstream.last_request();
    assert_eq!((sent.path(), sent.query()), ("/at-openai/v1/chat/completions", Some("a=b")));
    assert_eq!(sent.body, question("gpt-4o-mini").to_string());
    let bearer = format!("Bearer {KEY}");
    for (name, value) in [
        ("authorization", Some(bearer.as_str())),
        ("openai-organization", None),
        ("x-api-key", None),
        ("x-other", None),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
    // The catalogue's price of gpt-4o-mini: 0.15 and 0.60 dollars a million.
    let row = last_row(&app, 1).await;
    assert_eq!((row.cost, row.configuration.as_str()), (Some(156_000), "openai"), "{row:?}");
    assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("completed", "provider"));
    // Other cases call the provider, too.
    let request_id = answered.header("x-request-id").unwrap();
    let lines = team.settled_with(&format!("request_id={request_id}"), 1).await;
    lines[0].says(&[("configuration", "openai"), ("operation", "chat_completions")]);

    let usage = openai::Usage { prompt: 12, completion: 2, cached: 0, reasoning: 0 };
    team.upstream.push(openai::chat_stream(&["Hi"], usage, true));
    let mut streamed = question("gpt-4o-mini");
    streamed["stream"] = true.into();
    team.caller().post_json(CHAT, &streamed).await.expect(200);
    let sent = team.upstream.last_request().json();
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
    let row = last_row(&app, 2).await;
    assert_eq!((row.input_tokens, row.output_tokens), (Some(12), Some(2)), "{row:?}");
}

async fn paths_are_taken_as_sdks_send_them(database: Database) {
    let (_app, team) = start(&database).await;
    team.put_secret("FIREWORKS_API_KEY", "fw-key-of-the-team").await;
    team.put_secret("GROQ_API_KEY", "gsk-key-of-the-team").await;
    for (path, upstream_path) in [
        ("/openai/chat/completions", "/at-openai/v1/chat/completions"),
        ("/openai/v1/chat/completions/", "/at-openai/v1/chat/completions"),
        ("/fireworks/v1/chat/completions", "/at-fireworks/inference/v1/chat/completions"),
        ("/fireworks/chat/completions", "/at-fireworks/inference/v1/chat/completions"),
        ("/groq/v1/responses", "/at-groq/openai/v1/responses"),
    ] {
        team.upstream.push(answer("m"));
        team.caller().send(asks(path, "accounts/a/models/m")).await.expect(200);
        assert_eq!(team.upstream.last_request().path(), upstream_path);
    }
    let doubled = team.caller().send(asks("/openai/v1/v1/chat/completions", "m")).await;
    let message = is_error(&doubled, 400, "doubled_version");
    assert!(message.contains("base URL to /openai without it"), "{message}");
    let files = team.caller().send(asks("/openai/v1/files", "m")).await;
    is_error(&files, 501, "unmetered_not_allowed");
    for path in [
        "/openai/v1/chat/completions//",
        "/openai/v1/%2e%2e/admin",
        "/openai/v1/chat%2Fcompletions",
    ] {
        is_error(&team.caller().send(asks(path, "m")).await, 501, "not_served");
    }
    let messages = team.caller().send(asks("/openai/v1/messages", "m")).await;
    let message = messages.json()["error"]["message"].to_string();
    assert_eq!(messages.status, 501, "{message}");
    assert!(message.contains("The provider 'openai' speaks OpenAI's formats"), "{message}");
    let seen = team.upstream.seen().requests.len();
    assert_eq!(seen, 5);
}

async fn anthropic_is_called_in_its_own_format(database: Database) {
    let (app, team) = start(&database).await;
    let missing = team.caller().send(asks("/anthropic/v1/messages", "claude-sonnet-4-5")).await;
    let error = missing.json();
    assert_eq!((missing.status, &error["type"]), (400, &json!("error")), "{error}");
    assert_eq!(error["error"]["code"], "provider_secret_missing", "{error}");
    assert!(error["request_id"].is_string(), "{error}");

    team.put_secret("ANTHROPIC_API_KEY", "sk-ant-of-the-team").await;
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-5-20250929", "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn", "usage": {"input_tokens": 1000, "output_tokens": 100}});
    team.upstream.push(Script::json(200, &message));
    // As Claude Code sends it, with the gateway's key where its own would be.
    let request = asks("/anthropic/v1/messages?beta=true", "claude-sonnet-4-5")
        .header("x-api-key", &team.caller_key)
        .header("anthropic-beta", "context-1m")
        .header("x-claude-code-session-id", "s");
    app.anonymous().send(request).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!((sent.path(), sent.query()), ("/at-anthropic/v1/messages", Some("beta=true")));
    for (name, value) in [
        ("x-api-key", Some("sk-ant-of-the-team")),
        ("authorization", None),
        ("anthropic-version", Some("2023-06-01")),
        ("anthropic-beta", Some("context-1m")),
        ("x-claude-code-session-id", Some("s")),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
    // The catalogue's price of claude-sonnet-4-5: 3 and 15 dollars a million.
    let row = last_row(&app, 1).await;
    assert_eq!(row.cost, Some(1000 * 3_000 + 100 * 15_000), "{row:?}");

    team.upstream.push(Script::json(200, &json!({"input_tokens": 9})));
    let count = asks("/anthropic/v1/messages/count_tokens", "claude-sonnet-4-5");
    team.caller().send(count).await.expect(200);
    assert_eq!(last_row(&app, 2).await.cost, Some(0));
}

async fn a_missing_secret_is_named(database: Database) {
    let (app, team) = start(&database).await;
    let message = is_error(
        &team.caller().send(asks("/groq/v1/chat/completions", "m")).await,
        400,
        "provider_secret_missing",
    );
    assert!(message.contains("'GROQ_API_KEY'") && message.contains("/secrets"), "{message}");
    // Nothing is sent, and nothing is recorded as sent.
    assert_eq!(team.upstream.seen().requests.len(), 0);
    assert_eq!(ledger_rows::rows(app.database()).await.len(), 0);
}

async fn another_workspaces_secret_is_not_used(database: Database) {
    let (app, team) = start(&database).await;
    let other = app.workspace().await;
    is_error(&other.caller().send(asks(CHAT, "m")).await, 400, "provider_secret_missing");
    assert_eq!(team.upstream.seen().requests.len(), 0);
}

async fn keys_of_organizations_are_refused(database: Database) {
    let (app, team) = start(&database).await;
    is_error(&app.admin().send(asks(CHAT, "m")).await, 403, "workspace_key_required");
    is_error(&app.anonymous().send(asks(CHAT, "m")).await, 401, "missing_api_key");
    let (_, viewer) = team.key("WORKSPACE_VIEWER").await;
    is_error(&app.as_key(&viewer).send(asks(CHAT, "m")).await, 403, "permission_denied");
}

async fn the_callers_model_decides_access_price_and_caps(database: Database) {
    let (app, team) = start(&database).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    let allowed = json!({"providers": [{"provider": "openai", "models": ["gpt-4o-mini"]}]});
    policies::make(&app.admin(), ("model_access", "small only"), &workspace, allowed).await;
    is_error(&team.caller().send(asks(CHAT, "gpt-4o")).await, 403, "model_access_denied");
    // `model_configuration` in a policy means configurations, not providers of the same name.
    team.upstream.push(answer("gpt-4o-mini"));
    team.caller().send(asks(CHAT, "gpt-4o-mini")).await.expect(200);
    // The list of models names none.
    team.upstream.push(Script::json(200, &json!({"object": "list", "data": []})));
    team.caller().get("/openai/v1/models").await.expect(200);
    let one = team.caller().get("/openai/v1/models/gpt-4o").await;
    is_error(&one, 403, "model_access_denied");

    let (cap, caller) = (100_000, team.caller());
    spend_cap(&app.admin(), "tiny", &workspace, ("monthly", cap)).await;
    is_error(&caller.send(asks(CHAT, "gpt-4o-mini")).await, 402, "spend_cap_exceeded");
    let small = json!({"providers": [{"provider": "openai", "models": "all"}]});
    let other = app.workspace().await;
    let workspace = [("workspace_id", other.workspace_id.as_str())];
    policies::make(&app.admin(), ("model_access", "all"), &workspace, small).await;
    spend_cap(&app.admin(), "priced only", &workspace, ("monthly", 1_000_000_000)).await;
    other.put_secret("OPENAI_API_KEY", KEY).await;
    let unpriced = other.caller().send(asks(CHAT, "a-model-of-nobody")).await;
    let message = is_error(&unpriced, 402, "price_unknown");
    assert!(message.contains("\"a-model-of-nobody\""), "{message}");
    assert!(!message.contains("configuration"), "{message}");

    rate_limit(&app.admin(), "one", &workspace, &[("requests", "minute", 1)]).await;
    team.upstream.push(answer("gpt-4o-mini"));
    other.caller().send(asks(CHAT, "gpt-4o-mini")).await.expect(200);
    is_error(&other.caller().send(asks(CHAT, "gpt-4o-mini")).await, 429, "rate_limit_exceeded");
}

async fn a_request_must_name_a_model(database: Database) {
    let (_app, team) = start(&database).await;
    for body in [json!({"messages": []}), json!({"model": 5}), json!({"model": ""})] {
        let answer = team.caller().post_json(CHAT, &body).await;
        is_error(&answer, 400, "model_missing");
        assert_eq!(answer.json()["error"]["param"], "model");
    }
    let both = Request::new("POST", CHAT)
        .header("content-type", "application/json")
        .body(r#"{"model":"gpt-4o-mini","Model":"gpt-4o"}"#);
    assert_eq!(team.caller().send(both).await.status, 400);
    let fallbacks = json!({"model": "gpt-4o-mini", "fallbacks": ["gpt-4o"], "messages": []});
    is_error(&team.caller().post_json(CHAT, &fallbacks).await, 400, "model_override");
    assert_eq!(team.upstream.seen().requests.len(), 0);
}

async fn a_changed_secret_counts_at_once(database: Database) {
    let (app, team) = start(&database).await;
    for (number, value) in ["sk-the-second-value", "sk-the-third-value"].into_iter().enumerate() {
        team.put_secret("OPENAI_API_KEY", value).await;
        team.upstream.push(answer("gpt-4o-mini"));
        team.caller().send(asks(CHAT, "gpt-4o-mini")).await.expect(200);
        let bearer = format!("Bearer {value}");
        assert_eq!(team.upstream.last_request().header("authorization"), Some(bearer.as_str()));
        last_row(&app, number + 1).await;
    }
    app.admin().delete(&team.path("secrets/OPENAI_API_KEY")).await.success();
    is_error(&team.caller().send(asks(CHAT, "m")).await, 400, "provider_secret_missing");
}

async fn usage_and_requests_tell_the_provider(database: Database) {
    let (app, team) = start(&database).await;
    team.upstream.push(answer("gpt-4o-mini"));
    team.caller().send(asks(CHAT, "gpt-4o-mini")).await.expect(200);
    last_row(&app, 1).await;
    let listed = app.admin().get(&team.path("requests?provider=openai")).await.expect(200).json();
    let row = &listed["data"][0];
    assert_eq!(
        (&row["provider"], &row["configuration_id"], &row["model"]),
        (&json!("openai"), &Value::Null, &json!("gpt-4o-mini")),
        "{row}"
    );
    let none = app.admin().get(&team.path("requests?provider=groq")).await.expect(200).json();
    assert_eq!(none["data"], json!([]));
    let both = format!("requests?provider=groq&configuration_id={}", team.configuration_id);
    app.admin().get(&team.path(&both)).await.expect(422);

    let report = app.admin().get("/api/v1/usage?group_by=configuration").await.expect(200).json();
    let group = &report["data"][0];
    assert_eq!(
        (&group["configuration_name"], &group["configuration_id"], &group["requests"]),
        (&json!("openai"), &Value::Null, &json!(1)),
        "{group}"
    );
    let filtered = app.admin().get("/api/v1/usage?provider=openai").await.expect(200).json();
    assert_eq!(filtered["total"]["requests"], 1, "{filtered}");
    let count = "tollgate_proxy_requests_total{operation=\"chat_completions\",status=\"200\",\
                 configuration_id=\"openai\"}";
    assert_eq!(app.counter(count).await, 1);
}

async fn reachability_checks_need_no_key(database: Database) {
    let app = TestApp::start(&database).await;
    for path in ["/", "/api/hello", "/anthropic", "/anthropic/api/hello"] {
        let answer = app.anonymous().send(Request::new("HEAD", path)).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    for path in ["/openai", "/anthropic/v1/messages"] {
        let answer = app.anonymous().send(Request::new("HEAD", path)).await;
        assert_eq!(answer.status, 401, "{path}");
    }
    assert_eq!(app.anonymous().get("/").await.status, 404);
}

/// The first segment of a path is either a provider or something else, never both.
async fn no_provider_has_the_name_of_another_path() {
    let document = document();
    let paths = document["paths"].as_object().unwrap().keys();
    let first = |path: &str| path.split('/').nth(1).unwrap_or_default().to_owned();
    let mut segments: BTreeSet<String> = paths.map(|path| first(path)).collect();
    segments.extend(SCOPES.map(str::to_owned));
    // Not in the document.
    segments.insert("docs".to_owned());
    for known in ["api", "v1", "providers", "models", "routes", "healthz", "metrics"] {
        assert!(segments.contains(known), "{known}: {segments:?}");
    }
    for segment in segments {
        assert_eq!(provider_of_segment(&segment), None, "{segment}");
    }
}
