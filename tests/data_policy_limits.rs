//! Guards at their limits: what they cannot scan, time-outs, long bodies, and conversations that go on.

use serde_json::{Value, json};

use crate::bedrock::conversed;
use crate::data_policy::{EMAIL, USAGE, chat, content, guard, learn, placeholder, says};
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::Request,
    openai,
    policies::refused,
    script::Script,
    secrets,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_scan_that_takes_too_long_does_what_the_policy_says,
        a_long_scan_holds_up_no_other_request,
        a_body_of_the_greatest_length_is_guarded,
        headers_that_go_up_are_scanned,
        stored_state_is_refused_unless_the_policy_allows_it,
        a_stored_prompt_is_refused_unless_the_policy_allows_it,
        media_that_cannot_be_scanned_is_refused_if_the_policy_says_so,
        base64_of_text_is_scanned,
        a_note_tells_the_model_about_placeholders,
        signed_reasoning_keeps_the_placeholders_of_an_earlier_key,
    ]
}

/// All matches of this pattern in capital letters are quadratic in the text.
const FLOOD: &str = "A.*[^A-Z]|A";

pub(crate) fn pii(more: Value) -> Value {
    let mut config = json!({"version": 1, "detect": {"pii": true, "secrets": true},
        "timeout_seconds": 30});
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    config
}

async fn start(database: &Database, config: Value) -> (TestApp, Fixture) {
    secrets::register(EMAIL);
    let (app, team) = TestApp::start_with_workspace(database).await;
    guard(&app.admin(), &team, config).await;
    (app, team)
}

/// The same with providers at the scripted upstream.
pub(crate) async fn with_providers(database: &Database, config: Value) -> (TestApp, Fixture) {
    secrets::register(EMAIL);
    let providers = ["gemini", "anthropic", "openai"];
    let (app, team) = TestApp::in_place_of(database, &providers).await;
    for name in ["GOOGLE_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"] {
        team.put_secret(name, "key-of-the-workspace").await;
    }
    guard(&app.admin(), &team, config).await;
    (app, team)
}

fn thought(body: &Value) -> &Value {
    &body["messages"][1]["content"]
}

async fn a_scan_that_takes_too_long_does_what_the_policy_says(database: Database) {
    let app = TestApp::start(&database).await;
    for action in ["block", "allow"] {
        let config = json!({"version": 1, "timeout_seconds": 0.1, "timeout_action": action,
            "action": "report", "detect": {"custom": [{"name": "flood", "pattern": FLOOD}]}});
        let team = app.workspace().await;
        guard(&app.admin(), &team, config).await;
        let question = says(&"A".repeat(4 << 20));
        team.upstream.push(openai::chat_completion("Fine.", USAGE));
        let answer = team.caller().send(chat(&question)).await;
        if action == "block" {
            refused(&answer, 403, "content_blocked", "No personal data");
            assert!(answer.text().contains("timeout_seconds"), "{}", answer.text());
            assert_eq!(team.upstream.seen().requests.len(), 0);
        } else {
            assert_eq!(content(&answer), "Fine.");
            assert_eq!(team.upstream.last_request().json()["messages"], question["messages"]);
        }
    }
}

/// One worker has them all, and the scan takes its whole budget, which is far more than the other requests
/// need.
async fn a_long_scan_holds_up_no_other_request(database: Database) {
    let app = TestApp::with(&database, &["--workers", "1"]).await;
    let team = app.workspace().await;
    let config = json!({"version": 1, "timeout_seconds": 30, "timeout_action": "allow",
        "action": "report", "detect": {"custom": [{"name": "flood", "pattern": FLOOD}]}});
    guard(&app.admin(), &team, config).await;
    let long = team.caller().open(chat(&says(&"A".repeat(8 << 20)))).await.unwrap();
    for _ in 0..20 {
        team.upstream.push(openai::chat_completion("Fine.", USAGE));
        team.caller().send(chat(&says("Hello"))).await.expect(200);
    }
    let seen = team.upstream.seen().requests;
    assert_eq!(seen.len(), 20);
    assert!(seen.iter().all(|request| request.body.len() < 1000), "the long one is still scanned");
    // Its scan ends with it, so that the gateway can stop.
    long.disconnect(true);
    app.stop().await;
}

async fn a_body_of_the_greatest_length_is_guarded(database: Database) {
    let (_app, team) = start(&database, pii(json!({}))).await;
    let words = "The quick brown fox jumps over the lazy dog. ".repeat((32 << 20) / 45 - 10);
    let question = says(&format!("{words}{EMAIL}"));
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    let request = chat(&question);
    let answer = team.caller().send(request).await.expect(200);
    assert_eq!(content(&answer), "Fine.");
    let sent = team.upstream.last_request();
    let one = placeholder(&team.upstream, "EMAIL");
    assert!(sent.body.len() > 31 << 20 && !sent.body.ends_with(EMAIL.as_bytes()));
    team.upstream.push(openai::chat_completion(&one, USAGE));
    let answer = team.caller().send(chat(&question)).await.expect(200);
    assert_eq!(content(&answer), EMAIL);
}

