//! Answers of the provider as events.

use serde_json::{Value, json};

use super::super::{read_answer, write_answer};
use super::{context, events, outline, written};
use crate::llm::convert::answer::{AnswerEvent, AnswerUsage, Failure, Stop, StopReason};
use crate::llm::convert::test_rendering::fold;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../../../tests/fixtures/messages/", $name))
    };
}

/// Recorded streams, with what they say.
fn streams() -> Vec<(&'static str, Vec<&'static str>, (u64, u64))> {
    vec![
        (
            fixture!("tool_stream.chunks.txt"),
            vec!["text I'll update ", "call updateIssueList {}", "ToolCall tool_use"],
            (565, 48),
        ),
        (fixture!("refusal_stream.chunks.txt"), vec!["refusal", "Refusal refusal"], (18, 5)),
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
        (fixture!("refusal.json"), vec!["refusal", "Refusal refusal"]),
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
