//! What one stream may have, and how much of it is kept.

use super::*;

#[test]
fn an_event_of_too_many_pieces_is_none() {
    for (count, is_one) in [(4_000, true), (5_000, false)] {
        let kind = format!("{}.delta", "x".repeat(1_000));
        let data = json!({"type":kind,"output_index":0,"delta":vec!["T"; count]}).to_string();
        let edits = AnswerEdits::new(Placeholders::default(), Some(scan("redact")));
        let mut restorer = StreamRestorer::new(Format::Responses, edits);
        let _ = restorer.event("", data.as_bytes());
        let failure = restorer.edits().scan().unwrap().failure();
        assert_eq!(failure, (!is_one).then_some(ScanError::NotEvent), "{count}");
        assert!(restorer.kept() <= MAX_TEMPLATE + data.len(), "{}", restorer.kept());
    }
    // A name that each block would keep.
    let edits = AnswerEdits::new(Placeholders::default(), Some(scan("redact")));
    let mut restorer = StreamRestorer::new(Format::Chat, edits);
    let data = json!({"choices":[{"index":0,"delta":{"content":"bob@"}}]}).to_string();
    let _ = restorer.event(&"n".repeat(MAX_NAME + 1), data.as_bytes());
    assert_eq!(restorer.edits().scan().unwrap().failure(), Some(ScanError::TooLong));
    // What a text goes on from.
    assert!(restorer.kept() < 100, "{}", restorer.kept());
}

#[test]
fn what_is_held_back_is_bounded() {
    let ([_, email], all) = placeholders();
    let mut restorer = StreamRestorer::new(Format::Messages, all.into());
    for index in 0..MAX_BLOCKS + 100 {
        let data = json!({"index": index, "delta": {"text": &email[..9]}}).to_string();
        let event = restorer.event("content_block_delta", data.as_bytes());
        assert_eq!(event.data.is_none(), index >= MAX_BLOCKS);
    }
    assert_eq!(restorer.blocks.len(), MAX_BLOCKS);
}
