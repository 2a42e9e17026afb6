//! The body of a request, given to awc in chunks.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_http::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::json::object::BodyPieces;
use crate::upstream::streamed_body::{BodyBroke, StreamedBody};

/// awc copies each chunk into a buffer that grows to hold it, and writes that out before it takes the
/// next one. Larger chunks cost more in fresh memory than they save in system calls.
const MAX_CHUNK: usize = 32 * 1024;

/// A body that is sent from its pieces.
pub(super) struct OutgoingBody {
    body: BodyPieces,
    /// The piece that is sent, and how much of it was.
    piece: usize,
    sent: usize,
}

impl OutgoingBody {
    pub(super) fn new(body: BodyPieces) -> Self {
        Self { body, piece: 0, sent: 0 }
    }
}

impl MessageBody for OutgoingBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.body.length() as u64)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = self.get_mut();
        let Some(piece) = this.body.pieces().get(this.piece) else { return Poll::Ready(None) };
        let end = piece.len().min(this.sent + MAX_CHUNK);
        let chunk = piece.slice(this.sent..end);
        this.sent = end;
        if end == piece.len() {
            this.piece += 1;
            this.sent = 0;
        }
        Poll::Ready(Some(Ok(chunk)))
    }
}

/// A body that is sent as it arrives. Notes why it broke off, which awc does not report.
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn chunks(body: &BodyPieces) -> Vec<Bytes> {
        let mut outgoing = OutgoingBody::new(body.clone());
        let mut context = Context::from_waker(Waker::noop());
        let mut chunks = Vec::new();
        while let Poll::Ready(Some(chunk)) = Pin::new(&mut outgoing).poll_next(&mut context) {
            chunks.push(chunk.unwrap());
        }
        chunks
    }

    #[test]
    fn chunks_are_bounded_and_make_up_the_body() {
        for lengths in [vec![], vec![1], vec![MAX_CHUNK], vec![3, 2 * MAX_CHUNK + 1, 5]] {
            let mut body = BodyPieces::default();
            for (place, length) in lengths.iter().enumerate() {
                body.push(vec![b'a' + place as u8; *length].into());
            }
            let chunks = chunks(&body);
            assert!(chunks.iter().all(|chunk| (1..=MAX_CHUNK).contains(&chunk.len())));
            assert_eq!(chunks.concat(), body.to_bytes());
            assert_eq!(body.length(), lengths.iter().sum::<usize>());
            let size = OutgoingBody::new(body.clone()).size();
            assert!(matches!(size, BodySize::Sized(length) if length == body.length() as u64));
        }
    }
}
