//! Requests for models whose providers speak another format: what goes up, what comes down, and what it
//! costs. Its streams are in `conversion_streams.rs`, and how it fails in `conversion_errors.rs`.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    chain::Chain,
    database::Database,
    event_stream::message,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows::last_row,
    openai,
    policies::{make, spend_cap},
    script::Script,
    streams,
    upstream::ScriptedUpstream,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        chats_reach_claude,
        messages_reach_openai_as_responses,
        responses_reach_gemini,
        chats_reach_models_on_bedrock,
        chains_mix_formats,
        placeholders_are_restored_in_converted_answers,
        caps_count_the_providers_usage,
        thoughts_of_another_family_do_not_reach_a_provider,
        conversions_are_counted,
    ]
}

/// A gateway whose built-in providers are at the test's upstream, and a workspace with their secrets.
pub(crate) async fn start(database: &Database) -> (TestApp, Fixture) {
    let upstream = ScriptedUpstream::start().await;
    let origin = upstream.origin();
    let origins = ["openai", "anthropic", "gemini", "mistral", "bedrock"]
        .map(|name| format!("{name}={origin}/at-{name}"))
        .join(",");
    let app = TestApp::with_stopped_clock(database, &["--provider-origin", &origins]).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    for name in [
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GOOGLE_API_KEY",
        "MISTRAL_API_KEY",
        "AWS_BEARER_TOKEN_BEDROCK",
    ] {
        team.put_secret(name, &format!("key-{}-of-the-team", name.to_lowercase())).await;
    }
    (app, team)
}

const CHAT: &str = "/v1/chat/completions";

pub(crate) fn chat(model: &str, more: Value) -> Request {
    let mut body = json!({"model": model, "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Good morning?"},
    ]});
    add(&mut body, more);
    Request::post_json(CHAT, &body)
}

pub(crate) fn messages(model: &str, more: Value) -> Request {
    let mut body = json!({"model": model, "max_tokens": 100, "system": "Be brief.",
        "messages": [{"role": "user", "content": "Good morning?"}]});
    add(&mut body, more);
    Request::post_json("/v1/messages", &body)
}

pub(crate) fn responses(model: &str, more: Value) -> Request {
    let mut body = json!({"model": model, "instructions": "Be brief.", "input": "Good morning?"});
    add(&mut body, more);
    Request::post_json("/v1/responses", &body)
}

fn add(body: &mut Value, more: Value) {
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
}

/// Claude's answer: 100 tokens in, of which 40 from the cache, and 10 out.
pub(crate) fn claude(text: &str) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929",
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 60, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 0,
            "output_tokens": 10}})
}

/// The same as events.
pub(crate) fn claude_events(parts: &[&str]) -> Vec<Value> {
    let mut message = claude("");
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    message["usage"]["output_tokens"] = 1.into();
    let block = json!({"type": "text", "text": ""});
    let mut events = vec![
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
    ];
    events.extend(parts.iter().map(|part| {
        json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": part}})
    }));
    events.extend([
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": 10}}),
        json!({"type": "message_stop"}),
    ]);
    events
}

pub(crate) fn named(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())
}

pub(crate) const SONNET: &str = "anthropic/claude-sonnet-4-5";

