//! Parses AWS's binary event streams (`application/vnd.amazon.eventstream`) as they arrive, whatever the
//! chunk boundaries, and writes a message of them.
//!
//! A message is (AWS, "Event stream encoding"): its length and that of its headers, four bytes each; a
//! CRC-32 of these; headers; payload; a CRC-32 of all before it. Numbers are big-endian.

use crc32fast::Hasher;

/// Maximum length of a message in bytes, by AWS.
const MAX_MESSAGE_BYTES: u32 = 16 * 1024 * 1024;

/// Maximum length of a message's headers that are read, in bytes. Those of Bedrock have about a hundred.
const MAX_HEADER_BYTES: u32 = 8 * 1024;

const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;

/// It is no event stream, or was damaged on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

/// What a message says of itself; empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// `event`, `exception` or `error`.
    pub message_type: String,
    pub event_type: String,
}

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Bytes of its payload. They are not checked yet.
    Payload(&'a [u8]),
    /// Its end. All of it is as it was sent.
    End(&'a Headers),
}

/// Reads a stream of messages. Keeps nothing but the headers of the current one.
#[derive(Debug, Default)]
pub struct EventStreamReader {
    state: State,
    /// The bytes of the prelude, of the headers or of the checksum so far.
    kept: Vec<u8>,
    checksum: Hasher,
    headers: Headers,
    /// The lengths of the current message's headers and payload.
    lengths: Lengths,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lengths {
    headers: usize,
    payload: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Prelude,
    Headers,
    /// So many bytes of it are to come.
    Payload(usize),
    Checksum,
    Corrupt,
}

impl EventStreamReader {
    /// Whether the next byte begins a message.
    pub fn at_message_boundary(&self) -> bool {
        self.state == State::Prelude && self.kept.is_empty()
    }

    /// The next part in `chunk` at or after `at`, which moves behind it; `None` at the end of the chunk.
    /// Call it with the same chunk until then. Nothing is read any more after an error.
    pub fn next<'a>(
        &'a mut self,
        chunk: &'a [u8],
        at: &mut usize,
    ) -> Result<Option<Part<'a>>, Corrupt> {
        let read = self.read(chunk, at);
        if read.is_err() {
            self.state = State::Corrupt;
            *at = chunk.len();
        }
        match read? {
            Step::Nothing => Ok(None),
            Step::Payload(bytes) => Ok(Some(Part::Payload(bytes))),
            Step::End => Ok(Some(Part::End(&self.headers))),
        }
    }

    fn read<'a>(&mut self, chunk: &'a [u8], at: &mut usize) -> Result<Step<'a>, Corrupt> {
        loop {
            let rest = chunk.get(*at..).unwrap_or_default();
            match self.state {
                State::Corrupt => return Err(Corrupt),
                State::Prelude => {
                    if !self.fill(PRELUDE, rest, at) {
                        return Ok(Step::Nothing);
                    }
                    self.lengths = self.read_prelude()?;
                    self.kept.clear();
                    self.state = State::Headers;
                }
                State::Headers => {
                    if !self.fill(self.lengths.headers, rest, at) {
                        return Ok(Step::Nothing);
                    }
                    self.checksum.update(&self.kept);
                    self.headers = Headers::read(&self.kept)?;
                    self.kept.clear();
                    self.state = State::Payload(self.lengths.payload);
                }
                State::Payload(0) => self.state = State::Checksum,
                State::Payload(left) => {
                    let bytes = rest.get(..left).unwrap_or(rest);
                    if bytes.is_empty() {
                        return Ok(Step::Nothing);
                    }
                    self.checksum.update(bytes);
                    *at += bytes.len();
                    self.state = State::Payload(left - bytes.len());
                    return Ok(Step::Payload(bytes));
                }
                State::Checksum => {
                    if !self.fill(CHECKSUM, rest, at) {
                        return Ok(Step::Nothing);
                    }
                    let expected = std::mem::take(&mut self.checksum).finalize();
                    if number(&self.kept, 0) != Some(expected) {
                        return Err(Corrupt);
                    }
                    self.kept.clear();
                    self.state = State::Prelude;
                    return Ok(Step::End);
                }
            }
        }
    }

    /// Takes as many bytes as are missing; whether none is missing any more.
    fn fill(&mut self, length: usize, rest: &[u8], at: &mut usize) -> bool {
        let missing = length.saturating_sub(self.kept.len());
        let bytes = rest.get(..missing).unwrap_or(rest);
        self.kept.extend_from_slice(bytes);
        *at += bytes.len();
        bytes.len() == missing
    }

    fn read_prelude(&mut self) -> Result<Lengths, Corrupt> {
        let [total, headers, checksum] = [0, 4, 8].map(|at| number(&self.kept, at).unwrap_or(0));
        let lengths = self.kept.get(..8).unwrap_or_default();
        let payload = total.checked_sub(headers).and_then(|rest| rest.checked_sub(16));
        let is_within = total <= MAX_MESSAGE_BYTES && headers <= MAX_HEADER_BYTES;
        let Some(payload) = payload.filter(|_| is_within && checksum == crc32fast::hash(lengths))
        else {
            return Err(Corrupt);
        };
        self.checksum = Hasher::new();
        self.checksum.update(&self.kept);
        let size = |length| usize::try_from(length).unwrap_or(usize::MAX);
        Ok(Lengths { headers: size(headers), payload: size(payload) })
    }
}

