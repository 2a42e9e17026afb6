//! Takes a stream of server-sent events apart as it comes, whatever way it is cut into chunks.
//!
//! Every byte belongs to exactly one [`Block`], in order. Bytes are looked at once; an event within
//! one chunk is not copied, one across chunks is kept only up to a bound. Who wants to know more of a
//! longer one reads it as it passes.

use std::ops::Range;

/// A longer event, in bytes, is reported without its data. Others are kept until their end has come,
/// so this is what a stream may cost in memory.
pub const MAX_EVENT_BYTES: usize = 32 * 1024;

/// Buffers larger than this are given back when their event is over, so that an idle stream is small.
const KEPT_CAPACITY: usize = 4096;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What a run of bytes in the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// An event, its blank line included.
    Event,
    /// An event beyond the bound; its data is unknown, its type known if it came early.
    TooLong,
    /// A comment or a blank line outside any event.
    Filler,
    /// The LF of the CRLF that ended the block before, having come in the next chunk.
    LineFeed,
}

/// One run of bytes in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block<'a> {
    /// What it is.
    pub kind: BlockKind,
    /// Where it stands, counted from the beginning of the stream.
    pub range: Range<u64>,
    /// The `event` field, or nothing.
    pub event: &'a str,
    /// The `data` lines, joined by LF; `None` for events that have none.
    pub data: Option<&'a [u8]>,
}

/// Reads a stream of server-sent events. Memory is bounded by the longest event that is kept.
#[derive(Debug)]
pub struct SseReader {
    max_event_bytes: u64,
    /// How many bytes have been read.
    offset: u64,
    /// Where the current block began; equal to `offset` between blocks.
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
    /// 1 while the line at hand ended in a CRLF: its LF is not measured yet, since it may as well
    /// have come in the next chunk.
    unmeasured: u64,
    /// Past the first line, which may begin with a byte order mark.
    begun: bool,
    /// The current event was handed out; forget it before going on.
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
    /// A reader at the beginning of a stream, with the longest event that it keeps, in bytes.
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
            unmeasured: 0,
            begun: false,
            reported: false,
        }
    }

    /// How many bytes have been read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the current, unfinished block began.
    pub fn block_start(&self) -> u64 {
        self.start
    }

    /// Whether the current block is longer than what is kept, or will be if none of the next `more`
    /// bytes ends it.
    pub fn outgrows(&self, more: usize) -> bool {
        self.offset - self.start + more as u64 > self.max_event_bytes
    }

    /// What is kept of the current event: its data so far, and its unfinished line. All there is, as
    /// long as the event is not too long.
    pub fn kept(&self) -> (&[u8], &[u8]) {
        (&self.data, &self.line)
    }

    /// Whether the bytes so far end where an event may begin.
    pub fn at_event_boundary(&self) -> bool {
        self.offset == self.start
    }

    /// The next block that ends in `chunk`, from `at` on, which is moved past it; `None` when the
    /// chunk is used up. Ask with the same chunk until then.
    pub fn next<'a>(&'a mut self, chunk: &'a [u8], at: &mut usize) -> Option<Block<'a>> {
        self.forget_reported();
        if self.after_cr {
            let first = *chunk.get(*at)?;
            self.after_cr = false;
            if first == b'\n' {
                let between = self.at_event_boundary();
                *at += 1;
                self.offset += 1;
                if between {
                    return Some(self.bare(BlockKind::LineFeed));
                }
            }
        }
        // The data of an event with a single line of it, as it stands in this chunk.
        let mut single: Option<Range<usize>> = None;
        loop {
            let rest = chunk.get(*at..).filter(|rest| !rest.is_empty());
            let Some(rest) = rest else {
                self.spill(chunk, single);
                return None;
            };
            let Some(length) = memchr::memchr2(b'\n', b'\r', rest) else {
                *at = chunk.len();
                self.offset += rest.len() as u64;
                self.unmeasured = 0;
                self.carry(rest);
                self.spill(chunk, single);
                return None;
            };
            let content = *at..*at + length;
            let is_cr = rest.get(length) == Some(&b'\r');
            let crlf = is_cr && rest.get(length + 1) == Some(&b'\n');
            let ended = length + 1 + usize::from(crlf);
            self.after_cr = is_cr && rest.len() == length + 1;
            *at += ended;
            self.offset += ended as u64;
            self.unmeasured = u64::from(crlf);

            let text = chunk.get(content.clone()).unwrap_or_default();
            if !self.line.is_empty() {
                self.carry(text);
            }
            let carried = std::mem::take(&mut self.line);
            let line = if carried.is_empty() { text } else { &carried };
            let ended = match self.classify(line) {
                Line::Blank => Some(if self.open { BlockKind::Event } else { BlockKind::Filler }),
                Line::Comment => (!self.open).then_some(BlockKind::Filler),
                Line::Data(value) => {
                    self.open = true;
                    if carried.is_empty() && !self.has_data {
                        // The value is the end of its line.
                        single = Some(content.end - value.len()..content.end);
                        self.has_data = true;
                    } else {
                        self.spill(chunk, single.take());
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
            self.line = carried;
            empty(&mut self.line);
            match ended {
                Some(BlockKind::Event) => return Some(self.report(chunk, single)),
                Some(kind) => return Some(self.bare(kind)),
                None => {}
            }
        }
    }

    /// The stream is over: the event that lacks only its blank line, if there is one. Readers differ
    /// in whether they take it.
    pub fn finish(&mut self) -> Option<Block<'_>> {
        self.forget_reported();
        self.unmeasured = 0;
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
        let line = if self.begun { line } else { line.strip_prefix(BOM).unwrap_or(line) };
        self.begun = true;
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

    /// Keeps a part of an unfinished line. Beyond the bound only so much that the line's kind can
    /// still be told.
    fn carry(&mut self, part: &[u8]) {
        const TELLING: usize = 16;
        if self.too_long() {
            self.line.truncate(TELLING);
            let room = TELLING.saturating_sub(self.line.len()).min(part.len());
            self.line.extend_from_slice(part.get(..room).unwrap_or_default());
            self.line.shrink_to(KEPT_CAPACITY);
            self.data = Vec::new();
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn spill(&mut self, chunk: &[u8], single: Option<Range<usize>>) {
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
        self.offset - self.start - self.unmeasured > self.max_event_bytes
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

    fn bare(&mut self, kind: BlockKind) -> Block<'static> {
        let range = self.start..self.offset;
        self.start = self.offset;
        Block { kind, range, event: "", data: None }
    }

    fn forget_reported(&mut self) {
        if std::mem::take(&mut self.reported) {
            empty(&mut self.data);
            empty(&mut self.event);
            self.has_data = false;
            self.open = false;
        }
    }
}

fn empty(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT_CAPACITY {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}

#[cfg(test)]
mod tests;
