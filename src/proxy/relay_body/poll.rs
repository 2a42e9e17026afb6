//! The order in which the body of an answer is sent: what comes from the upstream, keep-alives, and how it ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use futures_util::Stream;

use super::{BrokenOff, RelayBody, State};
use crate::telemetry::request_record::RequestOutcome;
use crate::upstream::UpstreamError;

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
                    let next = match next {
                        Some(Ok(chunk)) => Some(Ok(this.key_mask.push(chunk))),
                        Some(Err(error)) => Some(Err(error)),
                        None => this.key_mask.finish().map(Ok),
                    };
                    match next {
                        Some(Ok(chunk)) => {
                            let down = this.pass(chunk);
                            if let Some(chunk) = this.stopped_if_failed(down) {
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
                State::EditingPart(editing, is_last) => {
                    let edited = ready!(editing.as_mut().poll(cx));
                    let is_last = *is_last;
                    let down = this.edited_part(edited, is_last);
                    if let Some(down) = this.stopped_if_failed(down) {
                        this.silence = None;
                        return Poll::Ready(Some(Ok(down)));
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
