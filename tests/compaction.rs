//! The compaction of a conversation, which is metered as a response is.

use serde_json::{Value, json};

use crate::{
    proxy_routes::gateway_error,
    support::{
        app::TestApp,
        case::{Case, cases},
        database::Database,
        fixture::Fixture,
        http::Request,
        ledger_rows::last_row,
        policies::{POLICIES, over_cap, spend_cap},
        script::Script,
        two_tenants::text,
    },
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_compaction_is_charged_as_a_response,
        no_limit_in_the_body_lowers_the_reservation,
        defaults_that_it_does_not_have_are_left_out,
        errors_cost_nothing_and_other_apis_have_none,
    ]
}

/// A workspace whose configuration has a price and answers of at most 1,000 tokens.
async fn start(database: &Database) -> (TestApp, Fixture) {
    let (app, team) = TestApp::start_with_workspace(database).await;
    let change = json!({
        "price": {"input": 4, "cached_input": 1, "output": 20},
        "max_output_tokens": 1_000, "context_window": 10_000,
    });
    app.admin().patch(&team.configuration_path(), &change).await.expect(200);
    (app, team)
}

fn asks(more: &Value) -> Request {
    let mut body = json!({"model": "any", "input": [{"role": "user", "content": "Good morning?"}]});
    for (field, value) in more.as_object().into_iter().flatten() {
        body[field] = value.clone();
    }
    Request::post_json(&Fixture::route("responses/compact"), &body)
}

/// In the form that OpenAI documents.
fn compacted() -> Value {
    json!({
        "id": "resp_1", "object": "response.compaction", "created_at": 1_764_967_971,
        "output": [
            {"id": "msg_0", "type": "message", "status": "completed", "role": "user",
                "content": [{"type": "input_text", "text": "Good morning?"}]},
            {"id": "cmp_1", "type": "compaction", "encrypted_content": "gAAAAABpM0Yj-"},
        ],
        "usage": {
            "input_tokens": 139, "input_tokens_details": {"cached_tokens": 39},
            "output_tokens": 438, "output_tokens_details": {"reasoning_tokens": 64},
            "total_tokens": 577,
        },
    })
}

/// What that costs in nano-dollars.
const COST: i64 = 100 * 4_000 + 39 * 1_000 + 438 * 20_000;

async fn a_compaction_is_charged_as_a_response(database: Database) {
    let (app, team) = start(&database).await;
    team.upstream.push(Script::json(200, &compacted()));
    let answer = team.caller().send(asks(&json!({"instructions": "Be brief."}))).await;
    assert_eq!(answer.expect(200).json(), compacted());
    let sent = team.upstream.last_request();
    assert_eq!((sent.method.as_str(), sent.path()), ("POST", "/v1/responses/compact"));
    assert_eq!(sent.json()["model"], Fixture::MODEL);
    let row = last_row(&app, 1).await;
    assert_eq!((row.cost, row.usage_source.as_str()), (Some(COST), "provider"), "{row:?}");
    let tokens = (row.input_tokens, row.cached_input_tokens, row.output_tokens);
    assert_eq!(tokens, (Some(139), Some(39), Some(438)), "{row:?}");
    assert_eq!((row.reasoning_tokens, row.outcome.as_str()), (Some(64), "completed"), "{row:?}");
    let row = app.admin().get(&team.path("requests")).await.expect(200).json()["data"][0].clone();
    assert_eq!(row["route"], "compact_response", "{row}");

    // Without usage, the items of the answer are counted.
    let mut silent = compacted();
    silent["usage"] = Value::Null;
    team.upstream.push(Script::json(200, &silent));
    team.caller().send(asks(&json!({}))).await.expect(200);
    let row = last_row(&app, 2).await;
    assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("completed", "estimated"));
    assert!(row.output_tokens.is_some_and(|tokens| (1..=100).contains(&tokens)), "{row:?}");
}

async fn no_limit_in_the_body_lowers_the_reservation(database: Database) {
    let (app, team) = start(&database).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    // An answer of 1,000 tokens costs two cents.
    let cap = spend_cap(&app.admin(), "two cents", &workspace, ("monthly", 20_000_000)).await;
    for more in [json!({}), json!({"max_output_tokens": 1}), json!({"max_tokens": 1})] {
        over_cap(&team.caller().send(asks(&more)).await, "two cents");
    }
    assert_eq!(team.upstream.seen().accepted(), 0);
    let raised = json!({"config": {"window": "monthly", "limit_usd": 0.022}});
    let path = format!("{POLICIES}/{}", text(&cap, "id"));
    app.admin().patch(&path, &raised).await.expect(200);
    team.upstream.push(Script::json(200, &compacted()));
    team.caller().send(asks(&json!({}))).await.expect(200);
    over_cap(&team.caller().send(asks(&json!({}))).await, "two cents");
}

async fn defaults_that_it_does_not_have_are_left_out(database: Database) {
    let (app, team) = start(&database).await;
    let defaults = json!({"temperature": 1, "max_output_tokens": 5, "prompt_cache_key": "k"});
    let change = json!({"default_parameters": defaults});
    app.admin().patch(&team.configuration_path(), &change).await.expect(200);
    team.upstream.push(Script::json(200, &compacted()));
    team.caller().send(asks(&json!({}))).await.expect(200);
    let sent = team.upstream.last_request().json();
    assert_eq!(sent["prompt_cache_key"], "k");
    assert_eq!((sent.get("temperature"), sent.get("max_output_tokens")), (None, None), "{sent}");
}

async fn errors_cost_nothing_and_other_apis_have_none(database: Database) {
    let (app, team) = start(&database).await;
    let error = json!({"error": {"message": "Unknown model", "type": "invalid_request_error"}});
    team.upstream.push(Script::json(400, &error));
    let answer = team.caller().send(asks(&json!({}))).await;
    assert_eq!((answer.status, answer.json()), (400, error));
    assert_eq!(last_row(&app, 1).await.cost, Some(0));
    team.configure("claude", json!({"provider": "anthropic_compatible"})).await;
    let request = Request::post_json("/providers/claude/v1/responses/compact", &json!({}));
    gateway_error(&team.caller().send(request).await, 501, "format_not_served");
    let other = Request::post_json(&Fixture::route("responses/compact/1"), &json!({}));
    gateway_error(&team.caller().send(other).await, 501, "not_served");
}
