//! One keep-alive connection that sends requests encoded beforehand and parses no more of an answer
//! than it needs to find its end.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;

const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Length {
    Sized(usize),
    Chunked,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 32 * 1024] })
    }

    /// Sends one request and reads its answer to the end. A status other than 200 fails.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        match self.exchange(request, |_| ()).await? {
            200 => Ok(()),
            status => Err(format!("the answer was a {status}").into()),
        }
    }

    /// Sends one request and returns status and body. A chunked body keeps its chunk framing.
    pub(crate) async fn fetch(&mut self, request: &[u8]) -> Result<(u16, String), Failure> {
        let mut body = Vec::new();
        let status = self.exchange(request, |part| body.extend_from_slice(part)).await?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Sends one request and returns when some of the body has arrived; the rest stays unread.
    pub(crate) async fn begin(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(request).await?;
        let (status, _, head, mut filled) = self.read_head().await?;
        while filled <= head {
            filled += self.read_more(filled).await?;
        }
        self.buffer = Vec::new();
        match status {
            200 => Ok(()),
            status => Err(format!("the answer was a {status}").into()),
        }
    }

    async fn exchange(
        &mut self,
        request: &[u8],
        mut on_body: impl FnMut(&[u8]),
    ) -> Result<u16, Failure> {
        self.stream.write_all(request).await?;
        let (status, length, head, mut filled) = self.read_head().await?;
        on_body(self.buffer.get(head..filled).unwrap_or_default());
        match length {
            Length::Sized(size) => {
                let mut missing = (head + size).saturating_sub(filled);
                while missing > 0 {
                    let read = self.read_more(0).await?;
                    on_body(self.buffer.get(..read).unwrap_or_default());
                    missing = missing.saturating_sub(read);
                }
            }
            // The payloads hold no bare CR, so these bytes are only at the end of the body.
            Length::Chunked => {
                while !self.buffer.get(..filled).is_some_and(|seen| seen.ends_with(LAST_CHUNK)) {
                    let kept = filled.min(LAST_CHUNK.len());
                    self.buffer.copy_within(filled - kept..filled, 0);
                    filled = kept + self.read_more(kept).await?;
                    on_body(self.buffer.get(kept..filled).unwrap_or_default());
                }
            }
        }
        Ok(status)
    }

    /// Status, length of the body, length of the head, bytes read so far.
    async fn read_head(&mut self) -> Result<(u16, Length, usize, usize), Failure> {
        let mut filled = 0;
        loop {
            filled += self.read_more(filled).await?;
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut parsed = httparse::Response::new(&mut headers);
            let seen = self.buffer.get(..filled).unwrap_or_default();
            if let httparse::Status::Complete(head) = parsed.parse(seen)? {
                let sized = parsed
                    .headers
                    .iter()
                    .find(|header| header.name.eq_ignore_ascii_case("content-length"));
                let length = match sized {
                    Some(header) => Length::Sized(str::from_utf8(header.value)?.parse()?),
                    None if parsed.code == Some(204) => Length::Sized(0),
                    None => Length::Chunked,
                };
                return Ok((parsed.code.unwrap_or_default(), length, head, filled));
            }
        }
    }

    async fn read_more(&mut self, from: usize) -> Result<usize, Failure> {
        match self.stream.read(self.buffer.get_mut(from..).unwrap_or_default()).await? {
            0 => Err("the connection closed before the end of the answer".into()),
            read => Ok(read),
        }
    }
}
