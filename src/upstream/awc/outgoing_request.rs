//! A request on its way out: its head, as awc wrote it, and its body.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use smallvec::SmallVec;
use tokio::io::AsyncWrite;

use crate::json::object::BodyPieces;

/// A head and a whole body that are written together.
///
/// awc would copy the body into a buffer of its own, bit by bit, write each bit by itself, and keep the buffer
/// as long as the answer takes. So awc is told that there is no body.
pub(super) struct OutgoingRequest {
    head: Vec<u8>,
    body: BodyPieces,
    /// Of both together, in bytes.
    written: usize,
}

impl OutgoingRequest {
    /// `head` is that of a request without a body.
    pub(super) fn new(head: &[u8], body: BodyPieces) -> Self {
        // The empty line comes after the length.
        let lines = head.strip_suffix(b"\r\n").unwrap_or(head);
        let mut length = itoa::Buffer::new();
        let length = length.format(body.length());
        let head = [lines, b"content-length: ", length.as_bytes(), b"\r\n\r\n"].concat();
        Self { head, body, written: 0 }
    }

    /// Writes what is left of it.
    pub(super) fn poll_write(
        &mut self,
        mut io: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let rest = self.rest();
            if rest.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let written = ready!(io.as_mut().poll_write_vectored(cx, &rest))?;
            drop(rest);
            if written == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
    }

    fn rest(&self) -> SmallVec<[IoSlice<'_>; 4]> {
        let mut written = self.written;
        let all =
            std::iter::once(&*self.head).chain(self.body.pieces().iter().map(|piece| &**piece));
        all.filter_map(|piece| {
            let rest = piece.get(written..);
            written = written.saturating_sub(piece.len());
            rest.filter(|rest| !rest.is_empty()).map(IoSlice::new)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes so many bytes at a time, and is not ready in between.
    struct SlowWriter {
        at_once: usize,
        is_ready: bool,
        written: Vec<u8>,
    }

    impl AsyncWrite for SlowWriter {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            this.is_ready = !this.is_ready;
            if !this.is_ready {
                return Poll::Pending;
            }
            let before = this.written.len();
            let bytes = pieces.iter().flat_map(|piece| piece.iter());
            this.written.extend(bytes.take(this.at_once));
            Poll::Ready(Ok(this.written.len() - before))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn send(body: &BodyPieces, at_once: usize) -> Vec<u8> {
        let mut request = OutgoingRequest::new(b"POST / HTTP/1.1\r\nhost: a\r\n\r\n", body.clone());
        let mut writer = SlowWriter { at_once, is_ready: false, written: Vec::new() };
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..1_000 {
            let poll = request.poll_write(Pin::new(&mut writer), &mut context);
            if let Poll::Ready(done) = poll {
                done.unwrap();
                return writer.written;
            }
        }
        panic!("it never ends");
    }

    #[test]
    fn head_and_body_are_written_whole_however_little_is_taken_at_a_time() {
        for lengths in [vec![], vec![1], vec![3, 200, 5], vec![40; 6]] {
            let mut body = BodyPieces::default();
            for (place, length) in lengths.iter().enumerate() {
                body.push(vec![b'a' + place as u8; *length].into());
            }
            let length = body.length();
            let mut whole =
                format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")
                    .into_bytes();
            whole.extend_from_slice(&body.to_bytes());
            for at_once in [1, 7, 64, 1_000] {
                assert_eq!(send(&body, at_once), whole, "{lengths:?}, {at_once} at once");
            }
        }
    }

    #[test]
    fn a_connection_that_takes_nothing_is_an_error() {
        let mut request = OutgoingRequest::new(b"GET / HTTP/1.1\r\n\r\n", BodyPieces::default());
        let mut writer = SlowWriter { at_once: 0, is_ready: true, written: Vec::new() };
        let mut context = Context::from_waker(Waker::noop());
        assert!(request.poll_write(Pin::new(&mut writer), &mut context).is_pending());
        let poll = request.poll_write(Pin::new(&mut writer), &mut context);
        assert!(matches!(poll, Poll::Ready(Err(error)) if error.kind() == ErrorKind::WriteZero));
    }
}
