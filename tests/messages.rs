//! Anthropic's Messages API on a configuration: what goes up, what comes down, and what it costs.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    connection::BodyEnd,
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows::{Row, last_row},
    policies::{rate_limit, spend_cap},
    script::Script,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_plain_answer_is_charged_to_the_nano_dollar,
        a_stream_passes_unchanged_and_is_charged_once,
        headers_and_query_pass,
        errors_have_anthropics_form,
        policies_refuse_in_anthropics_form,
        a_truncated_stream_is_never_completed,
        an_error_event_is_a_failure,
        counting_tokens_is_free,
        a_configuration_is_called_in_its_own_format,
        a_check_asks_in_the_right_format,
        another_model_cannot_be_chosen,
    ]
}

const NAME: &str = "claude";

/// A workspace with a configuration that speaks messages, and its id.
async fn start(database: &Database) -> (TestApp, Fixture, String) {
    let (app, team) = TestApp::start_with_workspace(database).await;
    let more = json!({"provider": "anthropic_compatible", "model": "claude-test"});
    let id = team.configure(NAME, more).await;
    let path = team.path(&format!("model-configurations/{id}"));
    // Writes to the cache have no price of their own: 1.25 and 2 times the input.
    let price = json!({"price": {"input": 4, "cached_input": 0.4, "output": 20}});
    app.admin().patch(&path, &price).await.expect(200);
    (app, team, id)
}

fn route(rest: &str) -> String {
    format!("/providers/{NAME}/v1/{rest}")
}

fn question(stream: bool) -> Value {
    json!({
        "model": "any", "max_tokens": 100, "stream": stream,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Good morning?"}]}],
        "tools": [{"name": "look_up", "input_schema": {"type": "object"}}],
    })
}

fn asks(stream: bool) -> Request {
    Request::post_json(&route("messages"), &question(stream))
}

/// 10 plain, 40 from the cache, 20 written for five minutes and 30 for one hour.
fn usage() -> Value {
    json!({
        "input_tokens": 10, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        "output_tokens": 7,
    })
}

/// What that costs: a token of input is 4,000 nano-dollars.
const COST: i64 = 10 * 4_000 + 40 * 400 + 20 * 5_000 + 30 * 8_000 + 7 * 20_000;

pub(crate) fn event(kind: &str, mut data: Value) -> String {
    data["type"] = kind.into();
    format!("event: {kind}\ndata: {data}\n\n")
}

