//! A provider's plain answer.

use super::super::answer::AnswerEvent;
use super::super::error::UnreadableAnswer;
use super::super::fields::{Fields, Path};
use super::stream_reader::{DONE, StreamReader};

/// Reads an answer: the events of a stream of one chunk. An error that the provider reports in it is
/// the last event.
pub(in super::super) fn read_answer(json: &str) -> Result<Vec<AnswerEvent>, UnreadableAnswer> {
    if Fields::parse(json, &Path::ROOT).is_err() {
        return Err(UnreadableAnswer("it is no JSON object".into()));
    }
    let (mut reader, mut events) = (StreamReader::new(), Vec::new());
    reader.read(None, json, &mut events);
    let has_failed = matches!(events.last(), Some(AnswerEvent::Failed(_)));
    if !has_failed {
        if !reader.has_started() {
            return Err(UnreadableAnswer("it has no choices".into()));
        }
        reader.read(None, DONE, &mut events);
    }
    Ok(events)
}
