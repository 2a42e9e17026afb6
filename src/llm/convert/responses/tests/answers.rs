//! What OpenAI answers.

use serde_json::json;

use super::super::super::answer::{Annotation, AnswerBlock, AnswerUsage, Failure, ReadEvents};
use super::super::super::opaque::{Family, Opaque, OpaqueKind};
use super::super::read_answer;
use super::*;

/// An answer with this output.
fn answer(output: &Value) -> String {
    json!({"id": "resp_1", "model": "gpt", "status": "completed", "output": output}).to_string()
}

fn blocks(output: &Value) -> Vec<(BlockKind, String)> {
    let answer = fold(read_answer(&answer(output)).unwrap());
    answer.blocks.into_iter().map(|block| (block.kind, block.text)).collect()
}

/// The events of a stream, without the pings.
fn events(data: &[Value]) -> Vec<AnswerEvent> {
    let data: Vec<String> = data.iter().map(Value::to_string).collect();
    let mut events = read_stream(data.iter().map(String::as_str));
    events.retain(|event| *event != AnswerEvent::Ping);
    events
}

fn completed() -> Value {
    json!({"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": []}})
}

fn message() -> Value {
    json!({"type": "message", "content": [{"type": "output_text", "text": "ab", "annotations": []}]})
}

#[test]
fn items_become_blocks_in_order() {
    let output = json!([
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "a"},
            {"type": "summary_text", "text": "b"}], "encrypted_content": "gAAA"},
        {"type": "reasoning", "id": "rs_2", "summary": [], "content": [{"type": "reasoning_text", "text": "c"}]},
        {"type": "reasoning", "id": "rs_3", "summary": []},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "message", "content": [{"type": "output_text", "text": "d"}, {"type": "refusal", "refusal": "e"},
            {"type": "new", "text": "x"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"a\": 1.0}"},
        {"type": "function_call", "id": "fc_2", "name": "g"},
        {"type": "brand_new"},
    ]);
    let call =
        |id: &str, name: &str| BlockKind::ToolCall { id: id.to_owned(), name: name.to_owned() };
    let expected = [
        (BlockKind::Reasoning { is_summary: true }, "a\n\nb"),
        (BlockKind::Reasoning { is_summary: false }, "c"),
        (BlockKind::Text, "d"),
        (BlockKind::Refusal, "e"),
        (call("c1", "f"), "{\"a\": 1.0}"),
        (call("fc_2", "g"), ""),
    ];
    let expected: Vec<_> =
        expected.into_iter().map(|(kind, text)| (kind, text.to_owned())).collect();
    assert_eq!(blocks(&output), expected);
    let answer = fold(read_answer(&answer(&output)).unwrap());
    let own = Opaque {
        family: Family::OpenAi,
        kind: OpaqueKind::Encrypted,
        id: Some("rs_1".into()),
        data: "gAAA".into(),
    };
    assert_eq!(answer.blocks[0].opaque, [own]);
    assert_eq!((answer.id.as_deref(), answer.model.as_deref()), (Some("resp_1"), Some("gpt")));
}

#[test]
fn reasons_to_stop() {
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let refusal = json!({"type": "message", "content": [{"type": "refusal", "refusal": "no"}]});
    for (status, details, output, reason, native) in [
        ("completed", Value::Null, json!([]), StopReason::End, "completed"),
        ("completed", Value::Null, json!([message()]), StopReason::End, "completed"),
        ("completed", Value::Null, json!([message(), call]), StopReason::ToolCall, "completed"),
        ("completed", Value::Null, json!([refusal]), StopReason::Refusal, "completed"),
        (
            "incomplete",
            json!({"reason": "max_output_tokens"}),
            json!([call]),
            StopReason::MaxTokens,
            "max_output_tokens",
        ),
        (
            "incomplete",
            json!({"reason": "content_filter"}),
            json!([]),
            StopReason::Refusal,
            "content_filter",
        ),
        ("incomplete", json!({"reason": "bored"}), json!([]), StopReason::Other, "bored"),
        ("incomplete", Value::Null, json!([]), StopReason::Other, "incomplete"),
    ] {
        let json = json!({"status": status, "incomplete_details": details, "output": output});
        let events = read_answer(&json.to_string()).unwrap();
        assert_eq!(events.last(), Some(&AnswerEvent::End));
        let stop = fold(events).stop.unwrap();
        assert_eq!((stop.reason, &*stop.native), (reason, native), "{json}");
    }
}

