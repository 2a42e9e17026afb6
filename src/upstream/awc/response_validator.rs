//! The I/O wrapper between awc and a connection. awc takes the first head for the answer, ends a
//! body quietly when its connection dies, and pools connections without asking whether their
//! response was over. The wrapper reads along: it skips interim responses, turns an early end into
//! an error, and closes what must not be used again, so that awc cannot.

use std::{
    cell::{Cell, RefCell},
    fmt, io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_rt::net::{ActixStream, Ready};
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{attempt::Attempt, outgoing_request::OutgoingRequest, transport::Transport};
use crate::upstream::error::UpstreamError;

mod framing;
mod head;

use framing::Framing;
use head::{FinalHead, Head};

/// One head, interim or final. Providers send one or two KiB.
const MAX_HEAD: usize = 64 * 1024;
/// More hints than this are a stall, not an answer.
const MAX_INTERIM: u8 = 32;
/// One read while waiting for the head; most heads fit.
const HEAD_READ: usize = 4096;

/// The connection itself, shared with the sweeper, which closes it when it has been idle too long.
#[derive(Debug)]
pub(in crate::upstream) struct SharedTransport {
    io: RefCell<Option<Transport>>,
    idle_since: Cell<Option<Instant>>,
}

impl SharedTransport {
    pub(in crate::upstream) fn close(&self) {
        self.idle_since.set(None);
        drop(self.io.borrow_mut().take());
    }

    /// Since when it has been waiting in the pool.
    pub(in crate::upstream) fn idle_since(&self) -> Option<Instant> {
        self.idle_since.get()
    }

    fn is_closed(&self) -> bool {
        self.io.borrow().is_none()
    }

    /// Lends the transport to one poll.
    fn poll<T>(
        &self,
        use_it: impl FnOnce(Pin<&mut Transport>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.io.borrow_mut().as_mut() {
            Some(io) => use_it(Pin::new(io)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No request is under way.
    Idle,
    /// A request is being written, or its answer awaited.
    Head,
    /// The answer's body is coming.
    Body,
    /// Something broke; the attempt knows what.
    Failed,
}

/// A connection as awc sees it. Boxed, since awc moves it in and out of its pool, and from one future into
/// the next.
pub(in crate::upstream) struct ValidatedConnection(Box<ResponseValidator>);

struct ResponseValidator {
    line: Rc<SharedTransport>,
    attempt: Option<Rc<Attempt>>,
    phase: Phase,
    /// The request, until it is written, unless awc writes its body.
    outgoing: Option<OutgoingRequest>,
    answers_head_request: bool,
    interim: u8,
    /// Bytes of the head that have come.
    head: BytesMut,
    /// What awc may read next: the rewritten head and the body bytes that came with the original.
    ready: BytesMut,
    framing: Framing,
    reusable: bool,
    /// The other side stopped reading, or answered before it had read everything: the rest of the
    /// request is not sent, and the connection has no future.
    request_cut: bool,
}

impl ValidatedConnection {
    pub(in crate::upstream) fn new(io: Transport) -> Self {
        Self(Box::new(ResponseValidator {
            line: Rc::new(SharedTransport {
                io: RefCell::new(Some(io)),
                idle_since: Cell::new(None),
            }),
            attempt: None,
            phase: Phase::Idle,
            outgoing: None,
            answers_head_request: false,
            interim: 0,
            head: BytesMut::new(),
            ready: BytesMut::new(),
            framing: Framing::Sized(0),
            reusable: false,
            request_cut: false,
        }))
    }

    pub(in crate::upstream) fn line(&self) -> &Rc<SharedTransport> {
        &self.0.line
    }
}

impl ResponseValidator {
    /// awc writes the first bytes of a request.
    fn begin(&mut self, request: &[u8]) {
        self.phase = Phase::Head;
        self.answers_head_request = request.starts_with(b"HEAD ");
        self.interim = 0;
        self.line.idle_since.set(None);
        self.attempt = Attempt::current();
        if let Some(attempt) = &self.attempt {
            attempt.mark_connected();
            let body = attempt.take_body();
            self.outgoing = body.map(|body| OutgoingRequest::new(request, body));
        }
    }

    fn fail(&mut self, error: UpstreamError) -> io::Error {
        self.phase = Phase::Failed;
        self.line.close();
        self.head = BytesMut::new();
        self.ready = BytesMut::new();
        if let Some(attempt) = &self.attempt {
            attempt.fail(error);
        }
        io::ErrorKind::UnexpectedEof.into()
    }

    /// The response is complete. Anything that came after it was never asked for.
    fn end(&mut self, surplus: bool) {
        self.phase = Phase::Idle;
        if let Some(attempt) = self.attempt.take() {
            attempt.mark_ended();
        }
        if self.reusable && !surplus && !self.request_cut {
            self.line.idle_since.set(Some(Instant::now()));
        } else {
            self.line.close();
        }
    }

    /// Gives up on the rest of the request.
    fn cut_request(&mut self) {
        self.request_cut = true;
        self.outgoing = None;
        if self.phase == Phase::Idle {
            self.line.close();
        }
    }

    /// Reads until the head of the answer is there. An error has been noted when it returns.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut piece = [MaybeUninit::uninit(); HEAD_READ];
            let mut piece = ReadBuf::uninit(&mut piece);
            let read = ready!(self.line.poll(|io| io.poll_read(cx, &mut piece)));
            if read.is_err() || piece.filled().is_empty() {
                return Poll::Ready(Err(self.fail(UpstreamError::Closed)));
            }
            if let Some(attempt) = &self.attempt {
                attempt.mark_response_seen();
            }
            // A head that trickles in byte by byte is parsed when it may be whole, not at every
            // byte; the first piece always, to refuse what is not HTTP at once. Most heads come whole
            // and are not copied.
            let taken = if self.head.is_empty() {
                self.take_head(piece.filled())
            } else {
                let tail = self.head.len().saturating_sub(3);
                self.head.extend_from_slice(piece.filled());
                if !has_empty_line(self.head.get(tail..).unwrap_or_default()) {
                    if self.head.len() > MAX_HEAD {
                        return Poll::Ready(Err(self.fail_head("its head is too large")));
                    }
                    continue;
                }
                let come = std::mem::take(&mut self.head);
                self.take_head(&come)
            };
            match taken {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => {}
                Err(reason) => return Poll::Ready(Err(self.fail_head(&reason))),
            }
        }
    }

    fn fail_head(&mut self, reason: &str) -> io::Error {
        self.fail(UpstreamError::Protocol(reason.to_owned()))
    }

    /// Takes interim heads out of what has come, and then the answer's with the body behind it, if it is
    /// all there. Otherwise keeps the rest until there is more.
    fn take_head(&mut self, mut come: &[u8]) -> Result<bool, String> {
        loop {
            match head::read(come, self.answers_head_request)? {
                Head::Partial if come.len() > MAX_HEAD => {
                    return Err("its head is too large".into());
                }
                Head::Partial => break,
                Head::Interim(_) if self.interim == MAX_INTERIM => {
                    return Err("it sends interim responses without end".into());
                }
                Head::Interim(length) => {
                    self.interim += 1;
                    come = come.get(length..).unwrap_or_default();
                    if come.is_empty() {
                        break;
                    }
                }
                Head::Final(head) => return self.begin_body(head, come).map(|()| true),
            }
        }
        self.head.extend_from_slice(come);
        Ok(false)
    }

    fn begin_body(&mut self, head: FinalHead, come: &[u8]) -> Result<(), String> {
        let body = come.get(head.length..).unwrap_or_default();
        self.framing = head.framing;
        self.reusable = head.reusable;
        self.phase = Phase::Body;
        let progress = self.framing.advance(body)?;
        self.ready = head.rewritten;
        self.ready.extend_from_slice(body.get(..progress.used).unwrap_or(body));
        if progress.ended {
            self.end(body.len() > progress.used);
        }
        Ok(())
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if ready!(self.line.poll(|io| io.poll_read(cx, buf))).is_err() {
            return Poll::Ready(Err(self.fail(UpstreamError::Closed)));
        }
        let piece = buf.filled().get(before..).unwrap_or_default();
        let length = piece.len();
        if length == 0 {
            if self.framing.ends_at_close() {
                self.end(false);
                return Poll::Ready(Ok(()));
            }
            return Poll::Ready(Err(self.fail(UpstreamError::Closed)));
        }
        match self.framing.advance(piece) {
            Ok(progress) => {
                buf.set_filled(before + progress.used);
                if progress.ended {
                    self.end(progress.used < length);
                }
                Poll::Ready(Ok(()))
            }
            Err(reason) => {
                buf.set_filled(before);
                Poll::Ready(Err(self.fail_head(reason)))
            }
        }
    }

    /// The pool asks whether an idle connection still lives. Whatever it has to say, an end, an
    /// error or bytes that nobody asked for, means no.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.line.is_closed() {
            let mut probe = [0];
            let mut probe = ReadBuf::new(&mut probe);
            let _ = ready!(self.line.poll(|io| io.poll_read(cx, &mut probe)));
            self.line.close();
        }
        Poll::Ready(Ok(()))
    }

    /// What a write or flush came to. awc writes the whole request before it reads: an upstream
    /// that refuses a long one early and stops reading would look dead although it has answered.
    fn settle_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        all: usize,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(written)) => return Poll::Ready(Ok(written)),
            // The answer, or the error, is there to be read.
            Poll::Ready(Err(_)) => {}
            Poll::Pending if self.phase == Phase::Head => {
                let _ = ready!(self.poll_head(cx));
            }
            Poll::Pending => return Poll::Pending,
        }
        self.cut_request();
        Poll::Ready(Ok(all))
    }
}

