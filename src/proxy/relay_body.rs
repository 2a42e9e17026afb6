//! The body of an answer on its way down: relayed as it arrives, watched but not buffered, settled at its
//! end.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::block;
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Sleep;

use super::answer_converter::AnswerConverter;
use super::answer_reader::{AnswerKind, Watch};
use super::concurrency::ConcurrencyPermit;
use super::context::RequestContext;
use super::error::ProxyError;
use super::guard::note_answer;
use super::policy_headers::insert_policy_headers;
use super::restore::{AnswerRestorer, Refusal};
use super::shared_account::ResponseOwner;
use crate::llm::answer::{AnswerContent, StreamEnd, StreamForm};
use crate::llm::format::Format;
use crate::telemetry::request_record::RequestOutcome;
use crate::upstream::{UpstreamBody, UpstreamError};

/// Time to flush the head and what has come of a broken answer before its body fails: on a body error
/// actix-http drops the connection with whatever it has not written yet.
const FLUSH: Duration = Duration::from_millis(100);

/// How long the caller of a converted stream may hear nothing. Clients give up after some minutes, proxies
/// between them and the gateway after a minute or less.
const SILENCE: Duration = Duration::from_secs(15);

/// How far the body of an answer is.
pub enum State {
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

/// What became of a complete answer; `None` if the thread has failed.
type Edited = Option<(AnswerRestorer, Option<Bytes>)>;

/// An answer that is scanned, before anything of it has gone down.
pub struct ScannedAnswer {
    pub head: HttpResponse<()>,
    pub body: RelayBody,
    pub error_format: Format,
}

impl ScannedAnswer {
    /// The answer, once it is known that it may begin; otherwise an error of the gateway.
    pub async fn begin(self) -> HttpResponse {
        let Self { head, mut body, error_format } = self;
        let first = poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await;
        let Some(error) = body.refused.take() else {
            body.has_begun = true;
            match first {
                Some(Ok(first)) => body.first = Some(first),
                Some(Err(BrokenOff)) => body.state = State::Failed,
                None => {}
            }
            return head.set_body(BoxBody::new(body));
        };
        let context = &mut body.context;
        let id = context.request.record().ids.request_id;
        let mut response = error.response(error_format, id);
        insert_policy_headers(response.headers_mut(), &context.policy_report);
        context.request.record().status = Some(response.status().as_u16());
        body.finish(RequestOutcome::Refused);
        response
    }
}

/// The body of an answer that is being relayed. Dropping it before its end means that the caller
/// has left, which closes the upstream's connection.
pub struct RelayBody {
    pub upstream: Option<UpstreamBody>,
    pub first: Option<Bytes>,
    pub watch: Watch,
    pub converter: Option<AnswerConverter>,
    /// Runs out when the caller of a converted stream has heard nothing for a while.
    pub silence: Option<Pin<Box<Sleep>>>,
    pub restorer: Option<AnswerRestorer>,
    /// The guard's refusal of an answer that has not begun.
    pub refused: Option<ProxyError>,
    /// Whether the head of the answer may have gone down.
    pub has_begun: bool,
    pub response_owner: Option<Box<ResponseOwner>>,
    /// The answer is a model's, not a listing.
    pub is_model_answer: bool,
    pub size: BodySize,
    /// Bytes of a plain answer that are still to come, where its length was declared.
    pub left: Option<u64>,
    pub state: State,
    pub context: RequestContext,
    pub _permit: ConcurrencyPermit,
}

/// The answer could not be relayed to its end; the connection is cut so that the caller can tell.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer broke off")]
pub struct BrokenOff;

impl RelayBody {
    /// Reads out of the answer what settling the request takes, and finishes it.
    pub fn finish(&mut self, outcome: RequestOutcome) {
        if self.context.request.is_finished() {
            return;
        }
        let is_completed = outcome == RequestOutcome::Completed;
        let request = &mut self.context.request;
        let response_id = self.watch.note(self.is_model_answer, is_completed, request);
        if let Some(id) = response_id
            && let Some(owner) = self.response_owner.take()
        {
            owner.take_note(id);
        }
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
        let passed = match (&mut self.converter, passed) {
            (Some(converter), Some(passed)) => converter.push(&passed, &self.watch),
            (_, passed) => passed,
        };
        let down = passed.and_then(|passed| self.restored(passed));
        // What is scanned at its end is not accepted before.
        let waits = matches!(self.watch, Watch::Plain(_)) && self.is_scanning();
        if is_last && !waits && self.refusal().is_none() {
            self.finish(RequestOutcome::Completed);
        }
        down
    }

