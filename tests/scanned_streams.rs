//! Streams of scanned answers that are legal, odd, or none: no value gets through, and what is no event of
//! the format is not passed on.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::answer_scanning::{OTHER, PRICE, scanning, with_providers};
use crate::data_policy::{EMAIL, USAGE, chat, content, guard, learn, says};
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows, openai,
    policies::refused,
    script::{Script, data},
    streams::{broken_off, call_arguments, chat_text, events, joined},
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![
        data_that_are_no_event_break_the_stream_off,
        what_comes_after_an_array_breaks_the_stream_off,
        marks_and_pings_of_every_format_pass,
        comments_and_other_fields_lose_their_text,
        reasoning_details_are_text_unless_they_are_signed,
        reasoning_details_in_streams_are_edited,
        signatures_of_converted_reasoning_stay_valid,
        values_across_long_events_are_found,
        strings_that_are_not_unicode_are_scanned,
        log_probabilities_say_nothing,
        log_probabilities_of_other_formats_say_nothing,
        a_call_of_a_tool_is_not_repeated,
        streams_that_are_written_in_odd_ways_are_scanned,
        arguments_of_gemini_may_come_in_pieces,
        the_text_so_far_beside_each_delta_is_edited,
    ]
}

async fn started(database: &Database, more: Value) -> (TestApp, Fixture) {
    let app = TestApp::start(database).await;
    let team = app.workspace().await;
    team.set_price(PRICE).await;
    let mut config = scanning("redact");
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    guard(&app.admin(), &team, config).await;
    (app, team)
}

fn asks_for_stream(text: &str) -> Request {
    let mut question = says(text);
    question["stream"] = json!(true);
    chat(&question)
}

fn delta(delta: Value) -> String {
    data(json!({"choices": [{"index": 0, "delta": delta}]}))
}

fn text(text: &str) -> String {
    delta(json!({"content": text}))
}

fn end() -> String {
    data(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})) + &data("[DONE]")
}

/// Sends a question whose answer is a stream of these bytes.
async fn streamed(team: &Fixture, parts: impl IntoIterator<Item = impl Into<Bytes>>) -> Answer {
    team.upstream.push(Script::sse(parts));
    team.caller().send(asks_for_stream("Hello")).await
}

/// None of a value's parts is in what the caller got.
#[track_caller]
fn hides(got: &str) {
    assert!(!got.contains("grace") && !got.contains("hopper"), "{got}");
}

async fn data_that_are_no_event_break_the_stream_off(database: Database) {
    let (app, team) = started(&database, json!({})).await;
    let allowing = app.workspace().await;
    let mut config = scanning("redact");
    config["timeout_action"] = json!("allow");
    guard(&app.admin(), &allowing, config).await;
    let odd = [
        format!("\"{OTHER}\""),
        format!("[\"{OTHER}\"]"),
        "4111111111111111".to_owned(),
        OTHER.to_owned(),
        format!("{{\"choices\":[{{\"delta\":{{\"content\":\"{OTHER}"),
        format!("{{}} {OTHER}"),
        format!("{}\"{OTHER}\"{}", "[".repeat(200), "]".repeat(200)),
        // Which of the two a client reads is its own choice.
        r#"{"choices":[{"delta":{"content":"grace.hopper@ex","content":"x"}}]}"#.to_owned(),
        r#"{"choices":[{"delta":{"content":"grace.hopper@ex"},"delta":{}}]}"#.to_owned(),
        r#"{"choices":[{"index":0.5,"delta":{"content":"grace.hopper@ex"}}]}"#.to_owned(),
    ];
    for (number, odd) in odd.iter().enumerate() {
        let got = streamed(&team, [text("Good "), data(odd), text("or me"), end()]).await;
        let got = broken_off(&got);
        assert!(got.contains("Good ") && !got.contains("or me") && !got.contains("4111"), "{got}");
        hides(&got);
        let last = events(&got).pop().unwrap();
        assert_eq!(last["error"]["code"], "content_blocked", "{got}");
        // Two for each one before: its stream, and the refused answer below.
        let rows = ledger_rows::rows_at_least(app.database(), 2 * number + 1).await;
        let row = rows.last().unwrap();
        assert_eq!((row.usage_source.as_str(), row.outcome.as_str()), ("estimated", "failed"));
        assert!(row.cost > Some(0), "{row:?}");
        // At the beginning it is an answer without a stream.
        refused(&streamed(&team, [data(odd)]).await, 403, "content_blocked", "No personal data");
    }
    let got = streamed(&allowing, [text("Good "), data(&odd[0]), text("or me"), end()]).await;
    let got = got.expect(200).text();
    assert!(got.contains(&odd[0]) && chat_text(&got) == "Good or me", "{got}");
}

