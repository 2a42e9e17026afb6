//! Answers of the provider as events, and events as answers for the caller.

use serde_json::{Value, json};

use super::super::{AnswerWriter, read_answer, read_request, write_answer};
use super::{context, data, events, fold, written};
use crate::llm::convert::answer::{
    Answer, AnswerBlock, AnswerEvent, AnswerUsage, BlockKind, Failure, Stop, StopReason,
};
use crate::llm::convert::opaque::{Family, Opaque, OpaqueKind};
use crate::llm::convert::request::Block;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../../../tests/fixtures/messages/", $name))
    };
}

/// Kinds of the blocks with their texts, and why the model stopped.
fn outline(answer: &Answer) -> Vec<String> {
    let blocks = answer.blocks.iter().map(|block| match &block.kind {
        BlockKind::Text => format!("text {}", block.text.chars().take(12).collect::<String>()),
        BlockKind::Refusal => "refusal".to_owned(),
        BlockKind::Reasoning { .. } => {
            let kinds: Vec<String> =
                block.opaque.iter().map(|one| format!("{:?}", one.kind)).collect();
            format!("reasoning {} {}", block.text.len(), kinds.join(","))
        }
        BlockKind::ToolCall { name, .. } => format!("call {name} {}", block.text),
    });
    let stop = answer.stop.as_ref().map(|stop| format!("{:?} {}", stop.reason, stop.native));
    blocks.chain(stop).collect()
}

/// Recorded streams, with what they say.
fn streams() -> Vec<(&'static str, Vec<&'static str>, (u64, u64))> {
    vec![
        (
            fixture!("tool_stream.chunks.txt"),
            vec!["text I'll update ", "call updateIssueList {}", "ToolCall tool_use"],
            (565, 48),
        ),
        (fixture!("refusal_stream.chunks.txt"), vec!["Refusal refusal"], (18, 5)),
        (
            fixture!("duplicate_start_stream.chunks.txt"),
            vec!["text Hello, World", "End end_turn"],
            (17, 227),
        ),
        (fixture!("late_input_stream.chunks.txt"), vec!["text pong", "End end_turn"], (61, 2)),
        (
            fixture!("tool_search_stream.chunks.txt"),
            vec![
                "text I'll search ",
                "text Great! I fou",
                r#"call get_weather {"location": "San Francisco, CA"}"#,
                "ToolCall tool_use",
            ],
            (1630, 158),
        ),
        (fixture!("cached_stream.chunks.txt"), vec!["text The sum of t", "End end_turn"], (6, 198)),
    ]
}

#[test]
fn recorded_streams_are_read() {
    for (stream, outlined, (input, output)) in streams() {
        let events = events(stream.lines().filter(|line| !line.is_empty()));
        assert_eq!(events.last(), Some(&AnswerEvent::End), "{stream}");
        let answer = fold(events);
        assert_eq!(outline(&answer), outlined);
        assert_eq!((answer.usage.input, answer.usage.output), (Some(input), Some(output)));
        assert!(answer.id.is_some() && answer.model.is_some());
    }
}

#[test]
fn recorded_answers_are_read() {
    let redacted: Value = serde_json::from_str(fixture!("redacted_thinking.json")).unwrap();
    let redacted = redacted["exchanges"][0]["response"]["json"].to_string();
    for (json, outlined) in [
        (fixture!("refusal.json"), vec!["Refusal refusal"]),
        (fixture!("fallback.json"), vec!["text The printing", "End end_turn"]),
        (
            fixture!("thinking.json"),
            vec!["reasoning 22 Signature", "text 925 ÷ 5 = 18", "End end_turn"],
        ),
        (
            fixture!("tool_search.json"),
            vec![
                "text I'll search ",
                "text Great! I fou",
                "call get_weather {\n          \"location\": \"San Francisco, CA\"\n        }",
                "ToolCall tool_use",
            ],
        ),
        (&redacted, vec!["reasoning 0 Redacted", "text I notice tha", "End end_turn"]),
    ] {
        let events = read_answer(json).unwrap();
        assert_eq!(events.last(), Some(&AnswerEvent::End));
        assert_eq!(outline(&fold(events)), outlined);
    }
}

