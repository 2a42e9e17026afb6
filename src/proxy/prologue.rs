//! The beginning of an answer is held back while another target is left, until it is known whether there
//! is an answer at all: a provider may tell of its failure with a success status.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::answer_reader::{AnswerReader, Watch};
use super::relay::Answer;
use crate::llm::answer::AnswerContent;
use crate::upstream::UpstreamError;

/// The most that is held back, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// The longest time that anything is held back.
const MAX_TIME: Duration = Duration::from_secs(10);

/// What the beginning of an answer is.
pub enum Prologue {
    /// That of an answer, as far as can be told.
    Answer,
    /// That of a failure, with this stable code.
    Failure(&'static str),
    /// The upstream broke off before there was any answer.
    BrokeOff(UpstreamError),
}

/// Reads until the model has written something, until a failure is told, or until the bounds of time and
/// size. What was read is put back.
pub async fn read_prologue(answer: &mut Answer) -> Prologue {
    let reader = AnswerReader::of(answer);
    let mut watch = reader.begin(answer.response.status, &answer.response.headers);
    if matches!(watch, Watch::None | Watch::Unreadable) {
        return Prologue::Answer;
    }
    let deadline = Instant::now() + MAX_TIME;
    let mut held: Vec<Bytes> = Vec::new();
    let mut length = 0;
    let found = loop {
        let Ok(next) = timeout_at(deadline, answer.response.body.next()).await else {
            break Prologue::Answer;
        };
        match next {
            Some(Ok(chunk)) => {
                length += chunk.len();
                held.push(chunk.clone());
                watch.push(chunk);
                if let Some(found) = decide(&watch) {
                    break found;
                }
                if length > MAX_BYTES {
                    break Prologue::Answer;
                }
            }
            Some(Err(error)) => break Prologue::BrokeOff(error),
            None => {
                let code = content_of(&watch).failure_code();
                break code.map_or(Prologue::Answer, Prologue::Failure);
            }
        }
    };
    answer.response.body.put_back(held);
    found
}

/// What the beginning is, if that can be told before the end.
fn decide(watch: &Watch) -> Option<Prologue> {
    let Watch::Stream(stream) = watch else { return None };
    match stream.observed().content {
        AnswerContent::Error if stream.has_written() => Some(Prologue::Answer),
        content @ AnswerContent::Error => content.failure_code().map(Prologue::Failure),
        _ => (stream.has_written() || stream.is_terminal()).then_some(Prologue::Answer),
    }
}

fn content_of(watch: &Watch) -> AnswerContent {
    match watch {
        Watch::Stream(stream) => stream.observed().content,
        Watch::Plain(plain) => plain.observed().content,
        Watch::None | Watch::Unreadable | Watch::Undecided(_) => AnswerContent::Nothing,
    }
}
