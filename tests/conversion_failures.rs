//! What a provider says of its failure to callers of another format: with a status as long as they have heard
//! nothing, when to try again, and whose account has no money.

use serde_json::{Value, json};

use crate::conversion::{SONNET, chat, claude_events, is_error, messages, named, responses, start};
use crate::support::{
    case::{Case, cases},
    connection::BodyEnd,
    database::Database,
    ledger_rows::last_row,
    openai,
    script::Script,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_stream_that_begins_with_a_failure_has_a_status,
        a_native_stream_stays_as_it_is,
        a_failure_told_with_a_success_status_does_not_quote_the_key,
        limits_are_told_in_the_callers_words,
        the_time_to_try_again_is_told,
        a_provider_without_money_is_not_the_callers_cap,
        refusals_are_explained,
    ]
}

fn overloaded() -> Value {
    json!({"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}})
}

async fn a_stream_that_begins_with_a_failure_has_a_status(database: Database) {
    let (app, team) = start(&database).await;
    let streamed = json!({"stream": true});
    let caller = team.caller();
    // The beginning alone is nothing that the caller hears of.
    let begun = named(&claude_events(&[])[0]);
    let told = |events: Vec<String>, cost| (events, Some(cost));
    for (number, (events, cost)) in [
        told(vec![named(&overloaded())], 0),
        // 60 tokens at 3, 40 at 0.3 and 1 at 15 dollars a million.
        told(vec![begun, named(&overloaded())], 207_000),
    ]
    .into_iter()
    .enumerate()
    {
        team.upstream.push(Script::sse(events));
        let answer = caller.send(chat(SONNET, streamed.clone())).await;
        let error = is_error(&answer, 503, "overloaded_error");
        assert_eq!(error["message"], "Busy.");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.ending, BodyEnd::Complete);
        let row = last_row(&app, number + 1).await;
        assert_eq!((row.outcome.as_str(), row.cost), ("failed", cost), "{row:?}");
    }
    let mut events = openai::response_events(&["Morning."], openai::Usage::USUAL);
    events.truncate(1);
    let failed = json!({"type": "response.failed", "response": {"id": "resp_1", "status": "failed",
        "error": {"code": "rate_limit_exceeded", "message": "Slow down."}}});
    events.push(named(&failed));
    team.upstream.push(Script::sse(events));
    let answer = caller.send(messages("openai/gpt-5", streamed.clone())).await;
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
    // One that breaks off before there is anything, and a failure whose cause is not told.
    team.upstream.push(Script::sse_head().reset());
    let answer = caller.send(responses(SONNET, streamed.clone())).await;
    is_error(&answer, 502, "upstream_closed");
    let failed = json!({"type": "error", "error": {"type": "api_error", "message": "Oops."}});
    team.upstream.push(Script::sse([named(&failed)]));
    let answer = caller.send(responses(SONNET, streamed)).await;
    is_error(&answer, 502, "upstream_error");
}

async fn a_native_stream_stays_as_it_is(database: Database) {
    let (_app, team) = start(&database).await;
    team.upstream.push(Script::sse([named(&overloaded())]));
    let answer = team.caller().send(messages(SONNET, json!({"stream": true}))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), named(&overloaded()));
}

async fn a_failure_told_with_a_success_status_does_not_quote_the_key(database: Database) {
    let (_app, team) = start(&database).await;
    let key = "key-anthropic_api_key-of-the-team";
    let failure = json!({"type": "error",
        "error": {"type": "api_error", "message": format!("bad key {key}")}});
    team.upstream.push(Script::json(200, &failure));
    let answer = team.caller().send(chat(SONNET, json!({}))).await;
    let error = is_error(&answer, 502, "upstream_error");
    assert_eq!(team.upstream.last_request().header("x-api-key"), Some(key));
    assert_eq!(error["message"], "The provider gave no usable answer: bad key [redacted].");
    let mut events = claude_events(&["Morning."]);
    events.truncate(3);
    events.push(failure);
    team.upstream.push(Script::sse(events.iter().map(named)));
    let answer = team.caller().send(chat(SONNET, json!({"stream": true}))).await.expect(200);
    let masked = format!("bad key {}", "*".repeat(key.len()));
    assert!(answer.text().contains(&masked), "{}", answer.text());
}

/// An error of a provider with these headers.
fn error(status: u16, headers: &[(&str, &str)], body: &Value) -> Script {
    let headers: Vec<_> =
        [("content-type", "application/json")].into_iter().chain(headers.iter().copied()).collect();
    Script::new().sized(status, &headers, body.to_string())
}

async fn limits_are_told_in_the_callers_words(database: Database) {
    let (_app, team) = start(&database).await;
    let told = [
        ("anthropic-ratelimit-tokens-remaining", "9"),
        ("anthropic-ratelimit-input-tokens-remaining", "5"),
        ("anthropic-ratelimit-unified-status", "allowed"),
    ];
    let limited = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "No."}});
    team.upstream.push(error(429, &told, &limited));
    let answer = team.caller().send(chat(SONNET, json!({}))).await;
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), Some("9"));
    assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("anthropic-")));
    team.upstream.push(error(429, &[("x-ratelimit-limit-project-tokens", "9")], &limited));
    let answer = team.caller().send(messages("openai/gpt-5", json!({}))).await;
    assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("x-ratelimit-")));
}

async fn the_time_to_try_again_is_told(database: Database) {
    let (_app, team) = start(&database).await;
    let google = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "No.",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}]}});
    team.upstream.push(error(429, &[], &google));
    let answer = team.caller().send(chat("gemini/gemini-2.5-flash", json!({}))).await;
    is_error(&answer, 429, "RESOURCE_EXHAUSTED");
    assert_eq!(answer.header("retry-after"), Some("35"));
    team.upstream.push(error(429, &[("retry-after-ms", "1200")], &json!({"error": {}})));
    let answer = team.caller().send(messages("openai/gpt-5", json!({}))).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("2")));
}

async fn a_provider_without_money_is_not_the_callers_cap(database: Database) {
    let (_app, team) = start(&database).await;
    let broke = json!({"error": {"message": "Insufficient Balance", "type": "unknown_error"}});
    team.upstream.push(error(402, &[], &broke));
    let answer = team.caller().send(chat(SONNET, json!({}))).await;
    let told = is_error(&answer, 502, "insufficient_quota");
    assert!(told["message"].as_str().unwrap().contains("Insufficient Balance"), "{told}");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
}

async fn refusals_are_explained(database: Database) {
    let (_app, team) = start(&database).await;
    let refused = json!({"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-5", "content": [], "stop_reason": "refusal", "stop_sequence": null,
        "stop_details": {"type": "refusal", "category": "cyber", "explanation": "Against the rules."},
        "usage": {"input_tokens": 9, "output_tokens": 1}});
    team.upstream.push(Script::json(200, &refused));
    let body = team.caller().send(chat(SONNET, json!({}))).await.expect(200).json();
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "content_filter");
    assert_eq!(choice["message"]["refusal"], "Against the rules.");
    team.upstream.push(Script::json(200, &refused));
    let body = team.caller().send(responses(SONNET, json!({}))).await.expect(200).json();
    let part = json!({"type": "refusal", "refusal": "Against the rules."});
    assert_eq!(body["output"][0]["content"][0], part, "{body}");
}
