//! No input makes a reader panic, and what is read can be written.

use proptest::prelude::*;

use super::super::{read_answer, write_answer};
use super::*;

const REQUEST: &str = r#"{"model":"m","instructions":"i","input":[{"role":"developer","content":"d"},{"role":"user","content":[{"type":"input_text","text":"q"},{"type":"input_image","image_url":"data:image/png;base64,AA==","detail":"low"},{"type":"input_file","filename":"f","file_data":"data:application/pdf;base64,AA=="}]},{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"a"}],"encrypted_content":"tollgate.1.google.signature.YzE.x"},{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c1","output":[{"type":"input_text","text":"r"}]}],"tools":[{"type":"function","name":"f","parameters":{},"strict":true}],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]},"text":{"format":{"type":"json_schema","name":"n","schema":{}}},"reasoning":{"effort":"low","summary":"auto"},"temperature":0.5}"#;

const ANSWER: &str = r#"{"id":"resp_1","model":"m","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"a"}],"encrypted_content":"x"},{"type":"message","content":[{"type":"output_text","text":"a","annotations":[{"type":"url_citation","url":"u","title":"t","start_index":0,"end_index":1}]},{"type":"refusal","refusal":"b"}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}],"usage":{"input_tokens":3,"output_tokens":4}}"#;

const STREAM: &str = include_str!("../../../../../tests/fixtures/responses/tool_stream.json");

/// Pieces of JSON that replace others.
const PIECES: [&str; 12] = [
    "null",
    "[]",
    "{}",
    "\"\"",
    "0",
    "-1",
    "18446744073709551616",
    "1e999",
    "\"\\ud83d\\ude00é\"",
    "true",
    ",",
    "\"",
];

/// The text with parts of it replaced.
fn mutated(text: &str, changes: &[(prop::sample::Index, prop::sample::Index, usize)]) -> String {
    let mut text = text.to_owned();
    for (at, piece, length) in changes {
        let floor = |mut at: usize| {
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let from = floor(at.index(text.len() + 1));
        let to = floor((from + length).min(text.len())).max(from);
        text.replace_range(from..to, PIECES[piece.index(PIECES.len())]);
    }
    text
}

/// A value somewhere within becomes another one, so that the text stays JSON.
fn changed(value: &mut Value, choices: &mut impl Iterator<Item = usize>) {
    let choice = choices.next().unwrap_or(0);
    let others = ["null", "[]", "{}", "\"x\"", "7", "-1.5", "true", "[3]", r#"{"type":"message"}"#];
    let replace = |value: &mut Value| {
        *value = serde_json::from_str(others[choice % others.len()]).unwrap();
    };
    match value {
        Value::Array(list) if !list.is_empty() && !choice.is_multiple_of(5) => {
            let at = choice % list.len();
            changed(&mut list[at], choices);
        }
        Value::Object(members) if !members.is_empty() && !choice.is_multiple_of(5) => {
            let at = choice % members.len();
            if let Some(value) = members.values_mut().nth(at) {
                changed(value, choices);
            }
        }
        other => replace(other),
    }
}

fn changed_json(json: &str, choices: Vec<usize>) -> String {
    let mut value = serde_json::from_str(json).unwrap();
    let mut choices = choices.into_iter();
    for _ in 0..3 {
        changed(&mut value, &mut choices);
    }
    value.to_string()
}

fn check_request(json: &str) {
    if let Ok(request) = read_request(json)
        && let Ok(written) = write_request(&request, &TARGET, &mut Dropped::new(false))
    {
        // What is accepted is written validly.
        read_request(&written).unwrap();
    }
}

fn check_answer(json: &str) {
    if let Ok(events) = read_answer(json) {
        let is_proper = matches!(events.last(), Some(AnswerEvent::End | AnswerEvent::Failed(_)));
        assert!(is_proper, "{events:?}");
        serde_json::from_str::<Value>(&write_answer(&context(), &fold(events))).unwrap();
    }
}

/// Blocks are numbered in order, and only open ones get anything.
fn check_stream(events: &[AnswerEvent]) {
    let (mut opened, mut open) = (0, Vec::new());
    for event in events {
        match event {
            AnswerEvent::Open { block, .. } => {
                assert_eq!(*block, opened);
                opened += 1;
                open.push(*block);
            }
            AnswerEvent::Close { block } => {
                assert!(open.contains(block), "{events:?}");
                open.retain(|one| one != block);
            }
            AnswerEvent::Text { block, .. }
            | AnswerEvent::Arguments { block, .. }
            | AnswerEvent::Annotation { block, .. }
            | AnswerEvent::Opaque { block, .. } => assert!(open.contains(block), "{events:?}"),
            AnswerEvent::End => assert!(open.is_empty(), "{events:?}"),
            _ => {}
        }
    }
    for data in data_of(&write_stream(events.to_vec())) {
        serde_json::from_str::<Value>(data).unwrap();
    }
}

proptest! {
    #[test]
    fn texts(changes in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index, u8)>(), 1..4)) {
        let changes: Vec<_> = changes
            .into_iter()
            .map(|(at, piece, length)| (at, piece, usize::from(length % 16)))
            .collect();
        check_request(&mutated(REQUEST, &changes));
        check_answer(&mutated(ANSWER, &changes));
        super::super::echo(&mutated(REQUEST, &changes));
    }

    #[test]
    fn values(choices in prop::collection::vec(any::<usize>(), 30)) {
        check_request(&changed_json(REQUEST, choices.clone()));
        check_answer(&changed_json(ANSWER, choices.clone()));
        super::super::echo(&changed_json(REQUEST, choices));
    }

    #[test]
    fn streams(
        choices in prop::collection::vec(any::<usize>(), 30),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
    ) {
        let recording: Value = serde_json::from_str(STREAM).unwrap();
        let stream = recording["exchanges"][0]["response"]["text"].as_str().unwrap();
        let data = data_of(stream);
        // Events in any order, some of them often, and one that is changed.
        let mut picked: Vec<String> =
            order.iter().map(|index| index.get(&data).to_string()).collect();
        let middle = picked.len() / 2;
        picked[middle] = changed_json(&picked[middle], choices);
        check_stream(&read_stream(picked.iter().map(String::as_str)));
    }
}