/// The events of a stream that calls a tool.
fn events() -> Vec<String> {
    let mut begun = usage();
    begun["output_tokens"] = 1.into();
    let delta = |index: u8, delta: Value| json!({"index": index, "delta": delta});
    vec![
        event(
            "message_start",
            json!({"message": {"id": "msg_1", "role": "assistant", "model": "claude-test",
                "content": [], "usage": begun}}),
        ),
        event(
            "content_block_start",
            json!({"index": 0, "content_block": {"type": "text", "text": ""}}),
        ),
        event("ping", json!({})),
        event(
            "content_block_delta",
            delta(0, json!({"type": "text_delta", "text": "Good morning, "})),
        ),
        ": wait\n\n".to_owned(),
        event(
            "content_block_delta",
            delta(0, json!({"type": "text_delta", "text": "dear caller."})),
        ),
        event("content_block_stop", json!({"index": 0})),
        event(
            "content_block_start",
            json!({"index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "look_up", "input": {}}}),
        ),
        event(
            "content_block_delta",
            delta(1, json!({"type": "input_json_delta", "partial_json": "{\"x\":1}"})),
        ),
        event("content_block_stop", json!({"index": 1})),
        event(
            "message_delta",
            json!({"delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}}),
        ),
        event("message_stop", json!({})),
    ]
}

fn plain() -> Script {
    let content = json!([{"type": "text", "text": "Good morning."},
        {"type": "tool_use", "id": "t", "name": "look_up", "input": {"x": 1}}]);
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude-test", "content": content, "stop_reason": "tool_use", "usage": usage()});
    Script::json(200, &message)
}

/// Fails the test unless the row has the usual usage and cost.
#[track_caller]
fn is_charged(row: &Row) {
    let tokens = (row.input_tokens, row.cached_input_tokens, row.output_tokens);
    assert_eq!(tokens, (Some(100), Some(40), Some(7)), "{row:?}");
    assert_eq!((row.cost, row.usage_source.as_str()), (Some(COST), "provider"), "{row:?}");
    assert_eq!(row.outcome, "completed", "{row:?}");
}

/// Fails the test unless the answer is the gateway's own error in Anthropic's form.
#[track_caller]
fn anthropic_error(answer: &Answer, status: u16, kind: &str, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("x-tollgate-error"), Some("gateway"));
    let body = answer.json();
    assert_eq!(body["type"], "error", "{body}");
    assert_eq!((&body["error"]["type"], &body["error"]["code"]), (&kind.into(), &code.into()));
    assert!(body["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"), "{body}");
}

async fn a_plain_answer_is_charged_to_the_nano_dollar(database: Database) {
    let (app, team, _) = start(&database).await;
    team.upstream.push(plain());
    let answer = team.caller().send(asks(false)).await.expect(200);
    assert_eq!(answer.json()["usage"], usage());
    let sent = team.upstream.last_request();
    assert_eq!((sent.path(), sent.method.as_str()), ("/v1/messages", "POST"));
    assert_eq!(sent.json()["model"], "claude-test");
    is_charged(&last_row(&app, 1).await);

    let row = app.admin().get(&team.path("requests")).await.expect(200).json()["data"][0].clone();
    assert_eq!((&row["route"], &row["cost_usd"]), (&json!("messages"), &json!(0.000536)), "{row}");
    assert_eq!(row["usage"]["cache_write_tokens"], 50, "{row}");
    assert_eq!(row["usage"]["cache_write_1h_tokens"], 30, "{row}");
    let report = app.admin().get("/api/v1/usage").await.expect(200).json();
    assert_eq!(report["total"]["cache_write_1h_tokens"], 30, "{report}");
    assert_eq!(app.counter("tollgate_usage_tokens_total{kind=\"cache_write_1h\"}").await, 30);
}

async fn a_stream_passes_unchanged_and_is_charged_once(database: Database) {
    let (app, team, _) = start(&database).await;
    let whole = events().concat();
    let middle = whole.len() / 2;
    let halves = [whole[..middle].to_owned(), whole[middle..].to_owned()];
    let scripts = [Script::sse(events()), Script::sse([whole.clone()]), Script::sse(halves)];
    for (number, script) in scripts.into_iter().enumerate() {
        team.upstream.push(script);
        let answer = team.caller().send(asks(true)).await.expect(200);
        assert_eq!(answer.text(), whole);
        is_charged(&last_row(&app, number + 1).await);
    }
    assert_eq!(team.upstream.last_request().json().get("stream_options"), None);
}

async fn headers_and_query_pass(database: Database) {
    let (app, team, _) = start(&database).await;
    team.upstream.push(plain());
    let request = Request::post_json(&format!("{}?beta=true", route("messages")), &question(false))
        .header("anthropic-beta", "context-1m")
        .header("anthropic-dangerous-direct-browser-access", "true")
        .header("x-claude-code-session-id", "s")
        .header("x-other", "1");
    team.caller().send(request).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!((sent.path(), sent.query()), ("/v1/messages", Some("beta=true")));
    for (name, value) in [
        ("anthropic-beta", Some("context-1m")),
        ("anthropic-dangerous-direct-browser-access", Some("true")),
        ("anthropic-version", Some("2023-06-01")),
        ("x-claude-code-session-id", Some("s")),
        ("x-other", None),
        ("x-api-key", Some(team.provider_key.as_str())),
        ("authorization", None),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
    // The key of the gateway where Anthropic's SDKs have it, and a place of the configuration's own.
    let more = json!({"provider": "anthropic_compatible", "auth": "bearer"});
    team.configure("bearer", more).await;
    team.upstream.push(plain());
    let request = Request::post_json("/providers/bearer/v1/messages", &question(false))
        .header("x-api-key", &team.caller_key)
        .header("anthropic-version", "2024-01-01");
    app.anonymous().send(request).await.expect(200);
    let sent = team.upstream.last_request();
    let bearer = format!("Bearer {}", team.provider_key);
    assert_eq!(sent.header("authorization"), Some(bearer.as_str()));
    assert_eq!(sent.header("x-api-key"), None);
    assert_eq!(sent.header("anthropic-version"), Some("2024-01-01"));
}

async fn errors_have_anthropics_form(database: Database) {
    let (app, team, _) = start(&database).await;
    let anonymous = app.anonymous();
    let caller = team.caller();
    for path in [route("messages"), route("messages/count_tokens")] {
        let request = Request::post_json(&path, &question(false));
        let answer = anonymous.send(request.clone()).await;
        anthropic_error(&answer, 401, "authentication_error", "missing_api_key");
        let answer = app.as_key(&format!("{}x", team.caller_key)).send(request).await;
        anthropic_error(&answer, 401, "authentication_error", "invalid_api_key");
        let answer = caller.send(Request::new("POST", &path).body("{")).await;
        anthropic_error(&answer, 400, "invalid_request_error", "invalid_json");
    }
    let unknown = Request::post_json("/providers/nobody/v1/messages", &question(false));
    anthropic_error(&caller.send(unknown).await, 404, "not_found_error", "unknown_configuration");
    let batches = Request::post_json(&route("messages/batches"), &question(false));
    anthropic_error(&caller.send(batches).await, 501, "invalid_request_error", "not_served");
    let listing = Request::get("/providers/nobody/v1/models");
    let versioned = listing.clone().header("anthropic-version", "2023-06-01");
    anthropic_error(&caller.send(versioned).await, 404, "not_found_error", "unknown_configuration");
    assert_eq!(caller.send(listing).await.json()["error"]["param"], Value::Null);

    // The upstream's own errors pass as they are.
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"},
        "request_id": "req_1"});
    team.upstream.push(Script::json(529, &error));
    let answer = caller.send(asks(false)).await;
    assert_eq!((answer.status, answer.json()), (529, error));
}

async fn policies_refuse_in_anthropics_form(database: Database) {
    let (app, team, _) = start(&database).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    spend_cap(&app.admin(), "three cents", &workspace, ("monthly", 30_000_000)).await;
    let mut dear = question(false);
    dear["max_tokens"] = 2_000.into();
    let answer = team.caller().post_json(&route("messages"), &dear).await;
    anthropic_error(&answer, 402, "billing_error", "spend_cap_exceeded");
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("request blocked by gateway policies: three cents"), "{message}");
    dear["max_tokens"] = 10.into();
    team.upstream.push(plain());
    team.caller().post_json(&route("messages"), &dear).await.expect(200);

    rate_limit(&app.admin(), "slow", &workspace, &[("requests", "minute", 1)]).await;
    team.upstream.push(plain());
    team.caller().post_json(&route("messages"), &dear).await.expect(200);
    for path in ["messages", "messages/count_tokens"] {
        let answer = team.caller().post_json(&route(path), &dear).await;
        anthropic_error(&answer, 429, "rate_limit_error", "rate_limit_exceeded");
        assert!(answer.header("retry-after").is_some());
    }
}

async fn a_truncated_stream_is_never_completed(database: Database) {
    let (app, team, _) = start(&database).await;
    let begun = events()[..6].to_vec();
    // As HTTP ends a body, and by a broken connection.
    let scripts = [Script::sse(begun.clone()), Script::sse_head().chunks(begun.clone()).close()];
    for (number, script) in scripts.into_iter().enumerate() {
        team.upstream.push(script);
        let (_, mut answer) = team.caller().stream(asks(true)).await;
        let (pieces, end) = answer.rest().await;
        assert!(!matches!(end, BodyEnd::Complete), "{end:?}");
        let relayed: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        let relayed = String::from_utf8(relayed).unwrap();
        let told = relayed.strip_prefix(&begun.concat()).unwrap();
        let told = told.strip_prefix("event: error\ndata: ").unwrap();
        let error: Value = serde_json::from_str(told.trim_end()).unwrap();
        assert_eq!(
            (&error["type"], &error["error"]["type"]),
            (&json!("error"), &json!("api_error"))
        );
        assert_eq!(error["error"]["code"], "upstream_closed");
        assert!(error["request_id"].is_string(), "{error}");
        let row = last_row(&app, number + 1).await;
        let end = (row.outcome.as_str(), row.usage_source.as_str());
        assert_eq!(end, ("upstream_broke", "estimated"), "{row:?}");
        // The input as reported; one token of output was, and five or six were relayed.
        assert_eq!((row.input_tokens, row.cached_input_tokens), (Some(100), Some(40)), "{row:?}");
        let output = row.output_tokens.unwrap();
        assert!((6..=9).contains(&output), "{row:?}");
        let cost = COST + (i64::try_from(output).unwrap() - 7) * 20_000;
        assert_eq!(row.cost, Some(cost), "{row:?}");
    }
}

async fn an_error_event_is_a_failure(database: Database) {
    let (app, team, _) = start(&database).await;
    let error = json!({"error": {"type": "overloaded_error", "message": "Overloaded"}});
    let mut stream = events()[..2].to_vec();
    stream.push(event("error", error));
    team.upstream.push(Script::sse(stream.clone()));
    let answer = team.caller().send(asks(true)).await.expect(200);
    assert_eq!(answer.text(), stream.concat());
    assert_eq!(last_row(&app, 1).await.outcome, "failed");
}

async fn counting_tokens_is_free(database: Database) {
    let (app, team, id) = start(&database).await;
    let path = team.path(&format!("model-configurations/{id}"));
    let defaults =
        json!({"default_parameters": {"temperature": 1, "thinking": {"type": "adaptive"}}});
    app.admin().patch(&path, &defaults).await.expect(200);
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    spend_cap(&app.admin(), "nothing", &workspace, ("monthly", 1)).await;
    team.upstream.push(Script::json(200, &json!({"input_tokens": 2095})));
    let answer = team.caller().post_json(&route("messages/count_tokens"), &question(false)).await;
    assert_eq!(answer.expect(200).json(), json!({"input_tokens": 2095}));
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/v1/messages/count_tokens");
    let body = sent.json();
    assert_eq!((&body["model"], body.get("temperature")), (&json!("claude-test"), None));
    assert_eq!(body["thinking"], json!({"type": "adaptive"}));
    let row = last_row(&app, 1).await;
    assert_eq!((row.outcome.as_str(), row.cost), ("completed", Some(0)), "{row:?}");
    let counted = "tollgate_proxy_duration_seconds_count{operation=\"count_tokens\"}";
    assert_eq!(app.counter(counted).await, 1);
}

async fn a_configuration_is_called_in_its_own_format(database: Database) {
    let (_app, team, _) = start(&database).await;
    let caller = team.caller();
    for path in ["chat/completions", "responses"] {
        let answer = caller.post_json(&route(path), &question(false)).await;
        assert_eq!(answer.status, 501);
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "format_not_served", "{error}");
        assert!(error["message"].as_str().unwrap().contains("/v1/messages"), "{error}");
    }
    for path in ["messages", "messages/count_tokens"] {
        let answer = caller.post_json(&Fixture::route(path), &question(false)).await;
        anthropic_error(&answer, 501, "invalid_request_error", "format_not_served");
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains("/v1/chat/completions"), "{message}");
    }
    assert_eq!(team.upstream.seen().accepted(), 0);
    caller.get(&route("models")).await.expect(200);
    assert_eq!(team.upstream.last_request().header("anthropic-version"), Some("2023-06-01"));
}

