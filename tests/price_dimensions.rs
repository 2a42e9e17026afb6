//! What changes the price of a request beside its tokens: service tiers, speed, region, searches of the web,
//! and input that is not in the body.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows::{self, Row},
    openai::{self, Usage},
    policies::spend_cap,
    script::Script,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_faster_tier_costs_its_factor,
        what_has_no_price_is_named_under_a_cap,
        without_a_cap_the_cost_is_unknown,
        anthropics_speed_and_region_have_factors,
        searches_are_reserved_and_charged,
        searches_of_a_stream_that_breaks_off_are_charged_as_allowed,
        openais_searches_are_reserved_and_charged,
        an_unknown_window_bounds_no_stored_input,
    ]
}

const CHAT: &str = "/providers/openai/v1/chat/completions";
const MESSAGES: &str = "/providers/anthropic/v1/messages";
const CENT: i128 = 10_000_000;

/// A workspace with a configuration for each API, whose callers choose the model, and a cap of so many
/// cents.
async fn start(app: &TestApp, cents: Option<i128>) -> Fixture {
    let team = app.workspace().await;
    for name in ["openai", "anthropic"] {
        team.configure(name, json!({"provider": name, "model": null})).await;
    }
    if let Some(cents) = cents {
        let workspace = [("workspace_id", team.workspace_id.as_str())];
        spend_cap(&app.admin(), "the cap", &workspace, ("monthly", cents * CENT)).await;
    }
    team
}

/// A question of 100 tokens of answer at most, with more fields.
fn question(model: &str, more: Value) -> Value {
    let mut body = json!({"model": model, "max_tokens": 100,
        "messages": [{"role": "user", "content": "Good morning?"}]});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    body
}

/// 1,000 tokens in and 10 out.
fn chat_answer() -> Script {
    openai::chat_completion("Hi", Usage { prompt: 1000, completion: 10, cached: 0, reasoning: 0 })
}

/// The same in Anthropic's format, after so many searches.
fn message(model: &str, searches: u64) -> Script {
    let usage = json!({"input_tokens": 1000, "output_tokens": 10,
        "server_tool_use": {"web_search_requests": searches}});
    Script::json(
        200,
        &json!({"id": "msg_1", "type": "message", "role": "assistant", "model": model,
            "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "usage": usage}),
    )
}

async fn last_row(app: &TestApp, count: usize) -> Row {
    let rows = ledger_rows::rows_at_least(app.database(), count).await;
    rows.into_iter().nth(count - 1).unwrap()
}

/// Fails the test unless the answer says that this field has no known price.
#[track_caller]
fn has_no_price(answer: &Answer, field: &str) {
    assert_eq!(answer.status, 402, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("price_unknown"), &json!(field)),
        "{error}"
    );
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("the cap") && message.contains(&format!("'{field}'")), "{message}");
}

async fn a_faster_tier_costs_its_factor(database: Database) {
    let app = TestApp::start(&database).await;
    let team = start(&app, Some(100)).await;
    // The catalogue's price of gpt-5.4: 2.5 and 15 dollars a million, twice as much in fast mode.
    let usual = 1000 * 2_500 + 10 * 15_000;
    for (number, (tier, cost)) in
        [("default", usual), ("flex", usual), ("priority", 2 * usual), ("fast", 2 * usual)]
            .into_iter()
            .enumerate()
    {
        team.upstream.push(chat_answer());
        let body = question("gpt-5.4", json!({"service_tier": tier}));
        team.caller().post_json(CHAT, &body).await.expect(200);
        assert_eq!(last_row(&app, number + 1).await.cost, Some(cost), "{tier}");
    }
}

async fn what_has_no_price_is_named_under_a_cap(database: Database) {
    let app = TestApp::start(&database).await;
    let team = start(&app, Some(100_000)).await;
    let chat = async |more: Value| team.caller().post_json(CHAT, &question("gpt-4o", more)).await;
    has_no_price(&chat(json!({"service_tier": "priority"})).await, "service_tier");
    has_no_price(&chat(json!({"service_tier": "scale"})).await, "service_tier");
    has_no_price(&chat(json!({"web_search_options": {}})).await, "web_search_options");
    has_no_price(&chat(json!({"tools": [{"type": "code_interpreter"}]})).await, "tools");
    let ask = async |more: Value| {
        let answer = team.caller().post_json(MESSAGES, &question("claude-haiku-4-5", more)).await;
        (answer.status, answer.json()["error"]["message"].to_string())
    };
    for (more, field) in [
        (json!({"speed": "fast"}), "'speed'"),
        (json!({"inference_geo": "eu"}), "'inference_geo'"),
        (
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
            "'tools.max_uses'",
        ),
        (
            json!({"mcp_servers": [{"type": "url", "url": "https://a.example", "name": "a"}]}),
            "'mcp_servers'",
        ),
    ] {
        let (status, message) = ask(more).await;
        assert!(status == 402 && message.contains(field), "{status} {message}");
    }
    assert_eq!(team.upstream.seen().requests.len(), 0);
    // A price of the organization can cover it.
    let price = json!({"provider": "openai", "model": "gpt-4o",
        "price": {"input": 1, "output": 2, "priority_factor": 1.5}});
    app.admin().post_json("/api/v1/model-prices", &price).await.expect(201);
    team.upstream.push(chat_answer());
    let blocked = ledger_rows::rows_at_least(app.database(), 8).await.len();
    chat(json!({"service_tier": "priority"})).await.expect(200);
    assert_eq!(last_row(&app, blocked + 1).await.cost, Some((1000 * 1_000 + 10 * 2_000) * 3 / 2));
}

