//! Streams: relayed as they arrive, and searched for usage.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    connection::{BodyEnd, Connection, Event},
    database::Database,
    fixture::{Fixture, question},
    http::Request,
    openai::{self, PARTS, Usage},
    script::{Pause, Script, data},
    server_process::ServerProcess,
    wait::{DEADLINE, eventually, within},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        usage_of_a_plain_answer_is_read,
        usage_of_a_responses_answer_is_read,
        only_the_usage_event_is_withheld,
        a_usage_event_in_pieces_is_withheld,
        a_usage_event_that_names_no_choices_is_withheld,
        a_stream_with_a_length_is_relayed_without_its_usage_event,
        what_is_not_usage_is_not_withheld,
        a_stream_is_known_by_its_first_bytes,
        usage_that_the_caller_asked_for_is_not_withheld,
        stream_usage_leave_changes_nothing,
        a_responses_stream_is_relayed_byte_for_byte,
        each_chunk_is_relayed_when_it_arrives,
        small_chunks_do_not_wait_for_each_other,
        chunks_may_be_split_anywhere,
        a_slow_first_byte_is_awaited,
        interim_answers_are_skipped,
        a_long_stream_takes_constant_memory,
        five_hundred_concurrent_streams_are_served,
        metrics_count_streams_and_tokens,
    ]
}

/// The bytes of the events.
pub(crate) fn raw(events: &[Event]) -> Bytes {
    events.iter().flat_map(|event| event.raw.to_vec()).collect()
}

/// A streamed request to the responses API.
pub(crate) fn responses_stream() -> Request {
    Request::post_json(
        &Fixture::route("responses"),
        &json!({"input": "Good morning?", "stream": true}),
    )
}

/// The rest of the body, and how it ended.
pub(crate) async fn whole(connection: &mut Connection) -> (Bytes, BodyEnd) {
    let (pieces, ending) = connection.rest().await;
    (pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect(), ending)
}

const TOKENS: [(&str, &str); 5] = [
    ("input_tokens", "11"),
    ("cached_input_tokens", "3"),
    ("output_tokens", "7"),
    ("reasoning_tokens", "2"),
    ("model_used", "gpt-test-2025"),
];

async fn usage_of_a_plain_answer_is_read(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let body = json!({"model": "asked-for", "messages": []});
    team.caller().post_json(&Fixture::route("chat/completions"), &body).await.expect(200);
    let settled = team.settled_once().await;
    settled.says(&TOKENS);
    settled.says(&[
        ("operation", "chat_completions"),
        ("status", "200"),
        ("outcome", "completed"),
        ("attempts", "1"),
        ("model_asked", "asked-for"),
        ("key_id", &team.caller_key_id),
    ]);
}

async fn usage_of_a_responses_answer_is_read(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let plain = Request::post_json(&Fixture::route("responses"), &json!({"input": "Hello"}));
    team.caller().send(plain).await.expect(200);
    team.caller().send(responses_stream()).await.expect(200);
    for settled in team.settled(&team.configuration_id, 2).await {
        settled.says(&TOKENS);
        settled.says(&[("operation", "responses"), ("outcome", "completed")]);
    }
}

async fn only_the_usage_event_is_withheld(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let answer = team.caller().send(Fixture::chat_stream()).await.expect(200);
    let received = team.upstream.last_request().json();
    assert_eq!(received["stream_options"], json!({"include_usage": true}));
    let mut sent = openai::chat_events(&PARTS, Usage::USUAL, true);
    let withheld = sent.remove(sent.len() - 2);
    assert!(withheld.contains("\"choices\":[]"));
    assert_eq!(answer.text(), sent.concat());
    team.settled_once().await.says(&TOKENS);

    // The caller's other options are kept.
    let mut body = question(true);
    body["stream_options"] = json!({"include_obfuscation": false});
    team.caller().post_json(&Fixture::route("chat/completions"), &body).await.expect(200);
    let received = team.upstream.last_request().json();
    let options = json!({"include_obfuscation": false, "include_usage": true});
    assert_eq!(received["stream_options"], options);
}