impl AsyncRead for ValidatedConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self.get_mut().0;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.ready.is_empty() && this.phase == Phase::Head {
            ready!(this.poll_head(cx))?;
        }
        if !this.ready.is_empty() {
            let length = buf.remaining().min(this.ready.len());
            buf.put_slice(this.ready.get(..length).unwrap_or_default());
            this.ready.advance(length);
            if this.ready.is_empty() {
                // A stream may last for hours; its head's buffer need not.
                this.ready = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        match this.phase {
            Phase::Body => this.poll_body(cx, buf),
            Phase::Idle => this.poll_idle(cx),
            Phase::Head | Phase::Failed => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl AsyncWrite for ValidatedConnection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self.get_mut().0;
        if this.request_cut {
            return Poll::Ready(Ok(data.len()));
        }
        if this.phase == Phase::Idle {
            // awc writes the head at once, and flushes it.
            this.begin(data);
            if this.outgoing.is_some() {
                return Poll::Ready(Ok(data.len()));
            }
        }
        let written = this.line.poll(|io| io.poll_write(cx, data));
        this.settle_write(cx, written, data.len())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.get_mut().0;
        if this.request_cut || this.phase != Phase::Head {
            return Poll::Ready(Ok(()));
        }
        let (line, outgoing) = (&this.line, &mut this.outgoing);
        let flushed = line.poll(|mut io| {
            if let Some(request) = outgoing {
                ready!(request.poll_write(io.as_mut(), cx))?;
                *outgoing = None;
            }
            io.poll_flush(cx)
        });
        let flushed = flushed.map_ok(|()| 0);
        this.settle_write(cx, flushed, 0).map_ok(|_| ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.get_mut().0;
        if this.line.is_closed() {
            return Poll::Ready(Ok(()));
        }
        this.line.poll(|io| io.poll_shutdown(cx))
    }
}

/// awc asks for it in its bounds and never calls it.
impl ActixStream for ValidatedConnection {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.0.line.poll(|io| ActixStream::poll_read_ready(&*io, cx))
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.0.line.poll(|io| ActixStream::poll_write_ready(&*io, cx))
    }
}

impl fmt::Debug for ValidatedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Leaves out the buffers: they hold what providers and callers say to each other.
        f.debug_struct("ValidatedConnection").field("phase", &self.0.phase).finish_non_exhaustive()
    }
}

fn has_empty_line(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"\n\r\n").is_some()
        || memchr::memmem::find(bytes, b"\n\n").is_some()
}
