//! Parses a stream of server-sent events as it arrives, whatever the chunk boundaries.
//!
//! Every byte belongs to exactly one [`Block`], in order, and is read once. An event within one chunk
//! is not copied; one across chunks is buffered up to a limit. A longer one can be scanned as it
//! passes: see [`SseReader::outgrows`] and [`SseReader::kept`].

use std::ops::Range;

/// Maximum length of an event that is buffered until its end arrives, in bytes. A longer one is
/// reported without its data.
pub const MAX_EVENT_BYTES: usize = 32 * 1024;

/// Larger buffers are freed when their event ends, so that an idle stream takes little memory.
pub(super) const MAX_IDLE_CAPACITY: usize = 4096;

/// A sign of life: a comment, which clients pass over.
pub(super) const PING: &[u8] = b": ping\n\n";

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The kind of a [`Block`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// An event, its blank line included.
    Event,
    /// An event over the limit: without its data, and with its type if that came before the limit.
    TooLong,
    /// A comment or a blank line outside any event.
    Filler,
    /// The LF of a CRLF whose CR ended the previous block in the previous chunk.
    LineFeed,
}

/// Consecutive bytes of the stream: an event, or what is between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block<'a> {
    pub kind: BlockKind,
    /// Their offsets in the stream.
    pub range: Range<u64>,
    /// The `event` field; empty without one.
    pub event: &'a str,
    /// The `data` lines, joined by LF; `None` for events that have none.
    pub data: Option<&'a [u8]>,
}

/// Reads a stream of server-sent events, in memory proportional to the limit for events.
#[derive(Debug)]
pub struct SseReader {
    max_event_bytes: u64,
    /// The number of bytes that were read.
    offset: u64,
    /// The offset at which the current block began; equal to `offset` between blocks.
    start: u64,
    /// The unfinished line, if it began in an earlier chunk.
    line: Vec<u8>,
    event: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The current block has a field, so it is an event.
    open: bool,
    /// The last byte was a CR that ended a line.
    after_cr: bool,
    /// 1 if the current line ended in CRLF. The length of the event does not count its LF yet, so that
    /// the result is the same if the LF is in the next chunk.
    uncounted_lf: u64,
    /// The first line, which may begin with a byte order mark, was read.
    past_first_line: bool,
    /// The current event was returned; clear it before the next.
    reported: bool,
}

