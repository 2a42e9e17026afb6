//! `/v1/messages/count_tokens` for models whose providers count tokens in a way of their own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::conversion::start;
use crate::support::{
    case::{Case, cases},
    database::Database,
    http::Request,
    ledger_rows::last_row,
    policies::spend_cap,
    script::Script,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![providers_count_in_their_own_ways, what_can_not_be_counted_is_told]
}

fn count(model: &str) -> Request {
    let body = json!({"model": model, "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hi"}]});
    Request::post_json("/v1/messages/count_tokens", &body)
}

async fn providers_count_in_their_own_ways(database: Database) {
    let (app, team) = start(&database).await;
    // It is free.
    let subject = [("workspace_id", team.workspace_id.as_str())];
    spend_cap(&app.admin(), "nothing", &subject, ("monthly", 1)).await;
    let contents = json!([{"role": "user", "parts": [{"text": "Hi"}]}]);
    let system = json!({"parts": [{"text": "Be brief."}]});
    let claude = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    let message = json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1,
        "system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]});
    for (number, (model, answer, path, expected)) in [
        (
            "openai/gpt-5".to_owned(),
            json!({"object": "response.input_tokens", "input_tokens": 8}),
            "/at-openai/v1/responses/input_tokens",
            json!({"model": "gpt-5", "instructions": "Be brief.", "input": [{"type": "message",
                "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]}),
        ),
        (
            "gemini/gemini-2.5-flash".to_owned(),
            json!({"totalTokens": 8}),
            "/at-gemini/v1beta/models/gemini-2.5-flash:countTokens",
            json!({"generateContentRequest": {"model": "models/gemini-2.5-flash",
                "contents": contents, "systemInstruction": system}}),
        ),
        (
            format!("bedrock/{claude}"),
            json!({"inputTokens": 8}),
            "/at-bedrock/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens",
            message,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        team.upstream.push(Script::json(200, &answer));
        let answer = team.caller().send(count(&model)).await.expect(200);
        assert_eq!(answer.json(), json!({"input_tokens": 8}));
        let sent = team.upstream.last_request();
        assert_eq!((sent.path(), sent.query()), (path, None));
        let mut body = sent.json();
        if let Some(data) = body["input"]["invokeModel"]["body"].as_str() {
            body = serde_json::from_slice::<Value>(&STANDARD.decode(data).unwrap()).unwrap();
        }
        assert_eq!(body, expected, "{model}");
        let row = last_row(&app, number + 1).await;
        assert_eq!((row.outcome.as_str(), row.cost), ("completed", Some(0)), "{row:?}");
    }
}

async fn what_can_not_be_counted_is_told(database: Database) {
    let (_app, team) = start(&database).await;
    for model in ["mistral/mistral-large", "bedrock/amazon.nova-pro-v1:0"] {
        let answer = team.caller().send(count(model)).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (501, &json!("format_not_served"))
        );
    }
    assert_eq!(team.upstream.seen().requests.len(), 0);
    // What the provider says of it, in the caller's envelope.
    let busy = json!({"error": {"code": 503, "message": "Busy.", "status": "UNAVAILABLE"}});
    team.upstream.push(Script::json(503, &busy));
    let answer = team.caller().send(count("gemini/gemini-2.5-flash")).await;
    assert_eq!((answer.status, &answer.json()["error"]["message"]), (529, &json!("Busy.")));
    team.upstream.push(Script::json(200, &json!({"tokens": 8})));
    let answer = team.caller().send(count("gemini/gemini-2.5-flash")).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
}
