//! The answer on its way down: relayed as it arrives, watched but not buffered, settled at its end.

mod scanned;

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::web::block;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use smallvec::SmallVec;
use tokio::time::{Instant, Sleep, timeout_at};

use super::answer_reader::{AnswerReader, Watch, is_compressed};
use super::concurrency::ConcurrencyPermit;
use super::context::RequestContext;
use super::error::ProxyError;
use super::guard::note_answer;
use super::headers::{content_length, copy_downstream};
use super::key_scrubber::{MAX_ERROR_BYTES, scrub, scrubbed_length};
use super::policy_headers::insert_policy_headers;
use super::restore::AnswerRestorer;
use crate::crypto::SecretBytes;
use crate::domain::ids::RequestId;
use crate::llm::answer::{AnswerContent, ObservedAnswer, StreamEnd};
use crate::llm::error::GatewayError;
use crate::llm::format::Operation;
use crate::telemetry::request_record::RequestOutcome;
use crate::upstream::{UpstreamBody, UpstreamError, UpstreamResponse};
use scanned::Edited;
pub use scanned::ScannedAnswer;

/// Time to flush the head and what has come of a broken answer before its body fails: on a body error
/// actix-http drops the connection with whatever it has not written yet.
const FLUSH: Duration = Duration::from_millis(100);

/// How long an upstream's error may take to arrive. The caller waits for its head meanwhile.
const ERROR_TIME: Duration = Duration::from_secs(30);

/// Which target of a chain has answered.
const SERVED_BY: HeaderName = HeaderName::from_static("x-tollgate-served-by");
/// How often a request for a chain was sent.
const ATTEMPTS: HeaderName = HeaderName::from_static("x-tollgate-attempts");

/// The upstream's answer, its body still to come, and what relaying it takes.
pub struct Answer {
    pub response: UpstreamResponse,
    pub operation: Operation,
    /// The caller asked for a stream.
    pub is_stream_expected: bool,
    /// Usage was asked for by the gateway alone, so the event is not the caller's.
    pub withhold_usage: bool,
    /// What must not reach the caller.
    pub secrets: Vec<SecretBytes>,
    /// The place among the upstream's requests.
    pub permit: ConcurrencyPermit,
    /// Which target of a chain it is of.
    pub served_by: Option<String>,
}

/// Notes that the head of the answer is there, and reads an error that has to be searched for the
/// provider's key. Apart from [`relay`], since what an asynchronous function holds is copied when it is
/// called, and nearly all answers need no waiting.
pub async fn begin(answer: &mut Answer, context: &mut RequestContext) -> Option<UpstreamErrorBody> {
    let UpstreamResponse { status, headers, body, .. } = &mut answer.response;
    context.request.answered(status.as_u16());
    let is_readable = !status.is_success()
        && !has_no_body(*status, content_length(headers))
        && !is_compressed(headers);
    if is_readable { Some(read_error(body).await) } else { None }
}

/// The answer to the caller.
pub enum Relayed {
    Begun(HttpResponse),
    /// What goes down first is not known yet, and may have to be refused.
    Scanning(Box<ScannedAnswer>),
}

