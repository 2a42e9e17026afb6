//! Events as answers for the caller.

use serde_json::{Value, json};

use super::super::{AnswerWriter, read_answer, read_request, write_answer};
use super::{context, data, outline, written};
use crate::llm::convert::answer::{
    Answer, AnswerBlock, AnswerEvent, AnswerUsage, BlockKind, Failure, Stop, StopReason,
    WriteEvents,
};
use crate::llm::convert::opaque::{Family, Opaque, OpaqueKind};
use crate::llm::convert::request::Block;
use crate::llm::convert::sample_events::{arguments, close, open, text};
use crate::llm::convert::test_rendering::fold;

#[test]
fn codes_have_a_type_of_the_format() {
    for (code, kind) in [
        ("rate_limit_exceeded", "rate_limit_error"),
        ("RESOURCE_EXHAUSTED", "rate_limit_error"),
        ("ThrottlingException", "rate_limit_error"),
        ("overloaded_error", "overloaded_error"),
        ("serviceUnavailableException", "overloaded_error"),
        ("DEADLINE_EXCEEDED", "timeout_error"),
        ("invalid_request_error", "invalid_request_error"),
        ("validationException", "invalid_request_error"),
        ("malformed_function_call", "api_error"),
        ("", "api_error"),
    ] {
        let failure = Failure { code: code.to_owned(), message: "m".to_owned() };
        let stream = written(vec![AnswerEvent::Failed(failure)]);
        let event: Value = serde_json::from_str(data(&stream)[0]).unwrap();
        assert_eq!(event["error"]["type"], kind, "{code}");
        assert_eq!(event["error"]["code"], code);
    }
}

fn call(block: u32, id: &str) -> AnswerEvent {
    open(block, BlockKind::ToolCall { id: id.to_owned(), name: "f".to_owned() })
}

fn opaque(block: u32, family: Family, kind: OpaqueKind, data: &'static str) -> AnswerEvent {
    let opaque = Opaque { family, kind, id: None, data: data.into() };
    AnswerEvent::Opaque { block, opaque }
}

fn stop(reason: StopReason) -> AnswerEvent {
    AnswerEvent::Stop(Stop { reason, native: String::new(), sequence: None })
}

/// An answer whose blocks come one after another, with thoughts of several families.
fn various() -> Vec<AnswerEvent> {
    let reasoning = || BlockKind::Reasoning { is_summary: false };
    vec![
        AnswerEvent::Start { id: Some("resp_1".to_owned()), model: Some("gpt".to_owned()) },
        open(0, reasoning()),
        text(0, "hm"),
        opaque(0, Family::OpenAi, OpaqueKind::Encrypted, "gAA"),
        close(0),
        open(1, reasoning()),
        opaque(1, Family::Anthropic, OpaqueKind::Redacted, "re"),
        close(1),
        open(2, BlockKind::Text),
        text(2, "Hel"),
        text(2, "lo\n"),
        close(2),
        call(3, "call_1"),
        arguments(3, "{\"x\":"),
        arguments(3, "1}"),
        close(3),
        call(4, "call_2"),
        close(4),
        stop(StopReason::ToolCall),
        AnswerEvent::Usage(AnswerUsage {
            input: Some(5),
            cache_read: Some(6),
            output: Some(7),
            ..AnswerUsage::default()
        }),
        AnswerEvent::End,
    ]
}

#[test]
fn a_stream_has_the_form_of_the_api() {
    let stream = written(various());
    let names: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let events: Vec<Value> =
        data(&stream).into_iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    for (name, event) in names.iter().zip(&events) {
        assert_eq!(&event["type"], name);
    }
    let message = &events[0]["message"];
    assert_eq!(message["id"], "msg_s33d");
    assert_eq!(message["model"], "anthropic/claude");
    assert_eq!((&message["content"], &message["stop_reason"]), (&json!([]), &json!(null)));
    // The usage of the provider comes at the end.
    assert_eq!(
        (&message["usage"]["input_tokens"], &message["usage"]["output_tokens"]),
        (&json!(70), &json!(0))
    );
    let blocks: Vec<(u64, &str)> = events
        .iter()
        .filter(|event| event["type"] == "content_block_start")
        .map(|event| {
            let kind = event["content_block"]["type"].as_str().unwrap();
            (event["index"].as_u64().unwrap(), kind)
        })
        .collect();
    let expected = ["thinking", "redacted_thinking", "text", "tool_use", "tool_use"];
    assert_eq!(blocks, (0..).zip(expected).collect::<Vec<_>>());
    let mut open = None;
    for event in &events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!(open.replace(event["index"].clone()), None);
            }
            "content_block_delta" => assert_eq!(open.as_ref(), Some(&event["index"])),
            "content_block_stop" => assert_eq!(open.take(), Some(event["index"].clone())),
            _ => assert_eq!(open, None),
        }
    }
    let [.., delta, last] = &events[..] else { panic!() };
    assert_eq!(delta["delta"]["stop_reason"], "tool_use");
    let usage = &delta["usage"];
    assert_eq!((&usage["input_tokens"], &usage["cache_read_input_tokens"]), (&json!(5), &json!(6)));
    assert_eq!(usage["output_tokens"], 7);
    assert_eq!(last, &json!({"type": "message_stop"}));
}

