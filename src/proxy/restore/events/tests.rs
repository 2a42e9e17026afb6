//! Values are masked however a stream is written.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::llm::format::Format;
use crate::policy::guard::answer::{AnswerScan, SentValues};
use crate::policy::guard::placeholder::Placeholders;
use crate::policy::guard::policy::{Guard, GuardConfig};
use crate::policy::guard::restore::AnswerEdits;

const VALUES: [&str; 4] = ["bob@example.org", "4111 1111 1111 1111", "+1 415 555 2671", "😀"];

fn restorer() -> EventRestorer {
    let config = r#"{"version":1,"detect":{"pii":true},"scan":{"answers":true}}"#;
    let config: GuardConfig = serde_json::from_str(config).unwrap();
    let guard = Arc::new(Guard::new(&[config]).unwrap().unwrap());
    let scan = AnswerScan::new(guard, SentValues::default());
    let edits = AnswerEdits::new(Placeholders::default(), Some(scan));
    EventRestorer::new(StreamRestorer::new(Format::Chat, edits))
}

/// How an event is written.
#[derive(Debug, Clone)]
struct Style {
    end: &'static str,
    /// Every how many characters one is written as an escape.
    escapes: usize,
    /// After how many commas a line of data ends.
    commas: usize,
    /// Whether the members stand in the opposite order.
    is_reversed: bool,
    /// The line before it.
    before: &'static str,
}

fn style() -> impl Strategy<Value = Style> {
    let end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    let before = prop::sample::select(vec!["", ": bob@example.org", ":", "id: bob@example.org"]);
    (end, 1..9_usize, 1..4_usize, any::<bool>(), before).prop_map(
        |(end, escapes, commas, is_reversed, before)| Style {
            end,
            escapes,
            commas,
            is_reversed,
            before,
        },
    )
}

/// An event with a piece of text, which may have half a surrogate pair.
fn written(piece: &[u16], style: &Style) -> String {
    let Style { end, escapes, commas, is_reversed, before } = style;
    let mut text = String::new();
    for (place, unit) in piece.iter().enumerate() {
        match char::from_u32(u32::from(*unit)) {
            Some(plain) if place % escapes > 0 && !"\"\\".contains(plain) => text.push(plain),
            _ => text.push_str(&format!("\\u{unit:04x}")),
        }
    }
    let key = if piece.len().is_multiple_of(2) { "content" } else { "cont\\u0065nt" };
    let mut members = [
        "\"index\": 0".to_owned(),
        "\"finish_reason\":null".to_owned(),
        format!("\"delta\" :{{\"{key}\":\"{text}\"}}"),
    ];
    if *is_reversed {
        members.reverse();
    }
    let mut json = "{\"id\":\"c\",\"choices\":[{".to_owned();
    for (place, member) in members.iter().enumerate() {
        if place > 0 {
            json.push(',');
            if place % commas == 0 {
                json.push_str(end);
                json.push_str("data: ");
            }
        }
        json.push_str(member);
    }
    format!("{before}{end}data:{json}}}]}}{end}{end}")
}

/// The content of all events, as a client reads it.
fn content(stream: &[u8]) -> Vec<u16> {
    let stream = String::from_utf8(stream.to_vec()).unwrap().replace("\r\n", "\n");
    let mut units = Vec::new();
    for event in stream.replace('\r', "\n").split("\n\n") {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        let data = lines.collect::<Vec<_>>().join("\n");
        // Half a surrogate pair is no text for this parser.
        let data = data.replace("\\ud83d", "\u{e000}").replace("\\ude00", "\u{e001}");
        let Ok(event) = serde_json::from_str::<Value>(&data) else { continue };
        let text = event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        units.extend(text.encode_utf16().map(|unit| match unit {
            0xe000 => 0xd83d,
            0xe001 => 0xde00,
            unit => unit,
        }));
    }
    units
}

#[test]
fn an_event_that_ends_with_the_chunk_in_which_it_grows_too_long_is_not_passed() {
    for (length, passes) in [(MAX_EVENT - 1_000, true), (MAX_EVENT + 1_000, false)] {
        let head = br#"data: {"choices":[{"index":0,"delta":{"content":""#;
        let mut stream = head.to_vec();
        stream.resize(length - 100, b'x');
        let mut restorer = restorer();
        let _ = restorer.push(&stream);
        let _ =
            restorer.push(&[b"x".repeat(80).as_slice(), b" bob@example.org. \"}}]}\n\n"].concat());
        let failure = restorer.events.edits().scan().unwrap().failure();
        assert_eq!(failure, (!passes).then_some(ScanError::TooLong), "{length}");
    }
    // The whole of it at once, as a stream that is held comes.
    let mut stream = b"data: {\"x\":\"".to_vec();
    stream.resize(MAX_EVENT + 1_000, b'x');
    stream.extend_from_slice(b"bob@example.org\"}\n\ndata: [DONE]\n\n");
    let mut restorer = restorer();
    let _ = restorer.push(&stream);
    assert_eq!(restorer.events.edits().scan().unwrap().failure(), Some(ScanError::TooLong));
}

proptest! {
    #[test]
    fn a_stream_may_be_written_in_any_way(
        parts in prop::collection::vec((0..5_usize, "[ a,\"é]{0,4}"), 1..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
        styles in prop::collection::vec(style(), 10),
        chunk in 1..60_usize,
    ) {
        let mut text = String::new();
        for (place, other) in &parts {
            text.push_str(other);
            text.push(' ');
            text.push_str(VALUES.get(*place).unwrap_or(&""));
        }
        text.push_str(" x.");
        let units: Vec<u16> = text.encode_utf16().collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(units.len() + 1)).collect();
        cuts.extend([0, units.len()]);
        cuts.sort_unstable();
        let mut stream = String::new();
        for (cut, style) in cuts.windows(2).zip(&styles) {
            stream.push_str(&written(&units[cut[0]..cut[1]], style));
        }
        stream.push_str("data: [DONE]\n\n");
        let edit = |stream: &[u8], size: usize| {
            let mut restorer = restorer();
            let mut down: Vec<u8> = Vec::new();
            stream.chunks(size).for_each(|part| down.extend(restorer.push(part)));
            down.extend(restorer.finish());
            assert_eq!(restorer.events.edits().scan().unwrap().failure(), None);
            down
        };
        let whole = written(&units, &Style { end: "\n", escapes: 1, commas: 9, is_reversed: false, before: "" });
        let expected = content(&edit(whole.as_bytes(), whole.len()));
        let down = edit(stream.as_bytes(), chunk);
        prop_assert_eq!(String::from_utf16_lossy(&content(&down)), String::from_utf16_lossy(&expected));
        let down = String::from_utf8(down).unwrap();
        prop_assert!(!down.contains("bob@") && down.ends_with("data: [DONE]\n\n"), "{}", down);
    }
}
