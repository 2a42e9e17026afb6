//! Streamed answers: server-sent events, the elements of a JSON array, or binary messages, relayed as
//! they come.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::array::ArrayReader;
use super::binary::{BinaryEvents, BinaryReader};
use super::partial_event::PartialEvent;
use super::stream_contents::StreamContents;
use super::{AnswerContent, ObservedAnswer};
use crate::llm::chat::without_usage;
use crate::llm::converse;
use crate::llm::error::GatewayError;
use crate::llm::format::Format;
use crate::llm::sse::{BlockKind, SseReader};
use crate::llm::text_sample::TextSample;

/// The most that is held back of an event that may be the usage event, in bytes. That event has a few
/// hundred, with search results and the like a few thousand; a longer one is passed on.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// How the upstream's body ended.
#[derive(Debug, Clone, Copy)]
pub enum StreamEnd<'a> {
    /// As HTTP says a body ends.
    Complete,
    /// Cut short, or given up on, because of this.
    Failed(GatewayError<'a>),
}

/// What is left to do when the upstream's body has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRest {
    /// To be sent, and flushed, first.
    pub last: Option<Bytes>,
    /// Then the caller's body has to be aborted, since its stream is not whole.
    pub abort: bool,
}

/// Stands between an upstream's stream and the caller. Every chunk is passed on at once and unchanged,
/// but for the usage event when that is to be withheld.
#[derive(Debug)]
pub struct StreamedAnswer {
    reader: SseReader,
    framing: Framing,
    held: Option<HeldEvent>,
    /// The current event, while it may have to be withheld or has become too long to be kept.
    partial: Option<Box<PartialEvent>>,
    contents: StreamContents,
    /// Nothing has passed, apart from blanks.
    is_blank: bool,
}

/// How the events of a stream are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamForm {
    /// Server-sent events.
    Events,
    /// One JSON array.
    Array,
    /// Messages of a binary event stream.
    Binary(BinaryEvents),
}

/// How the events are framed.
#[derive(Debug)]
enum Framing {
    /// Lines, which `reader` reads.
    Events,
    Array(Box<ArrayReader>),
    Binary(Box<BinaryReader>),
}

/// What is held back of the current event.
#[derive(Debug, Default)]
struct HeldEvent {
    bytes: Vec<u8>,
    /// A part of the current event has been passed on, so the rest has to be.
    is_released: bool,
    /// The event before was withheld.
    was_withheld: bool,
}

impl StreamedAnswer {
    /// At the beginning of a stream. `withhold_usage` is for streams whose usage the gateway asked for
    /// and the caller did not.
    pub fn new(format: Format, withhold_usage: bool) -> Self {
        let withhold = withhold_usage && format.has_usage_event();
        Self {
            reader: SseReader::default(),
            framing: Framing::Events,
            held: withhold.then(HeldEvent::default),
            partial: None,
            contents: StreamContents::new(format),
            is_blank: true,
        }
    }

    /// The same for a stream that is one JSON array.
    pub fn of_array(format: Format) -> Self {
        Self { framing: Framing::Array(Box::default()), ..Self::new(format, false) }
    }

    /// The same for a binary event stream.
    pub fn of_binary(format: Format, events: BinaryEvents) -> Self {
        let reader = Box::new(BinaryReader::new(events));
        Self { framing: Framing::Binary(reader), ..Self::new(format, false) }
    }

    /// How its events are framed.
    pub fn form(&self) -> StreamForm {
        match &self.framing {
            Framing::Events => StreamForm::Events,
            Framing::Array(_) => StreamForm::Array,
            Framing::Binary(binary) => StreamForm::Binary(binary.events()),
        }
    }

    /// Its format.
    pub fn format(&self) -> Format {
        self.contents.format
    }

    /// Whether nothing has passed, apart from blanks.
    pub fn is_blank(&self) -> bool {
        self.is_blank
    }

