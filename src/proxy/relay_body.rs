//! The body of an answer on its way down: relayed as it arrives, watched but not buffered, settled at its
//! end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::BodySize;
use actix_web::web::block;
use bytes::Bytes;
use tokio::time::Sleep;

use super::answer_converter::AnswerConverter;
use super::answer_reader::{AnswerKind, Watch};
use super::concurrency::ConcurrencyPermit;
use super::context::RequestContext;
use super::error::ProxyError;
use super::guard::note_answer;
use super::key_mask::KeyMask;
use super::restore::{AnswerRestorer, Refusal};
use super::shared_account::ResponseOwner;
use crate::llm::answer::{StreamEnd, StreamForm};
use crate::telemetry::request_record::RequestOutcome;
use crate::upstream::{UpstreamBody, UpstreamError};

mod poll;

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
    /// The answer is complete, and is being searched for names or edited on another thread.
    Editing(Pin<Box<dyn Future<Output = Edited>>>),
    /// A part of a stream is being edited on another thread. Whether it settles the answer.
    EditingPart(Pin<Box<dyn Future<Output = Edited>>>, bool),
}

/// What became of a complete answer; `None` if the thread has failed.
type Edited = Option<(Box<AnswerRestorer>, Option<Bytes>)>;

/// The body of an answer that is being relayed. Dropping it before its end means that the caller
/// has left, which closes the upstream's connection.
pub struct RelayBody {
    pub upstream: Option<UpstreamBody>,
    pub key_mask: KeyMask,
    pub first: Option<Bytes>,
    pub watch: Watch,
    pub converter: Option<Box<AnswerConverter>>,
    /// Runs out when the caller of a converted stream has heard nothing for a while.
    pub silence: Option<Pin<Box<Sleep>>>,
    pub restorer: Option<Box<AnswerRestorer>>,
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
    pub context: Box<RequestContext>,
    pub _permit: ConcurrencyPermit,
}

