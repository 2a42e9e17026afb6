//! Streams of scanned answers that are legal, odd, or none: no value gets through, and what is no event of
//! the format is not passed on.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::answer_scanning::{OTHER, PRICE, scanning, with_providers};
use crate::data_policy::{EMAIL, USAGE, chat, guard, learn, says};
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows, openai,
    policies::refused,
    script::{Script, data},
    streams::{broken_off, call_arguments, chat_text, events},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        data_that_are_no_event_break_the_stream_off,
        what_comes_after_an_array_breaks_the_stream_off,
        marks_and_pings_of_every_format_pass,
        comments_and_other_fields_lose_their_text,
        values_across_long_events_are_found,
        strings_that_are_not_unicode_are_scanned,
        streams_that_are_written_in_odd_ways_are_scanned,
    ]
}

pub(crate) async fn started(database: &Database, more: Value) -> (TestApp, Fixture) {
    let (app, team) = TestApp::start_with_workspace(database).await;
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

pub(crate) fn delta(delta: Value) -> String {
    data(json!({"choices": [{"index": 0, "delta": delta}]}))
}

pub(crate) fn text(text: &str) -> String {
    delta(json!({"content": text}))
}

pub(crate) fn end() -> String {
    data(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})) + &data("[DONE]")
}

/// Sends a question whose answer is a stream of these bytes.
pub(crate) async fn streamed(
    team: &Fixture,
    parts: impl IntoIterator<Item = impl Into<Bytes>>,
) -> Answer {
    team.upstream.push(Script::sse(parts));
    team.caller().send(asks_for_stream("Hello")).await
}

/// None of a value's parts is in what the caller got.
#[track_caller]
pub(crate) fn hides(got: &str) {
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
