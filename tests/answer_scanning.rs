//! Guards that scan answers: what the model says on its own is masked, counted, or blocks the answer.

use serde_json::{Value, json};

use crate::data_policy::{EMAIL, USAGE, chat, content, guard, learn, placeholder, says, streamed};
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    event_stream::{invoked, message},
    fixture::Fixture,
    http::Request,
    ledger_rows::{self, Rates},
    logs, openai,
    policies::refused,
    script::{Script, data},
    secrets,
    streams::{broken_off, call_arguments, events},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        what_the_model_says_on_its_own_is_masked,
        masks_do_not_depend_on_how_a_stream_is_split,
        arguments_of_tools_stay_json,
        what_is_only_reported_passes,
        a_plain_answer_is_refused_and_charged,
        a_stream_is_refused_before_its_first_byte_or_broken_off,
        a_converted_stream_that_is_broken_off_repeats_nothing,
        a_long_answer_is_scanned,
        what_cannot_be_scanned_is_refused,
        a_scan_that_takes_too_long_does_what_the_policy_says,
        other_formats_are_scanned_alike,
        signed_reasoning_passes_as_it_is,
        binary_streams_are_edited,
    ]
}

pub(crate) const OTHER: &str = "grace.hopper@example.org";
pub(crate) const PRICE: Rates =
    Rates { input: 1_000, cached_input: 1_000, output: 1_000, reasoning: 1_000, request: 0 };

pub(crate) fn scanning(action: &str) -> Value {
    json!({"version": 1, "detect": {"pii": true, "secrets": true}, "action": action,
        "timeout_seconds": 30, "scan": {"answers": true}})
}

async fn start(database: &Database, action: &str) -> (TestApp, Fixture) {
    secrets::register(EMAIL);
    let (app, team) = TestApp::start_with_workspace(database).await;
    team.set_price(PRICE).await;
    guard(&app.admin(), &team, scanning(action)).await;
    (app, team)
}

async fn what_the_model_says_on_its_own_is_masked(database: Database) {
    let (app, team) = start(&database, "redact").await;
    let mut question = says(&format!("Write to {EMAIL}"));
    question["messages"][0]["name"] = json!("caller");
    let one = learn(&team, &question).await;
    let said = format!("{one} or ada.lovelace@example.org, not {OTHER}");
    team.upstream.push(openai::chat_completion(&said, USAGE));
    let answer = team.caller().send(chat(&question)).await.expect(200);
    assert_eq!(content(&answer), format!("{EMAIL} or {EMAIL}, not REDACTED_EMAIL"));
    assert_eq!(answer.json()["usage"], USAGE.chat());
    assert_eq!(answer.json()["id"], "chatcmpl-test");
    let settled = team.settled(&team.configuration_id, 2).await;
    settled[1].says(&[("guard", "email=1"), ("answer_guard", "email=1")]);
    assert!(logs::lines_with("answer_guard").iter().all(|line| !line.contains(OTHER)));
    let metrics = app.platform().get("/metrics").await.expect(200).text();
    let counted = "tollgate_guard_findings_total{category=\"email\",action=\"mask\"}";
    assert!(metrics.contains(counted), "{metrics}");
    // The mask is text in the next turn, and nothing is put in its place.
    let next = says(&format!("Who is REDACTED_EMAIL? I am {EMAIL}"));
    team.upstream.push(openai::chat_completion("I wrote REDACTED_EMAIL.", USAGE));
    let answer = team.caller().send(chat(&next)).await.expect(200);
    assert_eq!(content(&answer), "I wrote REDACTED_EMAIL.");
}

async fn masks_do_not_depend_on_how_a_stream_is_split(database: Database) {
    let (_app, team) = start(&database, "redact").await;
    let mut question = says(&format!("Write to {EMAIL}"));
    let one = learn(&team, &question).await;
    question["stream"] = json!(true);
    let said = format!("Not {OTHER} but {one}. Card 4111 1111 1111 1111 is none.");
    let expected = format!("Not REDACTED_EMAIL but {EMAIL}. Card REDACTED_CARD is none.");
    for size in [1, 2, 5, 13, said.len()] {
        let parts: Vec<&str> =
            said.as_bytes().chunks(size).map(|part| std::str::from_utf8(part).unwrap()).collect();
        team.upstream.push(openai::chat_stream(&parts, USAGE, true));
        let answer = team.caller().send(chat(&question)).await.expect(200);
        assert_eq!(streamed(&answer), expected, "{size}");
        assert!(answer.text().trim_end().ends_with("data: [DONE]"), "{}", answer.text());
    }
}