/// What has been read, without a reference to the reader.
enum Step<'a> {
    Nothing,
    Payload(&'a [u8]),
    End,
}

impl Headers {
    /// The name of the event, of the exception, or `error`.
    pub fn name(&self) -> &str {
        if self.message_type == "error" { "error" } else { &self.event_type }
    }

    /// A header is the length of its name, its name, the type of its value, and its value.
    fn read(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut headers = Self::default();
        let mut rest = bytes;
        while let Some((length, after)) = rest.split_first() {
            let (name, after) = after.split_at_checked(usize::from(*length)).ok_or(Corrupt)?;
            let (kind, after) = after.split_first().ok_or(Corrupt)?;
            let (prefix, length) = match kind {
                0 | 1 => (0, 0),
                2 => (0, 1),
                3 => (0, 2),
                4 => (0, 4),
                5 | 8 => (0, 8),
                9 => (0, 16),
                6 | 7 => match after {
                    [high, low, ..] => (2, usize::from(u16::from_be_bytes([*high, *low]))),
                    _ => return Err(Corrupt),
                },
                _ => return Err(Corrupt),
            };
            let after = after.get(prefix..).ok_or(Corrupt)?;
            let (value, after) = after.split_at_checked(length).ok_or(Corrupt)?;
            let text = || String::from_utf8_lossy(value).into_owned();
            match name {
                b":message-type" => headers.message_type = text(),
                b":event-type" | b":exception-type" => headers.event_type = text(),
                _ => {}
            }
            rest = after;
        }
        Ok(headers)
    }
}

/// The big-endian number at this place.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// Writes a message with an exception of this name and a JSON payload.
pub(super) fn exception_message(name: &str, payload: &str) -> Vec<u8> {
    let headers = [
        (":exception-type", name),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ];
    message(&written(headers), payload.as_bytes())
}

/// Writes a message with an event of this name and a JSON payload.
pub fn event_message(name: &str, payload: &[u8]) -> Vec<u8> {
    let headers =
        [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")];
    message(&written(headers), payload)
}

/// The message with another payload; `None` if it is none.
pub fn with_payload(original: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(number(original, 4)?).ok()?;
    let headers = original.get(PRELUDE..PRELUDE.checked_add(length)?)?;
    Some(message(headers, payload))
}

/// Headers whose values are text, after its length in two bytes.
fn written(headers: [(&str, &str); 3]) -> Vec<u8> {
    const TEXT: u8 = 7;
    let mut bytes = Vec::new();
    for (key, value) in headers {
        bytes.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(key.as_bytes());
        bytes.push(TEXT);
        bytes.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes
}

fn message(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let total = PRELUDE + headers.len() + payload.len() + CHECKSUM;
    let mut message = Vec::with_capacity(total);
    message.extend_from_slice(&length(total));
    message.extend_from_slice(&length(headers.len()));
    message.extend_from_slice(&crc32fast::hash(&message).to_be_bytes());
    message.extend_from_slice(headers);
    message.extend_from_slice(payload);
    message.extend_from_slice(&crc32fast::hash(&message).to_be_bytes());
    message
}

#[cfg(test)]
mod tests;