async fn without_a_cap_the_cost_is_unknown(database: Database) {
    let app = TestApp::start(&database).await;
    let team = start(&app, None).await;
    team.upstream.push(chat_answer());
    let body = question("gpt-4o", json!({"service_tier": "priority"}));
    team.caller().post_json(CHAT, &body).await.expect(200);
    let row = last_row(&app, 1).await;
    assert_eq!((row.cost, row.input_tokens), (None, Some(1000)), "{row:?}");
}

async fn anthropics_speed_and_region_have_factors(database: Database) {
    let app = TestApp::start(&database).await;
    let team = start(&app, Some(100)).await;
    // The catalogue's price of claude-opus-5: 5 and 25 dollars a million.
    let usual = 1000 * 5_000 + 10 * 25_000;
    for (number, (more, cost)) in [
        (json!({"speed": "standard", "inference_geo": "global"}), usual),
        (json!({"speed": "fast"}), 2 * usual),
        (json!({"inference_geo": "us"}), usual * 11 / 10),
        (json!({"speed": "fast", "inference_geo": "us"}), usual * 22 / 10),
    ]
    .into_iter()
    .enumerate()
    {
        team.upstream.push(message("claude-opus-5", 0));
        team.caller().post_json(MESSAGES, &question("claude-opus-5", more)).await.expect(200);
        assert_eq!(last_row(&app, number + 1).await.cost, Some(cost));
    }
}

