//! Puts values back into answers to guarded requests: into plain ones when they are complete, into
//! streams event by event.

use std::ops::Range;

use bytes::Bytes;

use super::answer_reader::Watch;
use crate::accounting::budget::Share;
use crate::llm::format::{Format, Operation};
use crate::llm::sse::{BlockKind, SseReader};
use crate::policy::guard::placeholder::Placeholders;
use crate::policy::guard::restore::stream::{ExtraEvent, StreamRestorer};
use crate::policy::guard::restore::{restore_answer, restore_text};

/// The longest plain answer that values are put back into, in bytes. A longer one keeps its placeholders,
/// which say nothing to anybody.
const MAX_PLAIN: usize = 32 * 1024 * 1024;
/// The same for one event of a stream. The longest are the last ones of the Responses API, which repeat the
/// whole answer.
const MAX_EVENT: usize = 8 * 1024 * 1024;

/// Restores the answer of one request, in which placeholders were made.
pub struct AnswerRestorer {
    format: Format,
    placeholders: Placeholders,
    /// For what is buffered.
    memory: Share,
    /// The bytes of it that a stream has taken.
    held: usize,
    mode: Mode,
}

enum Mode {
    /// Nothing of the answer has come.
    Undecided,
    /// The answer so far.
    Plain(Vec<u8>),
    Stream(Box<EventRestorer>),
    /// Nothing is put back.
    Off,
}

impl AnswerRestorer {
    /// For the answer of this operation. `memory` is a share of the budget for bodies.
    pub fn new(
        operation: &Operation,
        format: Format,
        placeholders: Placeholders,
        memory: Share,
    ) -> Self {
        // Vectors and counts have no text.
        let has_text = operation.answer_format().is_some()
            && !matches!(format, Format::Embeddings | Format::GeminiEmbeddings);
        let mode = if has_text { Mode::Undecided } else { Mode::Off };
        Self { format, placeholders, memory, held: 0, mode }
    }

    /// Whether a successful answer may become longer or shorter.
    pub fn changes_length(&self) -> bool {
        !matches!(self.mode, Mode::Off)
    }

    /// An upstream's error with the values.
    pub fn error_body(&self, bytes: Vec<u8>) -> Vec<u8> {
        if let Some(restored) = restore_answer(self.format, &bytes, &self.placeholders) {
            return restored;
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_err() => {
                restore_text(text, &self.placeholders).map(String::into_bytes).unwrap_or(bytes)
            }
            _ => bytes,
        }
    }

    /// Takes a chunk on its way to the caller and gives what goes down now.
    pub fn push(&mut self, chunk: Bytes, watch: &Watch) -> Option<Bytes> {
        if matches!(self.mode, Mode::Undecided) {
            self.mode = match watch {
                // Blank until it is known what it is.
                Watch::Undecided(_) => return Some(chunk),
                Watch::Plain(_) => Mode::Plain(Vec::new()),
                Watch::Stream(_) => Mode::Stream(Box::new(EventRestorer::new(
                    self.format,
                    self.placeholders.clone(),
                ))),
                Watch::None | Watch::Unreadable => Mode::Off,
            };
        }
        match &mut self.mode {
            Mode::Plain(answer) => {
                let is_within = answer.len() + chunk.len() <= MAX_PLAIN;
                if is_within && self.memory.grow(chunk.len()) {
                    answer.extend_from_slice(&chunk);
                    return None;
                }
                let mut passed = std::mem::take(answer);
                passed.extend_from_slice(&chunk);
                self.mode = Mode::Off;
                Some(passed.into())
            }
            Mode::Stream(events) => {
                // What is kept of an event, here and by the reader of events.
                let most = 2 * (events.kept.len() + chunk.len());
                let more = most.saturating_sub(self.held);
                if more > 0 && !self.memory.grow(more) {
                    let mut rest = events.finish();
                    rest.extend_from_slice(&chunk);
                    self.mode = Mode::Off;
                    return Some(rest.into());
                }
                self.held += more;
                Some(events.push(&chunk).into())
            }
            Mode::Undecided | Mode::Off => Some(chunk),
        }
        .filter(|chunk| !chunk.is_empty())
    }

    /// What is still held back, at the end of the answer.
    pub fn finish(&mut self) -> Option<Bytes> {
        let rest = match std::mem::replace(&mut self.mode, Mode::Off) {
            Mode::Plain(answer) => {
                restore_answer(self.format, &answer, &self.placeholders).unwrap_or(answer)
            }
            Mode::Stream(mut events) => events.finish(),
            Mode::Undecided | Mode::Off => return None,
        };
        Some(Bytes::from(rest)).filter(|rest| !rest.is_empty())
    }
}

/// Restores a stream of server-sent events. What has no placeholder goes down as it came.
struct EventRestorer {
    reader: SseReader,
    /// The bytes of the block that is being read, from this offset in the stream on.
    kept: Vec<u8>,
    kept_from: u64,
    events: StreamRestorer,
}

impl EventRestorer {
    fn new(format: Format, placeholders: Placeholders) -> Self {
        Self {
            reader: SseReader::new(MAX_EVENT),
            kept: Vec::new(),
            kept_from: 0,
            events: StreamRestorer::new(format, placeholders),
        }
    }

    fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut down = Vec::with_capacity(chunk.len());
        self.kept.extend_from_slice(chunk);
        let (mut at, mut done) = (0, 0);
        while let Some(block) = self.reader.next(chunk, &mut at) {
            let place = |offset: u64| {
                usize::try_from(offset.saturating_sub(self.kept_from)).unwrap_or(usize::MAX)
            };
            let raw: Range<usize> = place(block.range.start)..place(block.range.end);
            done = raw.end;
            let restored = match block.data {
                Some(data) if block.kind == BlockKind::Event => {
                    self.events.event(block.event, data)
                }
                _ => Default::default(),
            };
            for ExtraEvent { name, data } in &restored.before {
                write_event(name, data, &mut down);
            }
            match restored.data {
                Some(data) => write_event(block.event, &data, &mut down),
                None => down.extend_from_slice(self.kept.get(raw).unwrap_or_default()),
            }
        }
        if self.reader.outgrows(0) {
            // Its data will not be given out, so its bytes need not be kept.
            down.extend_from_slice(self.kept.get(done..).unwrap_or_default());
            done = self.kept.len();
        }
        self.kept.drain(..done.min(self.kept.len()));
        self.kept_from += done as u64;
        down
    }

    /// What is held back of blocks, and an event without an end as it came.
    fn finish(&mut self) -> Vec<u8> {
        let mut down = Vec::new();
        for ExtraEvent { name, data } in self.events.finish() {
            write_event(&name, &data, &mut down);
        }
        down.append(&mut self.kept);
        down
    }
}

/// Writes an event of a name, which may be empty, and data.
fn write_event(name: &str, data: &[u8], down: &mut Vec<u8>) {
    if !name.is_empty() {
        down.extend_from_slice(b"event: ");
        down.extend_from_slice(name.as_bytes());
        down.push(b'\n');
    }
    for line in data.split(|byte| *byte == b'\n') {
        down.extend_from_slice(b"data: ");
        down.extend_from_slice(line);
        down.push(b'\n');
    }
    down.push(b'\n');
}
