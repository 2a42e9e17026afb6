//! What callers get.

use serde_json::json;

use super::super::super::answer::{Annotation, AnswerUsage, Failure, WriteEvents};
use super::super::super::opaque::{Family, Opaque, OpaqueKind};
use super::super::{echo, read_answer, write_answer};
use super::*;

fn opaque(block: u32, family: Family) -> AnswerEvent {
    let kind = OpaqueKind::Signature;
    AnswerEvent::Opaque { block, opaque: Opaque { family, kind, id: None, data: "c2ln".into() } }
}

fn usage() -> AnswerEvent {
    AnswerEvent::Usage(AnswerUsage {
        input: Some(10),
        cache_read: Some(60),
        cache_write: Some(30),
        output: Some(50),
        reasoning: Some(20),
        ..AnswerUsage::default()
    })
}

fn cited(block: u32, span: Option<(u64, u64)>) -> AnswerEvent {
    let (url, title) = ("https://a".to_owned(), Some("A".to_owned()));
    AnswerEvent::Annotation { block, annotation: Annotation { url, title, span } }
}

/// An answer with all that there is.
fn rich() -> Vec<AnswerEvent> {
    vec![
        start(),
        open(0, BlockKind::Reasoning { is_summary: true }),
        text(0, "I th"),
        text(0, "ink."),
        opaque(0, Family::Anthropic),
        close(0),
        open(1, BlockKind::Reasoning { is_summary: false }),
        text(1, "Thoughts."),
        close(1),
        open(2, BlockKind::Text),
        cited(2, Some((0, 3))),
        text(2, "Grüße"),
        close(2),
        open(3, BlockKind::Refusal),
        text(3, "No."),
        close(3),
        call(4),
        arguments(4, "{\"a\""),
        arguments(4, ":1}"),
        close(4),
        call(5),
        close(5),
        usage(),
        stop(StopReason::ToolCall),
        AnswerEvent::End,
    ]
}

/// The events of a stream, as JSON.
fn events_of(stream: &str) -> Vec<Value> {
    data_of(stream).into_iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[test]
fn a_stream_has_all_events_in_order() {
    let stream = write_stream(rich());
    let events = events_of(&stream);
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = "created in_progress \
        output_item.added reasoning_summary_part.added reasoning_summary_text.delta \
        reasoning_summary_text.delta reasoning_summary_text.done reasoning_summary_part.done \
        output_item.done \
        output_item.added reasoning_summary_part.added reasoning_summary_text.delta \
        reasoning_summary_text.done reasoning_summary_part.done output_item.done \
        output_item.added content_part.added output_text.delta output_text.annotation.added \
        output_text.done content_part.done content_part.added refusal.delta refusal.done \
        content_part.done output_item.done \
        output_item.added function_call_arguments.delta function_call_arguments.delta \
        function_call_arguments.done output_item.done \
        output_item.added function_call_arguments.delta function_call_arguments.done \
        output_item.done completed";
    let expected: Vec<String> =
        expected.split_whitespace().map(|kind| format!("response.{kind}")).collect();
    assert_eq!(kinds, expected);
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let names: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, kinds);
    // Each event of an item names it and has its place.
    let mut open = None;
    for event in &events {
        match event["type"].as_str().unwrap() {
            "response.output_item.added" => {
                open = Some((event["item"]["id"].clone(), event["output_index"].clone()));
            }
            "response.output_item.done" => {
                let item = Some((event["item"]["id"].clone(), event["output_index"].clone()));
                assert_eq!(item, open);
                assert_ne!(event["item"]["status"], "in_progress");
                open = None;
            }
            _ if event.get("item_id").is_some() => {
                let item = Some((event["item_id"].clone(), event["output_index"].clone()));
                assert_eq!(item, open, "{event}");
            }
            _ => assert!(open.is_none()),
        }
    }
    let output: Vec<&Value> = events
        .iter()
        .filter(|e| e["type"] == "response.output_item.done")
        .map(|e| &e["item"])
        .collect();
    let last = &events.last().unwrap()["response"];
    assert_eq!(last["output"].as_array().unwrap().iter().collect::<Vec<_>>(), output);
}