async fn what_is_not_usage_is_not_withheld(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let mut event =
        json!({"choices": [], "usage": Usage::USUAL.chat(), "timings": {"prompt_ms": 2.5}});
    let mut events = openai::chat_events(&PARTS, Usage::USUAL, false);
    events.insert(events.len() - 1, data(&event));
    team.upstream.push(Script::sse(events.clone()));
    let answer = team.caller().send(Fixture::chat_stream()).await.expect(200);
    event.as_object_mut().unwrap().remove("usage");
    event["choices"] = json!([{"index": 0, "delta": {}, "finish_reason": null}]);
    let rest = events.len() - 2;
    events[rest] = data(&event);
    assert_eq!(answer.text(), events.concat());
    team.settled_once().await.says(&TOKENS);
}

async fn a_usage_event_that_names_no_choices_is_withheld(database: Database) {
    let app = TestApp::start(&database).await;
    let team = app.workspace().await;
    let events = openai::chat_events(&PARTS, Usage::USUAL, false);
    let mut event = json!({"id": "chatcmpl-test", "object": "chat.completion.chunk",
        "usage": Usage::USUAL.chat()});
    for number in 0..2 {
        let mut sent = events.clone();
        sent.insert(sent.len() - 1, data(&event));
        let whole = sent.concat();
        let script = Script::sse_head().chunks(whole.as_bytes().chunks(50).map(<[u8]>::to_vec));
        team.upstream.push(script.end());
        let answer = team.caller().send(Fixture::chat_stream()).await.expect(200);
        assert_eq!(answer.text(), events.concat());
        let settled = team.settled(&team.configuration_id, number + 1).await;
        settled[number].says(&TOKENS);
        event["choices"] = serde_json::Value::Null;
    }
}

async fn a_stream_is_known_by_its_first_bytes(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let sent = openai::chat_events(&PARTS, Usage::USUAL, true);
    let mut relayed = sent.clone();
    relayed.remove(relayed.len() - 2);
    let whole = sent.concat();
    for (number, content_type) in
        [Some("application/json"), Some("text/plain"), None].into_iter().enumerate()
    {
        let headers: Vec<_> =
            content_type.map(|value| ("content-type", value)).into_iter().collect();
        let script = match number {
            0 => Script::new().sized(200, &headers, whole.clone()),
            _ => Script::new().chunked_head(200, &headers).chunk("\n").chunks(sent.clone()).end(),
        };
        team.upstream.push(script);
        let answer = team.caller().send(Fixture::chat_stream()).await.expect(200);
        assert_eq!(answer.header("content-type"), content_type);
        assert_eq!(answer.text().trim_start(), relayed.concat(), "{content_type:?}");
        let settled = team.settled(&team.configuration_id, number + 1).await;
        settled[number].says(&TOKENS);
    }
    // What is no stream is read as a plain answer.
    team.upstream.push(openai::chat_completion("Hello", Usage::USUAL));
    team.caller().send(Fixture::chat_stream()).await.expect(200);
    team.settled(&team.configuration_id, 4).await[3].says(&TOKENS);
}

/// Events that resemble the usage event, and a usage event with unusual formatting.
fn odd_events() -> (Vec<String>, String) {
    let passed = vec![
        ": a comment\n\n".to_owned(),
        data(json!({"choices": [{"delta": {"content": "\"usage\": {\"choices\": []}"}}]})),
        data(json!({"choices": [], "prompt_filter_results": []})),
        data(json!({"choices": [], "usage": null})),
        data(json!({"choices": [{"delta": {}}], "usage": {"prompt_tokens": 1}})),
        "event: ping\ndata: {}\n\n".to_owned(),
        "data: not JSON\n\n".to_owned(),
        data("[DONE]"),
    ];
    let usage = Usage::USUAL.chat();
    let withheld = format!("id: 7\ndata: {{\"usage\" : {usage} ,\ndata: \"choices\" : [ ] }}\n\n");
    (passed, withheld)
}