#[test]
fn usage_is_in_parts() {
    let usage = |usage: Value| {
        let json = json!({"status": "completed", "output": [], "usage": usage});
        fold(read_answer(&json.to_string()).unwrap()).usage
    };
    let whole = usage(json!({
        "input_tokens": 100, "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "output_tokens": 50, "output_tokens_details": {"reasoning_tokens": 20}, "total_tokens": 150,
    }));
    let expected = AnswerUsage {
        input: Some(10),
        cache_read: Some(60),
        cache_write: Some(30),
        output: Some(50),
        reasoning: Some(20),
        ..AnswerUsage::default()
    };
    assert_eq!(whole, expected);
    assert_eq!(
        usage(json!({"input_tokens": 5, "input_tokens_details": {"cached_tokens": 9}})).input,
        Some(0)
    );
    assert_eq!(usage(Value::Null), AnswerUsage::default());
}

#[test]
fn citations_are_those_of_pages() {
    let annotations = json!([
        {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 0, "end_index": 2},
        {"type": "file_citation", "file_id": "f"},
        {"type": "url_citation", "url": "https://b", "title": ""},
    ]);
    let item = json!({"type": "message", "content": [
        {"type": "output_text", "text": "ab", "annotations": annotations}]});
    let expected = [
        Annotation { url: "https://a".to_owned(), title: Some("A".to_owned()), span: Some((0, 2)) },
        Annotation { url: "https://b".to_owned(), title: None, span: None },
    ];
    let plain = fold(read_answer(&answer(&json!([item]))).unwrap());
    assert_eq!(plain.blocks[0].annotations, expected);
    // One of them has its own event.
    let streamed = events(&[
        json!({"type": "response.output_text.delta", "delta": "ab"}),
        json!({"type": "response.output_text.annotation.added", "annotation": annotations[0]}),
        json!({"type": "response.output_item.done", "item": item}),
        completed(),
    ]);
    assert_eq!(fold(streamed).blocks, plain.blocks);
}

#[test]
fn what_is_no_answer_is_said_to_be_none() {
    for json in [
        "",
        "[]",
        "{}",
        r#"{"output": {}}"#,
        r#"{"output": [3]}"#,
        r#"{"status": "in_progress", "output": []}"#,
        r#"{"status": "queued", "output": []}"#,
    ] {
        assert!(read_answer(json).is_err(), "{json}");
    }
    for (error, code, message) in [
        (json!({"code": "server_error", "message": "m"}), "server_error", "m"),
        (json!({"type": "overloaded", "message": "m"}), "overloaded", "m"),
        (json!("x"), "upstream_error", "The provider reports an error, and does not say which."),
    ] {
        for status in [json!("failed"), json!("cancelled"), Value::Null] {
            let json = json!({"status": status, "error": error, "output": []});
            let events = read_answer(&json.to_string()).unwrap();
            let failure = Failure { code: code.to_owned(), message: message.to_owned() };
            assert_eq!(events.last(), Some(&AnswerEvent::Failed(failure)), "{json}");
        }
    }
}