#[test]
fn items_have_the_shapes_of_openai() {
    let events = events_of(&write_stream(rich()));
    let response = &events.last().unwrap()["response"];
    let expected = json!([
        {"id": "rs_s33d_0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "I think."}],
            "encrypted_content": "tollgate.1.anthropic.signature..c2ln"},
        {"id": "rs_s33d_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Thoughts."}],
            "encrypted_content": "tollgate.1.none"},
        {"id": "msg_s33d_2", "type": "message", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "text": "Grüße", "logprobs": [], "annotations": [
                {"type": "url_citation", "start_index": 0, "end_index": 3, "url": "https://a", "title": "A"}]},
            {"type": "refusal", "refusal": "No."}]},
        {"id": "fc_s33d_3", "type": "function_call", "status": "completed", "call_id": "toolu_4", "name": "f",
            "arguments": "{\"a\":1}"},
        {"id": "fc_s33d_4", "type": "function_call", "status": "completed", "call_id": "toolu_5", "name": "f",
            "arguments": "{}"},
    ]);
    assert_eq!(response["output"], expected);
    let usage = json!({"input_tokens": 100, "output_tokens": 50, "total_tokens": 150,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "output_tokens_details": {"reasoning_tokens": 20}});
    assert_eq!(response["usage"], usage);
    let head = json!({"id": "resp_s33d", "object": "response", "created_at": 1_700_000_000,
        "model": "anthropic/claude", "status": "completed", "error": null, "incomplete_details": null});
    for (key, value) in head.as_object().unwrap() {
        assert_eq!(&response[key], value, "{key}");
    }
    let first = &events[0]["response"];
    assert_eq!(
        (&first["status"], &first["usage"], &first["output"]),
        (&json!("in_progress"), &Value::Null, &json!([]))
    );
}

#[test]
fn a_plain_answer_is_the_response_at_the_end_of_the_stream() {
    for mut events in [rich(), vec![start(), stop(StopReason::Refusal), AnswerEvent::End]] {
        for reason in [StopReason::End, StopReason::MaxTokens, StopReason::Refusal] {
            let at = events.len() - 2;
            events[at] = stop(reason);
            let stream = write_stream(events.clone());
            let last = events_of(&stream).pop().unwrap()["response"].take();
            let plain = write_answer(&context(), &fold(events.clone()));
            assert_eq!(serde_json::from_str::<Value>(&plain).unwrap(), last);
        }
    }
}

#[test]
fn what_is_written_can_be_read_again() {
    let events = rich();
    let mut expected = fold(events.clone());
    // A call without arguments has none; the words for stops are fewer.
    expected.blocks[5].text = "{}".to_owned();
    // Thoughts are written as a summary.
    expected.blocks[1].kind = BlockKind::Reasoning { is_summary: true };
    let streamed = fold(read_stream(data_of(&write_stream(events))));
    assert_eq!((&streamed.blocks, streamed.usage), (&expected.blocks, expected.usage));
    let plain = fold(read_answer(&write_answer(&context(), &expected)).unwrap());
    assert_eq!(plain, streamed);
}

#[test]
fn reasons_to_stop_become_states() {
    for (reason, kind, details, status) in [
        (StopReason::End, "response.completed", Value::Null, "completed"),
        (StopReason::StopSequence, "response.completed", Value::Null, "completed"),
        (StopReason::ToolCall, "response.completed", Value::Null, "completed"),
        (StopReason::Pause, "response.completed", Value::Null, "completed"),
        (StopReason::Other, "response.completed", Value::Null, "completed"),
        (
            StopReason::MaxTokens,
            "response.incomplete",
            json!({"reason": "max_output_tokens"}),
            "incomplete",
        ),
        (
            StopReason::ContextFull,
            "response.incomplete",
            json!({"reason": "max_output_tokens"}),
            "incomplete",
        ),
        (
            StopReason::Refusal,
            "response.incomplete",
            json!({"reason": "content_filter"}),
            "incomplete",
        ),
    ] {
        let events =
            [start(), call(0), arguments(0, "{\"a"), close(0), stop(reason), AnswerEvent::End];
        let last = events_of(&write_stream(events)).pop().unwrap();
        assert_eq!(last["type"], kind);
        let response = &last["response"];
        assert_eq!(
            (&response["status"], &response["incomplete_details"]),
            (&json!(status), &details)
        );
        assert_eq!(response["output"][0]["status"], status);
    }
    // What the model says in refusing is complete.
    let refusal = [
        start(),
        open(0, BlockKind::Refusal),
        text(0, "No."),
        close(0),
        stop(StopReason::Refusal),
        AnswerEvent::End,
    ];
    let last = events_of(&write_stream(refusal)).pop().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["status"]),
        (&json!("response.completed"), &json!("completed"))
    );
}