async fn a_usage_event_in_pieces_is_withheld(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let (passed, withheld) = odd_events();
    let mut sent = passed.clone();
    sent.insert(passed.len() - 1, withheld);
    let sent = sent.concat();
    for size in [1, 5, 64, 100_000] {
        let pieces = sent.as_bytes().chunks(size).map(Bytes::copy_from_slice);
        team.upstream.push(Script::sse(pieces));
        let answer = team.caller().send(Fixture::chat_stream()).await.expect(200);
        assert_eq!(answer.text(), passed.concat(), "in pieces of {size}");
    }
    for settled in team.settled(&team.configuration_id, 4).await {
        settled.says(&[("input_tokens", "11"), ("output_tokens", "7")]);
    }
}

async fn a_stream_with_a_length_is_relayed_without_its_usage_event(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let mut sent = openai::chat_events(&PARTS, Usage::USUAL, true);
    let kind = [("content-type", "text/event-stream")];
    team.upstream.push(Script::new().sized(200, &kind, sent.concat()));
    let answer = team.caller().send(Fixture::chat_stream()).await.expect(200);
    sent.remove(sent.len() - 2);
    assert_eq!(answer.text(), sent.concat());

    // If it breaks off, there is room for the error event.
    team.upstream.push(Script::new().sized_head(200, &kind, 1000).raw(data("{}")).close());
    let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    let (events, ending) = stream.events().await;
    assert_eq!(events.len(), 2);
    assert_eq!(events[1].json()["error"]["code"], "upstream_closed");
    assert!(matches!(ending, BodyEnd::Broken(_)), "{ending:?}");
}

async fn usage_that_the_caller_asked_for_is_not_withheld(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let mut body = question(true);
    body["stream_options"] = json!({"include_usage": true});
    let answer =
        team.caller().post_json(&Fixture::route("chat/completions"), &body).await.expect(200);
    assert_eq!(answer.text(), openai::chat_events(&PARTS, Usage::USUAL, true).concat());
    assert_eq!(team.upstream.last_request().json()["stream_options"], body["stream_options"]);
    team.settled_once().await.says(&TOKENS);
}

async fn stream_usage_leave_changes_nothing(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let id = team.configure("left", json!({"stream_usage": "leave"})).await;
    let request = || Request::post_json("/providers/left/v1/chat/completions", &question(true));
    let answer = team.caller().send(request()).await.expect(200);
    assert_eq!(answer.text(), openai::chat_events(&PARTS, Usage::USUAL, false).concat());
    assert_eq!(team.upstream.last_request().json().get("stream_options"), None);

    // Usage that was not asked for is read too.
    let (mut sent, usage) = odd_events();
    sent.insert(sent.len() - 1, usage);
    team.upstream.push(Script::sse(sent.clone()));
    let answer = team.caller().send(request()).await.expect(200);
    assert_eq!(answer.text(), sent.concat());
    let settled = team.settled(&id, 2).await;
    assert!(settled.iter().any(|settled| settled.field("input_tokens") == Some("11")));
}

