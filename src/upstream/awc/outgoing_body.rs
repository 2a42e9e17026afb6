//! The body of a request, given to awc in chunks.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::json::object::BodyPieces;

/// awc copies each chunk into a buffer that grows to hold it, and writes that out before it takes the
/// next one. Larger chunks cost more in fresh memory than they save in system calls.
const MAX_CHUNK: usize = 64 * 1024;

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
