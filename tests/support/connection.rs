//! One connection to the gateway, for a test that reads an answer as it arrives, hangs up in the
//! middle of it, sends a body slowly, or several requests one after the other; and the truth about
//! how a body ended.

use std::{io, net::SocketAddr};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use super::{
    framing::{self, Chunk, HeaderList},
    http::{Answer, Request},
    secrets,
};

/// A status line and headers.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// `200`.
    pub(crate) status: u16,
    /// In order.
    pub(crate) headers: HeaderList,
}

impl Head {
    /// The first header of that name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        framing::find(&self.headers, name)
    }
}

/// What an answer broke off with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The peer closed in order, but too early.
    Closed,
    /// The peer reset the connection.
    Reset,
    /// What arrived is not HTTP.
    Malformed,
}

impl From<io::Error> for Cut {
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With its last chunk, or with as many bytes as promised (none, for an answer without a body).
    Complete,
    /// It had neither, and the connection was closed: nobody can tell.
    UntilClose,
    /// Before its end.
    Cut(Cut),
}

/// Part of a body: a chunk as the peer framed it, or what one read of an unchunked body gave.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Without framing.
    pub(crate) bytes: Bytes,
    /// When all of it had arrived.
    pub(crate) at: Instant,
}

/// An event of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Byte for byte, the blank line included.
    pub(crate) raw: Bytes,
    /// The `event:` field.
    pub(crate) name: Option<String>,
    /// The `data:` field.
    pub(crate) data: String,
    /// When the piece that completed it had arrived.
    pub(crate) at: Instant,
}

impl Event {
    /// The data as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or(Value::Null)
    }

    fn read(raw: Bytes, at: Instant) -> Self {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let field = |name: &str| {
            let values = text.lines().filter_map(|line| line.strip_prefix(name));
            values.map(|value| value.trim_start()).collect::<Vec<_>>()
        };
        let name = field("event:").first().map(|name| (*name).to_owned());
        Self { data: field("data:").join("\n"), name, raw, at }
    }
}

/// What is left of the body that is being read.
#[derive(Clone, Copy, Debug)]
enum Left {
    Nothing,
    Bytes(usize),
    Chunks,
    UntilClose,
}

