//! Fallback chains whose targets speak different formats, and the policies that hold for conversions of
//! every kind.

use serde_json::{Value, json};

use crate::conversion::{chat, claude, claude_events, is_error, messages, named, responses, start};
use crate::support::{
    case::{Case, cases},
    chain::{Chain, bad, served_by},
    database::Database,
    openai,
    policies::{make, rate_limit},
    script::Script,
    streams::chat_text,
    upstream::{RecordedRequest, ScriptedUpstream},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        every_attempt_is_converted_from_the_guarded_body,
        streams_go_on_with_a_target_of_another_format,
        guards_restore_calls_of_tools,
        access_and_rates_hold_for_conversions,
        the_length_of_answers_has_a_default,
    ]
}

const ADDRESS: &str = "anna.berg@example.com";

/// A chain `mixed` from a target that speaks chat to one that speaks messages.
async fn mixed(database: &Database) -> Chain {
    let chain = Chain::start(database).await;
    let more = json!({"provider": "anthropic_compatible", "model": "claude-of-the-team",
        "base_url": chain.others[0].base_url(), "price": {"input": 1, "output": 2}});
    let id = chain.team.configure("claude", more).await;
    let claude = json!({"type": "model_config", "model_config_id": id});
    let alias = json!({"type": "alias", "alias": "mixed"});
    let targets = json!([chain.target(0), claude]);
    chain.save("mixed", json!({"status_codes": [500]}), alias, targets).await.expect(201);
    chain
}

async fn no_addresses(app: &crate::support::app::TestApp, workspace: &str) {
    let config = json!({"version": 1, "detect": {"pii": ["email"]}, "action": "redact"});
    let subject = [("workspace_id", workspace)];
    make(&app.admin(), ("guard", "no addresses"), &subject, config).await;
}

/// What stands for the address in a text `Write to ....`.
fn placeholder(sent: &RecordedRequest) -> String {
    let text = String::from_utf8_lossy(&sent.body).into_owned();
    assert!(!text.contains(ADDRESS), "{text}");
    let (_, rest) = text.split_once("Write to ").unwrap();
    rest.split_once('.').unwrap().0.to_owned()
}

async fn every_attempt_is_converted_from_the_guarded_body(database: Database) {
    let chain = mixed(&database).await;
    no_addresses(&chain.app, &chain.team.workspace_id).await;
    let request = || {
        let said = json!([{"role": "user", "content": format!("Write to {ADDRESS}.")}]);
        chat("mixed", json!({"messages": said}))
    };
    // The placeholder is known once a request is there.
    chain.team.upstream.push(bad(500));
    chain.others[0].push(Script::json(200, &claude("x")));
    chain.team.caller().send(request()).await.expect(200);
    let first = placeholder(&chain.team.upstream.last_request());
    let second = placeholder(&chain.others[0].last_request());
    assert_eq!(first, second);
    chain.app.advance(std::time::Duration::from_secs(300));
    chain.team.upstream.push(bad(500));
    chain.others[0].push(Script::json(200, &claude(&format!("I wrote to {second}."))));
    let answer = chain.team.caller().send(request()).await.expect(200);
    served_by(&answer, "custom/claude", "2");
    let text = &answer.json()["choices"][0]["message"]["content"];
    assert_eq!(text, &json!(format!("I wrote to {ADDRESS}.")));
}

async fn streams_go_on_with_a_target_of_another_format(database: Database) {
    let chain = mixed(&database).await;
    let streamed = json!({"stream": true});
    let claude = || Script::sse(claude_events(&["Mor", "ning."]).iter().map(named));
    // A status, a stream that ends before it says anything, and one that tells of its failure.
    let error = r#"{"error":{"message":"down","type":"server_error"}}"#;
    for first in [
        bad(500),
        Script::sse_head().chunk(": alive\n\n").reset(),
        Script::sse([crate::support::script::data(error)]),
    ] {
        chain.team.upstream.push(first);
        chain.others[0].push(claude());
        let answer = chain.team.caller().send(chat("mixed", streamed.clone())).await.expect(200);
        served_by(&answer, "custom/claude", "2");
        let text = answer.text();
        // Nothing of the first one, and no sign of life before there is an answer.
        assert!(text.starts_with("data: "), "{text}");
        assert!(!text.contains("alive") && !text.contains("ping"), "{text}");
        assert_eq!(chat_text(&text), "Morning.");
        chain.app.advance(std::time::Duration::from_secs(300));
    }
    // A caller of messages hears the first target converted and the second as it is.
    chain.team.upstream.push(openai::chat_stream(&["Mor", "ning."], openai::Usage::USUAL, true));
    let answer = chain.team.caller().send(messages("mixed", streamed.clone())).await.expect(200);
    assert!(answer.text().contains("event: message_stop"), "{}", answer.text());
    chain.team.upstream.push(bad(500));
    chain.others[0].push(claude());
    let answer = chain.team.caller().send(messages("mixed", streamed)).await.expect(200);
    let expected: String = claude_events(&["Mor", "ning."]).iter().map(named).collect();
    assert_eq!(answer.text(), expected);
}