/// What the stream and the plain answer say is what was written.
#[test]
fn what_is_written_is_read_back() {
    let answer = fold(various());
    let streamed = fold(super::events(data(&written(various()))));
    let plain = fold(read_answer(&write_answer(&context(), &answer)).unwrap());
    assert_eq!(streamed, plain);
    let mut expected = answer;
    expected.blocks[4].text = "{}".to_owned();
    assert_eq!(streamed.blocks, expected.blocks);
    assert_eq!(streamed.stop.map(|stop| stop.reason), Some(StopReason::ToolCall));
    assert_eq!(streamed.usage.total_input(), Some(11));
    assert_eq!(streamed.usage.output, Some(7));
}

#[test]
fn early_usage_is_told_at_the_beginning() {
    let usage = AnswerUsage { input: Some(4), output: Some(1), ..AnswerUsage::default() };
    let mut events = various();
    events.insert(1, AnswerEvent::Usage(usage));
    let stream = written(events);
    let start: Value = serde_json::from_str(data(&stream)[0]).unwrap();
    let usage = &start["message"]["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(4), &json!(1)));
}

#[test]
fn usage_that_is_not_reported_is_estimated() {
    let mut events = various();
    events.retain(|event| !matches!(event, AnswerEvent::Usage(_)));
    let read = fold(super::events(data(&written(events.clone()))));
    assert_eq!((read.usage.input, read.usage.output), (Some(70), Some(4)));
    let plain = read_answer(&write_answer(&context(), &fold(events))).unwrap();
    assert_eq!(fold(plain).usage, read.usage);
}

#[test]
fn blocks_that_were_written_at_once_come_one_after_another() {
    let events = vec![
        call(0, "a"),
        arguments(0, "{\"x\""),
        call(1, "b"),
        arguments(1, "{}"),
        arguments(0, ":1}"),
        close(1),
        stop(StopReason::End),
        close(0),
        AnswerEvent::End,
    ];
    let answer = fold(super::events(data(&written(events))));
    assert_eq!(outline(&answer), ["call f {\"x\":1}", "call f {}", "ToolCall tool_use"]);
}

/// A call that is cut by the limit is reported as one; in a plain answer it has to be an object.
#[test]
fn a_call_that_is_cut_short_is_told() {
    let events = vec![
        call(0, "a"),
        arguments(0, "{\"x\":\"1"),
        close(0),
        stop(StopReason::MaxTokens),
        AnswerEvent::End,
    ];
    let answer: Value =
        serde_json::from_str(&write_answer(&context(), &fold(events.clone()))).unwrap();
    assert_eq!(answer["content"][0]["input"], json!({"INVALID_JSON": "{\"x\":\"1"}));
    assert_eq!(answer["stop_reason"], "max_tokens");
    let streamed = fold(super::events(data(&written(events))));
    assert_eq!(outline(&streamed), ["call f {\"x\":\"1", "MaxTokens max_tokens"]);
}

#[test]
fn blocks_without_content_are_none() {
    let events = vec![
        open(0, BlockKind::Text),
        close(0),
        open(1, BlockKind::Reasoning { is_summary: true }),
        text(1, ""),
        close(1),
        AnswerEvent::End,
    ];
    let expected = write_answer(&context(), &fold(events.clone()));
    let answer: Value = serde_json::from_str(&expected).unwrap();
    assert_eq!((&answer["content"], &answer["stop_reason"]), (&json!([]), &json!("end_turn")));
    assert!(!written(events).contains("content_block"));
}

#[test]
fn ids_are_those_that_the_api_takes() {
    let stream = written(vec![
        call(0, "functions.get:0"),
        close(0),
        call(1, ""),
        close(1),
        call(2, ""),
        close(2),
        AnswerEvent::End,
    ]);
    let ids: Vec<Value> = data(&stream)
        .into_iter()
        .map(|data| serde_json::from_str::<Value>(data).unwrap()["content_block"]["id"].take())
        .filter(|id| !id.is_null())
        .collect();
    assert_eq!(ids, ["functions_get_0", "toolu_s33d_1", "toolu_s33d_2"]);
}

/// Signatures of calls and texts come back where they were, by way of the caller.
#[test]
fn signatures_of_calls_and_texts_survive_the_caller() {
    let google = |block, data| opaque(block, Family::Google, OpaqueKind::Signature, data);
    let events = vec![
        open(0, BlockKind::Reasoning { is_summary: true }),
        text(0, "plan"),
        close(0),
        open(1, BlockKind::Text),
        text(1, "Hi"),
        google(1, "sig-text"),
        close(1),
        call(2, "call_1"),
        google(2, "sig-call"),
        arguments(2, "{}"),
        close(2),
        call(3, "call_2"),
        arguments(3, "{}"),
        // After the arguments.
        google(3, "sig-late"),
        close(3),
        stop(StopReason::End),
        AnswerEvent::End,
    ];
    let plain: Value =
        serde_json::from_str(&write_answer(&context(), &fold(events.clone()))).unwrap();
    let streamed = fold(super::events(data(&written(events))));
    let streamed: Value = serde_json::from_str(&write_answer(&context(), &streamed)).unwrap();
    for answer in [plain, streamed] {
        let request = json!({"model": "m", "max_tokens": 1, "messages": [
            {"role": "assistant", "content": answer["content"]}]})
        .to_string();
        let request = read_request(&request).unwrap();
        let signatures: Vec<(String, String)> = request.turns[0]
            .blocks
            .iter()
            .map(|block| match block {
                Block::Text(block) => (block.text.to_string(), &block.opaque),
                Block::ToolCall(call) => (call.id.to_string(), &call.opaque),
                Block::Reasoning(block) => (block.text.to_string(), &block.opaque),
                other => panic!("{other:?}"),
            })
            .map(|(name, opaque)| {
                let own =
                    opaque.iter().map(|one| format!("{:?}{:?} {}", one.family, one.id, one.data));
                (name, own.collect())
            })
            .collect();
        let expected = [
            ("plan", ""),
            ("Hi", "GoogleNone sig-text"),
            ("call_1", "GoogleNone sig-call"),
            ("call_2", "GoogleNone sig-late"),
        ];
        let expected = expected.map(|(name, own)| (name.to_owned(), own.to_owned()));
        assert_eq!(signatures, expected);
    }
}

/// Thoughts come back as whose they are, by way of the caller.
#[test]
fn thoughts_survive_the_caller() {
    let reasoning = BlockKind::Reasoning { is_summary: false };
    let opaque = |family, kind, id: Option<&'static str>| Opaque {
        family,
        kind,
        id: id.map(Into::into),
        data: "a.b".into(),
    };
    for opaque in [
        opaque(Family::Anthropic, OpaqueKind::Signature, None),
        opaque(Family::Anthropic, OpaqueKind::Redacted, None),
        opaque(Family::OpenAi, OpaqueKind::Encrypted, Some("rs_1")),
        opaque(Family::Google, OpaqueKind::Signature, None),
        opaque(Family::Bedrock, OpaqueKind::Redacted, None),
    ] {
        let has_text = opaque.kind != OpaqueKind::Redacted;
        let text = if has_text { "hm" } else { "" };
        let block = AnswerBlock {
            kind: reasoning.clone(),
            text: text.to_owned(),
            opaque: vec![opaque.clone()],
            annotations: Vec::new(),
        };
        let answer = Answer { blocks: vec![block], ..Answer::default() };
        let answer: Value = serde_json::from_str(&write_answer(&context(), &answer)).unwrap();
        let request = json!({"model": "m", "max_tokens": 1, "messages": [
            {"role": "assistant", "content": answer["content"]}]})
        .to_string();
        let request = read_request(&request).unwrap();
        let [Block::Reasoning(read)] = &request.turns[0].blocks[..] else { panic!("{request:?}") };
        assert_eq!((&*read.text, &read.opaque[..]), (text, &[opaque][..]));
    }
}

#[test]
fn nothing_follows_the_end() {
    let mut writer = AnswerWriter::new(context());
    let mut out = Vec::new();
    writer.ping(&mut out);
    let sign = String::from_utf8(out.clone()).unwrap();
    assert!(sign.starts_with("event: message_start\n"), "{sign}");
    assert!(sign.ends_with("\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n"), "{sign}");
    for event in [AnswerEvent::End, text(0, "x"), AnswerEvent::End] {
        writer.write(event, &mut out);
    }
    let stream = String::from_utf8(out).unwrap();
    assert_eq!(stream.matches("event: message_stop").count(), 1);
    assert!(stream.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
}
