//! Reads a stream that is one JSON array, an element for each event, in memory proportional to the limit
//! for events.

use super::kept_event::KeptEvent;
use super::stream_contents::StreamContents;
use crate::json::array::{ArrayElements, Position};
use crate::llm::sse::MAX_EVENT_BYTES;

#[derive(Debug, Default)]
pub(super) struct ArrayReader {
    elements: ArrayElements,
    /// The current element, if it began in an earlier chunk.
    event: KeptEvent,
}

impl ArrayReader {
    pub(super) fn push(&mut self, chunk: &[u8], contents: &mut StreamContents) {
        let mut at = 0;
        while let Some(part) = self.elements.next(chunk, &mut at) {
            let is_whole = part.is_last && self.event.is_empty();
            if is_whole && part.bytes.len() <= MAX_EVENT_BYTES {
                contents.read_event("", part.bytes);
                continue;
            }
            self.event.take(part.bytes, contents);
            if part.is_last {
                self.event.end("", contents);
            }
        }
    }

    /// What has to come before another element for the array to be valid; `None` where none can follow.
    pub(super) fn before_element(&self) -> Option<&'static str> {
        match self.elements.position() {
            Position::Start => Some("["),
            Position::First | Position::AfterComma => Some(""),
            Position::AfterElement => Some(",\n"),
            Position::Element | Position::End | Position::Other => None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.elements.position() == Position::End
    }
}
