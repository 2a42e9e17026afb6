//! Nothing that comes in makes the readers panic, and what they give is in order.

use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::Value;

use super::super::{read_answer, read_request, write_answer, write_request};
use super::{context, data, events, written};
use crate::llm::convert::Target;
use crate::llm::convert::answer::{AnswerEvent, BlockKind};
use crate::llm::convert::error::Dropped;
use crate::llm::convert::opaque::{Family, Opaque, OpaqueKind};
use crate::llm::convert::test_rendering::fold;

const REQUEST: &str = r#"{"model":"m","max_tokens":20,"stream":true,"temperature":0.5,
    "system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral","ttl":"1h"}}],
    "tools":[{"name":"f","input_schema":{"type":"object"},"strict":true}],
    "tool_choice":{"type":"tool","name":"f"},"thinking":{"type":"enabled","budget_tokens":1024},
    "messages":[{"role":"user","content":[{"type":"text","text":"a"},
        {"type":"document","source":{"type":"content","content":[{"type":"text","text":"x"}]}}]},
      {"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"tollgate.1.google.signature.Y2FsbDpj.x"},
        {"type":"redacted_thinking","data":"re"},{"type":"tool_use","id":"c","name":"f","input":{"x":1}}]},
      {"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":[{"type":"text","text":"r"}]}]},
      {"role":"system","content":"be brief"}],
    "output_config":{"effort":"max","format":{"type":"json_schema","schema":{"z":1}}},
    "context_management":{"edits":[{"type":"clear_thinking_1","keep":"all"}]},"metadata":{"user_id":"u"}}"#;

const STREAM: [&str; 13] = [
    r#"{"type":"message_start","message":{"id":"m","model":"c","usage":{"input_tokens":3,"output_tokens":1}}}"#,
    r#"{"type":"ping"}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"h"}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"E"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"a","citations":[{"url":"u"}]}}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"b"}}"#,
    r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"c","name":"f","input":{}}}"#,
    r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
    r#"{"type":"content_block_stop","index":2}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}"#,
    r#"{"type":"message_stop"}"#,
];

const ANSWER: &str = r#"{"id":"m","model":"c","content":[{"type":"thinking","thinking":"h","signature":"E"},
    {"type":"redacted_thinking","data":"x"},{"type":"text","text":"b","citations":[{"url":"u"}]},
    {"type":"tool_use","id":"c","name":"f","input":{"x":1}}],"stop_reason":"tool_use",
    "usage":{"input_tokens":3,"output_tokens":9}}"#;

/// What replaces a value.
fn other() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(Value::from(-1)),
        Just(Value::from(1.5)),
        Just(Value::from(u64::MAX)),
        Just(Value::from("")),
        Just(Value::from("tollgate.1.")),
        Just(Value::from("system")),
        Just(serde_json::json!([])),
        Just(serde_json::json!([[], {}, 7, "x"])),
        Just(serde_json::json!({"type": "text"})),
    ]
}

/// Replaces the value number `at`, counted from the outside.
fn replace(value: &mut Value, at: &mut usize, new: &Value) {
    if *at == 0 {
        *value = new.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|one| replace(one, at, new)),
        Value::Object(members) => members.values_mut().for_each(|one| replace(one, at, new)),
        _ => {}
    }
}

fn mutated(json: &str, changes: &[(usize, Value)]) -> String {
    let mut value: Value = serde_json::from_str(json).unwrap();
    for (at, new) in changes {
        replace(&mut value, &mut at.clone(), new);
    }
    value.to_string()
}

/// Blocks are opened in order and closed, and nothing follows the end.
fn check_order(events: &[AnswerEvent]) {
    let (mut opened, mut open) = (0, None);
    for (index, event) in events.iter().enumerate() {
        match event {
            AnswerEvent::Open { block, .. } => {
                assert_eq!((*block, open.replace(*block)), (opened, None));
                opened += 1;
            }
            AnswerEvent::Text { block, .. }
            | AnswerEvent::Arguments { block, .. }
            | AnswerEvent::Opaque { block, .. }
            | AnswerEvent::Annotation { block, .. } => assert_eq!(Some(*block), open),
            AnswerEvent::Close { block } => assert_eq!(open.take(), Some(*block)),
            AnswerEvent::End => {
                assert_eq!((index + 1, open), (events.len(), None));
            }
            AnswerEvent::Failed(_) => assert_eq!(index + 1, events.len()),
            _ => {}
        }
    }
}