    /// What goes down now for these bytes of the caller's answer.
    fn restored(&mut self, bytes: Bytes) -> Option<Bytes> {
        let kind = self.kind();
        match &mut self.restorer {
            Some(restorer) => restorer.push(bytes, kind),
            None => Some(bytes),
        }
    }

    /// What the caller's answer is.
    fn kind(&self) -> AnswerKind {
        match &self.converter {
            Some(_) => AnswerKind::Stream(StreamForm::Events),
            None => self.watch.kind(),
        }
    }

    fn is_scanning(&self) -> bool {
        self.restorer.as_ref().is_some_and(AnswerRestorer::is_scanning)
    }

    /// Why the answer must not go on, if the guard says so.
    fn refusal(&self) -> Option<Refusal> {
        self.restorer.as_ref().filter(|_| self.refused.is_none())?.refusal()
    }

    /// Ends an answer that must not go on. Gives what the caller is told of it.
    fn refuse(&mut self, refusal: Refusal) -> Option<Bytes> {
        self.upstream = None;
        let Refusal { message, policies } = refusal;
        let error = ProxyError::ContentBlocked { message };
        let record = self.context.request.record();
        record.violated = policies;
        record.code = Some(error.row().code);
        let id = record.ids.request_id;
        if !self.has_begun {
            self.refused = Some(error);
            self.state = State::Ended;
            return None;
        }
        let before = self.restorer.as_ref().and_then(AnswerRestorer::before_element);
        let last = match (&mut self.converter, &self.watch) {
            (Some(converter), _) => converter.fail(&error),
            (None, Watch::Stream(answer)) => Some(error.render(id, |error| match before {
                Some(before) => answer.error_event_after(&error, before),
                None => answer.error_event(&error),
            })),
            _ => None,
        };
        self.finish(RequestOutcome::Refused);
        self.restorer = None;
        self.state = State::Flushing(Box::pin(tokio::time::sleep(FLUSH)));
        last
    }

    /// The end of what the caller gets: `last` with what the restorer still holds back.
    fn restored_end(&mut self, last: Option<Bytes>, is_error: bool) -> Option<Bytes> {
        let kind = self.kind();
        let Some(restorer) = &mut self.restorer else { return last };
        let (before, after) = match last {
            Some(last) if !is_error => (restorer.push(last, kind), restorer.finish()),
            // The gateway's own event has nothing of the answer in it.
            last => (restorer.finish(), last),
        };
        joined(before, after)
    }

