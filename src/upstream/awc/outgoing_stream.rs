//! The body of a request that is sent as it arrives.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_http::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::upstream::streamed_body::{BodyBroke, StreamedBody};

/// A body that is sent as it arrives. Notes why it broke off, which awc does not tell.
pub(super) struct OutgoingStream(StreamedBody);

impl OutgoingStream {
    pub(super) fn new(body: StreamedBody) -> Self {
        Self(body)
    }
}

impl MessageBody for OutgoingStream {
    type Error = BodyBroke;

    fn size(&self) -> BodySize {
        self.0.length.map_or(BodySize::Stream, BodySize::Sized)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyBroke>>> {
        let body = &mut self.get_mut().0;
        let next = ready!(body.chunks.as_mut().poll_next(cx));
        if let Some(Err(broke)) = next {
            body.broke.set(Some(broke));
        }
        Poll::Ready(next)
    }
}
