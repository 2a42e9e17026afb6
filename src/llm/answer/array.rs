//! Reads a stream that is one JSON array, an element for each event, in memory proportional to the limit
//! for events.

use super::partial_event::for_reading;
use super::stream::StreamContents;
use crate::json::array::{ArrayElements, Position};
use crate::json::scanner::TopLevelScanner;
use crate::llm::sse::{MAX_EVENT_BYTES, MAX_IDLE_CAPACITY};

#[derive(Debug, Default)]
pub(super) struct ArrayReader {
    elements: ArrayElements,
    /// The current element, if it began in an earlier chunk.
    kept: Vec<u8>,
    /// Reads the current element in place of `kept` if that is too long.
    long: Option<Box<TopLevelScanner>>,
    /// Bytes of the current element that have passed.
    length: u64,
}

impl ArrayReader {
    /// Reads the next chunk.
    pub(super) fn push(&mut self, chunk: &[u8], contents: &mut StreamContents) {
        let mut at = 0;
        while let Some(part) = self.elements.next(chunk, &mut at) {
            let is_whole = part.is_last && self.length == 0;
            if is_whole && part.bytes.len() <= MAX_EVENT_BYTES {
                contents.read_element(part.bytes);
                continue;
            }
            self.take(part.bytes, contents);
            if part.is_last {
                self.end_element(contents);
            }
        }
    }

    /// What has to stand before another element for the array to be valid; `None` where none can stand.
    pub(super) fn before_element(&self) -> Option<&'static str> {
        match self.elements.position() {
            Position::Start => Some("["),
            Position::First | Position::AfterComma => Some(""),
            Position::AfterElement => Some(",\n"),
            Position::Element | Position::End | Position::Other => None,
        }
    }

    /// Whether the array is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.elements.position() == Position::End
    }

    fn take(&mut self, bytes: &[u8], contents: &StreamContents) {
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

    fn end_element(&mut self, contents: &mut StreamContents) {
        match self.long.take() {
            Some(members) => contents.read_long_element(&members, self.length),
            None => contents.read_element(&self.kept),
        }
        self.length = 0;
        self.kept.clear();
        self.kept.shrink_to(MAX_IDLE_CAPACITY);
    }
}