/// A connection to the gateway (or to anything).
pub(crate) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    buffer: BytesMut,
    left: Left,
    /// Of an event stream: what is not a whole event yet.
    event: BytesMut,
    asked_head: bool,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (buffer, event) = (BytesMut::new(), BytesMut::new());
        Ok(Self { stream, peer: address, buffer, left: Left::Nothing, event, asked_head: false })
    }

    /// Our own address, which the gateway sees as the caller's.
    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Writes bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Writes a request.
    pub(crate) async fn request(&mut self, request: &Request) -> io::Result<()> {
        secrets::note_sent(request.target(), request.headers(), request.whole_body());
        self.asked_head = request.method() == "HEAD";
        self.send(request.bytes(self.peer)).await
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub(crate) async fn half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Leaves without a word (RST).
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Leaves in order (FIN). The same as dropping it, by a name that a test can read aloud.
    pub(crate) fn hang_up(self) {}

    /// Reads the next head, an interim one (1xx) too.
    pub(crate) async fn head(&mut self) -> Result<Head, Cut> {
        let head = loop {
            if let Some(head) = self.take_head()? {
                break head;
            }
            self.fill().await?;
        };
        let length = head.header("content-length").map(str::parse::<usize>);
        self.event.clear();
        self.left = match (head.header("transfer-encoding"), length) {
            _ if self.asked_head || matches!(head.status, 100..=199 | 204 | 304) => Left::Nothing,
            (Some(_), None) => Left::Chunks,
            (None, Some(Ok(length))) => Left::Bytes(length),
            (None, None) => Left::UntilClose,
            // Both, or a length that is none: what request smuggling is made of.
            _ => return Err(Cut::Malformed),
        };
        Ok(head)
    }

    fn take_head(&mut self) -> Result<Option<Head>, Cut> {
        let mut headers = [httparse::EMPTY_HEADER; framing::MOST_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let (length, status) = match response.parse(&self.buffer) {
            Ok(httparse::Status::Complete(length)) => (length, response.code.unwrap_or_default()),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Cut::Malformed),
        };
        let headers = framing::list(response.headers);
        let _ = self.buffer.split_to(length);
        Ok(Some(Head { status, headers }))
    }

    /// Reads a whole answer. An error is an answer that did not begin; one that broke off tells so in
    /// its `ending`.
    pub(crate) async fn answer(&mut self) -> Result<Answer, Cut> {
        let head = self.head().await?;
        let (pieces, ending) = self.rest().await;
        let body = pieces.iter().fold(BytesMut::new(), |mut body, piece| {
            body.extend_from_slice(&piece.bytes);
            body
        });
        secrets::note_received(&body);
        Ok(Answer { status: head.status, headers: head.headers, body: body.freeze(), ending })
    }

    /// Reads the next piece of the body; `None` at its end, or at the close of one without an end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Piece>, Cut> {
        let bytes = loop {
            match self.left {
                Left::Nothing | Left::Bytes(0) => return Ok(None),
                Left::Bytes(count) if !self.buffer.is_empty() => {
                    let bytes = self.buffer.split_to(count.min(self.buffer.len())).freeze();
                    self.left = Left::Bytes(count - bytes.len());
                    break bytes;
                }
                Left::UntilClose if !self.buffer.is_empty() => break self.buffer.split().freeze(),
                Left::Chunks => match framing::take_chunk(&mut self.buffer) {
                    Ok(Some(Chunk::Data(bytes))) => break bytes,
                    Ok(Some(Chunk::End)) => {
                        self.left = Left::Nothing;
                        return Ok(None);
                    }
                    Ok(None) => self.fill().await?,
                    Err(_) => return Err(Cut::Malformed),
                },
                Left::Bytes(_) => self.fill().await?,
                Left::UntilClose => match self.fill().await {
                    Err(Cut::Closed) => return Ok(None),
                    filled => filled?,
                },
            }
        };
        Ok(Some(Piece { bytes, at: Instant::now() }))
    }

    /// Reads the next event of a stream; `None` at the end of the body. What a body leaves unfinished
    /// is in [`Self::partial_event`].
    pub(crate) async fn event(&mut self) -> Result<Option<Event>, Cut> {
        let mut at = Instant::now();
        loop {
            if let Some(end) = memchr::memmem::find(&self.event, b"\n\n") {
                return Ok(Some(Event::read(self.event.split_to(end + 2).freeze(), at)));
            }
            let Some(piece) = self.piece().await? else { return Ok(None) };
            self.event.extend_from_slice(&piece.bytes);
            at = piece.at;
        }
    }

    /// The beginning of an event that has not ended.
    pub(crate) fn partial_event(&self) -> &[u8] {
        &self.event
    }

    /// Reads all events up to the end of the body, and tells how it ended.
    pub(crate) async fn events(&mut self) -> (Vec<Event>, Ending) {
        let mut events = Vec::new();
        loop {
            match self.event().await {
                Ok(Some(event)) => events.push(event),
                Ok(None) => return (events, self.ending()),
                Err(cut) => return (events, Ending::Cut(cut)),
            }
        }
    }

    /// Reads all that is left of the body, and tells how it ended.
    pub(crate) async fn rest(&mut self) -> (Vec<Piece>, Ending) {
        let mut pieces = Vec::new();
        loop {
            match self.piece().await {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => return (pieces, self.ending()),
                Err(cut) => return (pieces, Ending::Cut(cut)),
            }
        }
    }

    fn ending(&self) -> Ending {
        match self.left {
            Left::UntilClose => Ending::UntilClose,
            Left::Nothing | Left::Bytes(_) | Left::Chunks => Ending::Complete,
        }
    }

    /// Returns when the peer closes, and how; bytes that arrive before are dropped.
    pub(crate) async fn closed(&mut self) -> Cut {
        loop {
            self.buffer.clear();
            if let Err(cut) = self.fill().await {
                return cut;
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Cut> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(Cut::Closed),
            _ => Ok(()),
        }
    }
}