#[test]
fn a_stream_gives_each_piece() {
    let added = |index: u64, item: Value| json!({"type": "response.output_item.added", "output_index": index, "item": item});
    let done = |index: u64, item: Value| json!({"type": "response.output_item.done", "output_index": index, "item": item});
    let thought = |part: u64, delta: &str| {
        json!({"type": "response.reasoning_summary_text.delta",
        "output_index": 0, "summary_index": part, "delta": delta})
    };
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA", "summary": [
        {"type": "summary_text", "text": "ab"}, {"type": "summary_text", "text": "c"}]});
    let call =
        json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"a\":1}"});
    let begun = json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": ""});
    let piece = |delta: &str| {
        json!({"type": "response.function_call_arguments.delta",
        "output_index": 1, "delta": delta})
    };
    let events = events(&[
        json!({"type": "response.created", "response": {"id": "resp_1", "model": "gpt"}}),
        json!({"type": "response.in_progress", "response": {"id": "resp_1"}}),
        added(
            0,
            json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "early"}),
        ),
        thought(0, "a"),
        thought(0, "b"),
        json!({"type": "response.reasoning_summary_text.done", "output_index": 0, "text": "ab"}),
        thought(1, "c"),
        done(0, reasoning),
        added(1, begun),
        piece("{\"a\""),
        piece(":1}"),
        json!({"type": "response.function_call_arguments.done", "output_index": 1, "arguments": "{\"a\":1}"}),
        done(1, call),
        completed(),
        json!({"type": "response.output_text.delta", "delta": "late"}),
    ]);
    let own = Opaque {
        family: Family::OpenAi,
        kind: OpaqueKind::Encrypted,
        id: Some("rs_1".into()),
        data: "gAAA".into(),
    };
    let (id, name) = ("c1".to_owned(), "f".to_owned());
    let expected = [
        AnswerEvent::Start { id: Some("resp_1".to_owned()), model: Some("gpt".to_owned()) },
        open(0, BlockKind::Reasoning { is_summary: true }),
        text(0, "a"),
        text(0, "b"),
        text(0, "\n\nc"),
        AnswerEvent::Opaque { block: 0, opaque: own },
        close(0),
        open(1, BlockKind::ToolCall { id, name }),
        arguments(1, "{\"a\""),
        arguments(1, ":1}"),
        close(1),
        AnswerEvent::Stop(Stop {
            reason: StopReason::ToolCall,
            native: "completed".to_owned(),
            sequence: None,
        }),
        AnswerEvent::End,
    ];
    assert_eq!(events, expected);
}

/// What a provider leaves out of the deltas comes from the events that repeat it.
#[test]
fn a_stream_may_leave_out_all_but_the_whole() {
    let call = json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"});
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA",
        "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]});
    let output = json!([reasoning, message(), call]);
    let plain = fold(read_answer(&answer(&output)).unwrap()).blocks;
    let done = |index: usize| json!({"type": "response.output_item.done", "output_index": index, "item": output[index]});
    let last = json!({"type": "response.completed", "response": {"status": "completed", "output": output}});
    let nameless = json!({"type": "response.output_item.added", "output_index": 2,
        "item": {"type": "function_call", "call_id": "", "name": ""}});
    let lost =
        json!({"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"});
    for data in [
        vec![last],
        vec![done(0), done(1), done(2), completed()],
        vec![
            json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "a"}),
            done(0),
            json!({"type": "response.output_text.done", "output_index": 1, "text": "ab"}),
            done(1),
            nameless,
            lost,
            done(2),
            completed(),
        ],
    ] {
        assert_eq!(fold(events(&data)).blocks, plain, "{data:?}");
    }
}

