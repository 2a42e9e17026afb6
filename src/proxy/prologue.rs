//! The beginning of an answer is held back while another target is left or as long as a converted stream
//! says nothing to its caller, until it is known whether there is an answer at all: a provider may report
//! its failure with a success status.

use std::time::Duration;

use actix_web::http::header::HeaderName;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::answer_reader::{Watch, is_compressed};
use super::rate_limit_headers::complete_retry_after;
use crate::accounting::request::AccountedRequest;
use crate::llm::answer::AnswerContent;
use crate::llm::format::Format;
use crate::llm::provider_error::{ErrorCause, cause_of};
use crate::upstream::{UpstreamError, UpstreamResponse};

/// Where AWS names the kind of an error.
pub const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// The most that is held back, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// The longest time that anything is held back.
const MAX_TIME: Duration = Duration::from_secs(10);

/// What the beginning of an answer is.
pub enum Prologue {
    /// That of an answer, as far as is known.
    Answer,
    /// That of a failure, with this stable code.
    Failure(&'static str),
    /// The upstream broke off before there was any answer.
    BrokeOff(UpstreamError),
}

/// Reads until the model has written something, until a failure is reported, or until the bounds of time and
/// size. What was read is put back; what a failed attempt has used is noted.
pub async fn read_prologue(answer: &mut Answer, request: &mut AccountedRequest) -> Prologue {
    let (found, held) = take_prologue(answer).await;
    if !matches!(found, Prologue::Answer) {
        let Answer { response, operation, .. } = &*answer;
        let mut watch = answer.reader().begin(response.status, &response.headers);
        held.iter().for_each(|chunk| watch.push(chunk.clone()));
        watch.note(operation.answer_format().is_some(), false, request);
    }
    answer.response.body.put_back(held.into_iter().map(Ok));
    found
}

/// The same, with what was read.
pub async fn take_prologue(answer: &mut Answer) -> (Prologue, Vec<Bytes>) {
    answer.is_prologue_read = true;
    let reader = answer.reader();
    let mut watch = reader.begin(answer.response.status, &answer.response.headers);
    if matches!(watch, Watch::None | Watch::Unreadable) {
        return (Prologue::Answer, Vec::new());
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
    (found, held)
}

/// Reads what an error says of its cause. `format` is that of the request.
pub async fn read_cause(response: &mut UpstreamResponse, format: Format) -> ErrorCause {
    let text = read_error(response).await;
    let error_type = response.headers.get(ERROR_TYPE).and_then(|value| value.to_str().ok());
    cause_of(format, response.status.as_u16(), error_type, &text)
}

/// Reads when the request may be tried again, and puts it into the head.
pub async fn read_retry_after(response: &mut UpstreamResponse) {
    let text = read_error(response).await;
    complete_retry_after(&mut response.headers, &text);
}

/// Reads an error within the bounds of time and size, and puts it back. One that is compressed tells
/// nothing.
async fn read_error(response: &mut UpstreamResponse) -> Vec<u8> {
    let UpstreamResponse { headers, body, .. } = response;
    if is_compressed(headers) {
        return Vec::new();
    }
    let deadline = Instant::now() + MAX_TIME;
    let (mut held, mut text) = (Vec::new(), Vec::new());
    while text.len() <= MAX_BYTES {
        let Ok(Some(next)) = timeout_at(deadline, body.next()).await else { break };
        if let Ok(chunk) = &next {
            text.extend_from_slice(chunk);
        }
        let is_broken = next.is_err();
        held.push(next);
        if is_broken {
            break;
        }
    }
    body.put_back(held);
    text
}

/// What the beginning is, if that is known before the end.
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
