//! What scanned answers have beside their text: reasoning that may be signed, log probabilities, calls of
//! tools, and the text once more.

use serde_json::{Value, json};

use crate::answer_scanning::{OTHER, scanning, with_providers};
use crate::data_policy::{EMAIL, USAGE, chat, content, guard, learn, placeholder, says};
use crate::scanned_streams::{delta, end, hides, started, streamed, text};
use crate::support::{
    case::{Case, cases},
    database::Database,
    openai,
    script::{Script, data},
    streams::{chat_text, events, joined},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        reasoning_details_are_text_unless_they_are_signed,
        reasoning_details_in_streams_are_edited,
        signatures_of_converted_reasoning_stay_valid,
        log_probabilities_say_nothing,
        log_probabilities_of_other_formats_say_nothing,
        a_call_of_a_tool_is_not_repeated,
        arguments_of_gemini_may_come_in_pieces,
        the_text_so_far_beside_each_delta_is_edited,
    ]
}

async fn reasoning_details_are_text_unless_they_are_signed(database: Database) {
    let (_app, team) = started(&database, json!({})).await;
    let question = says(&format!("I am {EMAIL}"));
    let one = learn(&team, &question).await;
    // In requests: entries of one index belong together.
    let details = |text: &str| {
        json!([
            {"type": "reasoning.text", "text": text, "index": 0},
            {"type": "reasoning.summary", "summary": format!("Mail {text}"), "index": 1},
            {"type": "reasoning.text", "text": text, "signature": null, "format": "unknown"},
            {"type": "reasoning.text", "text": EMAIL, "signature": "EqQB+/==", "index": 2},
            {"type": "reasoning.summary", "summary": EMAIL, "index": 3},
            {"type": "reasoning.text", "text": "", "signature": "EqQB", "index": 3},
            {"type": "reasoning.encrypted", "data": "AKIAIOSFODNN7EXAMPLE", "id": "r1", "index": 4},
        ])
    };
    let mut asked = question.clone();
    asked["messages"]
        .as_array_mut()
        .unwrap()
        .push(json!({"role": "assistant", "content": "Hm.", "reasoning_details": details(EMAIL)}));
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller().send(chat(&asked)).await.expect(200);
    let sent = team.upstream.last_request().json();
    assert_eq!(sent["messages"][1]["reasoning_details"], details(&one));

    // In plain answers.
    let answer = |mine: &str, other: &str| {
        let mut answer = openai::chat_object("Hm.", USAGE);
        answer["choices"][0]["message"]["reasoning_details"] = json!([
            {"type": "reasoning.text", "text": format!("{mine} {other}"), "index": 0},
            {"type": "reasoning.summary", "summary": other, "signature": "", "index": 1},
            {"type": "reasoning.text", "text": format!("{one} {OTHER}"), "index": 2},
            {"type": "reasoning.text", "signature": "EqQB", "text": "", "index": 2},
            {"type": "reasoning.encrypted", "data": "AKIAIOSFODNN7EXAMPLE", "index": 3},
        ]);
        answer
    };
    team.upstream.push(Script::json(200, &answer(&one, OTHER)));
    let got = team.caller().send(chat(&question)).await.expect(200).json();
    assert_eq!(got, answer(EMAIL, "REDACTED_EMAIL"));
}