/// The answer to the caller, after [`begin`].
pub fn relay(
    answer: Answer,
    error_body: Option<UpstreamErrorBody>,
    mut context: RequestContext,
) -> Relayed {
    let reader = AnswerReader::of(&answer);
    let Answer { response, operation, secrets, permit, served_by, .. } = answer;
    let UpstreamResponse { status, headers, body, .. } = response;
    let exposed: SmallVec<[&[u8]; 2]> = secrets.iter().map(SecretBytes::expose).collect();
    let format = operation.answer_format();
    let watch = reader.begin(status, &headers);
    let is_stream = matches!(watch, Watch::Stream(_));
    if is_stream {
        context.stream_begins();
    }
    let length = content_length(&headers).filter(|_| !is_stream);
    // What goes down of a stream may be an event shorter than what came.
    let may_shrink = matches!(watch, Watch::Undecided(_));
    let mut size = length.filter(|_| !may_shrink).map_or(BodySize::Stream, BodySize::Sized);
    let mut first = None;
    let mut upstream = Some(body);
    let mut state = State::Open;
    let restorer = context.restorer.take();
    let error_format = operation.error_format();
    if status.is_success() && restorer.as_ref().is_some_and(AnswerRestorer::changes_length) {
        size = BodySize::Stream;
    }
    let mut response = HttpResponse::new(status);
    let down = response.headers_mut();
    copy_downstream(&headers, &exposed, down);
    if has_no_body(status, length) {
        // Nothing will be asked of such a body, so it is settled here.
        upstream = None;
        state = State::Ended;
        if status.is_success() && format.is_some() {
            context.request.answer.content = Some(AnswerContent::Nothing);
        }
        if length.is_none() {
            size = BodySize::None;
        }
    } else if matches!(watch, Watch::None) && is_compressed(&headers) {
        upstream = None;
        size = BodySize::Stream;
        let id = context.request.record().ids.request_id;
        first = Some(operation.error_format().error_body(&unreadable(status, id)).into());
        down.remove(CONTENT_ENCODING);
        down.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    } else if let Some(error_body) = error_body {
        upstream = None;
        let mut bytes = scrub(&error_body.bytes, &exposed).into_owned();
        if !matches!(error_body.end, ErrorEnd::Whole) {
            // A key may lie across the cut.
            bytes.truncate(scrubbed_length(&bytes, &exposed));
        }
        if let Some(restorer) = &restorer {
            bytes = restorer.error_body(bytes);
        }
        first = Some(Bytes::from(bytes));
        size = BodySize::Stream;
        // Nothing beyond the end of one that is too long was looked at.
        if let ErrorEnd::BrokeOff(error) = error_body.end {
            state = State::Broken(error);
        }
    }
    let left = match &watch {
        Watch::Plain(_) | Watch::Unreadable | Watch::Undecided(_) => length,
        Watch::None | Watch::Stream(_) => None,
    };
    if let Some(served_by) = served_by.and_then(|name| HeaderValue::try_from(name).ok()) {
        down.insert(SERVED_BY, served_by);
        down.insert(ATTEMPTS, HeaderValue::from(context.request.record().attempts));
    }
    let policy_report = std::mem::take(&mut context.policy_report);
    insert_policy_headers(down, &policy_report);
    let max_output_tokens = context.request.max_output_tokens();
    context.request.answer.is_unreadable =
        matches!(watch, Watch::Unreadable) && !matches!(state, State::Ended);
    if matches!(state, State::Ended) {
        context.request.finish(RequestOutcome::Completed);
    }
    let is_scanning = status.is_success()
        && matches!(state, State::Open)
        && restorer.as_ref().is_some_and(AnswerRestorer::is_scanning);
    let mut body = RelayBody {
        upstream,
        first,
        watch,
        restorer,
        refused: None,
        has_begun: !is_scanning,
        is_model_answer: format.is_some(),
        max_output_tokens,
        size,
        left,
        state,
        context,
        _permit: permit,
    };
    if is_scanning {
        body.context.policy_report = policy_report;
        let head = response.drop_body();
        return Relayed::Scanning(Box::new(ScannedAnswer { head, body, error_format }));
    }
    // Boxed here: the server boxes it anyway, after it has moved it several times.
    Relayed::Begun(response.set_body(BoxBody::new(body)))
}

/// Stands for an upstream's error that can't be looked through for the provider's key.
fn unreadable(status: StatusCode, request_id: RequestId) -> GatewayError<'static> {
    GatewayError {
        message: "The provider answered with this status and a compressed body, although it was asked not to compress. The gateway does not pass such an error on, since it can't be searched for the provider's key.",
        kind: "upstream_error",
        code: "upstream_error_unreadable",
        param: None,
        status: status.as_u16(),
        request_id,
    }
}

/// Whether an answer ends with its head (RFC 9112, section 6.3).
fn has_no_body(status: StatusCode, length: Option<u64>) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || length == Some(0)
}

/// An upstream's error, which may quote the provider's key.
pub struct UpstreamErrorBody {
    bytes: Vec<u8>,
    end: ErrorEnd,
}

enum ErrorEnd {
    Whole,
    TooLong,
    BrokeOff(UpstreamError),
}

/// Reads an error to its end, or as far as it is looked through.
async fn read_error(body: &mut UpstreamBody) -> UpstreamErrorBody {
    let deadline = Instant::now() + ERROR_TIME;
    let mut bytes = Vec::new();
    while bytes.len() < MAX_ERROR_BYTES {
        let end = match timeout_at(deadline, body.next()).await {
            Ok(Some(Ok(chunk))) => {
                bytes.extend_from_slice(&chunk);
                continue;
            }
            Ok(Some(Err(error))) => ErrorEnd::BrokeOff(error),
            Ok(None) => ErrorEnd::Whole,
            Err(_) => ErrorEnd::BrokeOff(UpstreamError::IdleTimeout),
        };
        return UpstreamErrorBody { bytes, end };
    }
    bytes.truncate(MAX_ERROR_BYTES);
    UpstreamErrorBody { bytes, end: ErrorEnd::TooLong }
}