    /// Takes the upstream's next chunk and gives what goes to the caller now, if anything does. The chunk
    /// has been read completely when this returns, so before the caller gets any of it.
    pub fn push(&mut self, chunk: Bytes) -> Option<Bytes> {
        let Self { reader, framing, held, partial, contents, is_blank } = self;
        *is_blank = *is_blank && first_byte(&chunk).is_none();
        match framing {
            Framing::Events => {}
            Framing::Array(array) => {
                array.push(&chunk, contents);
                return Some(chunk);
            }
            Framing::Binary(binary) => {
                binary.push(&chunk, contents);
                return Some(chunk);
            }
        }
        let format = contents.format;
        let base = reader.offset();
        let in_chunk = |position: u64| usize::try_from(position.saturating_sub(base)).unwrap_or(0);
        if !reader.at_event_boundary()
            && reader.outgrows(chunk.len())
            && !partial.as_ref().is_some_and(|event| event.reads_all())
        {
            let (data, line) = reader.kept();
            *partial = Some(Box::new(PartialEvent::for_reading_from(format, data, line)));
        }
        let mut at = 0;
        let mut out = Output::Nothing;
        // From here on the chunk has neither been passed on nor withheld.
        let mut open = 0;
        while let Some(block) = reader.next(&chunk, &mut at) {
            let start = in_chunk(block.range.start);
            if block.kind == BlockKind::TooLong {
                let end = chunk.get(start..at).unwrap_or_default();
                partial
                    .get_or_insert_with(|| Box::new(PartialEvent::for_reading(format)))
                    .feed(end);
            }
            let is_usage_event = contents.read(&block, partial.take().as_deref());
            let Some(held) = held else {
                continue;
            };
            let is_rest_of_line = block.kind == BlockKind::LineFeed;
            let is_withheld = match is_rest_of_line {
                true => held.was_withheld,
                false => is_usage_event && !held.is_released,
            };
            let mut bytes = held.next_event(is_withheld);
            if is_withheld {
                out.add_part(&chunk, open..start);
                open = at;
                if !is_rest_of_line {
                    bytes.extend_from_slice(chunk.get(start..at).unwrap_or_default());
                    out.add(without_usage(&bytes).unwrap_or_default().into());
                }
            } else {
                out.add(bytes.into());
            }
        }
        let start = in_chunk(reader.block_start());
        if let Some(part) = chunk.get(start..).filter(|part| !part.is_empty()) {
            let held = held.as_mut().filter(|held| !held.is_released);
            if partial.is_none() && reader.outgrows(0) {
                *partial = Some(Box::new(PartialEvent::for_reading(format)));
            } else if partial.is_none() && held.is_some() {
                *partial = Some(Box::new(PartialEvent::for_withholding()));
            }
            if let Some(event) = partial.as_mut() {
                event.feed(part);
            }
            if let (Some(held), Some(event)) = (held, partial.as_deref()) {
                if held.keeps(part, event) {
                    out.add_part(&chunk, open..start);
                    open = chunk.len();
                } else {
                    out.add(std::mem::take(&mut held.bytes).into());
                    // If it becomes too long, it is read on from what the reader has kept.
                    partial.take_if(|event| !event.reads_all());
                }
            }
        }
        out.add_part(&chunk, open..chunk.len());
        out.finish()
    }

    /// Ends the stream: releases what was held back, or reports to the caller what happened.
    ///
    /// After the stream's own end mark a failure of the connection is no loss. Inside an event nothing
    /// can be reported, since it would become part of that event.
    pub fn finish(&mut self, end: StreamEnd<'_>) -> StreamRest {
        let caller_at_boundary = self.at_event_boundary();
        let mut held = self.held.as_mut().map(|held| held.next_event(false)).unwrap_or_default();
        if let Some(block) = self.reader.finish() {
            let partial = self.partial.take();
            if self.contents.read(&block, partial.as_deref()) && !held.is_empty() {
                held = without_usage(&held).unwrap_or_default().into();
            }
        }
        let held = Some(Bytes::from(held)).filter(|held| !held.is_empty());
        match end {
            StreamEnd::Complete => StreamRest { last: held, abort: false },
            StreamEnd::Failed(_) if self.is_terminal() => StreamRest { last: held, abort: false },
            StreamEnd::Failed(error) if caller_at_boundary => {
                StreamRest { last: Some(self.error_event(&error)), abort: true }
            }
            StreamEnd::Failed(_) => StreamRest { last: None, abort: true },
        }
    }

    /// The event that reports an error to the caller, in the API's own shape.
    pub fn error_event(&self, error: &GatewayError<'_>) -> Bytes {
        let before = match &self.framing {
            Framing::Array(array) => array.before_element().unwrap_or_default(),
            _ => "",
        };
        self.error_event_after(error, before)
    }

