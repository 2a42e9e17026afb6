//! Streamed answers: server-sent events, passed on as they come.

use std::ops::Range;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use super::Observed;
use super::passing::{MOST_HELD, PassingEvent};
use super::text::{relayed_by_chat, relayed_by_responses};
use crate::llm::error::GatewayError;
use crate::llm::sample::Sample;
use crate::llm::spread::Spread;
use crate::llm::sse::{Block, BlockKind, SseReader};
use crate::llm::usage::{Answer, Report, model_name};

/// The model stands in a stream's first event; if not in the first few, then in none.
const EVENTS_FOR_MODEL: u64 = 4;

/// Which API's events pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// `chat.completion.chunk` objects, then `[DONE]`.
    Chat,
    /// Named events, then `response.completed` or one of its likes.
    Responses,
}

/// How the upstream's body ended.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// As HTTP says a body ends.
    Complete,
    /// Cut short, or given up on, because of this.
    Died(GatewayError<'a>),
}

/// What is left to do when the upstream's body has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// To be sent, and flushed, first.
    pub last: Option<Bytes>,
    /// Then the caller's body has to be aborted, since its stream is not whole.
    pub abort: bool,
}

/// Stands between an upstream's stream and the caller. Every chunk pushed in comes out at once and
/// as it was, but for the usage event when that is to be withheld.
#[derive(Debug)]
pub struct StreamWatch {
    kind: StreamKind,
    reader: SseReader,
    hold: Option<Hold>,
    /// The current event, while it may have to be withheld or has become too long to be kept.
    passing: Option<Box<PassingEvent>>,
    notes: Notes,
}

#[derive(Debug, Default)]
struct Notes {
    observed: Observed,
    events: u64,
    terminal: bool,
    /// What has been relayed since the last report of usage.
    relayed: Spread,
}

/// What is held back of the current event, and why.
#[derive(Debug, Default)]
struct Hold {
    bytes: Vec<u8>,
    /// Some of the current event has been sent, so the rest has to be.
    released: bool,
    /// The event before was withheld.
    withheld: bool,
}

impl StreamWatch {
    /// At the beginning of a stream. `withhold_usage` is for chat streams whose usage the gateway
    /// asked for and the caller did not.
    pub fn new(kind: StreamKind, withhold_usage: bool) -> Self {
        let withhold = withhold_usage && kind == StreamKind::Chat;
        Self {
            kind,
            reader: SseReader::default(),
            hold: withhold.then(Hold::default),
            passing: None,
            notes: Notes::default(),
        }
    }

    /// Takes the upstream's next chunk and gives what goes to the caller now, if anything does. All
    /// that the chunk says is known when this returns, so before the caller gets any of it.
    pub fn push(&mut self, chunk: Bytes) -> Option<Bytes> {
        let Self { kind, reader, hold, passing, notes } = self;
        let base = reader.offset();
        let in_chunk = |position: u64| usize::try_from(position.saturating_sub(base)).unwrap_or(0);
        if !reader.at_event_boundary()
            && reader.outgrows(chunk.len())
            && !passing.as_ref().is_some_and(|event| event.reads_all())
        {
            let (data, line) = reader.kept();
            *passing = Some(Box::new(PassingEvent::to_read_on(data, line)));
        }
        let mut at = 0;
        let mut out = Out::Nothing;
        // From here on the chunk has neither been passed on nor withheld.
        let mut open = 0;
        while let Some(block) = reader.next(&chunk, &mut at) {
            let start = in_chunk(block.range.start);
            if block.kind == BlockKind::TooLong {
                let end = chunk.get(start..at).unwrap_or_default();
                passing.get_or_insert_with(|| Box::new(PassingEvent::to_read())).feed(end);
            }
            let is_usage = notes.take(*kind, &block, passing.take().as_deref());
            let Some(hold) = hold else {
                continue;
            };
            let withheld = match block.kind {
                BlockKind::LineFeed => hold.withheld,
                _ => is_usage && !hold.released,
            };
            let held = hold.next_event(withheld);
            if withheld {
                out.add_part(&chunk, open..start);
                open = at;
            } else {
                out.add(held.into());
            }
        }
        let start = in_chunk(reader.block_start());
        if let Some(part) = chunk.get(start..).filter(|part| !part.is_empty()) {
            let held = hold.as_mut().filter(|hold| !hold.released);
            if passing.is_none() && reader.outgrows(0) {
                *passing = Some(Box::new(PassingEvent::to_read()));
            } else if passing.is_none() && held.is_some() {
                *passing = Some(Box::new(PassingEvent::to_glance_at()));
            }
            if let Some(event) = passing.as_mut() {
                event.feed(part);
            }
            if let (Some(hold), Some(event)) = (held, passing.as_deref()) {
                if hold.keeps(part, event) {
                    out.add_part(&chunk, open..start);
                    open = chunk.len();
                } else {
                    out.add(std::mem::take(&mut hold.bytes).into());
                    // Should it become too long, it is read on from what the reader has kept.
                    passing.take_if(|event| !event.reads_all());
                }
            }
        }
        out.add_part(&chunk, open..chunk.len());
        out.finish()
    }