async fn guards_restore_calls_of_tools(database: Database) {
    let (app, team) = start(&database).await;
    no_addresses(&app, &team.workspace_id).await;
    let asked = format!("Write to {ADDRESS}.");
    let schema = json!({"type": "object", "properties": {"to": {"type": "string"}}});
    let tool = json!({"name": "write", "input_schema": schema});
    let more = json!({"messages": [{"role": "user", "content": asked}], "tools": [tool]});
    let usage = openai::Usage::USUAL;
    team.upstream.push(openai::response("x", usage));
    team.caller().send(messages("openai/gpt-5", more.clone())).await.expect(200);
    let stand_in = placeholder(&team.upstream.last_request());
    let mut response = openai::response_object("completed", Some("x"), Some(usage));
    let arguments = json!({"to": stand_in}).to_string();
    response["output"] = json!([{"type": "function_call", "id": "fc_1", "call_id": "call_1",
        "name": "write", "arguments": arguments, "status": "completed"}]);
    team.upstream.push(Script::json(200, &response));
    let body = team.caller().send(messages("openai/gpt-5", more)).await.expect(200).json();
    assert_eq!(body["content"][0]["input"], json!({"to": ADDRESS}), "{body}");

    let tool = json!({"type": "function", "name": "write", "parameters": schema});
    let more = json!({"input": asked, "tools": [tool]});
    let nova =
        json!({"toolUse": {"toolUseId": "t1", "name": "write", "input": {"to": "STAND-IN"}}});
    let google = json!({"functionCall": {"name": "write", "args": {"to": "STAND-IN"}}});
    for (model, answer) in [
        (
            "gemini/gemini-2.5-flash",
            json!({"candidates": [{"content": {"role": "model", "parts": [google]},
                "finishReason": "STOP", "index": 0}],
                "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3}}),
        ),
        (
            "bedrock/amazon.nova-pro-v1:0",
            json!({"output": {"message": {"role": "assistant", "content": [nova]}},
                "stopReason": "tool_use",
                "usage": {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12}}),
        ),
    ] {
        team.upstream.push(Script::json(200, &answer));
        team.caller().send(responses(model, more.clone())).await.expect(200);
        let stand_in = placeholder(&team.upstream.last_request());
        let answer = answer.to_string().replace("STAND-IN", &stand_in);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        team.upstream.push(Script::json(200, &answer));
        let body = team.caller().send(responses(model, more.clone())).await.expect(200).json();
        let call = body["output"].as_array().unwrap().last().unwrap();
        let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
        assert_eq!(arguments, json!({"to": ADDRESS}), "{body}");
    }
}

async fn access_and_rates_hold_for_conversions(database: Database) {
    let (app, team) = start(&database).await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    let allowed = json!({"providers": [{"provider": "openai", "models": ["gpt-5"]},
        {"provider": "gemini", "models": ["gemini-2.5-flash"]}]});
    make(&app.admin(), ("model_access", "two"), &subject, allowed).await;
    let denied = [
        messages("openai/gpt-4o", json!({})),
        responses("gemini/gemini-3-pro", json!({})),
        responses("bedrock/amazon.nova-pro-v1:0", json!({})),
    ];
    for request in denied {
        let answer = team.caller().send(request).await;
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "model_access_denied");
    }
    rate_limit(&app.admin(), "one", &subject, &[("requests", "minute", 1)]).await;
    team.upstream.push(openai::response("Morning.", openai::Usage::USUAL));
    team.caller().send(messages("openai/gpt-5", json!({}))).await.expect(200);
    let answer = team.caller().send(messages("openai/gpt-5", json!({}))).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    let answer = team.caller().send(responses("gemini/gemini-2.5-flash", json!({}))).await;
    is_error(&answer, 429, "rate_limit_exceeded");
}

async fn the_length_of_answers_has_a_default(database: Database) {
    let (_app, team) = start(&database).await;
    let own = ScriptedUpstream::start().await;
    let more = json!({"provider": "anthropic_compatible", "model": "claude-sonnet-4-5",
        "base_url": own.base_url(), "default_parameters": {"max_tokens": 77}});
    team.configure("limited", more).await;
    let claude_stream = || Script::sse(claude_events(&["x"]).iter().map(named));
    for (model, stream, expected) in [
        ("custom/limited", false, 77),
        // What the catalogue knows, and a plain answer is not waited for that long.
        ("anthropic/claude-sonnet-4-5", true, 64_000),
        ("anthropic/claude-sonnet-4-5", false, 21_333),
        ("anthropic/claude-that-nobody-knows", true, 8_192),
    ] {
        let upstream = if model.starts_with("custom") { &own } else { &team.upstream };
        let script = if stream { claude_stream() } else { Script::json(200, &claude("x")) };
        upstream.push(script);
        team.caller().send(chat(model, json!({"stream": stream}))).await.expect(200);
        assert_eq!(upstream.last_request().json()["max_tokens"], expected, "{model} {stream}");
    }
}