async fn what_comes_after_an_array_breaks_the_stream_off(database: Database) {
    let (_app, team) = with_providers(&database, "redact").await;
    let question = json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]});
    let path = "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent";
    let head = [("content-type", "application/json")];
    let element = json!({"candidates": [{"index": 0, "finishReason": "STOP",
        "content": {"role": "model", "parts": [{"text": "Hi. "}]}}]});
    for (rest, passes) in [("]\n\n", true), ("]\n\"grace.hopper@example.org\"", false)] {
        let chunks = [format!("[{element}"), rest.to_owned()];
        team.upstream.push(Script::new().chunked_head(200, &head).chunks(chunks).end());
        let answer = team.caller().send(Request::post_json(path, &question)).await;
        match passes {
            true => assert_eq!(answer.expect(200).json(), json!([element])),
            false => hides(&broken_off(&answer)),
        }
    }
}

async fn marks_and_pings_of_every_format_pass(database: Database) {
    let (_app, team) = with_providers(&database, "redact").await;
    let stream = "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
    let done = json!({"type": "response.completed", "response": {"status": "completed",
        "output": []}});
    let part = json!({"candidates": [{"index": 0, "finishReason": "STOP",
        "content": {"role": "model", "parts": [{"text": "Hi. "}]}}]});
    let user = json!([{"role": "user", "content": "Hello"}]);
    for (path, body, events) in [
        (
            "/openai/v1/chat/completions",
            json!({"model": "gpt-4o", "stream": true, "messages": user}),
            [text("Hi. "), ": \n\n".to_owned(), data(""), "data\n\n".to_owned(), end()],
        ),
        (
            "/anthropic/v1/messages",
            json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "stream": true, "messages": user}),
            [
                "event: ping\ndata: {\"type\": \"ping\"}\n\n".to_owned(),
                "event: ping\ndata:\n\n".to_owned(),
                ":\n\n".to_owned(),
                "event: ping\n\n".to_owned(),
                "event: message_stop\r\ndata: {\"type\":\"message_stop\"}\r\n\r\n".to_owned(),
            ],
        ),
        (
            "/openai/v1/responses",
            json!({"model": "gpt-4o", "stream": true, "input": "Hello"}),
            [
                "event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":1}\n\n"
                    .to_owned(),
                "\n".to_owned(),
                "\r\n".to_owned(),
                format!("event: response.completed\ndata: {done}\n\n"),
                data("[DONE]"),
            ],
        ),
        (
            stream,
            json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}),
            [data(part), "\n".to_owned(), "\n".to_owned(), "\n".to_owned(), data(" [DONE] ")],
        ),
    ] {
        let whole = events.concat();
        team.upstream.push(Script::sse(events));
        let answer = team.caller().send(Request::post_json(path, &body)).await.expect(200);
        let read = |text: &str| text.replace(": \n", ":\n").replace("data\n", "data: \n");
        assert_eq!(read(&answer.text()), read(&whole), "{path}");
    }
}

async fn comments_and_other_fields_lose_their_text(database: Database) {
    let (_app, team) = started(&database, json!({})).await;
    for size in [1, 7, 1000] {
        let stream = [
            "\u{feff}: grace.\r\n\r\n".to_owned(),
            ": OPENROUTER PROCESSING\n\n".to_owned(),
            format!(":{OTHER}\n:hopper\r"),
            format!("id: {OTHER}\nretry: 4111111111111111\n: hopper\n{}", text("Hi. ")),
            format!("{OTHER}: {OTHER}\n\n"),
            format!("event: {OTHER}\n{}", text("Hm. ")),
            format!("event: {OTHER}\n\n"),
            format!("id:{OTHER}\r\revent: grace\nevent: message\n{}", text("And. ")),
            end(),
            format!(": {OTHER}"),
        ];
        let stream = stream.concat().into_bytes();
        let got = streamed(&team, stream.chunks(size).map(<[u8]>::to_vec)).await.expect(200).text();
        hides(&got);
        assert!(!got.contains("OPENROUTER") && !got.contains("4111"), "{got}");
        assert!(
            got.contains("event: REDACTED_EMAIL\n") && got.contains("event: message\n"),
            "{got}"
        );
        assert_eq!(chat_text(&got.replace('\r', "\n")), "Hi. Hm. And. ");
        assert!(got.ends_with("data: [DONE]\n\n"), "{got}");
    }
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
    let one = crate::data_policy::placeholder(&team.upstream, "EMAIL");
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

async fn values_across_long_events_are_found(database: Database) {
    let (_app, team) = started(&database, json!({})).await;
    let mut question = says(&format!("I am {EMAIL}"));
    let one = learn(&team, &question).await;
    question["stream"] = json!(true);
    let words = "word ".repeat(20_000);
    let (head, tail) = one.split_at(7);
    let call = |arguments: String| {
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}))
    };
    team.upstream.push(Script::sse([
        text("Not grace."),
        text(&format!("hopper@example.org {words}{head}")),
        text(&format!("{tail} {words}grace.hopper")),
        text("@example.org."),
        call(format!("{{\"x\":\"{words}{head}")),
        call(format!("{tail}\",\"y\":\"{words}grace.")),
        call("hopper@example.org\"}".to_owned()),
        end(),
    ]));
    let got = team.caller().send(chat(&question)).await.expect(200).text();
    let expected = format!("Not REDACTED_EMAIL {words}{EMAIL} {words}REDACTED_EMAIL.");
    assert_eq!(chat_text(&got), expected);
    let expected = json!({"x": format!("{words}{EMAIL}"), "y": format!("{words}REDACTED_EMAIL")});
    assert_eq!(call_arguments(&got), expected);
    // More pieces than are edited one by one, in one event.
    let choice = |index: usize, text: &str| json!({"index": index, "delta": {"content": text}});
    let event = |text: &str| {
        data(json!({"choices": (0..300).map(|index| choice(index, text)).collect::<Vec<_>>()}))
    };
    let got = streamed(&team, [event("grace."), event("hopper@example.org "), end()]).await;
    hides(&got.expect(200).text());
}

