//! Requests for models whose providers speak another format, and how they fail: what is refused, what is left
//! out, and errors, answers and streams that are none.

use serde_json::{Value, json};

use crate::conversion::{
    SONNET, chat, claude, claude_events, is_error, messages, named, responses, start,
};
use crate::support::{
    case::{Case, cases},
    connection::BodyEnd,
    database::Database,
    ledger_rows::{self, last_row},
    logs, openai,
    script::{self, Script},
    streams::chat_text,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_model_id_with_dot_segments_gets_400,
        what_can_not_be_converted_is_refused,
        what_is_left_out_is_named,
        nova_thinks_hardest_without_a_limit,
        errors_come_in_the_callers_envelope,
        a_broken_stream_has_no_mark_of_success,
        a_broken_answer_is_an_error,
        an_error_told_with_success_is_an_error,
        an_answer_that_cannot_be_converted_ends_at_once,
        a_break_after_the_end_is_no_loss,
    ]
}

async fn what_can_not_be_converted_is_refused(database: Database) {
    let (_app, team) = start(&database).await;
    let caller = team.caller();
    for (request, field) in [
        (chat(SONNET, json!({"n": 2})), "n"),
        (chat(SONNET, json!({"logit_bias": {"1": 5}})), "logit_bias"),
        (responses(SONNET, json!({"previous_response_id": "resp_1"})), "previous_response_id"),
        (responses("gemini/gemini-2.5-flash", json!({"background": true})), "background"),
        // Claude can't be made to call a tool while it thinks within a budget.
        (
            chat(
                SONNET,
                json!({"reasoning_effort": "low", "max_tokens": 4096, "tool_choice": "required",
                    "tools": [{"type": "function", "function": {"name": "look"}}]}),
            ),
            "tool_choice",
        ),
    ] {
        let error = is_error(&caller.send(request).await, 400, "unsupported_parameter");
        assert_eq!(error["param"], field, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(field) && message.contains("model"), "{message}");
    }
    let answer =
        caller.send(messages("openai/gpt-5", json!({"messages": [{"role": "user"}]}))).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["type"]),
        (400, &json!("invalid_request_error"))
    );
    assert_eq!(team.upstream.seen().requests.len(), 0);
}

async fn what_is_left_out_is_named(database: Database) {
    let (_app, team) = start(&database).await;
    let more = json!({"seed": 1, "n": 1, "new field,": {"a": 1}});
    team.upstream.push(Script::json(200, &claude("Morning.")));
    let answer = team.caller().send(chat(SONNET, more.clone())).await.expect(200);
    let dropped = answer.header("x-tollgate-dropped").unwrap();
    let mut names: Vec<&str> = dropped.split(',').collect();
    names.sort_unstable();
    assert_eq!(names, ["new%20field%2C", "seed"]);
    let strict = chat(SONNET, json!({"seed": 1})).header("x-tollgate-strict", "true");
    let error = is_error(&team.caller().send(strict).await, 400, "unsupported_parameter");
    assert_eq!(error["param"], "seed");
    // So it is for all callers of a configuration that says so.
    let own = json!({"provider": "anthropic_compatible", "strict_conversion": true});
    team.configure("strict", own).await;
    let asked = chat("custom/strict", json!({"seed": 1}));
    is_error(&team.caller().send(asked).await, 400, "unsupported_parameter");
    team.upstream.push(Script::json(200, &claude("Morning.")));
    let answer = team.caller().send(chat(SONNET, json!({"n": 1}))).await.expect(200);
    assert_eq!(answer.header("x-tollgate-dropped"), None);
}