    /// Ends the stream: releases what was held back, or tells the caller what happened.
    ///
    /// After the stream's own end mark a death of the connection is no loss. Inside an event nothing
    /// can be told, since it would become part of that event.
    pub fn finish(&mut self, end: End<'_>) -> Finish {
        let caller_at_boundary = self.at_event_boundary();
        let held = self.hold.as_mut().map(|hold| hold.next_event(false)).unwrap_or_default();
        let is_usage = match self.reader.finish() {
            Some(block) => {
                let passing = self.passing.take();
                self.notes.take(self.kind, &block, passing.as_deref()) && !held.is_empty()
            }
            None => false,
        };
        let held = Some(Bytes::from(held)).filter(|held| !held.is_empty() && !is_usage);
        match end {
            End::Complete => Finish { last: held, abort: false },
            End::Died(_) if self.notes.terminal => Finish { last: held, abort: false },
            End::Died(error) if caller_at_boundary => {
                Finish { last: Some(self.error_event(&error)), abort: true }
            }
            End::Died(_) => Finish { last: None, abort: true },
        }
    }

    /// The event that tells the caller of an error, in the API's own shape.
    pub fn error_event(&self, error: &GatewayError<'_>) -> Bytes {
        match self.kind {
            StreamKind::Chat => error.chat_event().into(),
            // Its events are numbered from 0.
            StreamKind::Responses => error.responses_event(self.notes.events).into(),
        }
    }

    /// Whether what the caller has got so far ends between two events.
    pub fn at_event_boundary(&self) -> bool {
        let held = self.hold.as_ref().is_some_and(|hold| !hold.bytes.is_empty());
        held || self.reader.at_event_boundary()
    }

    /// Whether the stream's own end mark has passed.
    pub fn terminal_seen(&self) -> bool {
        self.notes.terminal
    }

    /// What has been relayed since the last report of usage, for an estimate where the stream was cut
    /// short or reported nothing; empty when the report was the last that was to be said. It is
    /// handed over, so asking again gives only what came since.
    pub fn relayed(&mut self) -> Sample {
        if self.kind == StreamKind::Chat && self.reader.outgrows(0) {
            // An event that is not over, and of which nothing has been collected.
            self.notes.relayed.pass_over(self.reader.offset() - self.reader.block_start());
        }
        self.notes.relayed.strings()
    }

    /// What has been seen so far.
    pub fn observed(&self) -> &Observed {
        &self.notes.observed
    }
}