async fn strings_that_are_not_unicode_are_scanned(database: Database) {
    let (_app, team) = started(&database, json!({})).await;
    let mut question = says(&format!("I am {EMAIL}"));
    let one = learn(&team, &question).await;
    question["stream"] = json!(true);
    let raw = |text: &[u8]| {
        [br#"data: {"choices":[{"index":0,"delta":{"content":""#, text, b"\"}}]}\n\n"].concat()
    };
    // A character may be divided between two events.
    let parts = [
        br"grace.hopper@example.org \ud83d".to_vec(),
        br"\ude00 and ".to_vec(),
        [br"\udc00 ", one.as_bytes(), br" \ud83d"].concat(),
        br"\ude00, grace.".to_vec(),
        br"hopper@example.org\ud83d".to_vec(),
        b"\\ude00 \xff grace.hopper@example.org".to_vec(),
    ];
    let mut stream: Vec<Vec<u8>> = parts.iter().map(|part| raw(part)).collect();
    stream.push(end().into_bytes());
    team.upstream.push(Script::sse(stream));
    let got = team.caller().send(chat(&question)).await.expect(200).text();
    hides(&got);
    let halves = got.matches("\\ud83d").count();
    assert_eq!((halves, got.matches("\\ude00").count()), (3, 3), "{got}");
    assert!(got.contains("\\udc00") && got.contains(EMAIL) && !got.contains("TG_"), "{got}");

    let mut plain = openai::chat_object("%", USAGE).to_string();
    plain = plain.replace('%', &format!(r"{OTHER} \ud83d {one}"));
    let head = [("content-type", "application/json")];
    team.upstream.push(Script::new().sized(200, &head, plain));
    question["stream"] = json!(false);
    let got = team.caller().send(chat(&question)).await.expect(200).text();
    assert!(got.contains(&format!(r"REDACTED_EMAIL \ud83d {EMAIL}")), "{got}");
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

async fn streams_that_are_written_in_odd_ways_are_scanned(database: Database) {
    let (_app, team) = started(&database, json!({})).await;
    let mut question = says(&format!("I am {EMAIL}"));
    let one = learn(&team, &question).await;
    question["stream"] = json!(true);
    let (head, tail) = one.split_at(7);
    // Keys in escapes and in another order, data in several lines, ends of lines of all kinds.
    let stream = [
        "\u{feff}data: {\"choices\":[\r\ndata: {\"d\\u0065lta\":{\"cont\\u0065nt\":\"Not gr\\u0061ce.\"},\r\n"
            .to_owned(),
        "data: \"index\":0}]}\r\n\r\n".to_owned(),
        "data:{\"choices\":[{\"delta\":{\"content\":\"hopper\\u0040example.org or \"}}]}\r\r".to_owned(),
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{head}\"}},\"index\":null}}]}}\n\n"),
        format!("data: {{\"\\u0063hoices\":[{{\"delta\":{{\"content\":\"{tail}!\"}}}}]}}\n\n"),
        data(json!({"choices": [
            {"index": 1, "delta": {"refusal": "Not grace."}},
            {"index": 2, "delta": {"audio": {"transcript": "Not grace."}}},
            {"index": -1, "delta": {"reasoning": "Not grace."}}]})),
        data(json!({"choices": [
            {"index": 2, "delta": {"audio": {"transcript": "hopper@example.org "}}},
            {"index": -1, "delta": {"reasoning": "hopper@example.org "}},
            {"index": 1, "delta": {"refusal": "hopper@example.org "}}]})),
        data(json!({"choices": [{"index": 0, "delta": {"annotations": [{"type": "url_citation",
            "url_citation": {"url": format!("https://example.org/?to={OTHER}"), "title": OTHER}}]}}]})),
        end(),
    ];
    let stream = stream.concat().into_bytes();
    for size in [1, 11, 5000] {
        team.upstream.push(Script::sse(stream.chunks(size).map(<[u8]>::to_vec)));
        let got = team.caller().send(chat(&question)).await.expect(200).text();
        hides(&got);
        assert!(got.contains(EMAIL) && !got.contains("TG_"), "{got}");
        assert_eq!(got.matches("REDACTED_EMAIL").count(), 6, "{got}");
    }
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
    let one = crate::data_policy::placeholder(&team.upstream, "EMAIL");
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