async fn a_check_asks_in_the_right_format(database: Database) {
    let (app, team, id) = start(&database).await;
    let path = team.path(&format!("model-configurations/{id}/check"));
    let check = async || app.admin().send(Request::new("POST", &path)).await.expect(200).json();
    let listing =
        json!({"data": [{"type": "model", "id": "claude-test-20260101"}], "has_more": false});
    team.upstream.push(Script::json(200, &listing));
    let found = check().await;
    assert_eq!((&found["ok"], &found["model_listed"]), (&true.into(), &true.into()), "{found}");
    let sent = team.upstream.last_request();
    assert_eq!((sent.path(), sent.query()), ("/v1/models", Some("limit=1000")));
    assert_eq!(sent.header("anthropic-version"), Some("2023-06-01"));

    team.upstream.push(Script::json(404, &json!({})));
    team.upstream.push(plain());
    let found = check().await;
    assert_eq!((&found["ok"], &found["status"]), (&true.into(), &200.into()), "{found}");
    let sent = team.upstream.last_request();
    assert_eq!((sent.path(), &sent.json()["max_tokens"]), ("/v1/messages", &json!(1)));
    assert_eq!(last_row(&app, 1).await.cost, Some(COST));

    let wrong = json!({"base_url": format!("{}/messages", team.upstream.base_url())});
    let answer = app.admin().patch(&path.replace("/check", ""), &wrong).await.expect(422);
    assert!(
        answer.text().contains(&format!("use {}", team.upstream.base_url())),
        "{}",
        answer.text()
    );
}

async fn another_model_cannot_be_chosen(database: Database) {
    let (_app, team, _) = start(&database).await;
    let advisor = json!([{"type": "advisor_20260301", "name": "advisor", "model": "dear"}]);
    for (field, value) in [("fallbacks", json!([{"model": "dear"}])), ("tools", advisor)] {
        let mut body = question(false);
        body[field] = value;
        for path in ["messages", "messages/count_tokens"] {
            let answer = team.caller().post_json(&route(path), &body).await;
            anthropic_error(&answer, 400, "invalid_request_error", "model_override");
        }
    }
    assert_eq!(team.upstream.seen().accepted(), 0);
}