impl Notes {
    /// Looks at a block; says whether it is the event that a request for usage adds to a chat stream.
    fn take(
        &mut self,
        kind: StreamKind,
        block: &Block<'_>,
        passing: Option<&PassingEvent>,
    ) -> bool {
        if matches!(block.kind, BlockKind::Filler | BlockKind::LineFeed) {
            return false;
        }
        self.events += 1;
        self.terminal |= kind == StreamKind::Responses && is_terminal(block.event);
        if let (BlockKind::TooLong, Some(event)) = (block.kind, passing) {
            return self.take_long(kind, block, event);
        }
        let Some(data) = block.data.map(<[u8]>::trim_ascii) else {
            return false;
        };
        if data == b"[DONE]" {
            self.terminal = true;
            return false;
        }
        let for_model = self.observed.model.is_none() && self.events <= EVENTS_FOR_MODEL;
        let for_kind = kind == StreamKind::Responses && block.event.is_empty();
        // Most events hold none of what is looked for, and are not parsed.
        let answer =
            (for_model || for_kind || mentions_usage(data)).then(|| Answer::parse(data)).flatten();
        let own_name = answer.as_ref().filter(|_| for_kind).and_then(Answer::kind);
        let name = own_name.as_deref().unwrap_or(block.event);
        match kind {
            StreamKind::Chat => relayed_by_chat(data, &mut self.relayed),
            StreamKind::Responses => relayed_by_responses(name, data, &mut self.relayed),
        }
        self.terminal |= for_kind && is_terminal(name);
        let Some(answer) = answer else {
            return false;
        };
        self.observe(answer.usage(), || answer.model());
        if kind == StreamKind::Responses
            && let Some(response) = answer.response()
        {
            self.observe(response.usage(), || response.model());
        }
        kind == StreamKind::Chat && answer.is_usage_event()
    }

    /// Looks at an event that was read as it passed.
    fn take_long(&mut self, kind: StreamKind, block: &Block<'_>, event: &PassingEvent) -> bool {
        let json = event.json();
        let for_kind = kind == StreamKind::Responses && block.event.is_empty();
        let own_name = json.kind.value().filter(|_| for_kind).map(|name| name.trim_matches('"'));
        let name = own_name.unwrap_or(block.event);
        self.terminal |= for_kind && is_terminal(name);
        let is_text = match kind {
            StreamKind::Chat => !event.is_usage(),
            StreamKind::Responses => name.ends_with(".delta"),
        };
        if is_text {
            self.relayed.pass_over(block.range.end - block.range.start);
        }
        let response = json.response().filter(|_| kind == StreamKind::Responses);
        for part in [Some(json), response].into_iter().flatten() {
            let usage = part.usage.value().and_then(Report::from_json);
            self.observe(usage, || part.model.value().and_then(model_name));
        }
        kind == StreamKind::Chat && event.is_usage()
    }

    fn observe(&mut self, reported: Option<Report>, model: impl FnOnce() -> Option<String>) {
        let Observed { usage, model: known_model } = &mut self.observed;
        if let Some(reported) = reported {
            *usage = Some(usage.unwrap_or_default().updated(reported));
            if reported.counts.output.is_some() {
                self.relayed.clear();
            }
        }
        if known_model.is_none() {
            *known_model = model();
        }
    }
}

impl Hold {
    /// Forgets the event that has ended, and gives what was held of it if it goes on.
    fn next_event(&mut self, withheld: bool) -> Vec<u8> {
        self.withheld = withheld;
        self.released = false;
        let held = std::mem::take(&mut self.bytes);
        if withheld { Vec::new() } else { held }
    }

    /// Takes more of an unfinished event; says whether it has to wait for its end.
    fn keeps(&mut self, part: &[u8], event: &PassingEvent) -> bool {
        if event.may_be_usage() && self.bytes.len() + part.len() <= MOST_HELD {
            self.bytes.extend_from_slice(part);
            return true;
        }
        self.released = true;
        false
    }
}

fn is_terminal(event: &str) -> bool {
    matches!(event, "response.completed" | "response.failed" | "response.incomplete")
}

/// Whether the text holds a key `usage` with an object, at whatever level. Streams with usage asked
/// for say `"usage":null` in every other event.
fn mentions_usage(data: &[u8]) -> bool {
    static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
    KEY.find_iter(data).any(|at| {
        let after = data.get(at + 7..).unwrap_or_default().trim_ascii_start();
        let value = after.strip_prefix(b":").unwrap_or_default();
        value.trim_ascii_start().starts_with(b"{")
    })
}

/// What goes on: a part of the chunk as it is, or, where parts were withheld or held before, a copy.
enum Out {
    Nothing,
    Part(Bytes),
    Copy(BytesMut),
}

impl Out {
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