/// A plain answer with everything, and the stream that says the same.
const PLAIN: &str = r#"{"type":"message","id":"msg_1","model":"claude","role":"assistant","content":[
    {"type":"thinking","thinking":"hmm","signature":"EuY"},
    {"type":"redacted_thinking","data":"re"},
    {"type":"server_tool_use","id":"s","name":"web_search","input":{"q":1}},
    {"type":"text","text":"Hello","citations":[
        {"type":"web_search_result_location","url":"https://a","title":"A","cited_text":"x"},
        {"type":"char_location","document_index":0,"cited_text":"y"}]},
    {"type":"tool_use","id":"t1","name":"f","input":{"x":1.50}},
    {"type":"tool_use","id":"t2","name":"g","input":{}}],
    "stop_reason":"tool_use","stop_sequence":null,
    "usage":{"input_tokens":3,"cache_read_input_tokens":7,"cache_creation_input_tokens":5,
        "cache_creation":{"ephemeral_5m_input_tokens":1,"ephemeral_1h_input_tokens":4},
        "output_tokens":9,"output_tokens_details":{"thinking_tokens":2}}}"#;

const STREAM: &str = r#"{"type":"message_start","message":{"type":"message","id":"msg_1","model":"claude","content":[],"stop_reason":null,"usage":{"input_tokens":3,"cache_read_input_tokens":7,"cache_creation_input_tokens":5,"cache_creation":{"ephemeral_1h_input_tokens":4},"output_tokens":1}}}
{"type":"ping"}
{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}
{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"h"}}
{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"mm"}}
{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EuY"}}
{"type":"content_block_stop","index":0}
{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"re"}}
{"type":"content_block_stop","index":1}
{"type":"content_block_start","index":2,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}
{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"q\":1}"}}
{"type":"content_block_stop","index":2}
{"type":"content_block_start","index":3,"content_block":{"type":"text","text":"","citations":[]}}
{"type":"content_block_delta","index":3,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","url":"https://a","title":"A"}}}
{"type":"content_block_delta","index":3,"delta":{"type":"citations_delta","citation":{"type":"char_location","document_index":0}}}
{"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"Hel"}}
{"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"lo"}}
{"type":"content_block_stop","index":3}
{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"t1","name":"f","input":{}}}
{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":""}}
{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{\"x\":"}}
{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"1.50}"}}
{"type":"content_block_stop","index":4}
{"type":"content_block_start","index":5,"content_block":{"type":"tool_use","id":"t2","name":"g","input":{}}}
{"type":"content_block_stop","index":5}
{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":0,"cache_read_input_tokens":0,"output_tokens":9,"output_tokens_details":{"thinking_tokens":2}}}
{"type":"message_stop"}"#;

#[test]
fn a_plain_answer_is_the_fold_of_its_stream() {
    let plain = fold(read_answer(PLAIN).unwrap());
    assert_eq!(plain, fold(events(STREAM.lines())));
    let usage = AnswerUsage {
        input: Some(3),
        cache_read: Some(7),
        cache_write: Some(5),
        cache_write_1h: Some(4),
        output: Some(9),
        reasoning: Some(2),
        ..AnswerUsage::default()
    };
    assert_eq!((plain.usage, plain.blocks.len()), (usage, 5));
    assert_eq!(plain.blocks[2].annotations[0].url, "https://a");
    assert_eq!(plain.blocks[2].annotations.len(), 1);
}

#[test]
fn every_stop_reason_is_read_and_written() {
    use StopReason as Reason;
    for (native, reason, sequence, told) in [
        ("end_turn", Reason::End, None, "end_turn"),
        ("stop_sequence", Reason::StopSequence, Some("x"), "stop_sequence"),
        ("tool_use", Reason::ToolCall, None, "end_turn"),
        ("max_tokens", Reason::MaxTokens, None, "max_tokens"),
        (
            "model_context_window_exceeded",
            Reason::ContextFull,
            None,
            "model_context_window_exceeded",
        ),
        ("refusal", Reason::Refusal, None, "refusal"),
        ("pause_turn", Reason::Pause, None, "pause_turn"),
        ("something_new", Reason::Other, None, "end_turn"),
    ] {
        let json = json!({"content": [], "stop_reason": native, "stop_sequence": sequence});
        let events = read_answer(&json.to_string()).unwrap();
        let sequence = sequence.map(str::to_owned);
        let stop = Stop { reason, native: native.to_owned(), sequence: sequence.clone() };
        assert!(events.contains(&AnswerEvent::Stop(stop)), "{events:?}");
        let answer: Value = serde_json::from_str(&write_answer(&context(), &fold(events))).unwrap();
        assert_eq!(
            (&answer["stop_reason"], &answer["stop_sequence"]),
            (&json!(told), &json!(sequence))
        );
    }
}

#[test]
fn errors_end_the_stream() {
    let start = r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":1}}}"#;
    let failure = |code: &str, message: &str| {
        let (code, message) = (code.to_owned(), message.to_owned());
        AnswerEvent::Failed(Failure { code, message })
    };
    let stop = r#"{"type":"message_stop"}"#;
    for (data, expected) in [
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            failure("overloaded_error", "Overloaded"),
        ),
        (r#"{"error":{"message":"no"}}"#, failure("upstream_error", "no")),
        (
            r#"{"type":"message_delta","delta""#,
            failure("upstream_error", "The provider sent an event that is not a JSON object."),
        ),
    ] {
        let events = events([start, data, stop]);
        assert_eq!(events.last(), Some(&expected));
        assert!(!events.contains(&AnswerEvent::End));
        let written = written(events);
        assert!(
            !written.contains("message_stop") && !written.contains("message_delta"),
            "{written}"
        );
        assert!(written.contains("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"));
    }
    // The provider gave up one answer and began another.
    let spliced = events(fixture!("spliced_stream.chunks.txt").lines());
    let message = "The provider began another answer in the middle of one.";
    assert_eq!(spliced.last(), Some(&failure("upstream_error", message)));
    assert_eq!(fold(spliced).id.as_deref(), Some("msg_first"));
    // A stream that is cut has no end.
    let cut = events(STREAM.lines().take(20));
    assert!(!cut.contains(&AnswerEvent::End));
    let json = r#"{"type":"error","error":{"type":"api_error","message":"m"}}"#;
    assert_eq!(read_answer(json).unwrap(), [failure("api_error", "m")]);
    for json in ["", "[]", "{}", r#"{"content":5}"#, r#"{"content":[5]}"#] {
        assert!(read_answer(json).is_err(), "{json}");
    }
}

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

fn open(block: u32, kind: BlockKind) -> AnswerEvent {
    AnswerEvent::Open { block, kind }
}

fn call(block: u32, id: &str) -> AnswerEvent {
    open(block, BlockKind::ToolCall { id: id.to_owned(), name: "f".to_owned() })
}

fn text(block: u32, text: &str) -> AnswerEvent {
    AnswerEvent::Text { block, text: text.to_owned() }
}

fn arguments(block: u32, json: &str) -> AnswerEvent {
    AnswerEvent::Arguments { block, json: json.to_owned() }
}

fn opaque(block: u32, family: Family, kind: OpaqueKind, data: &'static str) -> AnswerEvent {
    let opaque = Opaque { family, kind, id: None, data: data.into() };
    AnswerEvent::Opaque { block, opaque }
}

fn close(block: u32) -> AnswerEvent {
    AnswerEvent::Close { block }
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
    let streamed = fold(events(data(&written(various()))));
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
    let read = super::fold(super::events(data(&written(events.clone()))));
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
    assert_eq!(out, b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
    for event in [AnswerEvent::End, text(0, "x"), AnswerEvent::End] {
        writer.write(event, &mut out);
    }
    let stream = String::from_utf8(out).unwrap();
    assert_eq!(stream.matches("event: message_stop").count(), 1);
    assert!(stream.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
}