async fn arguments_of_tools_stay_json(database: Database) {
    let (_app, team) = start(&database, "redact").await;
    let call = |arguments: &str| {
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [
            {"index": 0, "function": {"arguments": arguments}}]}}]})
    };
    let arguments = format!("{{\"card\":4111111111111111,\"to\":\"{OTHER}\"}}");
    let expected = json!({"card": "REDACTED_CARD", "to": "REDACTED_EMAIL"});
    let events = [
        call(&arguments[..15]),
        call(&arguments[15..]),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ];
    let mut events: Vec<String> = events.iter().map(data).collect();
    events.push(data("[DONE]"));
    team.upstream.push(Script::sse(events));
    let mut question = says("Hello");
    question["stream"] = json!(true);
    let answer = team.caller().send(chat(&question)).await.expect(200).text();
    assert_eq!(call_arguments(&answer), expected, "{answer}");

    let mut plain = openai::chat_object("", USAGE);
    plain["choices"][0]["message"]["tool_calls"] = json!([{"id": "call_1", "type": "function",
        "function": {"name": "pay", "arguments": arguments}}]);
    team.upstream.push(Script::json(200, &plain));
    let answer = team.caller().send(chat(&says("Hello"))).await.expect(200).json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    let got = call["function"]["arguments"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(got).unwrap(), expected);
    assert_eq!((&call["id"], &call["function"]["name"]), (&json!("call_1"), &json!("pay")));
}

async fn what_is_only_reported_passes(database: Database) {
    let (_app, team) = start(&database, "report").await;
    team.upstream.push(openai::chat_completion(OTHER, USAGE));
    let answer = team.caller().send(chat(&says("Hello"))).await.expect(200);
    assert_eq!(content(&answer), OTHER);
    team.settled_once().await.says(&[("answer_guard", "email=1")]);
}

async fn a_plain_answer_is_refused_and_charged(database: Database) {
    let (app, team) = start(&database, "block").await;
    team.upstream.push(openai::chat_completion(&format!("Ask {OTHER}"), USAGE));
    let answer = team.caller().send(chat(&says("Hello"))).await;
    refused(&answer, 403, "content_blocked", "No personal data");
    assert!(answer.text().contains("in the answer: email") && !answer.text().contains(OTHER));
    let rows = ledger_rows::rows_at_least(app.database(), 1).await;
    assert!(rows[0].counts(USAGE), "{rows:?}");
    assert_eq!((rows[0].outcome.as_str(), rows[0].status), ("failed", Some(403)));
    assert!(rows[0].cost > Some(0), "{rows:?}");
    team.settled_once().await.says(&[("code", "content_blocked"), ("outcome", "refused")]);
}

async fn a_stream_is_refused_before_its_first_byte_or_broken_off(database: Database) {
    let (app, team) = start(&database, "block").await;
    let mut question = says("Hello");
    question["stream"] = json!(true);
    // The very first event has a value.
    let event = json!({"choices": [{"index": 0, "delta": {"content": format!("{OTHER} ")}}]});
    team.upstream.push(Script::sse([data(event)]));
    let answer = team.caller().send(chat(&question)).await;
    refused(&answer, 403, "content_blocked", "No personal data");

    team.upstream.push(openai::chat_stream(&["Good ", "Ask ", OTHER, " or me"], USAGE, false));
    let got = broken_off(&team.caller().send(chat(&question)).await);
    assert!(got.contains("Good ") && !got.contains("grace") && !got.contains("or me"), "{got}");
    let last = events(&got).pop().unwrap();
    assert_eq!(last["error"]["code"], "content_blocked", "{got}");
    let rows = ledger_rows::rows_at_least(app.database(), 2).await;
    for status in [200, 403] {
        let row = rows.iter().find(|row| row.status == Some(status)).unwrap();
        assert_eq!((row.usage_source.as_str(), row.outcome.as_str()), ("estimated", "failed"));
        assert!(row.cost > Some(0), "{row:?}");
    }
}

async fn a_converted_stream_that_is_broken_off_repeats_nothing(database: Database) {
    let (_app, team) = with_providers(&database, "block").await;
    let parts = |parts: Value| {
        data(json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}}]}))
    };
    // The thought is complete when the value is found in it.
    let thought = json!({"text": format!("Ask {OTHER}"), "thought": true});
    team.upstream.push(Script::sse([
        parts(json!([{"text": "Hm. ", "thought": true}])),
        parts(json!([thought, {"text": "I know."}])),
    ]));
    let body = json!({"model": "gemini/gemini-2.5-flash", "input": "Hello", "stream": true});
    let got = broken_off(&team.caller().send(Request::post_json("/v1/responses", &body)).await);
    assert!(got.contains("Hm. ") && got.contains("response.failed"), "{got}");
    assert!(!got.contains("grace") && !got.contains("I know"), "{got}");
}