async fn nova_thinks_hardest_without_a_limit(database: Database) {
    let (_app, team) = start(&database).await;
    let said = json!({"output": {"message": {"role": "assistant", "content": [{"text": "Morning."}]}},
        "stopReason": "end_turn", "usage": {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12}});
    for (more, effort, dropped) in [
        (json!({"max_tokens": 100, "temperature": 0.5}), "medium", "reasoning_effort"),
        (json!({"temperature": 0.5, "top_p": 1}), "high", "temperature"),
    ] {
        team.upstream.push(Script::json(200, &said));
        let mut request = json!({"reasoning_effort": "high"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let model = "bedrock/us.amazon.nova-2-lite-v1:0";
        let answer = team.caller().send(chat(model, request)).await.expect(200);
        assert_eq!(answer.header("x-tollgate-dropped"), Some(dropped), "{more}");
        let sent = team.upstream.last_request().json();
        let config = &sent["additionalModelRequestFields"]["reasoningConfig"];
        assert_eq!(config["maxReasoningEffort"], effort, "{sent}");
        let expected = match effort {
            "high" => Value::Null,
            _ => json!({"maxTokens": 100, "temperature": 0.5}),
        };
        assert_eq!(sent["inferenceConfig"], expected, "{sent}");
    }
}

async fn errors_come_in_the_callers_envelope(database: Database) {
    let (_app, team) = start(&database).await;
    let claude_error =
        |kind: &str| json!({"type": "error", "error": {"type": kind, "message": "No."}});
    let script = |status, body: &Value| {
        let text = body.to_string();
        Script::new().sized(
            status,
            &[
                ("content-type", "application/json"),
                ("retry-after", "7"),
                ("anthropic-ratelimit-requests-remaining", "3"),
            ],
            text,
        )
    };
    team.upstream.push(script(429, &claude_error("rate_limit_error")));
    let answer = team.caller().send(chat(SONNET, json!({}))).await;
    let error = is_error(&answer, 429, "rate_limit_error");
    assert_eq!((&error["message"], &error["type"]), (&json!("No."), &json!("rate_limit_error")));
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("3"));
    assert_eq!(answer.header("anthropic-ratelimit-requests-remaining"), None);
    team.upstream.push(script(529, &claude_error("overloaded_error")));
    assert_eq!(team.caller().send(responses(SONNET, json!({}))).await.status, 503);

    let google = json!([{"error": {"code": 503, "message": "Busy.", "status": "UNAVAILABLE"}}]);
    team.upstream.push(script(503, &google));
    let answer = team.caller().send(messages("gemini/gemini-2.5-flash", json!({}))).await;
    assert_eq!(answer.status, 529, "{}", answer.text());
    let body = answer.json();
    assert_eq!(
        (&body["type"], &body["error"]["type"]),
        (&json!("error"), &json!("overloaded_error"))
    );
    assert_eq!(body["error"]["message"], "Busy.");
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));

    let unauthorized = json!({"error": {"message": "Bad key.", "code": "invalid_api_key"}});
    team.upstream.push(Script::json(401, &unauthorized));
    let answer = team.caller().send(messages("openai/gpt-5", json!({}))).await;
    assert_eq!(answer.status, 502);
    let body = answer.json();
    assert_eq!(body["error"]["code"], "provider_credential_refused");
    assert!(body["error"]["message"].as_str().unwrap().contains("OPENAI_API_KEY"), "{body}");

    let too_long =
        json!({"error": {"message": "Too many tokens.", "code": "context_length_exceeded"}});
    team.upstream.push(Script::json(400, &too_long));
    let body = team.caller().send(messages("openai/gpt-5", json!({}))).await.expect(400).json();
    assert_eq!(body["error"]["message"], "prompt is too long: Too many tokens.");
}

/// What callers of each format take for the end of a good stream.
const MARKS: [&str; 3] = ["[DONE]", "response.completed", "message_stop"];

async fn a_broken_stream_has_no_mark_of_success(database: Database) {
    let (app, team) = start(&database).await;
    let all: Vec<String> = claude_events(&["Mor", "ning."]).iter().map(named).collect();
    let streamed = json!({"stream": true});
    let requests = || [chat(SONNET, streamed.clone()), responses(SONNET, streamed.clone())];
    let mut count = 0;
    for cut in [1, 4, all.len() - 1] {
        for request in requests() {
            team.upstream.push(Script::sse_head().chunks(all[..cut].to_vec()).end());
            let answer = team.caller().send(request).await;
            let text = answer.text();
            assert!(MARKS.iter().all(|mark| !text.contains(mark)), "{text}");
            assert!(text.contains("error"), "{text}");
            assert_ne!(answer.ending, BodyEnd::Complete, "{text}");
            count += 1;
            let row = last_row(&app, count).await;
            assert_eq!(row.outcome, "upstream_broke", "{row:?}");
        }
    }
    // The provider's own error.
    let overloaded =
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}});
    for request in requests() {
        let mut told = all[..4].to_vec();
        told.push(named(&overloaded));
        team.upstream.push(Script::sse_head().chunks(told).end());
        let text = team.caller().send(request).await.text();
        assert!(text.contains("Busy.") && MARKS.iter().all(|mark| !text.contains(mark)), "{text}");
    }
    let events = openai::response_events(&["Mor", "ning."], openai::Usage::USUAL);
    let cut = events[..events.len() - 1].to_vec();
    team.upstream.push(Script::sse_head().chunks(cut).end());
    let text = team.caller().send(messages("openai/gpt-5", streamed)).await.text();
    assert!(text.contains("event: error") && !text.contains("message_stop"), "{text}");
}