/// The answer could not be relayed to its end; the connection is cut so that the caller notices.
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
        let was_undecided = matches!(self.watch, Watch::Undecided(_));
        self.watch.decide(&chunk);
        if was_undecided && matches!(self.watch, Watch::Stream(_)) {
            self.left = None;
            self.context.stream_begins();
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
                // What comes after the mark may still report the usage.
                (passed, answer.is_over())
            }
        };
        let passed = passed.filter(|chunk| !chunk.is_empty());
        let passed = match (&mut self.converter, passed) {
            (Some(converter), Some(passed)) => converter.push(&passed, &self.watch),
            (_, passed) => passed,
        };
        let down = match passed {
            Some(passed) if self.is_long_with(passed.len()) => {
                self.edit_part(passed, is_last);
                return None;
            }
            passed => passed.and_then(|passed| self.restored(passed)),
        };
        if is_last {
            self.settle();
        }
        down
    }

    /// The answer is complete, but for what a caller need not wait for.
    fn settle(&mut self) {
        // What is scanned at its end is not accepted before.
        let awaits_names = self.restorer.as_deref().is_some_and(AnswerRestorer::awaits_names);
        let waits = awaits_names || (matches!(self.watch, Watch::Plain(_)) && self.is_scanning());
        if !waits && self.refusal().is_none() {
            self.finish(RequestOutcome::Completed);
        }
    }

    fn is_long_with(&self, bytes: usize) -> bool {
        self.restorer.as_deref().is_some_and(|restorer| restorer.is_long_with(bytes))
    }

    /// Edits a part of a stream on another thread: an event may be long.
    fn edit_part(&mut self, bytes: Bytes, is_last: bool) {
        let kind = self.kind();
        let Some(mut restorer) = self.restorer.take() else { return };
        let edit = block(move || {
            let down = restorer.push(bytes, kind);
            (restorer, down)
        });
        self.state = State::EditingPart(Box::pin(async { edit.await.ok() }), is_last);
    }

    /// A part of a stream was edited. Gives what goes to the caller.
    fn edited_part(&mut self, edited: Edited, is_last: bool) -> Option<Bytes> {
        let Some((restorer, down)) = edited else {
            self.finish(RequestOutcome::UpstreamBroke);
            self.state = State::Failed;
            return None;
        };
        self.restorer = Some(restorer);
        self.state = State::Open;
        if is_last {
            self.settle();
        }
        down
    }

    /// What the caller gets now for these bytes of the answer.
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
        self.restorer.as_deref().is_some_and(AnswerRestorer::is_scanning)
    }

    /// Why the answer must not go on, if the guard says so.
    fn refusal(&self) -> Option<Refusal> {
        self.restorer.as_ref().filter(|_| self.refused.is_none())?.refusal()
    }

    /// Ends an answer that must not go on. Returns what the caller gets to know of it.
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
        let before = self.restorer.as_deref().and_then(AnswerRestorer::before_element);
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
            return self.ended(last);
        }
        let last = match &mut self.watch {
            Watch::Stream(answer) => answer.finish(StreamEnd::Complete).last,
            _ => None,
        };
        self.ended(last)
    }

    /// The end of an answer that is complete: what is left to do may take long, or need a service.
    fn ended(&mut self, last: Option<Bytes>) -> Option<Bytes> {
        let kind = self.kind();
        let takes_time =
            |restorer: &mut Box<AnswerRestorer>| restorer.is_long() || restorer.awaits_names();
        let Some(mut restorer) = self.restorer.take_if(takes_time) else {
            return self.settled_end(last);
        };
        let search = self.context.name_search.take();
        let edit = async move {
            let before = last.and_then(|last| restorer.push(last, kind));
            let mut restorer = match search.filter(|_| restorer.awaits_names()) {
                Some(search) => search.run(restorer).await?,
                None => restorer,
            };
            let finish = move || {
                let rest = restorer.finish();
                (restorer, joined(before, rest))
            };
            block(finish).await.ok()
        };
        self.state = State::Editing(Box::pin(edit));
        None
    }

    /// Whether it was reported to the caller that the answer can't be put into the caller's format. After an
    /// error that the provider reports, the stream ends as it does without a conversion.
    fn has_failed_to_convert(&self) -> bool {
        let has_failed = self.converter.as_deref().is_some_and(AnswerConverter::has_failed);
        has_failed && !self.watch.reports_error() && self.refusal().is_none()
    }

    /// What goes to the caller, which is the last of it if the answer can't be converted.
    fn stopped_if_failed(&mut self, down: Option<Bytes>) -> Option<Bytes> {
        // What is being edited on another thread comes first.
        let is_open = matches!(self.state, State::Open);
        if is_open && self.has_failed_to_convert() { self.stop_converting(down) } else { down }
    }

    /// Ends an answer that can't be converted, after `last`, which reports that to the caller. Nothing more
    /// is read of it, since the provider charges for what it goes on to write.
    fn stop_converting(&mut self, last: Option<Bytes>) -> Option<Bytes> {
        self.upstream = None;
        let cause = "the answer can't be put into the caller's format".to_owned();
        self.context.request.attempt_failed("upstream_error", cause);
        self.finish(RequestOutcome::UpstreamBroke);
        self.state = State::Flushing(Box::pin(tokio::time::sleep(FLUSH)));
        joined(last, self.restorer.as_deref_mut().and_then(AnswerRestorer::finish))
    }

    /// The end of an answer that is complete, which settles it unless that was done with its last byte.
    fn settled_end(&mut self, last: Option<Bytes>) -> Option<Bytes> {
        let last = self.restored_end(last, false);
        if self.refusal().is_none() {
            self.finish(RequestOutcome::Completed);
        }
        last
    }

    /// The end of an answer was edited. Gives what goes to the caller.
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

    /// The upstream's body broke off. Returns what the caller gets to know of it.
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
                    return self.ended(told.unwrap_or(rest.last));
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
