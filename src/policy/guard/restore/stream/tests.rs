//! Streams are restored and masked however they are split.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::super::placeholder::Placeholders;
use super::super::mask::tests::scan;
use super::super::tests::{VALUES, placeholders};
use super::*;

mod bounds;
mod calls;

/// One kind of block of a format: how a piece of its text is sent, and what ends it.
struct Kind {
    format: Format,
    /// The name and data of an event with a piece of the block at a place.
    piece: fn(usize, &str) -> (&'static str, Value),
    end: fn(usize) -> Option<(&'static str, Value)>,
    /// The piece in an event's data.
    pointer: &'static str,
}

fn kinds() -> Vec<Kind> {
    vec![
        Kind {
            format: Format::Chat,
            piece: |at, text| {
                ("", json!({"id":"c","choices":[{"index":at,"delta":{"content":text}}]}))
            },
            end: |at| {
                Some(("", json!({"choices":[{"index":at,"delta":{},"finish_reason":"stop"}]})))
            },
            pointer: "/choices/0/delta/content",
        },
        Kind {
            format: Format::Chat,
            piece: |at, text| {
                let call = json!({"index":at,"function":{"arguments":text}});
                ("", json!({"choices":[{"index":0,"delta":{"tool_calls":[call]}}]}))
            },
            end: |_| None,
            pointer: "/choices/0/delta/tool_calls/0/function/arguments",
        },
        Kind {
            format: Format::Chat,
            piece: |at, text| {
                ("", json!({"choices":[{"index":at,"delta":{"reasoning_content":text}}]}))
            },
            end: |at| {
                Some(("", json!({"choices":[{"index":at,"delta":{},"finish_reason":"stop"}]})))
            },
            pointer: "/choices/0/delta/reasoning_content",
        },
        Kind {
            format: Format::Responses,
            piece: |at, text| {
                let kind = "response.function_call_arguments.delta";
                (kind, json!({"type":kind,"item_id":"fc","output_index":at,"delta":text}))
            },
            end: |at| {
                let kind = "response.function_call_arguments.done";
                Some((kind, json!({"type":kind,"item_id":"fc","output_index":at})))
            },
            pointer: "/delta",
        },
        Kind {
            format: Format::Responses,
            piece: |at, text| {
                let kind = "response.reasoning_summary_text.delta";
                (kind, json!({"type":kind,"output_index":at,"summary_index":0,"delta":text}))
            },
            end: |at| {
                let kind = "response.reasoning_summary_text.done";
                Some((kind, json!({"type":kind,"output_index":at,"summary_index":0})))
            },
            pointer: "/delta",
        },
        Kind {
            format: Format::Gemini,
            piece: |at, text| {
                let part = json!({"text":text,"thought":true});
                ("", json!({"candidates":[{"content":{"parts":[part]},"index":at}]}))
            },
            end: |at| Some(("", json!({"candidates":[{"finishReason":"STOP","index":at}]}))),
            pointer: "/candidates/0/content/parts/0/text",
        },
        Kind {
            format: Format::Responses,
            piece: |at, text| {
                let kind = "response.output_text.delta";
                (kind, json!({"type":kind,"output_index":at,"content_index":0,"delta":text}))
            },
            end: |at| {
                let kind = "response.output_text.done";
                Some((kind, json!({"type":kind,"output_index":at,"content_index":0})))
            },
            pointer: "/delta",
        },
        Kind {
            format: Format::Messages,
            piece: |at, text| {
                let kind = "content_block_delta";
                (kind, json!({"type":kind,"index":at,"delta":{"type":"text_delta","text":text}}))
            },
            end: |at| Some(("content_block_stop", json!({"type":"content_block_stop","index":at}))),
            pointer: "/delta/text",
        },
        Kind {
            format: Format::Messages,
            piece: |at, text| {
                let kind = "content_block_delta";
                let delta = json!({"type":"input_json_delta","partial_json":text});
                (kind, json!({"type":kind,"index":at,"delta":delta}))
            },
            end: |_| Some(("message_stop", json!({"type":"message_stop"}))),
            pointer: "/delta/partial_json",
        },
        Kind {
            format: Format::Gemini,
            piece: |at, text| {
                ("", json!({"candidates":[{"content":{"parts":[{"text":text}]},"index":at}]}))
            },
            end: |at| Some(("", json!({"candidates":[{"finishReason":"STOP","index":at}]}))),
            pointer: "/candidates/0/content/parts/0/text",
        },
        Kind {
            format: Format::Converse,
            piece: |at, text| {
                (
                    "contentBlockDelta",
                    json!({"contentBlockIndex":at,"delta":{"text":text},"p":"ab"}),
                )
            },
            end: |at| Some(("contentBlockStop", json!({"contentBlockIndex":at}))),
            pointer: "/delta/text",
        },
        Kind {
            format: Format::Converse,
            piece: |at, text| {
                let delta = json!({"toolUse":{"input":text}});
                ("contentBlockDelta", json!({"contentBlockIndex":at,"delta":delta}))
            },
            end: |_| Some(("messageStop", json!({"stopReason":"tool_use"}))),
            pointer: "/delta/toolUse/input",
        },
    ]
}

/// The texts of two blocks whose pieces arrive in turns, after the edits. Events in the place of `end`
/// come after everything that was held back.
fn edited_texts(edits: AnswerEdits, kind: &Kind, blocks: &[Vec<String>; 2]) -> [String; 2] {
    let mut restorer = StreamRestorer::new(kind.format, edits);
    let mut texts = [String::new(), String::new()];
    let number = |at: usize, data: &Value| {
        data == &(kind.piece)(at, data.pointer(kind.pointer).unwrap().as_str().unwrap()).1
    };
    let mut take = |data: &[u8]| {
        let data: Value = serde_json::from_slice(data).unwrap();
        let at =
            (0..2).find(|at| number(*at, &data)).expect("the event is the same but for its text");
        texts[at].push_str(data.pointer(kind.pointer).unwrap().as_str().unwrap());
    };
    let longest = blocks.iter().map(Vec::len).max().unwrap_or_default();
    for place in 0..longest {
        for (at, pieces) in blocks.iter().enumerate() {
            let Some(piece) = pieces.get(place) else { continue };
            let (name, data) = (kind.piece)(at, piece);
            let data = data.to_string();
            let event = restorer.event(name, data.as_bytes());
            assert!(event.before.is_empty());
            take(event.data.as_deref().unwrap_or(data.as_bytes()));
        }
    }
    for at in 0..2 {
        let Some((name, data)) = (kind.end)(at) else { continue };
        let data = data.to_string();
        let event = restorer.event(name, data.as_bytes());
        event.before.iter().for_each(|extra| take(&extra.data));
        assert_eq!(event.data, None);
    }
    let rest = restorer.finish();
    assert!(rest.is_empty() || (kind.end)(0).is_none());
    rest.iter().for_each(|extra| take(&extra.data));
    texts
}

proptest! {
    #[test]
    fn any_split_of_any_stream_gives_the_same(
        kind in 0..12_usize,
        parts in prop::collection::vec((0..4_usize, "[tTgG_ a\\\\é]{0,3}"), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let (texts, _) = placeholders();
        let (mut text, mut expected) = ("x".to_owned(), "x".to_owned());
        for (place, other) in &parts {
            if let Some(placeholder) = texts.get(*place) {
                text.push_str(placeholder);
                expected.push_str(VALUES[*place]);
            }
            text.push_str(other);
            expected.push_str(other);
        }
        let (_, all) = placeholders();
        let [first, second] = edited_texts(all.into(), &kinds()[kind], &pieces(&text, &cuts));
        prop_assert_eq!(&first, &expected);
        prop_assert_eq!(&second, &expected);
    }

    #[test]
    fn any_split_of_any_scanned_stream_gives_the_same(
        kind in 0..12_usize,
        parts in prop::collection::vec((0..6_usize, "[tTgG_ a,\"é]{0,3}"), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let (texts, _) = placeholders();
        let values = ["bob@example.org", "4111 1111 1111 1111", "PRJ-1234", &texts[0], &texts[1]];
        let mut text = "x".to_owned();
        for (place, other) in &parts {
            text.push(' ');
            text.push_str(values.get(*place).unwrap_or(&""));
            text.push_str(other);
        }
        let edits = || AnswerEdits::new(placeholders().1, Some(scan("redact")));
        let expected = edits().edited(&text, Some(b"")).unwrap_or_else(|| text.clone());
        prop_assert!(!expected.contains("bob@example.org "), "{}", expected);
        let [first, second] = edited_texts(edits(), &kinds()[kind], &pieces(&text, &cuts));
        prop_assert_eq!(&first, &expected);
        prop_assert_eq!(&second, &expected);
    }
}

/// The text in pieces that end at these places, and in characters.
fn pieces(text: &str, cuts: &[prop::sample::Index]) -> [Vec<String>; 2] {
    let characters: Vec<char> = text.chars().collect();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(characters.len() + 1)).collect();
    cuts.extend([0, characters.len()]);
    cuts.sort_unstable();
    let pieces = cuts.windows(2).map(|cut| characters[cut[0]..cut[1]].iter().collect()).collect();
    [pieces, characters.iter().map(ToString::to_string).collect()]
}

fn events(format: Format, events: &[(&str, String)]) -> Vec<String> {
    let (_, all) = placeholders();
    let mut restorer = StreamRestorer::new(format, all.into());
    let mut sent = Vec::new();
    for (name, data) in events {
        let RestoredEvent { before, data: new } = restorer.event(name, data.as_bytes());
        sent.extend(before.into_iter().map(|extra| extra.data));
        sent.push(new.unwrap_or_else(|| data.clone().into_bytes()));
    }
    sent.extend(restorer.finish().into_iter().map(|extra| extra.data));
    sent.into_iter().map(|data| String::from_utf8(data).unwrap()).collect()
}

#[test]
fn other_bytes_of_events_stay() {
    let ([_, email], _) = placeholders();
    let sent = events(
        Format::Chat,
        &[
            ("", r#"{"id": "c",  "choices":[{"index":0,"delta":{"role":"assistant","content":""}}] }"#.to_owned()),
            ("", r#"{"choices":[{"delta":{"content":"\u00e9 nothing"}}]}"#.to_owned()),
            ("", format!(r#"{{ "choices":[{{"delta":{{"content":"to {email}, "}},"x":1.50}}]}}"#)),
            ("", r#"{"choices":[{"delta":{"content":"that"},"finish_reason":null}]}"#.to_owned()),
            ("", r#"{"choices":[{"delta":{"content":"t"},"finish_reason":"stop"}]}"#.to_owned()),
            ("", "[DONE]".to_owned()),
        ],
    );
    assert_eq!(
        sent,
        [
            r#"{"id": "c",  "choices":[{"index":0,"delta":{"role":"assistant","content":""}}] }"#,
            r#"{"choices":[{"delta":{"content":"\u00e9 nothing"}}]}"#,
            r#"{ "choices":[{"delta":{"content":"to a@b.co, "},"x":1.50}]}"#,
            r#"{"choices":[{"delta":{"content":"tha"},"finish_reason":null}]}"#,
            r#"{"choices":[{"delta":{"content":"tt"},"finish_reason":"stop"}]}"#,
            "[DONE]",
        ]
    );
}

#[test]
fn text_goes_out_before_what_follows_it() {
    let sent = events(
        Format::Chat,
        &[
            ("", r#"{"choices":[{"index":0,"delta":{"reasoning":"that"}}]}"#.to_owned()),
            ("", r#"{"choices":[{"index":0,"delta":{"content":"x"}}]}"#.to_owned()),
        ],
    );
    assert_eq!(
        sent,
        [
            r#"{"choices":[{"index":0,"delta":{"reasoning":"tha"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"reasoning":"t"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"x"}}]}"#,
        ]
    );
    let sent = events(
        Format::Gemini,
        &[
            ("", r#"{"candidates":[{"content":{"parts":[{"text":"that","thought":true}]}}]}"#.to_owned()),
            ("", r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]}}]}"#.to_owned()),
        ],
    );
    assert_eq!(sent[1], r#"{"candidates":[{"content":{"parts":[{"text":"t","thought":true}]}}]}"#);
    assert_eq!(sent.len(), 3);
}

#[test]
fn pings_may_come_between_the_pieces_of_a_value() {
    let ([_, email], _) = placeholders();
    let (head, tail) = email.split_at(6);
    let piece =
        |text: &str| ("", json!({"choices":[{"index":0,"delta":{"content":text}}]}).to_string());
    let sent = events(Format::Chat, &[piece(head), ("", String::new()), piece(tail)]);
    let texts = sent.iter().filter_map(|data| serde_json::from_str::<Value>(data).ok());
    let texts: String = texts
        .map(|data| data["choices"][0]["delta"]["content"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((texts.as_str(), sent.len()), (VALUES[1], 3));
}

#[test]
fn whole_texts_in_events_are_restored_and_signed_ones_are_not() {
    let ([_, email], _) = placeholders();
    for (format, name, data, is_restored) in [
        (
            Format::Responses,
            "",
            r#"{"type":"response.output_text.done","output_index":0,"text":"%"}"#,
            true,
        ),
        (
            Format::Responses,
            "",
            r#"{"type":"response.completed","response":{"output":[{"arguments":"{\"x\":\"%\"}"}]}}"#,
            true,
        ),
        (Format::Responses, "", r#"{"type":"response.audio.delta","delta":"%"}"#, true),
        (
            Format::Messages,
            "",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","input":{"%":"%"}}}"#,
            true,
        ),
        (
            Format::Messages,
            "",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"%"}}"#,
            false,
        ),
        (
            Format::Converse,
            "contentBlockDelta",
            r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"%"}}}"#,
            false,
        ),
        (
            Format::Gemini,
            "",
            r#"{"candidates":[{"content":{"parts":[{"functionCall":{"args":{"to":"%"}}}]}}]}"#,
            true,
        ),
        (Format::Chat, "", r#"{"error":{"message":"%"}}"#, true),
    ] {
        let data = data.replace('%', &email);
        let value = if is_restored { "a@b.co" } else { &email };
        assert_eq!(events(format, &[(name, data.clone())]), [data.replace(&email, value)]);
    }
}