async fn a_responses_stream_is_relayed_byte_for_byte(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let (head, mut stream) = team.caller().stream(responses_stream()).await;
    assert_eq!(head.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let (events, ending) = stream.events().await;
    assert_eq!(ending, BodyEnd::Complete);
    assert_eq!(raw(&events), openai::response_events(&PARTS, Usage::USUAL).concat());
    assert_eq!(team.upstream.last_request().json().get("stream_options"), None);
}

async fn each_chunk_is_relayed_when_it_arrives(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let pause = Pause::new();
    let events: Vec<_> = (0..5)
        .map(|number| data(json!({"choices": [{"delta": {"content": number.to_string()}}]})))
        .collect();
    let script = events
        .iter()
        .fold(Script::sse_head(), |script, event| script.chunk(event.clone()).wait(&pause));
    team.upstream.push(script.chunk(data("[DONE]")).end());
    let reading = async {
        let (head, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
        assert_eq!(head.status, 200);
        for sent in &events {
            // The upstream sends the next event only after this one has arrived.
            let event = stream.event().await.unwrap().unwrap();
            assert_eq!(event.raw, *sent);
            pause.release();
        }
        let (rest, ending) = stream.events().await;
        assert_eq!((rest.len(), ending), (1, BodyEnd::Complete));
    };
    within(DEADLINE, "each event comes before the next is sent", reading).await;
}

/// Nagle's algorithm on either side would delay a small write until the previous one is acknowledged,
/// which takes up to 40 ms.
async fn small_chunks_do_not_wait_for_each_other(database: Database) {
    const CHUNKS: u32 = 50;
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let script = (0..CHUNKS).fold(Script::sse_head(), |script, _| {
        script.chunk(data(json!({"choices": [{}]}))).delay(Duration::from_millis(2))
    });
    team.upstream.push(script.chunk(data("[DONE]")).end());
    let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    let mut apart = Vec::new();
    let mut last: Option<Instant> = None;
    while let Some(event) = stream.event().await.unwrap() {
        apart.extend(last.map(|last| event.at - last));
        last = Some(event.at);
    }
    apart.sort_unstable();
    let median = apart[apart.len() / 2];
    assert_eq!(apart.len(), CHUNKS as usize);
    assert!(median < Duration::from_millis(35), "half of the chunks waited {median:?} or longer");
}

async fn chunks_may_be_split_anywhere(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let event = data(json!({"choices": [{"delta": {"content": "Zoë ☕ 😀"}}]}));
    let sent = [event.as_str(), &event, &data("[DONE]")].concat();
    let coffee = sent.find('☕').unwrap();
    for cuts in [vec![coffee + 1], vec![coffee + 2, coffee + 3], vec![2], vec![4, 5, 6]] {
        let pause = Pause::new();
        let mut script = Script::sse_head();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([sent.len()]) {
            script = script.chunk(sent.as_bytes()[from..cut].to_vec()).wait(&pause);
            from = cut;
        }
        team.upstream.push(script.end());
        let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
        pause.release_all();
        let (body, ending) = within(DEADLINE, "the stream ends", whole(&mut stream)).await;
        assert_eq!((body.as_ref(), ending), (sent.as_bytes(), BodyEnd::Complete), "{cuts:?}");
    }
    // Invalid UTF-8 is relayed.
    let odd = b"data: \xff\xfe\n\n";
    team.upstream.push(Script::sse([&odd[..], b"data: [DONE]\n\n"]));
    let answer = team.caller().send(Fixture::chat_stream()).await.expect(200);
    assert!(answer.body.starts_with(odd));
}

async fn a_slow_first_byte_is_awaited(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    // Longer than the default timeout of the client library.
    let slow = Script::new().delay(Duration::from_millis(5_500));
    team.upstream.push(slow.and(openai::chat_completion("late", Usage::USUAL)));
    let answer = team.caller().send(Fixture::chat()).await.expect(200);
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "late");
    team.settled_once().await.says(&[("attempts", "1"), ("outcome", "completed")]);
}

async fn interim_answers_are_skipped(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let pause = Pause::new();
    let hint = [("link", "</a>; rel=preload")];
    let script = Script::new().informational(103, &hint).informational(103, &hint).wait(&pause);
    team.upstream.push(script.and(openai::chat_completion("the real one", Usage::USUAL)));
    team.upstream.push(openai::chat_completion("the next one", Usage::USUAL));
    let mut first = team.caller().open(Fixture::chat()).await.unwrap();
    team.upstream.request(0).await;
    pause.release();
    assert_eq!(first.head().await.unwrap().status, 200);
    let (body, ending) = whole(&mut first).await;
    assert_eq!(ending, BodyEnd::Complete);
    assert!(String::from_utf8_lossy(&body).contains("the real one"));
    let next = team.caller().send(Fixture::chat()).await.expect(200);
    assert!(next.text().contains("the next one"));
}

async fn a_long_stream_takes_constant_memory(database: Database) {
    const CHUNK: usize = 16 * 1024;
    const COUNT: usize = 100 * 1024 * 1024 / CHUNK;
    let served = ServerProcess::start(&database, &[("--workers", "1")]).await;
    let team = served.workspace().await;
    let text = "x".repeat(CHUNK - 46);
    let event = data(json!({"choices": [{"delta": {"content": text}}]}));
    // The first stream is a warm-up.
    let read = async |count: usize| {
        let script = Script::sse_head().repeat(event.clone(), count);
        team.upstream.push(script.chunk(data("[DONE]")).end());
        let (head, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
        assert_eq!(head.status, 200);
        let (mut length, mut most) = (0, 0);
        let mut pieces = 0_usize;
        while let Some(piece) = stream.piece().await.unwrap() {
            length += piece.bytes.len();
            pieces += 1;
            if pieces.is_multiple_of(200) {
                most = most.max(served.process.resident());
            }
        }
        assert_eq!(length, count * event.len() + data("[DONE]").len());
        most.max(served.process.resident())
    };
    read(COUNT / 20).await;
    let rows = format!("/api/v1/workspaces/{}/requests", team.workspace_id);
    eventually("the tokens of the first are counted", async || {
        let page = served.admin().get(&rows).await.expect(200).json();
        page["data"].as_array().is_some_and(|rows| !rows.is_empty())
    })
    .await;
    let before = read(COUNT / 20).await;
    let most = read(COUNT).await;
    let grown = most.saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more for twenty times the stream");
    // Also for one very long event.
    let long = Script::sse_head().chunk("data: {\"choices\":[{\"x\":\"").repeat(text, COUNT);
    team.upstream.push(long.chunk("\"}]}\n\ndata: [DONE]\n\n").end());
    let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    while stream.piece().await.unwrap().is_some() {}
    let grown = served.process.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more for one long event");
}

async fn five_hundred_concurrent_streams_are_served(database: Database) {
    const STREAMS: usize = 500;
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let pause = Pause::new();
    let sent = openai::chat_events(&PARTS, Usage::USUAL, false);
    for _ in 0..STREAMS {
        let script = Script::sse_head().chunk(sent[0].clone()).wait(&pause);
        team.upstream.push(script.chunks(sent[1..].to_vec()).end());
    }
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(team.caller().open(Fixture::chat_stream()).await.unwrap());
    }
    for stream in &mut streams {
        assert_eq!(within(DEADLINE, "a head", stream.head()).await.unwrap().status, 200);
        let first = within(DEADLINE, "a first event", stream.event()).await.unwrap().unwrap();
        assert_eq!(first.raw, sent[0]);
    }
    assert_eq!(team.upstream.seen().open(), STREAMS, "all at once, none queued");
    pause.release_all();
    for stream in &mut streams {
        let (events, ending) = within(DEADLINE, "the rest", stream.events()).await;
        assert_eq!((raw(&events), ending), (sent[1..].concat().into(), BodyEnd::Complete));
    }
}

async fn metrics_count_streams_and_tokens(database: Database) {
    let app = TestApp::with(&database, &["--workers", "1"]).await;
    let team = app.workspace().await;
    let metric = async |line: &str| {
        let text = app.platform().get("/metrics").await.expect(200).text();
        let value = text.lines().find_map(|rest| rest.strip_prefix(line)?.strip_prefix(' '));
        value.map(|value| value.trim().to_owned())
    };
    let pause = Pause::new();
    team.upstream.push(Script::sse_head().chunk(data("{}")).wait(&pause).end());
    let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    assert_eq!(metric("tollgate_open_streams").await.as_deref(), Some("1"));
    pause.release_all();
    assert_eq!(stream.rest().await.1, BodyEnd::Complete);
    team.caller().send(Fixture::chat()).await.expect(200);
    team.upstream.push(Script::new().close());
    team.caller().send(Fixture::chat()).await.expect(200);
    eventually("all is counted", async || {
        let input = metric("tollgate_usage_tokens_total{kind=\"input\"}").await;
        let open = metric("tollgate_open_streams").await;
        (input.as_deref(), open.as_deref()) == (Some("22"), Some("0"))
    })
    .await;
    let output = metric("tollgate_usage_tokens_total{kind=\"output\"}").await;
    assert_eq!(output.as_deref(), Some("14"));
    assert_eq!(metric("tollgate_upstream_retries_total").await.as_deref(), Some("1"));
    let closed = metric("tollgate_upstream_errors_total{reason=\"closed\"}").await;
    assert_eq!(closed.as_deref(), Some("1"));
}
