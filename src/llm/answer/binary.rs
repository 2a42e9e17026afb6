//! Reads a binary event stream, in memory proportional to the limit for events.

use super::kept_event::KeptEvent;
use super::stream::StreamContents;
use crate::llm::event_stream::{EventStreamReader, Part};

#[derive(Debug, Default)]
pub(super) struct BinaryReader {
    messages: EventStreamReader,
    /// The payload of the current message.
    event: KeptEvent,
}

impl BinaryReader {
    /// Reads the next chunk. Nothing is read any more after damage, so that the stream never ends well.
    pub(super) fn push(&mut self, chunk: &[u8], contents: &mut StreamContents) {
        let mut at = 0;
        while let Ok(Some(part)) = self.messages.next(chunk, &mut at) {
            match part {
                Part::Payload(bytes) => self.event.take(bytes, contents),
                Part::End(headers) => self.event.end(headers.name(), contents),
            }
        }
    }

    /// Whether the next byte begins a message.
    pub(super) fn at_message_boundary(&self) -> bool {
        self.messages.at_message_boundary()
    }
}