async fn searches_are_reserved_and_charged(database: Database) {
    let app = TestApp::start(&database).await;
    let search =
        json!({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]});
    let body = question("claude-haiku-4-5", search);
    // The window may be read three times: 600,000 tokens at the dearest rate, 2 dollars a million, 100
    // tokens of answer at 5 dollars, and 2 cents of fees.
    let most = 600_000 * 2_000 + 100 * 5_000 + 2 * CENT;
    for (limit, status) in [(most - 1, 402), (most, 200)] {
        let team = start(&app, None).await;
        let workspace = [("workspace_id", team.workspace_id.as_str())];
        spend_cap(&app.admin(), "the cap", &workspace, ("monthly", limit)).await;
        team.upstream.push(message("claude-haiku-4-5", 1));
        let answer = team.caller().post_json(MESSAGES, &body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let row = last_row(&app, 2).await;
    assert_eq!(row.cost, Some(1000 * 1_000 + 10 * 5_000 + 10_000_000), "{row:?}");
}

async fn searches_of_a_stream_that_breaks_off_are_charged_as_allowed(database: Database) {
    let app = TestApp::start(&database).await;
    let team = start(&app, None).await;
    let usage = json!({"input_tokens": 50, "output_tokens": 1,
        "server_tool_use": {"web_search_requests": 0}});
    let begun = json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
        "role": "assistant", "model": "claude-haiku-4-5", "content": [], "usage": usage}});
    let query = json!({"type": "content_block_delta", "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": "{\"query\":\"weather\"}"}});
    let failed =
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}});
    let block = json!({"type": "content_block_start", "index": 0, "content_block": {
        "type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}});
    let event =
        |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    let search = json!({"stream": true,
        "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]});
    for (number, (script, has_searched)) in [
        (
            Script::sse_head()
                .chunk(event(&begun))
                .chunk(event(&block))
                .chunk(event(&query))
                .reset(),
            true,
        ),
        (Script::sse([&begun, &block, &query, &failed].map(event)), true),
        (Script::sse([&begun, &failed].map(event)), false),
    ]
    .into_iter()
    .enumerate()
    {
        team.upstream.push(script);
        let _ = team
            .caller()
            .try_send(Request::post_json(MESSAGES, &question("claude-haiku-4-5", search.clone())))
            .await;
        let cost = last_row(&app, number + 1).await.cost.unwrap();
        assert_eq!(i128::from(cost) >= 2 * CENT, has_searched, "{number}: {cost}");
    }
}

async fn openais_searches_are_reserved_and_charged(database: Database) {
    let app = TestApp::start(&database).await;
    let team = start(&app, Some(10_000)).await;
    const RESPONSES: &str = "/providers/openai/v1/responses";
    let tools =
        json!([{"type": "web_search"}, {"type": "file_search", "vector_store_ids": ["vs_1"]}]);
    let mut asked =
        json!({"model": "gpt-5.4", "input": "Hello", "max_output_tokens": 100, "tools": tools});
    has_no_price(&team.caller().post_json(RESPONSES, &asked).await, "max_tool_calls");
    asked["max_tool_calls"] = 2.into();
    let item = |kind: &str, id: &str| json!({"type": kind, "id": id, "status": "completed"});
    let answer = |status: &str| {
        let output = json!([item("web_search_call", "ws_1"), item("file_search_call", "fs_1"),
            item("web_search_call", "ws_2"),
            {"type": "web_search_call", "id": "ws_3", "status": "completed",
                "action": {"type": "open_page", "url": "https://example.com"}},
            {"type": "message", "role": "assistant",
                "content": [{"type": "output_text", "text": "Not a \"web_search_call\"."}]}]);
        json!({"id": "resp_1", "object": "response", "status": status, "model": "gpt-5.4",
            "output": output, "tools": tools,
            "usage": {"input_tokens": 1000, "output_tokens": 10, "total_tokens": 1010}})
    };
    // The catalogue's price of gpt-5.4, a cent for each search of the web, and a quarter of one for files.
    let cost = 1000 * 2_500 + 10 * 15_000 + 2 * 10_000_000 + 2_500_000;
    team.upstream.push(Script::json(200, &answer("completed")));
    team.caller().post_json(RESPONSES, &asked).await.expect(200);
    assert_eq!(last_row(&app, 2).await.cost, Some(cost));
    let event = |kind: &str, more: Value| {
        let mut event = json!({"type": kind});
        event.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let searched =
        |kind: &str, id: &str| event(&format!("response.{kind}.completed"), json!({"item_id": id}));
    // The second search has no event of its own.
    let events = [
        searched("web_search_call", "ws_1"),
        searched("web_search_call", "ws_1"),
        searched("file_search_call", "fs_1"),
        searched("web_search_call", "ws_3"),
        event("response.output_text.delta", json!({"delta": "Hi"})),
        event("response.completed", json!({"response": answer("completed")})),
    ];
    asked["stream"] = true.into();
    team.upstream.push(Script::sse(events));
    team.caller().post_json(RESPONSES, &asked).await.expect(200);
    assert_eq!(last_row(&app, 3).await.cost, Some(cost));
    // Two calls may cost more than what is left.
    asked["max_tool_calls"] = 1_000_000.into();
    let answer = team.caller().post_json(RESPONSES, &asked).await.expect(402);
    assert_eq!(answer.json()["error"]["code"], "spend_cap_exceeded");
    asked["tools"] = json!([{"type": "code_interpreter", "container": {"type": "auto"}}]);
    has_no_price(&team.caller().post_json(RESPONSES, &asked).await, "tools");
    // A model with another fee has none in the catalogue.
    asked["tools"] = json!([{"type": "web_search"}]);
    asked["model"] = "gpt-4o-mini".into();
    has_no_price(&team.caller().post_json(RESPONSES, &asked).await, "tools");
}

async fn an_unknown_window_bounds_no_stored_input(database: Database) {
    let app = TestApp::start(&database).await;
    let team = start(&app, Some(100_000)).await;
    let price =
        json!({"provider": "openai", "model": "of-nobody", "price": {"input": 1, "output": 2}});
    app.admin().post_json("/api/v1/model-prices", &price).await.expect(201);
    let body = json!({"model": "of-nobody", "input": "Go on", "max_output_tokens": 10,
        "previous_response_id": "resp_1"});
    let path = "/providers/openai/v1/responses";
    let refused = team.caller().post_json(path, &body).await.expect(402).json();
    let message = refused["error"]["message"].as_str().unwrap();
    assert_eq!(refused["error"]["code"], "price_unknown", "{message}");
    assert!(message.contains("context window of model \"of-nobody\""), "{message}");
    let fields = json!({"provider": "openai", "model": "of-nobody", "context_window": 1000});
    team.configure("bounded", fields).await;
    let path = "/providers/bounded/v1/responses";
    team.caller().post_json(path, &body).await.expect(200);
}
