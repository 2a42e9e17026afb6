//! Edits a stream of server-sent events. What stays the same reaches the caller as it came. Where the answer is
//! scanned, comments lose their text, and events have no other fields than their name and data: nothing
//! else of a stream is scanned.

use std::ops::Range;

use super::MAX_EVENT;
use crate::llm::sse::{Block, BlockKind, SseReader};
use crate::policy::guard::redact::ScanError;
use crate::policy::guard::restore::stream::{ExtraEvent, StreamRestorer};

pub(super) struct EventRestorer {
    reader: SseReader,
    /// The bytes of the block that is being read, from this offset in the stream on.
    kept: Vec<u8>,
    kept_from: u64,
    pub(super) events: StreamRestorer,
}

impl EventRestorer {
    pub(super) fn new(events: StreamRestorer) -> Self {
        Self { reader: SseReader::new(MAX_EVENT), kept: Vec::new(), kept_from: 0, events }
    }

    /// The bytes that are kept.
    pub(super) fn kept(&self) -> usize {
        self.kept.len() + self.events.kept()
    }

    pub(super) fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut down = Vec::with_capacity(chunk.len());
        self.kept.extend_from_slice(chunk);
        let (mut at, mut done) = (0, 0);
        while let Some(block) = self.reader.next(chunk, &mut at) {
            let place = |offset: u64| {
                usize::try_from(offset.saturating_sub(self.kept_from)).unwrap_or(usize::MAX)
            };
            let raw: Range<usize> = place(block.range.start)..place(block.range.end);
            done = raw.end;
            let raw = self.kept.get(raw).unwrap_or_default();
            write_block(&mut self.events, &block, raw, &mut down);
        }
        if self.reader.outgrows(0) {
            // Its data will not be given out, so its bytes need not be kept.
            down.extend_from_slice(self.kept.get(done..).unwrap_or_default());
            done = self.kept.len();
            if let Some(scan) = self.events.edits_mut().scan_mut() {
                scan.fail(ScanError::TooLong);
            }
        }
        self.kept.drain(..done.min(self.kept.len()));
        self.kept_from += done as u64;
        down
    }

    /// What is held back of blocks, and an event without an end: as it came, or scanned. A comment without
    /// one is not scanned, and of no use.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut down = Vec::new();
        let kept = std::mem::take(&mut self.kept);
        let is_scanned = self.events.edits().scan().is_some();
        if is_scanned && let Some(block) = self.reader.finish() {
            write_block(&mut self.events, &block, &kept, &mut down);
        }
        write_extra(self.events.finish(), &mut down);
        if !is_scanned {
            down.extend_from_slice(&kept);
        }
        down
    }
}

/// Writes a block, whose bytes are `raw`, as it goes to the caller.
fn write_block(events: &mut StreamRestorer, block: &Block<'_>, raw: &[u8], down: &mut Vec<u8>) {
    let is_scanned = events.edits().scan().is_some();
    match block.kind {
        BlockKind::Event if is_scanned => return write_scanned(events, block, raw, down),
        BlockKind::TooLong => {
            // It may have grown too long with the chunk that ends it.
            if let Some(scan) = events.edits_mut().scan_mut() {
                scan.fail(ScanError::TooLong);
            }
        }
        _ => {}
    }
    let restored = match block.data {
        Some(data) if block.kind == BlockKind::Event => events.event(block.event, data),
        _ => Default::default(),
    };
    write_extra(restored.before, down);
    match restored.data {
        Some(data) => write_event(block.event, &data, down),
        None if is_scanned && block.kind == BlockKind::Filler => write_silent(raw, down),
        None => down.extend_from_slice(raw),
    }
}

/// Writes an event of a scanned stream.
fn write_scanned(events: &mut StreamRestorer, block: &Block<'_>, raw: &[u8], down: &mut Vec<u8>) {
    let name = events.name(block.event);
    let restored = block.data.map(|data| events.event(block.event, data)).unwrap_or_default();
    write_extra(restored.before, down);
    if restored.data.is_none() && name.is_none() && is_bare(raw, block.event) {
        return down.extend_from_slice(raw);
    }
    let name = name.as_deref().unwrap_or(block.event);
    match restored.data.as_deref().or(block.data) {
        Some(data) => write_event(name, data, down),
        None if name.is_empty() => down.extend_from_slice(b":\n\n"),
        None => down.extend_from_slice(format!("event: {name}\n\n").as_bytes()),
    }
}

/// Whether an event has nothing but its name and data.
fn is_bare(raw: &[u8], name: &str) -> bool {
    let lines = raw.split(|byte| matches!(byte, b'\r' | b'\n'));
    lines.filter(|line| !line.is_empty()).all(|line| {
        let value = line.strip_prefix(b"event:");
        let value = value.map(|value| value.strip_prefix(b" ").unwrap_or(value));
        line.starts_with(b"data:") || line == b"data" || value == Some(name.as_bytes())
    })
}

/// Writes what stands between events: blank lines, and comments without their text.
fn write_silent(raw: &[u8], down: &mut Vec<u8>) {
    let is_end = |byte: &&u8| matches!(byte, b'\r' | b'\n');
    let end = raw.len() - raw.iter().rev().take_while(is_end).count();
    if end > 0 {
        down.push(b':');
    }
    down.extend_from_slice(raw.get(end..).unwrap_or_default());
}

fn write_extra(events: Vec<ExtraEvent>, down: &mut Vec<u8>) {
    for ExtraEvent { name, data } in events {
        write_event(&name, &data, down);
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

#[cfg(test)]
mod tests;