async fn reasoning_details_in_streams_are_edited(database: Database) {
    let (_app, team) = started(&database, json!({})).await;
    let mut question = says(&format!("I am {EMAIL}"));
    let one = learn(&team, &question).await;
    question["stream"] = json!(true);
    let entry = |entry: Value| delta(json!({"reasoning_details": [entry]}));
    let signed = [
        json!({"type": "reasoning.text", "text": format!("{one} grace."), "index": 1,
            "format": "anthropic-claude-v1", "signature": null}),
        json!({"type": "reasoning.text", "text": "x", "index": 1}),
        json!({"type": "reasoning.text", "signature": "EqQB", "index": 1}),
        json!({"type": "reasoning.encrypted", "data": "AKIAIOSFODNN7EXAMPLE", "index": 2}),
    ];
    let said = format!("To {one}, not {OTHER} I say.");
    let (start, rest) = said.split_at(9);
    let (middle, last) = rest.split_at(30);
    let mut stream: Vec<String> = [start, middle, last]
        .map(|text| {
            entry(json!({"type": "reasoning.text", "text": text, "index": 0,
            "format": "google-gemini-v1"}))
        })
        .into();
    stream.extend(
        ["Not grace.", "hopper@example.org"]
            .map(|text| entry(json!({"type": "reasoning.summary", "summary": text, "index": 3}))),
    );
    stream.extend(signed.iter().cloned().map(entry));
    stream.extend([text("Hm."), end()]);
    team.upstream.push(Script::sse(stream));
    let got = team.caller().send(chat(&question)).await.expect(200).text();
    let pointer = |field: &str| format!("/choices/0/delta/reasoning_details/0/{field}");
    let texts = joined(&got, &pointer("text"));
    let of_signed = format!("{one} grace.x");
    let expected = format!("To {EMAIL}, not REDACTED_EMAIL I say.{of_signed}");
    assert_eq!(texts, expected, "{got}");
    assert_eq!(joined(&got, &pointer("summary")), "Not REDACTED_EMAIL", "{got}");
    for entry in signed {
        let has = |event: &Value| event["choices"][0]["delta"]["reasoning_details"][0] == entry;
        assert!(events(&got).iter().any(has), "{entry} {got}");
    }
}