async fn headers_that_go_up_are_scanned(database: Database) {
    let (_app, team) = start(&database, pii(json!({}))).await;
    for name in ["user-agent", "x-stainless-lang", "openai-beta", "idempotency-key", "tracestate"] {
        let request = chat(&says("Hello")).header(name, EMAIL);
        refused(&team.caller().send(request).await, 403, "content_blocked", "No personal data");
    }
    assert_eq!(team.upstream.seen().requests.len(), 0);
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    let request = chat(&says("Hello"))
        .header("user-agent", "OpenAI/Python 1.99.1")
        .header("x-stainless-runtime-version", "3.12.4")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("x-of-nobody", EMAIL);
    team.caller().send(request).await.expect(200);
}

async fn stored_state_is_refused_unless_the_policy_allows_it(database: Database) {
    let references = [
        json!({"input": "Hello", "previous_response_id": "resp_1"}),
        json!({"input": "Hello", "conversation": {"id": "conv_1"}}),
        json!({"input": [{"type": "item_reference", "id": "msg_1"}]}),
        json!({"input": [{"type": "image_generation_call", "id": "ig_1"}]}),
        json!({"input": "Hello", "tools": [{"type": "file_search", "collection_ids": ["c"]}]}),
    ];
    let app = TestApp::start(&database).await;
    for (config, passes) in [
        (json!({}), false),
        (json!({"scan": {"stored": "allow"}}), true),
        (json!({"action": "report"}), true),
        (json!({"action": "report", "scan": {"stored": "block"}}), false),
    ] {
        let team = app.workspace().await;
        guard(&app.admin(), &team, pii(config)).await;
        for body in &references {
            team.upstream.push(openai::response("Fine.", USAGE));
            let request = Request::post_json(&Fixture::route("responses"), body);
            let answer = team.caller().send(request).await;
            if passes {
                assert_eq!(answer.status, 200, "{}", answer.text());
            } else {
                refused(&answer, 403, "content_blocked", "No personal data");
                assert!(answer.text().contains("scan.stored"), "{}", answer.text());
            }
        }
    }
}

async fn a_stored_prompt_is_refused_unless_the_policy_allows_it(database: Database) {
    let (app, team) = TestApp::in_place_of(&database, &["bedrock"]).await;
    team.put_secret("AWS_BEARER_TOKEN_BEDROCK", "key-of-the-workspace").await;
    let arn = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aprompt%2FABCDEFGHIJ";
    let path = format!("/bedrock/model/{arn}/converse");
    let body = json!({"promptVariables": {"name": {"text": "Hello"}}});
    team.upstream.push(conversed());
    team.caller().post_json(&path, &body).await.expect(200);
    let policy = guard(&app.admin(), &team, pii(json!({}))).await;
    let refused = team.caller().post_json(&path, &body).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("scan.stored"), "{}", refused.text());
    assert_eq!(team.upstream.seen().requests.len(), 1);
    let policy = format!("/api/v1/gateway-policies/{}", policy["id"].as_str().unwrap());
    app.admin().delete(&policy).await.success();
    guard(&app.admin(), &team, pii(json!({"scan": {"stored": "allow"}}))).await;
    team.upstream.push(conversed());
    team.caller().post_json(&path, &body).await.expect(200);
}

async fn media_that_cannot_be_scanned_is_refused_if_the_policy_says_so(database: Database) {
    use base64::Engine as _;
    let image = [&b"\x89PNG\r\n\x1a\n"[..], &[0; 600]].concat();
    let image = base64::prelude::BASE64_STANDARD.encode(image);
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    let image_url = |url: &str| part(json!({"type": "image_url", "image_url": {"url": url}}));
    let bodies = [
        image_url("https://example.org/a.png"),
        image_url(&format!("data:image/png;base64,{image}")),
        part(json!({"type": "file", "file": {"file_id": "file-1"}})),
        part(json!({"type": "input_audio", "input_audio": {"format": "wav", "data": image}})),
    ];
    let app = TestApp::start(&database).await;
    for action in ["allow", "block"] {
        let team = app.workspace().await;
        guard(&app.admin(), &team, pii(json!({"scan": {"media": action}}))).await;
        for body in &bodies {
            team.upstream.push(openai::chat_completion("Fine.", USAGE));
            let answer = team.caller().send(chat(body)).await;
            match action {
                "allow" => assert_eq!(content(&answer), "Fine.", "{}", answer.text()),
                _ => {
                    refused(&answer, 403, "content_blocked", "No personal data");
                    assert!(answer.text().contains("media"), "{}", answer.text());
                }
            }
        }
    }
}

