//! One connection to the gateway, for tests that read an answer as it arrives, disconnect, send a body
//! slowly, or send several requests. It reports exactly how a body ended.

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
    pub(crate) status: u16,
    pub(crate) headers: HeaderList,
}

impl Head {
    /// The first header with this name, in any letter case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        framing::find(&self.headers, name)
    }
}

/// Why an answer could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The peer closed the connection too early.
    Closed,
    Reset,
    /// The received bytes are not HTTP.
    Malformed,
}

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// With its last chunk or its declared length, or without a body by definition.
    Complete,
    /// The connection was closed and the body had neither chunks nor a length.
    UntilClose,
    Broken(ReadError),
}

/// Part of a body: one chunk, or the bytes of one read if the body is not chunked.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    pub(crate) at: Instant,
}

/// One server-sent event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// All bytes, including the blank line.
    pub(crate) raw: Bytes,
    pub(crate) name: Option<String>,
    pub(crate) data: String,
    pub(crate) at: Instant,
}

impl Event {
    /// The data as JSON, or null if it is not JSON.
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

/// What remains of the body that is being read.
#[derive(Clone, Copy, Debug)]
enum Left {
    Nothing,
    Bytes(usize),
    Chunks,
    UntilClose,
}

/// A connection to an HTTP server.
pub(crate) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    buffer: BytesMut,
    left: Left,
    /// Of an event stream: the bytes of an incomplete event.
    event: BytesMut,
    asked_head: bool,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (buffer, event) = (BytesMut::new(), BytesMut::new());
        Ok(Self { stream, peer: address, buffer, left: Left::Nothing, event, asked_head: false })
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    pub(crate) async fn request(&mut self, request: &Request) -> io::Result<()> {
        secrets::note_sent(request.target(), request.headers(), request.whole_body());
        self.asked_head = request.method() == "HEAD";
        self.send(request.bytes(self.peer)).await
    }

    /// Closes the sending direction.
    pub(crate) async fn half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Disconnects, with RST or with FIN.
    pub(crate) fn disconnect(self, reset: bool) {
        if reset {
            self.stream.set_zero_linger().unwrap();
        }
    }

    /// Disconnects with FIN, as dropping does.
    pub(crate) fn hang_up(self) {}

    /// Reads the next head, interim ones (1xx) included.
    pub(crate) async fn head(&mut self) -> Result<Head, ReadError> {
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
            // Both, or an invalid length.
            _ => return Err(ReadError::Malformed),
        };
        Ok(head)
    }

    fn take_head(&mut self) -> Result<Option<Head>, ReadError> {
        let mut headers = [httparse::EMPTY_HEADER; framing::MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let (length, status) = match response.parse(&self.buffer) {
            Ok(httparse::Status::Complete(length)) => (length, response.code.unwrap_or_default()),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(ReadError::Malformed),
        };
        let headers = framing::list(response.headers);
        let _ = self.buffer.split_to(length);
        Ok(Some(Head { status, headers }))
    }

    /// Reads a whole answer. An error means that there was no head; `ending` tells whether the body is
    /// complete.
    pub(crate) async fn answer(&mut self) -> Result<Answer, ReadError> {
        let head = self.head().await?;
        let (pieces, ending) = self.rest().await;
        let body = pieces.iter().fold(BytesMut::new(), |mut body, piece| {
            body.extend_from_slice(&piece.bytes);
            body
        });
        secrets::note_received(&body);
        Ok(Answer { status: head.status, headers: head.headers, body: body.freeze(), ending })
    }

    /// Reads the next piece of the body; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Piece>, ReadError> {
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
                    Err(_) => return Err(ReadError::Malformed),
                },
                Left::Bytes(_) => self.fill().await?,
                Left::UntilClose => match self.fill().await {
                    Err(ReadError::Closed) => return Ok(None),
                    filled => filled?,
                },
            }
        };
        Ok(Some(Piece { bytes, at: Instant::now() }))
    }

    /// Reads the next event; `None` at the end of the body. An incomplete event is in
    /// [`Self::partial_event`].
    pub(crate) async fn event(&mut self) -> Result<Option<Event>, ReadError> {
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

    /// The bytes of an incomplete event.
    pub(crate) fn partial_event(&self) -> &[u8] {
        &self.event
    }

    /// Reads all remaining events, and how the body ended.
    pub(crate) async fn events(&mut self) -> (Vec<Event>, BodyEnd) {
        let mut events = Vec::new();
        loop {
            match self.event().await {
                Ok(Some(event)) => events.push(event),
                Ok(None) => return (events, self.ending()),
                Err(cut) => return (events, BodyEnd::Broken(cut)),
            }
        }
    }

    /// Reads the rest of the body, and how it ended.
    pub(crate) async fn rest(&mut self) -> (Vec<Piece>, BodyEnd) {
        let mut pieces = Vec::new();
        loop {
            match self.piece().await {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => return (pieces, self.ending()),
                Err(cut) => return (pieces, BodyEnd::Broken(cut)),
            }
        }
    }

    fn ending(&self) -> BodyEnd {
        match self.left {
            Left::UntilClose => BodyEnd::UntilClose,
            Left::Nothing | Left::Bytes(_) | Left::Chunks => BodyEnd::Complete,
        }
    }

    /// Waits until the peer closes and returns how; drops the bytes that arrive before.
    pub(crate) async fn closed(&mut self) -> ReadError {
        loop {
            self.buffer.clear();
            if let Err(cut) = self.fill().await {
                return cut;
            }
        }
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ReadError::Closed),
            _ => Ok(()),
        }
    }
}