#[test]
fn a_failure_leaves_no_mark_of_success() {
    let failed = |code: &str| {
        AnswerEvent::Failed(Failure { code: code.to_owned(), message: "It broke.".to_owned() })
    };
    for (code, expected, message) in [
        ("server_error", "server_error", "It broke."),
        ("overloaded_error", "server_error", "overloaded_error: It broke."),
        ("ThrottlingException", "rate_limit_exceeded", "ThrottlingException: It broke."),
    ] {
        for before in [vec![], vec![start()], rich()[..12].to_vec()] {
            let mut events = before;
            events.extend([failed(code), stop(StopReason::End), AnswerEvent::End]);
            let stream = write_stream(events);
            assert!(
                !stream.contains("response.completed") && !stream.contains("[DONE]"),
                "{stream}"
            );
            let events = events_of(&stream);
            assert_eq!(events[0]["type"], "response.created");
            let last = events.last().unwrap();
            assert_eq!(last["type"], "response.failed");
            let response = &last["response"];
            assert_eq!((&response["status"], &response["usage"]), (&json!("failed"), &Value::Null));
            assert_eq!(response["error"], json!({"code": expected, "message": message}));
            assert_eq!(last["sequence_number"], events.len() - 1);
        }
    }
}

#[test]
fn blocks_that_overlap_are_put_in_order() {
    let events = [
        start(),
        call(0),
        call(1),
        arguments(0, "{\"a\""),
        arguments(1, "{\"b\""),
        arguments(0, ":1}"),
        arguments(1, ":2}"),
        close(1),
        close(0),
        stop(StopReason::ToolCall),
        AnswerEvent::End,
    ];
    let events = events_of(&write_stream(events));
    let output = &events.last().unwrap()["response"]["output"];
    let arguments: Vec<&Value> =
        output.as_array().unwrap().iter().map(|item| &item["arguments"]).collect();
    assert_eq!(arguments, ["{\"a\":1}", "{\"b\":2}"]);
}