    /// What keeps the connection open when the caller of a converted stream has heard nothing for
    /// [`SILENCE`]: the upstream's own pings are not passed on.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        if !self.has_begun {
            return Poll::Pending;
        }
        let Some(converter) = &mut self.converter else { return Poll::Pending };
        let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(SILENCE)));
        ready!(silence.as_mut().poll(cx));
        self.silence = None;
        let ping = converter.ping(&self.watch);
        match ping.and_then(|ping| self.restored(ping)) {
            Some(ping) => Poll::Ready(ping),
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
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
        if let Some(converter) = &mut self.converter {
            let (last, is_whole) = converter.finish();
            if !is_whole || self.has_failed_to_convert() {
                let last = last.and_then(|last| self.restored(last));
                return match is_whole {
                    true => self.stop_converting(last),
                    false => joined(last, self.broken(&UpstreamError::Closed)),
                };
            }
            if let Watch::Stream(answer) = &mut self.watch {
                // The caller has its own end of it.
                let _ = answer.finish(StreamEnd::Complete);
            }
            return self.settled_end(last);
        }
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
        self.settled_end(last)
    }

    /// Whether the caller was told that the answer can't be put into the caller's format. After an error that
    /// the provider reports, the stream ends as it does without a conversion.
    fn has_failed_to_convert(&self) -> bool {
        let is_reported = match &self.watch {
            Watch::Plain(answer) => answer.observed().content == AnswerContent::Error,
            Watch::Stream(answer) => answer.observed().content == AnswerContent::Error,
            Watch::None | Watch::Unreadable | Watch::Undecided(_) => false,
        };
        let has_failed = self.converter.as_ref().is_some_and(AnswerConverter::has_failed);
        has_failed && !is_reported && self.refusal().is_none()
    }

    /// Ends an answer that can't be converted, after `last`, which tells the caller. Nothing more is read of
    /// it, since the provider charges for what it goes on to write.
    fn stop_converting(&mut self, last: Option<Bytes>) -> Option<Bytes> {
        self.upstream = None;
        let cause = "the answer can't be put into the caller's format".to_owned();
        self.context.request.attempt_failed("upstream_error", cause);
        self.finish(RequestOutcome::UpstreamBroke);
        self.state = State::Flushing(Box::pin(tokio::time::sleep(FLUSH)));
        joined(last, self.restorer.as_mut().and_then(AnswerRestorer::finish))
    }

    /// The end of an answer that is complete, which settles it unless that was done with its last byte.
    fn settled_end(&mut self, last: Option<Bytes>) -> Option<Bytes> {
        let last = self.restored_end(last, false);
        if self.refusal().is_none() {
            self.finish(RequestOutcome::Completed);
        }
        last
    }

    /// A long answer was edited. Gives what goes to the caller.
    fn edited(&mut self, edited: Edited) -> Option<Bytes> {
        self.state = State::Ended;
        let Some((restorer, last)) = edited else {
            self.finish(RequestOutcome::Completed);
            self.state = State::Failed;
            return None;
        };
        self.restorer = Some(restorer);
        if self.refusal().is_none() {
            self.finish(RequestOutcome::Completed);
        }
        last
    }

    /// The upstream's body broke off. Gives what the caller is told of it.
    fn broken(&mut self, error: &UpstreamError) -> Option<Bytes> {
        self.upstream = None;
        let error_answer = ProxyError::from(error);
        let is_terminal = matches!(&self.watch, Watch::Stream(answer) if answer.is_terminal());
        let told = self.converter.as_mut().map(|converter| {
            // After the provider's own end the caller gets that.
            let end = if is_terminal { converter.finish().0 } else { None };
            joined(end, converter.fail(&error_answer))
        });
        let last = match &mut self.watch {
            Watch::Stream(answer) => {
                let id = self.context.request.record().ids.request_id;
                let rest = error_answer.render(id, |error| answer.finish(StreamEnd::Failed(error)));
                if !rest.abort {
                    self.state = State::Ended;
                    self.finish(RequestOutcome::Completed);
                    return self.restored_end(told.unwrap_or(rest.last), false);
                }
                rest.last
            }
            _ => None,
        };
        let last = told.unwrap_or(last);
        self.context.request.attempt_failed(error.reason(), error.to_string());
        self.finish(RequestOutcome::UpstreamBroke);
        self.state = State::Flushing(Box::pin(tokio::time::sleep(FLUSH)));
        self.restored_end(last, true)
    }
}

fn joined(before: Option<Bytes>, after: Option<Bytes>) -> Option<Bytes> {
    match (before, after) {
        (Some(before), Some(after)) => Some([before, after].concat().into()),
        (before, after) => before.or(after),
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
                        if let Some(last) = this.complete() {
                            return Poll::Ready(Some(Ok(last)));
                        }
                        continue;
                    };
                    let Poll::Ready(next) = Pin::new(upstream).poll_next(cx) else {
                        return this.poll_silence(cx).map(|ping| Some(Ok(ping)));
                    };
                    match next {
                        Some(Ok(chunk)) => {
                            let mut down = this.pass(chunk);
                            if this.has_failed_to_convert() {
                                down = this.stop_converting(down);
                            }
                            if let Some(chunk) = down {
                                this.silence = None;
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