async fn a_broken_answer_is_an_error(database: Database) {
    let (app, team) = start(&database).await;
    let body = claude("Morning.").to_string();
    let half = body[..body.len() / 2].to_owned();
    let head: &[(&str, &str)] = &[("content-type", "application/json")];
    for script in [
        Script::new().sized_head(200, head, body.len()).raw(half.clone()).reset(),
        Script::new().sized(200, head, half.clone()),
        Script::new().sized(200, head, "<html>"),
        Script::new().sized(200, &[("content-encoding", "gzip")], half),
    ] {
        team.upstream.push(script);
        let answer = team.caller().send(chat(SONNET, json!({}))).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(answer.json()["error"]["type"], "upstream_error");
        assert_eq!(answer.ending, BodyEnd::Complete);
    }
    let rows = ledger_rows::rows_at_least(app.database(), 4).await;
    assert!(rows.iter().all(|row| row.outcome != "completed"), "{rows:?}");
    // The provider has answered, and charges for it.
    assert!(rows.iter().all(|row| row.cost > Some(0)), "{rows:?}");
}

async fn an_error_told_with_success_is_an_error(database: Database) {
    let (app, team) = start(&database).await;
    // The provider quotes what the model wrote, which is the caller's and nobody else's.
    let quoted = format!("call of {}", team.caller_key_id);
    let candidate =
        json!({"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": quoted, "index": 0});
    let blocked = json!({"candidates": [candidate],
        "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}});
    team.upstream.push(Script::json(200, &blocked));
    let answer = team.caller().send(chat("gemini/gemini-2.5-flash", json!({}))).await;
    let error = is_error(&answer, 502, "upstream_error");
    assert!(error["message"].as_str().unwrap().contains(&quoted), "{error}");
    // Flushes the log.
    app.platform().get("/metrics").await.expect(200);
    assert_eq!(logs::lines_with(&quoted), Vec::<String>::new());
}

async fn an_answer_that_cannot_be_converted_ends_at_once(database: Database) {
    let (app, team) = start(&database).await;
    let mut all: Vec<String> = claude_events(&["Mor", "ning."]).iter().map(named).collect();
    all[3] =
        "event: content_block_delta\ndata: {\"type\": \"content_block_delta\", nothing\n\n".into();
    // The provider would go on writing.
    team.upstream.push(Script::sse_head().chunks(all[..4].to_vec()).keep_open());
    let answer = team.caller().send(chat(SONNET, json!({"stream": true}))).await;
    let text = answer.text();
    assert!(text.contains("Mor") && text.contains("error"), "{text}");
    assert!(MARKS.iter().all(|mark| !text.contains(mark)), "{text}");
    assert_ne!(answer.ending, BodyEnd::Complete, "{text}");
    let row = last_row(&app, 1).await;
    assert_eq!(row.outcome, "upstream_broke", "{row:?}");
    assert!(row.cost > Some(0), "{row:?}");
}

async fn a_break_after_the_end_is_no_loss(database: Database) {
    let (app, team) = start(&database).await;
    let part = |text: &str, end: Value| {
        json!({"candidates": [{"index": 0, "finishReason": end,
            "content": {"role": "model", "parts": [{"text": text}]}}],
            "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}})
    };
    let said = [part("Mor", Value::Null), part("ning.", json!("STOP"))].map(script::data);
    team.upstream.push(Script::sse_head().chunks(said).reset());
    let request = chat("gemini/gemini-2.5-flash", json!({"stream": true}));
    let answer = team.caller().send(request).await.expect(200);
    assert_eq!(chat_text(&answer.text()), "Morning.");
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    assert_eq!(answer.ending, BodyEnd::Complete);
    let row = last_row(&app, 1).await;
    assert_eq!((row.outcome.as_str(), row.output_tokens), ("completed", Some(2)), "{row:?}");
}

/// Such a name may end in the path of a request, where it would lead to another model than the one whose
/// price counts.
async fn a_model_id_with_dot_segments_gets_400(database: Database) {
    let (_app, team) = start(&database).await;
    team.configure("any", json!({"provider": "bedrock", "model": null})).await;
    for model in [
        "bedrock/global.anthropic.claude-haiku-4-5/../global.anthropic.claude-opus-4-6-v1",
        "bedrock/global.anthropic.claude-haiku-4-5/%2e%2e/global.anthropic.claude-opus-4-6-v1",
        "bedrock/global.anthropic.claude-haiku-4-5\\..\\x",
        "custom/any/global.anthropic.claude-haiku-4-5/../global.anthropic.claude-opus-4-6-v1",
        "gemini/gemini-2.5-flash/../gemini-2.5-pro",
    ] {
        is_error(&team.caller().send(chat(model, json!({}))).await, 400, "invalid_model_id");
    }
    assert_eq!(team.upstream.seen().requests.len(), 0);
}