async fn a_long_answer_is_scanned(database: Database) {
    let (_app, team) = start(&database, "redact").await;
    let said = format!("{} {OTHER}", "word ".repeat(200_000));
    team.upstream.push(openai::chat_completion(&said, USAGE));
    let answer = team.caller().send(chat(&says("Hello"))).await.expect(200);
    assert_eq!(content(&answer), said.replace(OTHER, "REDACTED_EMAIL"));
}

async fn what_cannot_be_scanned_is_refused(database: Database) {
    let (_app, team) = start(&database, "redact").await;
    let head = [("content-type", "application/json"), ("content-encoding", "gzip")];
    team.upstream.push(Script::new().sized(200, &head, b"\x1f\x8b\x08\x00".to_vec()));
    let answer = team.caller().send(chat(&says("Hello"))).await;
    refused(&answer, 403, "content_blocked", "No personal data");
    let head = [("content-type", "application/json")];
    team.upstream.push(Script::new().sized(200, &head, format!("{{\"x\":\"{OTHER}")));
    let answer = team.caller().send(chat(&says("Hello"))).await;
    refused(&answer, 403, "content_blocked", "No personal data");
}

async fn a_scan_that_takes_too_long_does_what_the_policy_says(database: Database) {
    let app = TestApp::start(&database).await;
    for action in ["block", "allow"] {
        // All matches of this pattern in capital letters are quadratic in the text.
        let pattern = json!({"name": "flood", "pattern": "A.*[^A-Z]|A"});
        let config = json!({"version": 1, "timeout_seconds": 0.1, "timeout_action": action,
            "action": "report", "detect": {"custom": [pattern]}, "scan": {"answers": true}});
        let team = app.workspace().await;
        guard(&app.admin(), &team, config).await;
        let said = "A".repeat(4 << 20);
        team.upstream.push(openai::chat_completion(&said, USAGE));
        let answer = team.caller().send(chat(&says("Hello"))).await;
        if action == "block" {
            refused(&answer, 403, "content_blocked", "No personal data");
            assert!(answer.text().contains("could not be scanned"), "{}", answer.text());
        } else {
            assert_eq!(content(&answer), said);
        }
    }
}

/// A workspace with keys of providers, all at the scripted upstream.
pub(crate) async fn with_providers(database: &Database, action: &str) -> (TestApp, Fixture) {
    secrets::register(EMAIL);
    let providers = ["gemini", "anthropic", "openai", "bedrock"];
    let (app, team) = TestApp::in_place_of(database, &providers).await;
    for name in
        ["GOOGLE_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"]
    {
        team.put_secret(name, "key-of-the-workspace").await;
    }
    guard(&app.admin(), &team, scanning(action)).await;
    (app, team)
}

async fn other_formats_are_scanned_alike(database: Database) {
    let (_app, team) = with_providers(&database, "redact").await;
    let messages = json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "stream": true,
        "messages": [{"role": "user", "content": "Hello"}]});
    let responses = json!({"model": "gpt-4o", "input": "Hello", "stream": true});
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]});
    let stream = "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent";
    let said = ["Ask grace.", "hopper@example.org", " or me"];
    let event = |name: &str, event: Value| format!("event: {name}\n{}", data(event));
    let of_messages: Vec<String> = said
        .iter()
        .map(|part| {
            let delta = json!({"type": "text_delta", "text": part});
            let kind = "content_block_delta";
            event(kind, json!({"type": kind, "index": 0, "delta": delta}))
        })
        .chain([
            event("content_block_stop", json!({"type": "content_block_stop", "index": 0})),
            event("message_stop", json!({"type": "message_stop"})),
        ])
        .collect();
    let part = |text: &str, end: Value| {
        json!({"candidates": [{"index": 0, "finishReason": end,
            "content": {"role": "model", "parts": [{"text": text}]}}]})
    };
    let parts =
        [part(said[0], Value::Null), part(said[1], Value::Null), part(said[2], json!("STOP"))];
    let array = format!("[{},\n{},\n{}]", parts[0], parts[1], parts[2]);
    let json_head = [("content-type", "application/json")];
    let array = array.as_bytes().chunks(7).map(<[u8]>::to_vec);
    for (path, body, script) in [
        ("/anthropic/v1/messages", &messages, Script::sse(of_messages)),
        ("/openai/v1/responses", &responses, openai::response_stream(&said, USAGE)),
        (&format!("{stream}?alt=sse"), &gemini, Script::sse(parts.iter().map(data))),
        (stream, &gemini, Script::new().chunked_head(200, &json_head).chunks(array).end()),
    ] {
        team.upstream.push(script);
        let answer = team.caller().send(Request::post_json(path, body)).await.expect(200).text();
        assert!(answer.contains("REDACTED_EMAIL"), "{path}: {answer}");
        assert!(!answer.contains("grace") && !answer.contains("hopper"), "{path}: {answer}");
        assert!(answer.contains(" or ") && answer.contains("me\""), "{path}: {answer}");
    }
}