async fn chats_reach_claude(database: Database) {
    let (app, team) = start(&database).await;
    team.upstream.push(Script::json(200, &claude("Morning.")));
    // Keys stay in their order, and numbers as they are.
    let schema = r#"{"type":"object","properties":{"z":{"type":"number","maximum":1.50},"a":{}}}"#;
    let body = format!(
        r#"{{"model":"{SONNET}","messages":[{{"role":"user","content":"Hi"}}],"max_completion_tokens":77,
        "tools":[{{"type":"function","function":{{"name":"look","parameters":{schema}}}}}],"temperature":0.250}}"#
    );
    let request = Request::new("POST", CHAT).header("content-type", "application/json").body(body);
    let answer = team.caller().send(request).await.expect(200);
    let body = answer.json();
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!(SONNET)));
    let choice = &body["choices"][0];
    assert_eq!(choice["message"]["content"], "Morning.");
    assert_eq!(choice["finish_reason"], "stop");
    // Inclusive of the cache, as OpenAI counts.
    assert_eq!(body["usage"]["prompt_tokens"], 100);
    assert_eq!(body["usage"]["prompt_tokens_details"]["cached_tokens"], 40);
    assert_eq!(
        (&body["usage"]["completion_tokens"], &body["usage"]["total_tokens"]),
        (&json!(10), &json!(110))
    );

    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/at-anthropic/v1/messages");
    assert_eq!(sent.header("x-api-key"), Some("key-anthropic_api_key-of-the-team"));
    assert_eq!(sent.header("anthropic-version"), Some("2023-06-01"));
    let body = sent.json();
    assert_eq!((&body["model"], &body["max_tokens"]), (&json!("claude-sonnet-4-5"), &json!(77)));
    let text = String::from_utf8_lossy(&sent.body);
    assert!(text.contains(&format!("\"input_schema\":{schema}")), "{text}");
    assert!(text.contains("0.250"), "{text}");

    // 60 at 3, 40 at 0.3 and 10 at 15 dollars a million.
    let row = last_row(&app, 1).await;
    assert_eq!((row.cost, row.configuration.as_str()), (Some(342_000), "anthropic"), "{row:?}");
    assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("completed", "provider"));
    assert_eq!((row.input_tokens, row.output_tokens), (Some(100), Some(10)));
}

async fn messages_reach_openai_as_responses(database: Database) {
    let (app, team) = start(&database).await;
    let usage = openai::Usage { prompt: 100, completion: 10, cached: 40, reasoning: 0 };
    team.upstream.push(openai::response("Morning.", usage));
    let answer = team.caller().send(messages("openai/gpt-5", json!({}))).await.expect(200);
    let body = answer.json();
    assert_eq!((&body["type"], &body["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(body["content"][0]["text"], "Morning.");
    assert_eq!(body["stop_reason"], "end_turn");
    assert_eq!(
        (&body["usage"]["input_tokens"], &body["usage"]["cache_read_input_tokens"]),
        (&json!(60), &json!(40))
    );
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/at-openai/v1/responses");
    assert_eq!(sent.header("authorization"), Some("Bearer key-openai_api_key-of-the-team"));
    let body = sent.json();
    assert_eq!((&body["model"], &body["max_output_tokens"]), (&json!("gpt-5"), &json!(100)));
    assert_eq!((&body["store"], &body["instructions"]), (&json!(false), &json!("Be brief.")));
    let row = last_row(&app, 1).await;
    assert_eq!((row.input_tokens, row.output_tokens), (Some(100), Some(10)), "{row:?}");
}

fn gemini(parts: Value, finish: &str) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}],
        "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 10, "thoughtsTokenCount": 5, "totalTokenCount": 115},
        "modelVersion": "gemini-2.5-flash", "responseId": "r1"})
}

async fn responses_reach_gemini(database: Database) {
    let (app, team) = start(&database).await;
    let model = "gemini/gemini-2.5-flash";
    team.upstream.push(Script::json(200, &gemini(json!([{"text": "Morning."}]), "STOP")));
    let request = responses(model, json!({"max_output_tokens": 64}));
    let body = team.caller().send(request).await.expect(200).json();
    assert_eq!((&body["object"], &body["status"]), (&json!("response"), &json!("completed")));
    assert_eq!(body["output"][0]["content"][0]["text"], "Morning.");
    // Thoughts are output.
    assert_eq!(
        (&body["usage"]["input_tokens"], &body["usage"]["output_tokens"]),
        (&json!(100), &json!(15))
    );
    assert_eq!(body["usage"]["output_tokens_details"]["reasoning_tokens"], 5);
    let sent = team.upstream.last_request();
    assert_eq!(
        (sent.path(), sent.query()),
        ("/at-gemini/v1beta/models/gemini-2.5-flash:generateContent", None)
    );
    assert_eq!(sent.json()["generationConfig"]["maxOutputTokens"], 64);
    assert_eq!(sent.json()["systemInstruction"]["parts"][0]["text"], "Be brief.");
    let row = last_row(&app, 1).await;
    assert_eq!((row.input_tokens, row.output_tokens), (Some(100), Some(15)), "{row:?}");

    let events = [gemini(json!([{"text": "Mor"}]), ""), gemini(json!([{"text": "ning."}]), "STOP")];
    team.upstream.push(Script::sse(events.iter().map(crate::support::script::data)));
    let answer = team.caller().send(responses(model, json!({"stream": true}))).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/at-gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent");
    assert_eq!(sent.query(), Some("alt=sse"));
    let all = streams::events(&answer.text());
    assert_eq!(all[0]["type"], "response.created");
    let last = all.last().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["output"][0]["content"][0]["text"]),
        (&json!("response.completed"), &json!("Morning."))
    );
}

