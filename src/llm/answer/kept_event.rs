//! Keeps an event until its end, or, if it is too long for that, reads it as it passes.

use super::event::LongEvent;
use super::partial_event::for_reading;
use super::stream_contents::StreamContents;
use crate::json::scanner::TopLevelScanner;
use crate::llm::sse::{MAX_EVENT_BYTES, MAX_IDLE_CAPACITY};

/// What a wrapped event that is too long to be kept is taken for.
const LONG_PART: &str = "content_block_delta";

/// The JSON of an event that comes in parts.
#[derive(Debug, Default)]
pub(super) struct KeptEvent {
    kept: Vec<u8>,
    /// Reads the event in place of `kept` if that is too long.
    long: Option<Box<TopLevelScanner>>,
    /// Bytes that have passed.
    length: u64,
}

impl KeptEvent {
    /// Whether nothing has come.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes the next part.
    pub(super) fn take(&mut self, bytes: &[u8], contents: &StreamContents) {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.long.is_none() && self.kept.len() + bytes.len() <= MAX_EVENT_BYTES {
            self.kept.extend_from_slice(bytes);
            return;
        }
        let kept = std::mem::take(&mut self.kept);
        let long = self.long.get_or_insert_with(|| {
            let mut scanner = TopLevelScanner::new(for_reading(contents.format()));
            scanner.feed(&kept);
            Box::new(scanner)
        });
        long.feed(bytes);
    }

    /// Hands the event over under this name, and forgets it.
    pub(super) fn end(&mut self, name: &str, contents: &mut StreamContents) {
        match self.long.take() {
            Some(members) => {
                contents.read_long_event(LongEvent { name, members: &members, length: self.length })
            }
            None => contents.read_event(name, &self.kept),
        };
        self.forget();
    }

    /// The same for an event inside of another. One that is too long to be kept counts with its length.
    pub(super) fn end_unwrapped(
        &mut self,
        unwrap: impl FnOnce(&[u8]) -> Vec<u8>,
        contents: &mut StreamContents,
    ) {
        if self.long.is_some() {
            self.end(LONG_PART, contents);
        } else {
            contents.read_event("", &unwrap(&self.kept));
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.length = 0;
        self.kept.clear();
        self.kept.shrink_to(MAX_IDLE_CAPACITY);
    }
}
