//! What holds for any request and any answer.

use proptest::prelude::*;

use super::*;
use crate::llm::convert::error::ConvertError;

/// An answer that a chat holds as it is: no two texts in a row, which would be one.
fn any_answer() -> impl Strategy<Value = Answer> {
    let text = "[ -~é😊\n]{1,20}";
    let summary = || opaque(Family::OpenAi, OpaqueKind::Encrypted, Some("rs_1"));
    let signature = |family| opaque(family, OpaqueKind::Signature, None);
    let block = (0..5_u8, text, any::<bool>()).prop_map(move |(kind, text, is_signed)| {
        let (kind, text, of_kind) = match kind {
            0 => (BlockKind::Text, text, Some(signature(Family::Google))),
            1 => (BlockKind::Refusal, text, None),
            2 => (
                BlockKind::Reasoning { is_summary: false },
                text,
                Some(signature(Family::Anthropic)),
            ),
            3 => (BlockKind::Reasoning { is_summary: true }, text, Some(summary())),
            _ => {
                let arguments = serde_json::json!({ text.as_str(): [text, 1] }).to_string();
                (call("", "f"), arguments, Some(signature(Family::Google)))
            }
        };
        block(kind, &text, of_kind.into_iter().filter(|_| is_signed).collect())
    });
    prop::collection::vec(block, 1..9).prop_map(|mut blocks| {
        blocks.dedup_by(|next, before| {
            next.kind == before.kind && matches!(next.kind, BlockKind::Text | BlockKind::Refusal)
        });
        for (number, block) in blocks.iter_mut().enumerate() {
            if let BlockKind::ToolCall { id, .. } = &mut block.kind {
                *id = format!("call_{number}");
            }
        }
        Answer { blocks, ..full_answer() }
    })
}

/// A text with one piece replaced by another.
fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "",
        "null",
        "{}",
        "[]",
        "\"\"",
        "0",
        "-1",
        "1e999",
        "\"",
        "{",
        "[",
        ",",
        "\\",
        "true",
        "\u{e9}",
        "\"index\":99999999999999999999",
        "\"id\":7",
        "[[[[",
        "18446744073709551615",
    ]);
    (0..text.len(), 0..40_usize, pieces).prop_map(move |(start, length, piece)| {
        let from = text.floor_char_boundary(start);
        let to = text.floor_char_boundary((from + length).min(text.len())).max(from);
        format!("{}{piece}{}", &text[..from], &text[to..])
    })
}

/// What was read of a request can be written, or is refused by name.
fn check_request(json: &str) {
    if let Ok(request) = read_request(json) {
        match write_request(&request, &TARGET, &mut Dropped::new(false)) {
            Ok(written) => {
                assert!(serde_json::from_str::<serde::de::IgnoredAny>(&written).is_ok());
                assert!(read_request(&written).is_ok(), "{json}\n{written}");
            }
            Err(ConvertError::Unsupported { field, .. } | ConvertError::Invalid { field, .. }) => {
                assert!(!field.is_empty());
            }
        }
    }
}

proptest! {
    #[test]
    fn any_answer_that_is_written_is_read_as_it_was(answer in any_answer()) {
        let stream = write_stream(events_of(&answer), true);
        let read = folded(&read_frames(frames(&stream)));
        prop_assert_eq!(read.blocks, answer.blocks);
    }

    #[test]
    fn any_request_is_read_or_refused(json in mutated(FULL_REQUEST)) {
        check_request(&json);
    }

    #[test]
    fn any_answer_is_read_or_refused(json in mutated(REASONING_CALL)) {
        if let Ok(events) = read_answer(&json) {
            let written = write_stream(events, true);
            for frame in frames(&written) {
                let is_json = serde_json::from_str::<serde::de::IgnoredAny>(frame).is_ok();
                prop_assert!(is_json || frame == "[DONE]");
            }
        }
    }

    #[test]
    fn any_stream_is_read_or_fails(stream in mutated(SPLIT_TOOL_STREAM), cut in 0..4_usize) {
        let events = read_frames(stream.lines().take(cut));
        let ends = events.iter().filter(|one| {
            matches!(one, AnswerEvent::End | AnswerEvent::Failed(_))
        });
        prop_assert!(ends.count() <= 1);
    }

    #[test]
    fn any_text_is_read_or_fails(text in "\\PC{0,60}") {
        let _ = read_request(&text);
        let _ = read_answer(&text);
        let _ = read_frames([text.as_str()]);
    }
}