async fn signatures_of_converted_reasoning_stay_valid(database: Database) {
    let (_app, team) = with_providers(&database, "redact").await;
    let mut body = json!({"model": "anthropic/claude-sonnet-4-5", "max_tokens": 99,
        "messages": [{"role": "user", "content": format!("I am {EMAIL}")}]});
    let thought = |thought: &str| json!({"type": "thinking", "thinking": thought});
    let answer = |content: Value| {
        json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": content, "stop_reason": "end_turn",
            "usage": {"input_tokens": 3, "output_tokens": 2}})
    };
    let plain = answer(json!([{"type": "text", "text": "Hi"}]));
    team.upstream.push(Script::json(200, &plain));
    team.caller().post_json("/v1/chat/completions", &body).await.expect(200);
    let one = placeholder(&team.upstream, "EMAIL");
    let said = format!("I mail {one} now");
    let event = |kind: &str, mut event: Value| {
        event["type"] = json!(kind);
        format!("event: {kind}\n{}", data(event))
    };
    let deltas = [
        json!({"type": "thinking_delta", "thinking": &said[..12]}),
        json!({"type": "thinking_delta", "thinking": &said[12..]}),
        json!({"type": "signature_delta", "signature": "EqQBCgIYAhIM"}),
    ];
    let mut start = thought("");
    start["signature"] = json!("");
    let mut stream = vec![
        event("message_start", json!({"message": answer(json!([]))})),
        event("content_block_start", json!({"index": 0, "content_block": start})),
    ];
    stream.extend(
        deltas.map(|delta| event("content_block_delta", json!({"index": 0, "delta": delta}))),
    );
    stream.extend([
        event("content_block_stop", json!({"index": 0})),
        event(
            "message_delta",
            json!({"delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 2}}),
        ),
        event("message_stop", json!({})),
    ]);
    team.upstream.push(Script::sse(stream));
    body["stream"] = json!(true);
    let got = team.caller().post_json("/v1/chat/completions", &body).await.expect(200).text();
    let details = joined(&got, "/choices/0/delta/reasoning_details/0/text");
    assert_eq!(details, said, "{got}");
    let reasoning = joined(&got, "/choices/0/delta/reasoning_content");
    assert_eq!(reasoning, format!("I mail {EMAIL} now"), "{got}");
}

const TOKENS: [&str; 7] = ["Ask", " grace", ".", "hopper", "@", "example", ".org"];

fn token(token: &str) -> Value {
    json!({"token": token, "logprob": -0.1, "bytes": token.as_bytes(),
        "top_logprobs": [{"token": "grace.hopper", "logprob": -0.2, "bytes": [103]}]})
}

async fn log_probabilities_say_nothing(database: Database) {
    let (app, team) = started(&database, json!({})).await;
    let probable = |part: &str| json!({"content": [token(part)], "refusal": null});
    let mut stream: Vec<String> = TOKENS
        .map(|part| {
            data(json!({"choices": [{"index": 0, "delta": {"content": part},
                "logprobs": probable(part)}]}))
        })
        .into();
    stream.push(end());
    let got = streamed(&team, stream.clone()).await.expect(200).text();
    hides(&got);
    assert_eq!(chat_text(&got), "Ask REDACTED_EMAIL");
    assert!(got.contains("\"logprobs\":null"), "{got}");
    let mut plain = openai::chat_object("Ask me", USAGE);
    plain["choices"][0]["logprobs"] = probable(" grace");
    team.upstream.push(Script::json(200, &plain));
    let got = team.caller().send(chat(&says("Hello"))).await.expect(200);
    assert_eq!(got.json()["choices"][0]["logprobs"], Value::Null);
    assert_eq!(content(&got), "Ask me");
    // What is only reported stays.
    let reporting = app.workspace().await;
    guard(&app.admin(), &reporting, scanning("report")).await;
    let got = streamed(&reporting, stream.clone()).await.expect(200).text();
    assert_eq!(chat_text(&got), "Ask grace.hopper@example.org");
    assert_eq!(got.matches("grace.hopper\"").count(), TOKENS.len(), "{got}");
}

async fn log_probabilities_of_other_formats_say_nothing(database: Database) {
    let (_app, team) = with_providers(&database, "redact").await;
    let event = |part: &str| {
        let kind = "response.output_text.delta";
        let event = json!({"type": kind, "item_id": "i", "output_index": 0, "content_index": 0,
            "delta": part, "logprobs": [token(part)]});
        format!("event: {kind}\n{}", data(event))
    };
    let done = json!({"type": "response.completed", "response": {"status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": OTHER,
            "logprobs": [token(OTHER)]}]}]}});
    let mut stream: Vec<String> = TOKENS.map(event).into();
    stream.push(format!("event: response.completed\n{}", data(done)));
    team.upstream.push(Script::sse(stream));
    let body = json!({"model": "gpt-4o", "stream": true, "input": "Hello"});
    let got = team.caller().post_json("/openai/v1/responses", &body).await.expect(200).text();
    hides(&got);
    assert_eq!(joined(&got, "/delta"), "Ask REDACTED_EMAIL");
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]});
    let part = json!({"candidates": [{"index": 0, "finishReason": "STOP", "avgLogprobs": -0.5,
        "content": {"role": "model", "parts": [{"text": "Hi"}]},
        "logprobsResult": {"chosenCandidates": [{"token": "grace", "logProbability": -0.1}]}}]});
    team.upstream.push(Script::sse([data(part)]));
    let path = "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
    let got = team.caller().post_json(path, &gemini).await.expect(200).text();
    hides(&got);
    assert!(got.contains("\"logprobsResult\":{}") && got.contains("-0.5"), "{got}");
}

/// What is held back of one is sent in an event of its own, which must not begin the call once more.
async fn a_call_of_a_tool_is_not_repeated(database: Database) {
    let (_app, team) = with_providers(&database, "redact").await;
    let arguments = format!("{{\"to\":\"{OTHER}\"}}");
    let call = |index: u32, name: &str| {
        json!({"index": index, "id": format!("call_{name}"), "type": "function",
            "function": {"name": name, "arguments": arguments}})
    };
    let stream = [
        data(json!({"id": "c", "choices": [{"index": 0, "finish_reason": null, "delta":
            {"role": "assistant", "content": "I mail", "tool_calls": [call(0, "a"), call(1, "b")]}}],
            "usage": {"prompt_tokens": 3}})),
        end(),
    ];
    team.upstream.push(Script::sse(stream));
    let body = json!({"model": "gpt-4o", "stream": true,
        "messages": [{"role": "user", "content": "Hello"}]});
    let got =
        team.caller().post_json("/openai/v1/chat/completions", &body).await.expect(200).text();
    assert_eq!(chat_text(&got), "I mail");
    let mut calls = [("".to_owned(), "".to_owned()), ("".to_owned(), "".to_owned())];
    for event in events(&got) {
        for call in event["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let (id, arguments) = &mut calls[call["index"].as_u64().unwrap() as usize];
            id.push_str(call["id"].as_str().unwrap_or_default());
            id.push_str(call["function"]["name"].as_str().unwrap_or_default());
            arguments.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
    }
    let masked = arguments.replace(OTHER, "REDACTED_EMAIL");
    let expected = [("call_aa".to_owned(), masked.clone()), ("call_bb".to_owned(), masked)];
    assert_eq!(calls, expected, "{got}");
    assert_eq!(got.matches("prompt_tokens").count(), 1, "{got}");

    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]});
    let parts = json!([{"text": "I mail"}, {"functionCall": {"name": "mail", "args": {}}}]);
    team.upstream.push(Script::sse([
        data(json!({"candidates": [{"content": {"role": "model", "parts": parts}}]})),
        data(json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": {}})),
    ]));
    let path = "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
    let got = team.caller().post_json(path, &gemini).await.expect(200).text();
    assert_eq!(got.matches("functionCall").count(), 1, "{got}");
    assert_eq!(joined(&got, "/candidates/0/content/parts/0/text"), "I mail", "{got}");
}