/// The events of a block, with a number to be put in.
fn block_events() -> impl Strategy<Value = Vec<AnswerEvent>> {
    let opaque = |family, kind| Opaque { family, kind, id: None, data: "c2ln".into() };
    let reasoning = proptest::option::of(prop_oneof![
        Just(opaque(Family::OpenAi, OpaqueKind::Encrypted)),
        Just(opaque(Family::Anthropic, OpaqueKind::Signature)),
        Just(opaque(Family::Bedrock, OpaqueKind::Redacted)),
    ]);
    let pieces = || proptest::collection::vec("[a-zé\n\"]{0,3}", 0..4);
    let events = |kind, opaque: Option<Opaque<'static>>, middle: Vec<AnswerEvent>| {
        let opaque = opaque.map(|opaque| AnswerEvent::Opaque { block: 0, opaque });
        let mut events = vec![AnswerEvent::Open { block: 0, kind }];
        events.extend(opaque.into_iter().chain(middle));
        events.push(AnswerEvent::Close { block: 0 });
        events
    };
    let texts = |pieces: Vec<String>| -> Vec<AnswerEvent> {
        pieces.into_iter().map(|text| AnswerEvent::Text { block: 0, text }).collect()
    };
    let google = || proptest::option::of(Just(opaque(Family::Google, OpaqueKind::Signature)));
    prop_oneof![
        pieces().prop_map(move |own| events(BlockKind::Text, None, texts(own))),
        pieces().prop_map(move |own| events(BlockKind::Refusal, None, texts(own))),
        (pieces(), reasoning).prop_map(move |(own, opaque)| {
            events(BlockKind::Reasoning { is_summary: false }, opaque, texts(own))
        }),
        (0..9_u32, 0..3_usize, google()).prop_map(move |(id, cut, opaque)| {
            let kind = BlockKind::ToolCall { id: format!("call_{id}"), name: "f".to_owned() };
            let (first, rest) = "{}".split_at(cut);
            let pieces = [first, rest]
                .map(|json| AnswerEvent::Arguments { block: 0, json: json.to_owned() });
            events(kind, opaque, pieces.into())
        }),
    ]
}

fn with_number(mut event: AnswerEvent, number: u32) -> AnswerEvent {
    match &mut event {
        AnswerEvent::Open { block, .. }
        | AnswerEvent::Text { block, .. }
        | AnswerEvent::Arguments { block, .. }
        | AnswerEvent::Opaque { block, .. }
        | AnswerEvent::Close { block } => *block = number,
        _ => {}
    }
    event
}

/// Puts the events of blocks between each other, in the order of the picks.
fn interleaved(blocks: Vec<Vec<AnswerEvent>>, picks: &[usize]) -> Vec<AnswerEvent> {
    let mut waiting: VecDeque<_> = blocks.into_iter().map(VecDeque::from).collect();
    let (mut begun, mut events): (Vec<(u32, VecDeque<AnswerEvent>)>, _) = (Vec::new(), Vec::new());
    let mut picks = picks.iter().cycle();
    let mut number = 0;
    while !waiting.is_empty() || !begun.is_empty() {
        let pick = picks.next().copied().unwrap_or(0);
        if begun.is_empty() || (pick.is_multiple_of(3) && !waiting.is_empty()) {
            begun.extend(waiting.pop_front().map(|own| (number, own)));
            number += 1;
        }
        // A block is opened before the next one is.
        let index = match begun.last() {
            Some((_, own)) if matches!(own.front(), Some(AnswerEvent::Open { .. })) => {
                begun.len() - 1
            }
            _ => pick % begun.len(),
        };
        let (number, own) = &mut begun[index];
        events.extend(own.pop_front().map(|event| with_number(event, *number)));
        begun.retain(|(_, own)| !own.is_empty());
    }
    events.push(AnswerEvent::End);
    events
}

proptest! {
    /// However the blocks of an answer come, their stream says what the plain answer says.
    #[test]
    fn a_stream_says_what_the_plain_answer_says(
        blocks in proptest::collection::vec(block_events(), 0..5),
        picks in proptest::collection::vec(0..7_usize, 1..40),
    ) {
        let events = interleaved(blocks, &picks);
        let plain = write_answer(&context(), &fold(events.clone()));
        let stream = written(events);
        let read = super::events(data(&stream));
        check_order(&read);
        prop_assert_eq!(fold(read), fold(read_answer(&plain).unwrap()));
    }

    #[test]
    fn requests_never_panic(
        changes in proptest::collection::vec((0..120_usize, other()), 0..4),
        cut in 0..3000_usize,
    ) {
        let json = mutated(REQUEST, &changes);
        let _ = read_request(json.get(..cut).unwrap_or_default());
        let Ok(request) = read_request(&json) else { return Ok(()) };
        for model in ["claude-opus-4-8", "claude-3-7-sonnet-20250219"] {
            let target = Target::new(model, 1);
            let mut dropped = Dropped::new(false);
            if let Ok(written) = write_request(&request, &target, &mut dropped) {
                prop_assert!(serde_json::from_str::<Value>(&written).is_ok(), "{}", written);
            }
        }
    }

    #[test]
    fn answers_never_panic(
        changes in proptest::collection::vec((0..40_usize, other()), 0..4),
        cut in 0..800_usize,
    ) {
        let _ = read_answer(ANSWER.get(..cut).unwrap_or_default());
        if let Ok(events) = read_answer(&mutated(ANSWER, &changes)) {
            check_order(&events);
        }
    }

    /// In any order, changed and cut, a stream gives events in order, and what is written of them says
    /// the same.
    #[test]
    fn streams_are_always_in_order(
        picks in proptest::collection::vec(
            (0..STREAM.len(), proptest::collection::vec((0..12_usize, other()), 0..2)), 0..30),
    ) {
        let frames: Vec<String> =
            picks.iter().map(|(pick, changes)| mutated(STREAM[*pick], changes)).collect();
        let read = events(frames.iter().map(String::as_str));
        check_order(&read);
        let stream = written(read.clone());
        let is_whole = matches!(read.last(), Some(AnswerEvent::End));
        prop_assert_eq!(is_whole, stream.contains("event: message_stop"));
        let back = events(data(&stream));
        check_order(&back);
        if is_whole {
            let texts = |events| {
                let answer = fold(events);
                let blocks = answer.blocks.into_iter();
                blocks.map(|block| block.text).filter(|text| !text.is_empty()).collect::<Vec<_>>()
            };
            prop_assert_eq!(texts(back), texts(read));
        }
    }
}
