//! Answers that are scanned, and may have to be refused: before anything of them has gone down, or later.

use std::future::poll_fn;
use std::pin::Pin;

use actix_web::HttpResponse;
use actix_web::body::{BoxBody, MessageBody};
use bytes::Bytes;

use super::super::answer_reader::Watch;
use super::super::error::ProxyError;
use super::super::policy_headers::insert_policy_headers;
use super::super::restore::{AnswerRestorer, Refusal};
use super::{BrokenOff, FLUSH, RelayBody, State};
use crate::llm::format::Format;
use crate::telemetry::request_record::RequestOutcome;

/// An answer that is scanned, before anything of it has gone down.
pub struct ScannedAnswer {
    pub(super) head: HttpResponse<()>,
    pub(super) body: RelayBody,
    pub(super) error_format: Format,
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

/// What became of a complete answer; `None` if the thread has failed.
pub(super) type Edited = Option<(AnswerRestorer, Option<Bytes>)>;

impl RelayBody {
    pub(super) fn is_scanning(&self) -> bool {
        self.restorer.as_ref().is_some_and(AnswerRestorer::is_scanning)
    }

    /// Why the answer must not go on, if the guard says so.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.restorer.as_ref().filter(|_| self.refused.is_none())?.refusal()
    }

    /// Ends an answer that must not go on. Gives what the caller is told of it.
    pub(super) fn refuse(&mut self, refusal: Refusal) -> Option<Bytes> {
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
        let last = match &self.watch {
            Watch::Stream(answer) => Some(error.render(id, |error| match before {
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

    /// A long answer was edited. Gives what goes to the caller.
    pub(super) fn edited(&mut self, edited: Edited) -> Option<Bytes> {
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
}