enum State {
    Open,
    /// The upstream broke off; what is left is to say so.
    Broken(UpstreamError),
    /// All that the caller gets is out; the body fails when it has had time to be flushed.
    Flushing(Pin<Box<Sleep>>),
    Failed,
    Ended,
    /// The answer is complete, and is being edited on another thread.
    Editing(Pin<Box<dyn Future<Output = Edited>>>),
}

/// The body of an answer that is being relayed. Dropping it before its end means that the caller
/// has left, which closes the upstream's connection.
pub struct RelayBody {
    upstream: Option<UpstreamBody>,
    first: Option<Bytes>,
    watch: Watch,
    restorer: Option<AnswerRestorer>,
    /// The guard's refusal of an answer that has not begun.
    refused: Option<ProxyError>,
    /// Whether the head of the answer may have gone down.
    has_begun: bool,
    /// The answer is a model's, not a listing.
    is_model_answer: bool,
    max_output_tokens: u64,
    size: BodySize,
    /// Bytes of a plain answer that are still to come, where its length was declared.
    left: Option<u64>,
    state: State,
    context: RequestContext,
    _permit: ConcurrencyPermit,
}

/// The answer could not be relayed to its end; the connection is cut so that the caller can tell.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer broke off")]
pub struct BrokenOff;

impl RelayBody {
    /// Reads out of the answer what settling the request takes, and finishes it.
    fn finish(&mut self, outcome: RequestOutcome) {
        if self.context.request.is_finished() {
            return;
        }
        let observed = match &self.watch {
            Watch::None | Watch::Unreadable | Watch::Undecided(_) => ObservedAnswer::default(),
            Watch::Plain(answer) => answer.observed(),
            Watch::Stream(answer) => answer.observed().clone(),
        };
        if self.is_model_answer && !matches!(self.watch, Watch::None | Watch::Unreadable) {
            self.context.request.answer.content = Some(observed.content);
        }
        let searches = observed.usage.map(|report| u64::from(report.web_searches));
        let usage = observed.usage.map(|report| report.tokens(self.max_output_tokens));
        let has_both_counts =
            usage.is_some_and(|usage| usage.input.is_some() && usage.output.is_some());
        if !has_both_counts || outcome != RequestOutcome::Completed {
            self.context.request.answer.text = match &mut self.watch {
                Watch::None | Watch::Unreadable | Watch::Undecided(_) => None,
                Watch::Plain(answer) => Some(answer.take_text()),
                Watch::Stream(answer) => Some(answer.take_text()),
            };
        }
        self.context.request.answer.usage = usage;
        self.context.request.answer.searches = searches;
        self.context.request.record().model_used = observed.model;
        if let Some(restorer) = &self.restorer {
            note_answer(restorer, &mut self.context);
        }
        self.context.request.finish(outcome);
    }

