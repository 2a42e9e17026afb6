//! One keep-alive connection that sends bytes made beforehand and reads as little of the answer as
//! will tell where it ends. Blocking sockets: with a thread a connection there is no event loop whose
//! timers and batches would show in the numbers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Failure;

/// Longer than any answer here takes; a target that hangs ends the run instead of holding it.
const PATIENCE: Duration = Duration::from_secs(20);
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A whole answer. The body of a chunked one still has its chunk framing.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

enum Length {
    Sized(usize),
    Chunked,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: vec![0; 32 * 1024] })
    }

    /// Sends one request and reads its answer to the end, keeping nothing of it.
    pub(crate) fn drive(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(request)?;
        let (status, length, head, mut filled) = self.read_head()?;
        if status != 200 {
            return Err(format!("the answer was a {status}").into());
        }
        match length {
            Length::Sized(body) => {
                let mut missing = (head + body).saturating_sub(filled);
                while missing > 0 {
                    missing = missing.saturating_sub(self.read_more(0)?);
                }
            }
            // The payloads hold no bare CR, so these bytes stand only at the end of the body.
            Length::Chunked => {
                while !self.buffer.get(..filled).is_some_and(|seen| seen.ends_with(LAST_CHUNK)) {
                    let kept = filled.min(LAST_CHUNK.len());
                    self.buffer.copy_within(filled - kept..filled, 0);
                    filled = kept + self.read_more(kept)?;
                }
            }
        }
        Ok(())
    }

    /// Sends one request and returns when the head and some of the body are here; what follows stays
    /// unread. For streams that are to stay open.
    pub(crate) fn begin(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(request)?;
        let (status, _, head, mut filled) = self.read_head()?;
        while filled <= head {
            filled += self.read_more(filled)?;
        }
        // A thousand of these are held at once; the buffer is the generator's, not the target's.
        self.buffer = Vec::new();
        match status {
            200 => Ok(()),
            other => Err(format!("the answer was a {other}").into()),
        }
    }

    /// Sends one request and returns its whole answer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        self.stream.write_all(request)?;
        let (status, length, head, mut filled) = self.read_head()?;
        let mut body = self.buffer.get(head..filled).unwrap_or_default().to_vec();
        loop {
            match length {
                Length::Sized(size) if body.len() >= size => break,
                Length::Chunked if body.ends_with(LAST_CHUNK) || body == b"0\r\n\r\n" => break,
                Length::Sized(_) | Length::Chunked => {}
            }
            filled = self.read_more(0)?;
            body.extend_from_slice(self.buffer.get(..filled).unwrap_or_default());
        }
        Ok(Answer { status, body })
    }

    /// Status, length of the body, length of the head, bytes read so far.
    fn read_head(&mut self) -> Result<(u16, Length, usize, usize), Failure> {
        let mut filled = 0;
        loop {
            filled += self.read_more(filled)?;
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

    fn read_more(&mut self, from: usize) -> Result<usize, Failure> {
        let room = self.buffer.get_mut(from..).unwrap_or_default();
        match self.stream.read(room)? {
            0 => Err("the connection closed before the answer's end".into()),
            read => Ok(read),
        }
    }
}
