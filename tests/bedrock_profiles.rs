//! Application inference profiles of Bedrock, whose ARNs say nothing of their models.

use serde_json::{Value, json};

use crate::bedrock::{
    CLAUDE, NOVA, SECRET, STREAM, conversed, events_of_claude, is_error, is_signed,
    message_to_claude, start_with_key, stream,
};
use crate::support::{
    case::{Case, cases},
    database::Database,
    event_stream::invoked,
    ledger_rows::last_row,
    policies::{self, spend_cap},
    script::Script,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![a_profile_stands_for_a_model]
}

async fn a_profile_stands_for_a_model(database: Database) {
    let (app, team) = start_with_key(&database).await;
    let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123";
    let in_path = arn.replace(':', "%3A").replace('/', "%2F");
    let route = |method: &str| format!("/bedrock/model/{in_path}/{method}");
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    let cap = spend_cap(&app.admin(), "cap", &workspace, ("monthly", 100_000_000)).await;
    let caller = team.caller();
    let answer = caller.post_json(&route("invoke"), &message_to_claude()).await;
    is_error(&answer, 402, "price_unknown");

    let models = json!({"models": {arn: CLAUDE}});
    app.admin().put("/api/v1/provider-settings/bedrock", &models).await.expect(200);
    let mut answer = answer_of_claude();
    answer["usage"]["cache_creation_input_tokens"] = 8.into();
    team.upstream.push(Script::json(200, &answer));
    caller.post_json(&route("invoke"), &message_to_claude()).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), format!("/model/{in_path}/invoke"));
    assert_eq!(sent.body, message_to_claude().to_string());
    is_signed(&sent, SECRET);
    let row = last_row(&app, 2).await;
    // As of Claude: what is written to the cache costs more.
    assert_eq!(row.cost, Some(10 * 1_000 + 8 * 1_250 + 7 * 2_000), "{row:?}");
    policies::has_spent(&app.admin(), &cap, 34_000).await;
    let whole = invoked(&events_of_claude());
    team.upstream.push(stream(&whole, 100).end());
    caller.post_json(&route(STREAM), &message_to_claude()).await.expect(200);
    let row = last_row(&app, 3).await;
    assert_eq!(row.cost, Some(10 * 1_000 + 40 * 100 + 7 * 2_000), "{row:?}");
    // The limits of its body are read.
    let mut large = message_to_claude();
    large["max_tokens"] = 60_000.into();
    let answer = caller.post_json(&route("invoke"), &large).await;
    is_error(&answer, 402, "spend_cap_exceeded");

    // On a unified path it is asked in Claude's format.
    team.upstream.push(Script::json(200, &answer_of_claude()));
    let mut asked = json!({"model": format!("bedrock/{arn}"), "max_tokens": 10,
        "messages": [{"role": "user", "content": "Hello"}]});
    let answer = caller.post_json("/v1/chat/completions", &asked).await.expect(200);
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "Hi");
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), format!("/model/{in_path}/invoke"));
    assert_eq!(sent.json()["anthropic_version"], "bedrock-2023-05-31");
    asked["model"] = format!("bedrock/{NOVA}").into();
    team.upstream.push(conversed());
    caller.post_json("/v1/chat/completions", &asked).await.expect(200);
}

fn answer_of_claude() -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-5-20250929", "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn", "usage": {"input_tokens": 10, "output_tokens": 7}})
}
