//! A provider's plain answer.

use super::super::answer::{AnswerEvent, Failure, ReadEvents};
use super::super::fields::{Fields, Path};
use super::stream_reader::{DONE, StreamReader};

/// Reads an answer: the events of a stream of one chunk. An error that the provider reports in it is
/// the last event.
pub(in super::super) fn read_answer(json: &str) -> Result<Vec<AnswerEvent>, Failure> {
    if Fields::parse(json, &Path::ROOT).is_err() {
        return Err(Failure::unreadable("it is no JSON object"));
    }
    let (mut reader, mut events) = (StreamReader::default(), Vec::new());
    reader.read(None, json, &mut events);
    let has_failed = matches!(events.last(), Some(AnswerEvent::Failed(_)));
    if !has_failed {
        if !reader.has_started() {
            return Err(Failure::unreadable("it has no choices"));
        }
        reader.read(None, DONE, &mut events);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::super::super::answer::{BlockKind, StopReason};
    use super::super::super::test_rendering::fold;
    use super::*;

    #[test]
    fn calls_of_a_message_need_no_index() {
        let json = r#"{"id":"1","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[
            {"id":"a","function":{"name":"f","arguments":"{}"}},{"id":"a","function":{"name":"g","arguments":""}},{"function":{"name":"h","arguments":{"x": 1}}}]},"finish_reason":"stop"}]}"#;
        let answer = fold(read_answer(json).unwrap());
        let calls: Vec<_> = answer
            .blocks
            .iter()
            .map(|block| match &block.kind {
                BlockKind::ToolCall { id, name } => (id.as_str(), name.as_str(), &*block.text),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(calls, [("a", "f", "{}"), ("a", "g", ""), ("", "h", r#"{"x": 1}"#)]);
        assert_eq!(answer.stop_reason(), StopReason::ToolCall);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for json in ["", "[]", "<html>", "{}", r#"{"choices":[]}"#, r#"{"detail":"no"}"#] {
            assert!(read_answer(json).is_err(), "{json}");
        }
        let events = read_answer(r#"{"error":{"message":"Busy","code":"c"}}"#).unwrap();
        assert!(matches!(&events[..], [AnswerEvent::Failed(failure)] if failure.code == "c"));
        let events = read_answer(r#"{"choices":[{"message":{"content":""}}]}"#).unwrap();
        assert!(matches!(events.last(), Some(AnswerEvent::Failed(_))));
    }
}
