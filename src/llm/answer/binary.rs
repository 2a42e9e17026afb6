//! Reads a binary event stream, in memory proportional to the limit for events.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::kept_event::KeptEvent;
use super::stream_contents::StreamContents;
use crate::llm::answer::members::parse_object;
use crate::llm::event_stream::{EventStreamReader, Part};

/// How the events of a binary stream are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryEvents {
    /// As JSON, one a message.
    Plain,
    /// As JSON in base64, inside of another, as Bedrock wraps the streams of its models.
    Wrapped,
}

/// The payload of a message with a wrapped event.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wrapper<'a> {
    #[serde(borrow)]
    bytes: Cow<'a, str>,
}

#[derive(Debug)]
pub(super) struct BinaryReader {
    events: BinaryEvents,
    messages: EventStreamReader,
    /// The payload of the current message.
    event: KeptEvent,
}

impl BinaryReader {
    pub(super) fn new(events: BinaryEvents) -> Self {
        Self { events, messages: EventStreamReader::default(), event: KeptEvent::default() }
    }

    pub(super) fn events(&self) -> BinaryEvents {
        self.events
    }

    /// Reads the next chunk. Nothing is read any more after damage, so that the stream never ends well.
    pub(super) fn push(&mut self, chunk: &[u8], contents: &mut StreamContents) {
        let mut at = 0;
        while let Ok(Some(part)) = self.messages.next(chunk, &mut at) {
            match part {
                Part::Payload(bytes) => self.event.take(bytes, contents),
                Part::End(headers) if self.events == BinaryEvents::Plain => {
                    self.event.end(headers.name(), contents);
                }
                Part::End(headers) if headers.name() == "chunk" => {
                    self.event.end_unwrapped(unwrap, contents);
                }
                Part::End(_) => self.event.end("error", contents),
            }
        }
    }

    /// Whether the next byte begins a message.
    pub(super) fn at_message_boundary(&self) -> bool {
        self.messages.at_message_boundary()
    }
}

/// The event in the payload of a message; nothing if there is none.
fn unwrap(payload: &[u8]) -> Vec<u8> {
    let bytes = parse_object::<Wrapper<'_>>(payload).unwrap_or_default().bytes;
    BASE64_STANDARD.decode(bytes.as_bytes()).unwrap_or_default()
}
