//! The body of an upstream's response, as it arrives.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_http::{Payload, error::PayloadError};
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::attempt::Attempt;
use crate::upstream::error::UpstreamError;

/// A response body. Yields chunks as they arrive, then ends, or yields one error and ends.
/// Dropping it closes the connection, unless the whole response had come.
pub struct UpstreamBody {
    /// Gone once the body has ended or failed; with it goes the connection.
    payload: Option<Payload>,
    attempt: Rc<Attempt>,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting_since: Option<Instant>,
    /// What was found when looking for the end behind what seemed to be the last chunk.
    next: Option<Result<Bytes, UpstreamError>>,
    /// What was read and given back.
    returned: VecDeque<Result<Bytes, UpstreamError>>,
}

impl UpstreamBody {
    pub(super) fn new(payload: Payload, attempt: Rc<Attempt>, idle: Duration) -> Self {
        let payload = Some(payload);
        Self {
            payload,
            attempt,
            idle,
            timer: None,
            waiting_since: None,
            next: None,
            returned: VecDeque::new(),
        }
    }

    /// Gives back what was read, in its order: it comes again.
    pub fn put_back(&mut self, read: impl IntoIterator<Item = Result<Bytes, UpstreamError>>) {
        self.returned.extend(read);
    }

    /// Once every byte has come, awc still needs to be asked for the end before it returns the
    /// connection to the pool. A reader that knows the length may never ask, so do it for them.
    fn finish_early(&mut self, cx: &mut Context<'_>) {
        if self.attempt.has_ended()
            && self.next.is_none()
            && let Some(payload) = &mut self.payload
        {
            match Pin::new(payload).poll_next(cx) {
                Poll::Ready(Some(found)) => self.next = Some(found.map_err(from_awc)),
                Poll::Ready(None) => self.payload = None,
                // Asked again at the next poll.
                Poll::Pending => {}
            }
        }
    }

    fn fail(&mut self, error: UpstreamError) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        self.payload = None;
        self.timer = None;
        Poll::Ready(Some(Err(error)))
    }

    fn poll_idle_limit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Time that the reader does not spend waiting for us is not the upstream's. The timer is
        // moved only when it fires, not at every chunk.
        let deadline = *self.waiting_since.get_or_insert_with(Instant::now) + self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl Stream for UpstreamBody {
    type Item = Result<Bytes, UpstreamError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match this.returned.pop_front() {
            Some(Ok(chunk)) => return Poll::Ready(Some(Ok(chunk))),
            Some(Err(error)) => return this.fail(error),
            None => {}
        }
        match this.next.take() {
            Some(Ok(chunk)) => {
                this.finish_early(cx);
                return Poll::Ready(Some(Ok(chunk)));
            }
            Some(Err(error)) => return this.fail(error),
            None => {}
        }
        let Some(payload) = &mut this.payload else {
            return Poll::Ready(None);
        };
        match Pin::new(payload).poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                this.waiting_since = None;
                this.finish_early(cx);
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(error))) => {
                let error = this.attempt.take_failure().unwrap_or_else(|| from_awc(error));
                this.fail(error)
            }
            Poll::Ready(None) if this.attempt.has_ended() => {
                this.payload = None;
                this.timer = None;
                Poll::Ready(None)
            }
            // awc saw an end where the connection had none.
            Poll::Ready(None) => {
                let error = this.attempt.take_failure().unwrap_or(UpstreamError::Closed);
                this.fail(error)
            }
            Poll::Pending => match this.poll_idle_limit(cx) {
                Poll::Ready(()) => this.fail(UpstreamError::IdleTimeout),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

fn from_awc(error: PayloadError) -> UpstreamError {
    match error {
        PayloadError::Incomplete(_) => UpstreamError::Closed,
        other => UpstreamError::Protocol(other.to_string()),
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody").field("ended", &self.payload.is_none()).finish()
    }
}