#[test]
fn signatures_of_texts_and_calls_come_back_to_them() {
    let events = vec![
        start(),
        open(0, BlockKind::Text),
        text(0, "a"),
        opaque(0, Family::Google),
        close(0),
        open(1, BlockKind::Text),
        text(1, "b"),
        close(1),
        // With the first piece, as Gemini sends it.
        call(2),
        arguments(2, "{}"),
        opaque(2, Family::Google),
        close(2),
        // Late.
        call(3),
        arguments(3, "{"),
        arguments(3, "}"),
        opaque(3, Family::Google),
        close(3),
        call(4),
        arguments(4, "{}"),
        close(4),
        stop(StopReason::ToolCall),
        AnswerEvent::End,
    ];
    let last = events_of(&write_stream(events)).pop().unwrap()["response"]["output"].take();
    let kinds: Vec<&Value> = last.as_array().unwrap().iter().map(|item| &item["type"]).collect();
    let expected = [
        "message",
        "reasoning",
        "message",
        "reasoning",
        "function_call",
        "function_call",
        "reasoning",
        "function_call",
    ];
    assert_eq!(kinds, expected);
    let json = json!({"model": "m", "input": last}).to_string();
    let request = read_request(&json).unwrap();
    let signed: Vec<bool> = request.turns[0]
        .blocks
        .iter()
        .map(|block| match block {
            super::super::super::request::Block::Text(text) => !text.opaque.is_empty(),
            super::super::super::request::Block::ToolCall(call) => !call.opaque.is_empty(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(signed, [true, false, true, true, false]);
}

#[test]
fn what_the_model_thought_comes_back_as_it_was() {
    use super::super::super::request::{Block, ReasoningBlock};
    let hidden = Opaque {
        family: Family::Anthropic,
        kind: OpaqueKind::Redacted,
        id: None,
        data: "cmVk".into(),
    };
    let mut events = rich();
    let end = events.split_off(events.len() - 3);
    events.extend([
        open(6, BlockKind::Reasoning { is_summary: false }),
        AnswerEvent::Opaque { block: 6, opaque: hidden.clone() },
        close(6),
    ]);
    events.extend(end);
    let mut output = events_of(&write_stream(events)).pop().unwrap()["response"]["output"].take();
    // Some callers leave out the ids.
    for item in output.as_array_mut().unwrap() {
        item.as_object_mut().unwrap().remove("id");
    }
    let json = json!({"model": "m", "input": output}).to_string();
    let request = read_request(&json).unwrap();
    let thoughts = request.turns[0].blocks.iter().filter_map(|block| match block {
        Block::Reasoning(ReasoningBlock { text, opaque, .. }) => Some((&**text, opaque.first())),
        _ => None,
    });
    let AnswerEvent::Opaque { opaque: signature, .. } = opaque(0, Family::Anthropic) else {
        panic!()
    };
    let expected = [("I think.", Some(&signature)), ("Thoughts.", None), ("", Some(&hidden))];
    assert_eq!(thoughts.collect::<Vec<_>>(), expected);
}

#[test]
fn calls_without_an_id_get_one_and_usage_that_is_not_reported_is_estimated() {
    let nameless = BlockKind::ToolCall { id: String::new(), name: "f".to_owned() };
    let events =
        [start(), open(0, nameless), arguments(0, "{\"a\":12}"), close(0), AnswerEvent::End];
    let last = events_of(&write_stream(events)).pop().unwrap();
    assert_eq!(last["response"]["output"][0]["call_id"], "call_s33d_0");
    let usage = &last["response"]["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(7), &json!(2)));
}

#[test]
fn a_ping_is_a_comment_at_any_moment() {
    let (mut writer, mut out) = (AnswerWriter::new(context()), Vec::new());
    writer.ping(&mut out);
    writer.write(AnswerEvent::Ping, &mut out);
    assert_eq!(out, b": ping\n\n: ping\n\n");
}

#[test]
fn a_citation_without_a_place_is_of_the_whole_text() {
    let events = [
        start(),
        open(0, BlockKind::Text),
        cited(0, None),
        text(0, "Grüße"),
        close(0),
        AnswerEvent::End,
    ];
    let last = events_of(&write_stream(events)).pop().unwrap();
    let annotation = &last["response"]["output"][0]["content"][0]["annotations"][0];
    assert_eq!((&annotation["start_index"], &annotation["end_index"]), (&json!(0), &json!(5)));
}

#[test]
fn an_answer_repeats_the_request() {
    let request = json!({"model": "m", "input": "hi", "stream": true, "instructions": "i", "temperature": 0.5,
        "text": {"verbosity": "low"}, "reasoning": {"effort": "low"}, "metadata": {"a": "b"}, "store": null,
        "tool_choice": "required", "max_output_tokens": 9, "user": null, "service_tier": "flex",
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]});
    let context = AnswerContext { echo: echo(&request.to_string()), ..context() };
    let response: Value =
        serde_json::from_str(&write_answer(&context, &Answer::default())).unwrap();
    let expected = json!({"instructions": "i", "temperature": 0.5, "top_p": 1.0, "metadata": {"a": "b"},
        "text": {"format": {"type": "text"}, "verbosity": "low"}, "max_output_tokens": 9,
        "reasoning": {"effort": "low", "summary": null}, "tool_choice": "required", "store": false,
        "parallel_tool_calls": true, "truncation": "disabled", "previous_response_id": null,
        "service_tier": "default", "top_logprobs": 0, "max_tool_calls": null,
        "prompt_cache_key": null, "prompt_cache_retention": null, "safety_identifier": null,
        "tools": [{"type": "function", "name": "f", "description": null, "parameters": {"type": "object"},
            "strict": false}]});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&response[key], value, "{key}");
    }
    assert_eq!(echo("no JSON"), []);
    let plain: Value =
        serde_json::from_str(&write_answer(&super::context(), &Answer::default())).unwrap();
    assert_eq!(
        (&plain["temperature"], &plain["tools"], &plain["metadata"]),
        (&json!(1.0), &json!([]), &json!({}))
    );
}

#[test]
fn recorded_streams_come_through() {
    for recording in [
        include_str!("../../../../../tests/fixtures/responses/changing_ids.chunks.txt"),
        include_str!("../../../../../tests/fixtures/responses/phase.chunks.txt"),
    ] {
        let events = read_stream(recording.lines().filter(|line| !line.is_empty()));
        assert_eq!(events.last(), Some(&AnswerEvent::End));
        let again = read_stream(data_of(&write_stream(events.clone())));
        let (before, after) = (fold(events), fold(again));
        assert!(!before.blocks.is_empty());
        assert_eq!(
            (after.blocks, after.usage.total_input()),
            (before.blocks, before.usage.total_input())
        );
    }
    for recording in [
        include_str!("../../../../../tests/fixtures/responses/tool_stream.json"),
        include_str!("../../../../../tests/fixtures/responses/tool_turns.json"),
    ] {
        let recording: Value = serde_json::from_str(recording).unwrap();
        for exchange in recording["exchanges"].as_array().unwrap() {
            let response = &exchange["response"];
            let events = match response["text"].as_str() {
                Some(stream) => read_stream(data_of(stream)),
                None => read_answer(&response["json"].to_string()).unwrap(),
            };
            assert_eq!(events.last(), Some(&AnswerEvent::End));
            let again = read_stream(data_of(&write_stream(events.clone())));
            assert_eq!(fold(again).blocks, fold(events).blocks);
        }
    }
}