    /// The same where the caller did not get all that has come: `before` has to come before a further
    /// element of an array.
    pub fn error_event_after(&self, error: &GatewayError<'_>, before: &str) -> Bytes {
        let format = self.contents.format;
        match &self.framing {
            Framing::Array(_) => format!("{before}{}\n]\n", format.error_body(error)).into(),
            Framing::Binary(_) => converse::error_message(error).into(),
            Framing::Events => format.error_event(error, self.contents.events).into(),
        }
    }

    /// Whether what the caller has got so far ends between two events.
    pub fn at_event_boundary(&self) -> bool {
        let is_held = self.held.as_ref().is_some_and(|held| !held.bytes.is_empty());
        match &self.framing {
            Framing::Events => is_held || self.reader.at_event_boundary(),
            Framing::Array(array) => array.before_element().is_some(),
            Framing::Binary(binary) => binary.at_message_boundary(),
        }
    }

    /// Whether an answer has begun, and the end mark is missing that every stream of its format has.
    pub fn is_cut_short(&self) -> bool {
        let StreamContents { format, observed, .. } = &self.contents;
        let has_begun = observed.content == AnswerContent::Answer;
        format.has_mandatory_end() && has_begun && !self.is_terminal()
    }

    /// Whether the model has written anything: text, reasoning, or a call of a tool.
    pub fn has_written(&self) -> bool {
        self.contents.has_written
    }

    /// Whether the stream's own end mark has passed.
    pub fn is_terminal(&self) -> bool {
        let is_open = matches!(&self.framing, Framing::Array(array) if !array.is_closed());
        self.contents.is_terminal && !is_open
    }

    /// Whether an end mark and the usage have passed, so that nothing is to come that is charged for.
    pub fn is_over(&self) -> bool {
        let StreamContents { format, observed, .. } = &self.contents;
        self.is_terminal() && observed.usage.is_some() && format.has_end_mark()
    }

    /// The text that was relayed since the last report of usage, for an estimate where the stream was
    /// cut short or reported nothing. Handed over: a later call gives only what came since.
    pub fn take_text(&mut self) -> TextSample {
        if self.contents.format.has_usage_event() && self.reader.outgrows(0) {
            // An event that is not over, and of which nothing has been collected.
            let length = self.reader.offset() - self.reader.block_start();
            self.contents.text.count_unseen(length);
        }
        self.contents.text.sample()
    }

    /// What has been read so far.
    pub fn observed(&self) -> &ObservedAnswer {
        &self.contents.observed
    }
}

/// The first byte that is neither blank nor of a byte order mark.
pub fn first_byte(chunk: &[u8]) -> Option<u8> {
    let is_passed = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, 0xEF | 0xBB | 0xBF);
    chunk.iter().copied().find(|byte| !is_passed(*byte))
}

impl HeldEvent {
    /// Forgets the event that has ended, and gives what was held of it.
    fn next_event(&mut self, was_withheld: bool) -> Vec<u8> {
        self.was_withheld = was_withheld;
        self.is_released = false;
        std::mem::take(&mut self.bytes)
    }

    /// Takes more of an unfinished event; whether it has to wait for its end.
    fn keeps(&mut self, part: &[u8], event: &PartialEvent) -> bool {
        if event.may_become_usage_event() && self.bytes.len() + part.len() <= MAX_HELD_BYTES {
            self.bytes.extend_from_slice(part);
            return true;
        }
        self.is_released = true;
        false
    }
}

/// What goes to the caller: a part of the chunk as it is, or a copy where parts were withheld or held.
enum Output {
    Nothing,
    Part(Bytes),
    Copy(BytesMut),
}

impl Output {
    fn add_part(&mut self, chunk: &Bytes, range: Range<usize>) {
        if let Some(part) = chunk.get(range) {
            self.add(chunk.slice_ref(part));
        }
    }

    fn add(&mut self, part: Bytes) {
        if part.is_empty() {
            return;
        }
        *self = match std::mem::replace(self, Self::Nothing) {
            Self::Nothing => Self::Part(part),
            Self::Part(first) => {
                let mut copy = BytesMut::with_capacity(first.len() + part.len());
                copy.extend_from_slice(&first);
                copy.extend_from_slice(&part);
                Self::Copy(copy)
            }
            Self::Copy(mut copy) => {
                copy.extend_from_slice(&part);
                Self::Copy(copy)
            }
        };
    }

    fn finish(self) -> Option<Bytes> {
        match self {
            Self::Nothing => None,
            Self::Part(part) => Some(part),
            Self::Copy(copy) => Some(copy.freeze()),
        }
    }
}

#[cfg(test)]
mod tests;