enum Line<'a> {
    Blank,
    Comment,
    Data(&'a [u8]),
    Event(&'a [u8]),
    Other,
}

impl Default for SseReader {
    fn default() -> Self {
        Self::new(MAX_EVENT_BYTES)
    }
}

impl SseReader {
    /// A reader at the beginning of a stream, with the maximum length of an event that it buffers, in
    /// bytes.
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            max_event_bytes: max_event_bytes as u64,
            offset: 0,
            start: 0,
            line: Vec::new(),
            event: Vec::new(),
            data: Vec::new(),
            has_data: false,
            open: false,
            after_cr: false,
            uncounted_lf: 0,
            past_first_line: false,
            reported: false,
        }
    }

    /// The number of bytes that were read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The offset at which the current, unfinished block began.
    pub fn block_start(&self) -> u64 {
        self.start
    }

    /// Whether the current block exceeds the limit for events, or will if none of the next `more` bytes
    /// ends it.
    pub fn outgrows(&self, more: usize) -> bool {
        self.offset - self.start + more as u64 > self.max_event_bytes
    }

    /// What is buffered of the current event: its data so far, and its unfinished line. Complete unless
    /// the event exceeds the limit.
    pub fn kept(&self) -> (&[u8], &[u8]) {
        (&self.data, &self.line)
    }

    /// Whether the next byte may begin an event.
    pub fn at_event_boundary(&self) -> bool {
        self.offset == self.start
    }

    /// The next block that ends in `chunk` at or after `at`, which moves past it; `None` at the end of
    /// the chunk. Call it with the same chunk until then.
    pub fn next<'a>(&'a mut self, chunk: &'a [u8], at: &mut usize) -> Option<Block<'a>> {
        self.clear_reported();
        if self.after_cr {
            let first = *chunk.get(*at)?;
            self.after_cr = false;
            if first == b'\n' {
                let between = self.at_event_boundary();
                *at += 1;
                self.offset += 1;
                if between {
                    return Some(self.block_without_event(BlockKind::LineFeed));
                }
            }
        }
        // The data of an event with one `data` line, as a part of this chunk.
        let mut single: Option<Range<usize>> = None;
        loop {
            let rest = chunk.get(*at..).filter(|rest| !rest.is_empty());
            let Some(rest) = rest else {
                self.buffer_single(chunk, single);
                return None;
            };
            let Some(length) = memchr::memchr2(b'\n', b'\r', rest) else {
                *at = chunk.len();
                self.offset += rest.len() as u64;
                self.uncounted_lf = 0;
                self.buffer_line(rest);
                self.buffer_single(chunk, single);
                return None;
            };
            let content = *at..*at + length;
            let is_cr = rest.get(length) == Some(&b'\r');
            let crlf = is_cr && rest.get(length + 1) == Some(&b'\n');
            let line_length = length + 1 + usize::from(crlf);
            self.after_cr = is_cr && rest.len() == length + 1;
            *at += line_length;
            self.offset += line_length as u64;
            self.uncounted_lf = u64::from(crlf);

            let text = chunk.get(content.clone()).unwrap_or_default();
            if !self.line.is_empty() {
                self.buffer_line(text);
            }
            let buffered = std::mem::take(&mut self.line);
            let line = if buffered.is_empty() { text } else { &buffered };
            let kind = match self.classify(line) {
                Line::Blank => Some(if self.open { BlockKind::Event } else { BlockKind::Filler }),
                Line::Comment => (!self.open).then_some(BlockKind::Filler),
                Line::Data(value) => {
                    self.open = true;
                    if buffered.is_empty() && !self.has_data {
                        // The value is the end of its line.
                        single = Some(content.end - value.len()..content.end);
                        self.has_data = true;
                    } else {
                        self.buffer_single(chunk, single.take());
                        self.add_data(value);
                    }
                    None
                }
                Line::Event(value) => {
                    self.open = true;
                    if !self.too_long() {
                        self.event.clear();
                        self.event.extend_from_slice(value);
                    }
                    None
                }
                Line::Other => {
                    self.open = true;
                    None
                }
            };
            self.line = buffered;
            clear(&mut self.line);
            match kind {
                Some(BlockKind::Event) => return Some(self.report(chunk, single)),
                Some(kind) => return Some(self.block_without_event(kind)),
                None => {}
            }
        }
    }

    /// At the end of the stream: the event that lacks only its blank line, if there is one. Clients
    /// differ in whether they accept it.
    pub fn finish(&mut self) -> Option<Block<'_>> {
        self.clear_reported();
        self.uncounted_lf = 0;
        let line = std::mem::take(&mut self.line);
        match self.classify(&line) {
            Line::Data(value) => {
                self.open = true;
                self.add_data(value);
            }
            Line::Event(value) => {
                self.open = true;
                self.event = value.to_vec();
            }
            _ => {}
        }
        self.open.then(|| self.report(&[], None))
    }

    fn classify<'a>(&mut self, line: &'a [u8]) -> Line<'a> {
        let line = if self.past_first_line { line } else { line.strip_prefix(BOM).unwrap_or(line) };
        self.past_first_line = true;
        if line.is_empty() {
            return Line::Blank;
        }
        let (name, value) = match memchr::memchr(b':', line) {
            Some(0) => return Line::Comment,
            Some(colon) => line.split_at(colon),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => Line::Data(value),
            b"event" => Line::Event(value),
            _ => Line::Other,
        }
    }

    /// Buffers a part of an unfinished line; beyond the limit only enough to classify the line.
    fn buffer_line(&mut self, part: &[u8]) {
        const MAX_FIELD_NAME: usize = 16;
        if self.too_long() {
            self.line.truncate(MAX_FIELD_NAME);
            let room = MAX_FIELD_NAME.saturating_sub(self.line.len()).min(part.len());
            self.line.extend_from_slice(part.get(..room).unwrap_or_default());
            self.line.shrink_to(MAX_IDLE_CAPACITY);
            self.data = Vec::new();
        } else {
            self.line.extend_from_slice(part);
        }
    }

    /// Buffers the data of the event whose end is not in this chunk.
    fn buffer_single(&mut self, chunk: &[u8], single: Option<Range<usize>>) {
        if let Some(range) = single
            && !self.too_long()
        {
            self.data.extend_from_slice(chunk.get(range).unwrap_or_default());
        }
    }

    fn add_data(&mut self, value: &[u8]) {
        if self.too_long() {
            self.data = Vec::new();
        } else {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
        self.has_data = true;
    }

    fn too_long(&self) -> bool {
        self.offset - self.start - self.uncounted_lf > self.max_event_bytes
    }

    fn report<'a>(&'a mut self, chunk: &'a [u8], single: Option<Range<usize>>) -> Block<'a> {
        let kind = if self.too_long() { BlockKind::TooLong } else { BlockKind::Event };
        let range = self.start..self.offset;
        self.start = self.offset;
        self.reported = true;
        let data = match single {
            Some(range) => chunk.get(range).unwrap_or_default(),
            None => &self.data,
        };
        Block {
            kind,
            range,
            event: std::str::from_utf8(&self.event).unwrap_or_default(),
            data: (self.has_data && kind == BlockKind::Event).then_some(data),
        }
    }

    fn block_without_event(&mut self, kind: BlockKind) -> Block<'static> {
        let range = self.start..self.offset;
        self.start = self.offset;
        Block { kind, range, event: "", data: None }
    }

    fn clear_reported(&mut self) {
        if std::mem::take(&mut self.reported) {
            clear(&mut self.data);
            clear(&mut self.event);
            self.has_data = false;
            self.open = false;
        }
    }
}

fn clear(buffer: &mut Vec<u8>) {
    if buffer.capacity() > MAX_IDLE_CAPACITY {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}

#[cfg(test)]
mod tests;