#[test]
fn a_stream_that_fails_gives_nothing_more() {
    for (name, data, code) in [
        (
            None,
            r#"{"type":"error","code":"rate_limit_exceeded","message":"m"}"#,
            "rate_limit_exceeded",
        ),
        (
            Some("error"),
            r#"{"error":{"type":"overloaded_error","message":"m"}}"#,
            "overloaded_error",
        ),
        (None, r#"{"error":{"code":"x","message":"m"}}"#, "x"),
        (
            None,
            r#"{"type":"response.failed","response":{"error":{"code":"y","message":"m"}}}"#,
            "y",
        ),
        (None, r#"{"type":"response.failed"}"#, "upstream_error"),
        (None, r#"{"type":"response.completed"}"#, "upstream_error"),
        (None, "no JSON", "upstream_error"),
        (None, "[1]", "upstream_error"),
    ] {
        let (mut reader, mut out) = (StreamReader::default(), Vec::new());
        reader.read(name, data, &mut out);
        reader.read(None, &completed().to_string(), &mut out);
        reader.finish(&mut out);
        match &out[..] {
            [AnswerEvent::Failed(failure)] => assert_eq!(failure.code, code, "{data}"),
            other => panic!("{data}: {other:?}"),
        }
    }
}

#[test]
fn unknown_events_are_signs_of_life_and_a_cut_stream_has_no_end() {
    let out = read_stream([
        r#"{"type":"response.web_search_call.searching","output_index":0}"#,
        r#"{"type":"keepalive"}"#,
        "[DONE]",
        r#"{"type":"response.output_text.delta","delta":"a"}"#,
    ]);
    let start = AnswerEvent::Start { id: None, model: None };
    let ping = AnswerEvent::Ping;
    assert_eq!(out, [ping.clone(), ping, start, open(0, BlockKind::Text), text(0, "a")]);
}

#[test]
fn items_that_never_end_are_bounded() {
    let added = |index: u64| {
        json!({"type": "response.output_item.added", "output_index": index * 1_000_000_007,
            "item": {"type": "message"}})
    };
    let out = events(&(0..1000).map(added).collect::<Vec<_>>());
    assert!(matches!(&out[..], [AnswerEvent::Start { .. }, AnswerEvent::Failed(_)]), "{out:?}");
}

#[test]
fn a_recorded_stream_makes_the_answer_at_its_end() {
    let recording = include_str!("../../../../../tests/fixtures/responses/tool_stream.json");
    let recording: Value = serde_json::from_str(recording).unwrap();
    let exchanges = recording["exchanges"].as_array().unwrap();
    let mut streams: Vec<Vec<&str>> = exchanges
        .iter()
        .map(|exchange| data_of(exchange["response"]["text"].as_str().unwrap()))
        .collect();
    let chunks = include_str!("../../../../../tests/fixtures/responses/changing_ids.chunks.txt");
    streams.push(chunks.lines().filter(|line| !line.is_empty()).collect());
    assert_eq!(streams.len(), 3);
    for stream in streams {
        let last: Value = serde_json::from_str(stream.last().unwrap()).unwrap();
        let plain = fold(read_answer(&last["response"].to_string()).unwrap());
        let mut streamed = fold(read_stream(stream.iter().copied()));
        // Some providers change their ids.
        streamed.id.clone_from(&plain.id);
        assert!(!plain.blocks.is_empty());
        assert_eq!(streamed, plain);
        // Cut anywhere, it has no end.
        for length in 0..stream.len() {
            let cut = read_stream(stream[..length].iter().copied());
            assert!(!cut.contains(&AnswerEvent::End));
        }
    }
}

#[test]
fn recordings_are_read() {
    let plain = |json: &str| fold(read_answer(json).unwrap());
    let shown = |answer: &Answer| -> Vec<String> {
        answer
            .blocks
            .iter()
            .map(|block: &AnswerBlock| {
                let AnswerBlock { kind, text, opaque, annotations } = block;
                let kind = match kind {
                    BlockKind::ToolCall { name, .. } => name,
                    BlockKind::Reasoning { .. } => "reasoning",
                    BlockKind::Text => "text",
                    BlockKind::Refusal => "refusal",
                };
                format!("{kind} {} {} {}", text.chars().count(), opaque.len(), annotations.len())
            })
            .collect()
    };
    let chunks = include_str!("../../../../../tests/fixtures/responses/encrypted.chunks.txt");
    // Each begins and ends within the file.
    let mut answers = Vec::new();
    for data in chunks.lines().filter(|line| !line.is_empty()) {
        if data.starts_with(r#"{"type":"response.created""#) {
            answers.push(Vec::new());
        }
        answers.last_mut().unwrap().push(data);
    }
    let answers: Vec<Answer> = answers.into_iter().map(|data| fold(read_stream(data))).collect();
    let all: Vec<Vec<String>> = answers.iter().map(shown).collect();
    assert_eq!(
        all,
        [
            vec!["reasoning 163 1 0".to_owned(), "calculator 25 0 0".to_owned()],
            vec!["calculator 30 0 0".to_owned()],
            vec!["calculator 31 0 0".to_owned()],
            vec!["text 28 0 0".to_owned()],
        ]
    );
    for (json, expected) in [
        (
            include_str!("../../../../../tests/fixtures/responses/encrypted.json"),
            vec!["reasoning 399 1 0", "text 56 0 0"],
        ),
        (
            include_str!("../../../../../tests/fixtures/responses/citations.json"),
            vec!["text 3042 0 10"],
        ),
    ] {
        let answer = plain(json);
        assert_eq!(shown(&answer), expected);
    }
}