async fn signed_reasoning_passes_as_it_is(database: Database) {
    let (_app, team) = with_providers(&database, "block").await;
    let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hello"}]});
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
        "content": [{"type": "thinking", "thinking": OTHER, "signature": "EqQBCgIYAhIM"},
            {"type": "redacted_thinking", "data": "EqQBCgIYAhIM"},
            {"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 2}});
    team.upstream.push(Script::json(200, &answer));
    let request = Request::post_json("/anthropic/v1/messages", &body);
    assert_eq!(team.caller().send(request).await.expect(200).json(), answer);
}

async fn binary_streams_are_edited(database: Database) {
    let (_app, team) = with_providers(&database, "redact").await;
    let model = "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0";
    let ask = format!("Write to {EMAIL}");
    let converse = json!({"messages": [{"role": "user", "content": [{"text": ask}]}]});
    let invoke = json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9,
        "messages": [{"role": "user", "content": ask}]});
    let plain = |text: &[&str]| -> Vec<u8> {
        let event = |name: &str, body: Value| {
            let headers = [
                (":event-type", name),
                (":content-type", "application/json"),
                (":message-type", "event"),
            ];
            message(&headers, &body.to_string())
        };
        let deltas = text.iter().map(|part| {
            let delta = json!({"contentBlockIndex": 0, "delta": {"text": part}, "p": "abc"});
            event("contentBlockDelta", delta)
        });
        let ends = [
            event("contentBlockStop", json!({"contentBlockIndex": 0})),
            event("messageStop", json!({"stopReason": "end_turn"})),
            event("metadata", json!({"usage": {"inputTokens": 3, "outputTokens": 2}})),
        ];
        deltas.chain(ends).flatten().collect()
    };
    let wrapped = |text: &[&str]| -> Vec<u8> {
        let delta = |part: &&str| {
            json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": part}})
        };
        let ends = [
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_stop", "amazon-bedrock-invocationMetrics":
                {"inputTokenCount": 3, "outputTokenCount": 2}}),
        ];
        invoked(&text.iter().map(delta).chain(ends).collect::<Vec<_>>())
    };
    type Stream<'a> = &'a dyn Fn(&[&str]) -> Vec<u8>;
    let calls: [(&str, &Value, Stream<'_>); 2] = [
        ("converse-stream", &converse, &plain),
        ("invoke-with-response-stream", &invoke, &wrapped),
    ];
    for (method, body, stream) in calls {
        let path = format!("/bedrock/model/{model}/{method}");
        let binary = [("content-type", "application/vnd.amazon.eventstream")];
        let mut one = String::new();
        for round in 0..2 {
            let parts = match round {
                0 => vec!["Hm"],
                _ => vec!["To ", &one[..7], &one[7..], ", not grace.", "hopper@example.org"],
            };
            let expected = match round {
                0 => stream(&["Hm"]),
                _ => stream(&["To ", "", EMAIL, ", not ", "REDACTED_EMAIL"]),
            };
            let sent = stream(&parts);
            let chunks = sent.chunks(50).map(<[u8]>::to_vec);
            team.upstream.push(Script::new().chunked_head(200, &binary).chunks(chunks).end());
            let answer = team.caller().send(Request::post_json(&path, body)).await.expect(200);
            one = placeholder(&team.upstream, "EMAIL");
            assert_eq!(texts(&answer.body), texts(&expected), "{method}");
        }
    }
}

/// The texts of a binary stream's deltas, joined. Every message has to be whole and to have the right
/// checksums.
fn texts(stream: &[u8]) -> String {
    use base64::Engine as _;
    let number = |at: usize| u32::from_be_bytes(stream[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut texts) = (0, String::new());
    while at < stream.len() {
        let end = at + number(at);
        assert_eq!(number(at + 8), crc32fast::hash(&stream[at..at + 8]) as usize);
        assert_eq!(number(end - 4), crc32fast::hash(&stream[at..end - 4]) as usize);
        let payload = &stream[at + 12 + number(at + 4)..end - 4];
        let mut event: Value = serde_json::from_slice(payload).unwrap();
        if let Some(bytes) = event["bytes"].as_str() {
            let inner = base64::prelude::BASE64_STANDARD.decode(bytes).unwrap();
            event = serde_json::from_slice(&inner).unwrap();
        }
        texts.push_str(event["delta"]["text"].as_str().unwrap_or_default());
        at = end;
    }
    texts
}