async fn chats_reach_models_on_bedrock(database: Database) {
    let (_app, team) = start(&database).await;
    let said = json!({"output": {"message": {"role": "assistant", "content": [{"text": "Morning."}]}},
        "stopReason": "end_turn", "usage": {"inputTokens": 100, "outputTokens": 10, "totalTokens": 110}});
    team.upstream.push(Script::json(200, &said));
    let model = "bedrock/amazon.nova-micro-v1:0";
    let body = team.caller().send(chat(model, json!({}))).await.expect(200).json();
    assert_eq!(body["choices"][0]["message"]["content"], "Morning.");
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/at-bedrock/model/amazon.nova-micro-v1%3A0/converse");

    let event = |name: &str, payload: Value| {
        message(&[(":message-type", "event"), (":event-type", name)], &payload.to_string())
    };
    let stream = [
        event("messageStart", json!({"role": "assistant"})),
        event("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": "Mor"}})),
        event("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": "ning."}})),
        event("contentBlockStop", json!({"contentBlockIndex": 0})),
        event("messageStop", json!({"stopReason": "end_turn"})),
        event(
            "metadata",
            json!({"usage": {"inputTokens": 100, "outputTokens": 10, "totalTokens": 110}}),
        ),
    ];
    let head: &[(&str, &str)] = &[("content-type", "application/vnd.amazon.eventstream")];
    team.upstream.push(Script::new().chunked_head(200, head).chunks(stream).end());
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = team.caller().send(chat(model, asked)).await.expect(200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let text = answer.text();
    assert_eq!(streams::chat_text(&text), "Morning.");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let usage = streams::events(&text).pop().unwrap();
    assert_eq!(usage["usage"]["total_tokens"], 110, "{text}");
}

#[track_caller]
pub(crate) fn is_error(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["error"]["code"], code, "{body}");
    body["error"].clone()
}

async fn chains_mix_formats(database: Database) {
    let chain = Chain::start(&database).await;
    let claude_id = chain
        .team
        .configure(
            "claude",
            json!({"provider": "anthropic_compatible", "model": "claude-of-the-team",
                "base_url": chain.others[0].base_url()}),
        )
        .await;
    let claude_target = json!({"type": "model_config", "model_config_id": claude_id});
    let alias = json!({"type": "alias", "alias": "mixed"});
    let targets = json!([chain.target(0), claude_target]);
    chain.save("mixed", json!({"status_codes": [500]}), alias, targets).await.expect(201);
    let down = || Script::json(500, &json!({"error": {"message": "down"}}));
    for (request, text) in [
        (chat("mixed", json!({"seed": 7})), "chat.completion"),
        (responses("mixed", json!({})), "response"),
    ] {
        chain.team.upstream.push(down());
        chain.others[0].push(Script::json(200, &claude("Morning.")));
        let answer = chain.team.caller().send(request).await.expect(200);
        assert_eq!(answer.json()["object"], text);
        assert_eq!(answer.header("x-tollgate-served-by"), Some("custom/claude"));
        let sent = chain.others[0].last_request();
        assert_eq!(
            (sent.path(), &sent.json()["model"]),
            ("/v1/messages", &json!("claude-of-the-team"))
        );
        chain.app.advance(std::time::Duration::from_secs(300));
    }
    // A caller of messages gets Claude's answer as it is, and OpenAI's converted.
    chain.team.upstream.push(openai::chat_completion("Morning.", openai::Usage::USUAL));
    let answer = chain.team.caller().send(messages("mixed", json!({}))).await.expect(200);
    assert_eq!(answer.json()["content"][0]["text"], "Morning.");
    assert_eq!(answer.header("x-tollgate-served-by"), Some("custom/main"));
}