    /// Takes a chunk from the upstream and gives what the caller gets of it now.
    fn pass(&mut self, chunk: Bytes) -> Option<Bytes> {
        if let Watch::Undecided(reader) = &self.watch
            && let Some(watch) = reader.decide(&chunk)
        {
            self.watch = watch;
            if matches!(self.watch, Watch::Stream(_)) {
                self.left = None;
                self.context.stream_begins();
            }
        }
        let (passed, is_last) = match &mut self.watch {
            Watch::None => (Some(chunk), false),
            Watch::Unreadable | Watch::Plain(_) | Watch::Undecided(_) => {
                if let Watch::Plain(answer) = &mut self.watch {
                    answer.push(&chunk);
                }
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(chunk.len() as u64);
                }
                (Some(chunk), self.left == Some(0))
            }
            Watch::Stream(answer) => {
                let passed = answer.push(chunk);
                // What comes after the mark may still tell the usage.
                (passed, answer.is_over())
            }
        };
        let passed = passed.filter(|chunk| !chunk.is_empty());
        let down = match (&mut self.restorer, passed) {
            (Some(restorer), Some(passed)) => restorer.push(passed, &self.watch),
            (_, passed) => passed,
        };
        // What is scanned at its end is not accepted before.
        let waits = matches!(self.watch, Watch::Plain(_)) && self.is_scanning();
        if is_last && !waits && self.refusal().is_none() {
            self.finish(RequestOutcome::Completed);
        }
        down
    }

    /// The end of what the caller gets: `last` with what the restorer still holds back.
    fn restored_end(&mut self, last: Option<Bytes>, is_error: bool) -> Option<Bytes> {
        let Some(restorer) = &mut self.restorer else { return last };
        let (before, after) = match last {
            Some(last) if !is_error => (restorer.push(last, &self.watch), restorer.finish()),
            // The gateway's own event is an event of its own.
            last => (restorer.finish(), last),
        };
        match (before, after) {
            (Some(before), Some(after)) => Some([before, after].concat().into()),
            (before, after) => before.or(after),
        }
    }

    /// Whether the upstream's body has ended without the mark that ends every stream of its format.
    fn is_cut_short(&self) -> bool {
        matches!(&self.watch, Watch::Stream(answer) if answer.is_cut_short())
    }

    /// The upstream's body has ended well. Gives what is still owed to the caller.
    fn complete(&mut self) -> Option<Bytes> {
        self.upstream = None;
        self.state = State::Ended;
        let last = match &mut self.watch {
            Watch::Stream(answer) => answer.finish(StreamEnd::Complete).last,
            _ => None,
        };
        if let Some(mut restorer) = self.restorer.take_if(|restorer| restorer.is_long()) {
            let edit = block(move || {
                let rest = restorer.finish();
                (restorer, rest)
            });
            self.state = State::Editing(Box::pin(async { edit.await.ok() }));
            return None;
        }
        let last = self.restored_end(last, false);
        // An answer whose declared length has passed was settled with its last byte.
        if self.refusal().is_none() {
            self.finish(RequestOutcome::Completed);
        }
        last
    }

    /// The upstream's body broke off. Gives what the caller is told of it.
    fn broken(&mut self, error: &UpstreamError) -> Option<Bytes> {
        self.upstream = None;
        let error_answer = ProxyError::from(error);
        let last = match &mut self.watch {
            Watch::Stream(answer) => {
                let id = self.context.request.record().ids.request_id;
                let rest = error_answer.render(id, |error| answer.finish(StreamEnd::Failed(error)));
                if !rest.abort {
                    self.state = State::Ended;
                    self.finish(RequestOutcome::Completed);
                    return self.restored_end(rest.last, false);
                }
                rest.last
            }
            _ => None,
        };
        self.context.request.attempt_failed(error.reason(), error.to_string());
        self.finish(RequestOutcome::UpstreamBroke);
        self.state = State::Flushing(Box::pin(tokio::time::sleep(FLUSH)));
        self.restored_end(last, true)
    }
}

impl MessageBody for RelayBody {
    type Error = BrokenOff;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take().filter(|first| !first.is_empty()) {
            return Poll::Ready(Some(Ok(first)));
        }
        loop {
            if !matches!(this.state, State::Flushing(_) | State::Failed)
                && let Some(refusal) = this.refusal()
                && let Some(last) = this.refuse(refusal)
            {
                return Poll::Ready(Some(Ok(last)));
            }
            match &mut this.state {
                State::Open => {
                    let Some(upstream) = &mut this.upstream else {
                        this.complete();
                        continue;
                    };
                    match ready!(Pin::new(upstream).poll_next(cx)) {
                        Some(Ok(chunk)) => {
                            if let Some(chunk) = this.pass(chunk) {
                                return Poll::Ready(Some(Ok(chunk)));
                            }
                        }
                        Some(Err(error)) => this.state = State::Broken(error),
                        None if this.is_cut_short() => {
                            this.state = State::Broken(UpstreamError::Closed);
                        }
                        None => {
                            if let Some(last) = this.complete() {
                                return Poll::Ready(Some(Ok(last)));
                            }
                        }
                    }
                }
                State::Broken(_) => {
                    let State::Broken(error) = std::mem::replace(&mut this.state, State::Failed)
                    else {
                        continue;
                    };
                    if let Some(last) = this.broken(&error) {
                        return Poll::Ready(Some(Ok(last)));
                    }
                }
                State::Flushing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    this.state = State::Failed;
                }
                State::Editing(editing) => {
                    let edited = ready!(editing.as_mut().poll(cx));
                    if let Some(last) = this.edited(edited) {
                        return Poll::Ready(Some(Ok(last)));
                    }
                }
                State::Failed => return Poll::Ready(Some(Err(BrokenOff))),
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for RelayBody {
    fn drop(&mut self) {
        // Every other end has been finished.
        self.finish(RequestOutcome::CallerLeft);
    }
}