async fn arguments_of_gemini_may_come_in_pieces(database: Database) {
    let (_app, team) = with_providers(&database, "redact").await;
    let question =
        json!({"contents": [{"role": "user", "parts": [{"text": format!("I am {EMAIL}")}]}]});
    let path = "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
    let event = |call: Value| {
        data(
            json!({"candidates": [{"content": {"role": "model", "parts": [{"functionCall": call}]}}]}),
        )
    };
    let end = data(json!({"candidates": [{"finishReason": "STOP"}]}));
    team.upstream.push(Script::sse([end.clone()]));
    team.caller().post_json(path, &question).await.expect(200);
    let one = placeholder(&team.upstream, "EMAIL");
    let piece = |path: &str, text: &str, goes_on: bool| {
        let piece = json!({"jsonPath": path, "stringValue": text, "willContinue": goes_on});
        event(json!({"partialArgs": [piece], "willContinue": true}))
    };
    team.upstream.push(Script::sse([
        event(json!({"name": "mail", "id": "call_1", "willContinue": true})),
        piece("$.to", &one[..5], true),
        piece("$.to", &one[5..], false),
        piece("$.not", "grace.hopper", true),
        piece("$.not", "@example.org", true),
        piece("$.not", "", false),
        event(json!({})),
        end,
    ]));
    let got = team.caller().post_json(path, &question).await.expect(200).text();
    let pointer = "/candidates/0/content/parts/0/functionCall/partialArgs/0/stringValue";
    assert_eq!(joined(&got, pointer), format!("{EMAIL}REDACTED_EMAIL"), "{got}");
}

/// Perplexity's streams.
async fn the_text_so_far_beside_each_delta_is_edited(database: Database) {
    let (_app, team) = started(&database, json!({})).await;
    let mut question = says(&format!("I am {EMAIL}"));
    let one = learn(&team, &question).await;
    question["stream"] = json!(true);
    let said = format!("To {one}, not {OTHER}");
    let event = |from: usize, to: usize, reason: Value| {
        data(json!({"choices": [{"index": 0, "finish_reason": reason,
            "message": {"role": "assistant", "content": &said[..to]},
            "delta": {"role": "assistant", "content": &said[from..to]}}]}))
    };
    let mut stream: Vec<String> =
        (1..said.len()).map(|to| event(to - 1, to, Value::Null)).collect();
    stream.push(event(said.len() - 1, said.len(), json!("stop")));
    stream.push(data("[DONE]"));
    team.upstream.push(Script::sse(stream));
    let got = team.caller().send(chat(&question)).await.expect(200).text();
    let expected = format!("To {EMAIL}, not REDACTED_EMAIL");
    assert_eq!(chat_text(&got), expected, "{got}");
    let so_far = events(&got);
    let so_far: Vec<&str> = so_far
        .iter()
        .filter_map(|event| event.pointer("/choices/0/message/content")?.as_str())
        .collect();
    assert!(so_far.iter().all(|text| expected.starts_with(text)), "{got}");
    assert_eq!(so_far.last(), Some(&&*expected), "{got}");
}