async fn base64_of_text_is_scanned(database: Database) {
    use base64::Engine as _;
    let config = pii(json!({"scan": {"media": "block"}}));
    let (_app, team) = start(&database, config).await;
    let encode = |text: &str| base64::prelude::BASE64_STANDARD.encode(text);
    let file = |kind: &str, text: &str| {
        let data = format!("data:{kind};base64,{}", encode(text));
        json!({"messages": [{"role": "user", "content": [
            {"type": "file", "file": {"filename": "notes", "file_data": data}}]}]})
    };
    for (kind, text) in [
        ("text/plain", format!("Write to {EMAIL}")),
        ("application/json", json!({"to": [EMAIL]}).to_string()),
    ] {
        let answer = team.caller().send(chat(&file(kind, &text))).await;
        refused(&answer, 403, "content_blocked", "No personal data");
        assert!(answer.text().contains("email") && !answer.text().contains("media"));
    }
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    let answer = team.caller().send(chat(&file("text/plain", "Nothing here"))).await.expect(200);
    assert_eq!(content(&answer), "Fine.");
}

async fn a_note_tells_the_model_about_placeholders(database: Database) {
    let (_app, team) = with_providers(&database, pii(json!({"note": true}))).await;
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller().send(chat(&says("Hello"))).await.expect(200);
    assert_eq!(team.upstream.last_request().json()["messages"], says("Hello")["messages"]);
    let question = says(&format!("Write to {EMAIL}"));
    learn(&team, &question).await;
    let sent = team.upstream.last_request().json();
    let note = sent["messages"][0]["content"].as_str().unwrap().to_owned();
    assert!(sent["messages"][0]["role"] == "system" && note.contains("Copy them"), "{sent}");
    learn(&team, &question).await;
    assert_eq!(team.upstream.last_request().json(), sent);

    let messages = json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "system": "Be kind.",
        "messages": [{"role": "user", "content": EMAIL}]});
    let answer = json!({"type": "message", "role": "assistant", "model": "m", "content": [],
        "usage": {"input_tokens": 3, "output_tokens": 2}});
    team.upstream.push(Script::json(200, &answer));
    team.caller().send(Request::post_json("/anthropic/v1/messages", &messages)).await.expect(200);
    assert_eq!(team.upstream.last_request().json()["system"], format!("Be kind.\n\n{note}"));
}

async fn signed_reasoning_keeps_the_placeholders_of_an_earlier_key(database: Database) {
    let (_app, team) = with_providers(&database, pii(json!({}))).await;
    let ask = json!({"role": "user", "content": format!("Mail {EMAIL}")});
    let body = |messages: Value| {
        json!({"model": "claude-sonnet-4-5", "max_tokens": 99, "messages": messages,
            "tools": [{"name": "mail", "input_schema": {"type": "object"}}]})
    };
    let call = |messages: Value, session: &str| {
        Request::post_json("/anthropic/v1/messages", &body(messages))
            .header("x-tollgate-session-id", session)
    };
    let answer = |content: Value, reason: &str| {
        Script::json(
            200,
            &json!({"id": "msg_1", "type": "message", "role": "assistant",
            "model": "m", "content": content, "stop_reason": reason,
            "usage": {"input_tokens": 3, "output_tokens": 2}}),
        )
    };
    team.upstream.push(answer(json!([]), "end_turn"));
    team.caller().send(call(json!([ask]), "first")).await.expect(200);
    let first = placeholder(&team.upstream, "EMAIL");

    // The first turn: the thought keeps its placeholder, the tool gets the value.
    let thinking = json!({"type": "thinking", "thinking": format!("I mail {first}."),
        "signature": "EqQBCgIYAhIMcGxhY2Vob2xkZXI="});
    let tool = |to: &str| {
        json!({"type": "tool_use", "id": "toolu_1", "name": "mail",
        "input": {"to": to}})
    };
    team.upstream.push(answer(json!([thinking, tool(&first)]), "tool_use"));
    let got = team.caller().send(call(json!([ask]), "first")).await.expect(200).json();
    assert_eq!(got["content"], json!([thinking, tool(EMAIL)]));

    // The second one, with another key: the thought goes up as it came down, and all else has the new
    // placeholder.
    let result = json!({"role": "user", "content": [{"type": "tool_result",
        "tool_use_id": "toolu_1", "content": format!("Sent to {EMAIL}")}]});
    let turns = json!([ask, {"role": "assistant", "content": got["content"]}, result]);
    team.upstream.push(answer(json!([]), "end_turn"));
    team.caller().send(call(turns.clone(), "second")).await.expect(200);
    let sent = team.upstream.last_request().json();
    let second = placeholder(&team.upstream, "EMAIL");
    assert_ne!(second, first);
    assert_eq!(thought(&sent), &json!([thinking, tool(&second)]));
    assert_eq!(sent["messages"][2]["content"][0]["content"], format!("Sent to {second}"));
    let text = json!([{"type": "text", "text": format!("Sent to {second}.")}]);
    team.upstream.push(answer(text, "end_turn"));
    let got = team.caller().send(call(turns, "second")).await.expect(200).json();
    assert_eq!(got["content"][0]["text"], format!("Sent to {EMAIL}."));
}