async fn placeholders_are_restored_in_converted_answers(database: Database) {
    let (app, team) = start(&database).await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    let config = json!({"version": 1, "detect": {"pii": ["email"]}, "action": "redact"});
    make(&app.admin(), ("guard", "no addresses"), &subject, config).await;
    let secret = "anna.berg@example.com";
    let said = json!([{"role": "user", "content": format!("Write to {secret}.")}]);
    for stream in [false, true] {
        let echo = |request: &crate::support::upstream::RecordedRequest| {
            let text = request.json()["messages"][0]["content"].to_string();
            let start = text.find("Write to ").unwrap() + "Write to ".len();
            let end = start + text[start..].find('.').unwrap();
            text[start..end].to_owned()
        };
        // The placeholder is known once the request is there.
        team.upstream.push(Script::json(200, &claude("x")));
        let first = chat(SONNET, json!({"messages": said}));
        team.caller().send(first).await.expect(200);
        let sent = team.upstream.last_request();
        assert!(!String::from_utf8_lossy(&sent.body).contains(secret));
        let placeholder = echo(&sent);
        let (left, right) = placeholder.split_at(placeholder.len() / 2);
        let parts = ["I wrote to ", left, right, " today."];
        let script = match stream {
            true => Script::sse(claude_events(&parts).iter().map(named)),
            false => Script::json(200, &claude(&parts.concat())),
        };
        team.upstream.push(script);
        let request = chat(SONNET, json!({"messages": said, "stream": stream}));
        let answer = team.caller().send(request).await.expect(200);
        let text = match stream {
            true => streams::chat_text(&answer.text()),
            false => answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned(),
        };
        assert_eq!(text, format!("I wrote to {secret} today."));
    }
}

async fn caps_count_the_providers_usage(database: Database) {
    let (app, team) = start(&database).await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    // Room for one answer of 100 tokens, but not for Claude's most.
    spend_cap(&app.admin(), "small", &subject, ("monthly", 3_000_000)).await;
    let answer = team.caller().send(chat(SONNET, json!({}))).await;
    is_error(&answer, 402, "spend_cap_exceeded");
    team.upstream.push(Script::json(200, &claude("Morning.")));
    team.caller().send(chat(SONNET, json!({"max_tokens": 100}))).await.expect(200);
    let row = last_row(&app, 2).await;
    assert_eq!(row.cost, Some(342_000), "{row:?}");
}

async fn thoughts_of_another_family_do_not_reach_a_provider(database: Database) {
    let (_app, team) = start(&database).await;
    let foreign = "tollgate.1.google.signature..c2ln";
    let thought = json!({"type": "thinking", "thinking": "Hm.", "signature": foreign});
    let own = json!({"type": "thinking", "thinking": "Aha.", "signature": "own"});
    let text = json!({"type": "text", "text": "Morning."});
    let history = json!([
        {"role": "user", "content": "Good morning?"},
        {"role": "assistant", "content": [thought, text]},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": [own, text]},
        {"role": "user", "content": "And then?"},
    ]);
    for path in ["/v1/messages", "/anthropic/v1/messages"] {
        let model = if path.starts_with("/v1") { SONNET } else { "claude-sonnet-4-5" };
        team.upstream.push(Script::json(200, &claude("Noon.")));
        let body = json!({"model": model, "max_tokens": 100, "messages": history});
        team.caller().post_json(path, &body).await.expect(200);
        let sent = team.upstream.last_request().json();
        let mut expected = history.clone();
        expected[1]["content"] = json!([text]);
        assert_eq!(sent["messages"], expected, "{path}");
    }
}

async fn conversions_are_counted(database: Database) {
    let (app, team) = start(&database).await;
    team.upstream.push(Script::json(200, &claude("Morning.")));
    team.caller().send(chat(SONNET, json!({}))).await.expect(200);
    team.caller().send(chat(SONNET, json!({"n": 2}))).await.expect(400);
    let metrics = app.platform().get("/metrics").await.expect(200).text();
    for result in ["converted", "refused"] {
        let line = format!(
            "tollgate_conversions_total{{from=\"chat_completions\",to=\"messages\",result=\"{result}\"}} 1"
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
}
