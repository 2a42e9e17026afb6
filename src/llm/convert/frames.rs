//! Takes an upstream's stream apart into frames: server-sent events, or the messages of a binary stream.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::fields::parse_object;
use crate::llm::answer::BinaryEvents;
use crate::llm::event_stream::{EventStreamReader, Part};
use crate::llm::sse::{Block, BlockKind, SseReader};

/// The longest frame, in bytes. The longest are the last events of the Responses API, which repeat the
/// whole answer.
const MAX_FRAME: usize = 8 * 1024 * 1024;

/// What a frame says.
pub(super) enum Frame<'f> {
    /// An event, with its name if it has one.
    Event(Option<&'f str>, &'f str),
    /// The upstream breaks off, with the name of the exception.
    Exception(&'f str, &'f str),
    /// What cannot be read.
    Damaged(&'static str),
}

/// Reads frames, whatever the chunk boundaries.
pub(super) enum FrameReader {
    Text(SseReader),
    Binary {
        events: BinaryEvents,
        messages: EventStreamReader,
        /// That of the current message so far.
        payload: Vec<u8>,
        is_damaged: bool,
    },
}

impl FrameReader {
    pub(super) fn new(binary: Option<BinaryEvents>) -> Self {
        match binary {
            None => Self::Text(SseReader::new(MAX_FRAME)),
            Some(events) => Self::Binary {
                events,
                messages: EventStreamReader::default(),
                payload: Vec::new(),
                is_damaged: false,
            },
        }
    }

    /// Reads a chunk and gives each frame that ends in it.
    pub(super) fn read(&mut self, chunk: &[u8], mut each: impl FnMut(Frame<'_>)) {
        match self {
            Self::Text(reader) => {
                let mut at = 0;
                while let Some(block) = reader.next(chunk, &mut at) {
                    text_frame(&block, &mut each);
                }
            }
            Self::Binary { is_damaged: true, .. } => {}
            Self::Binary { events, messages, payload, is_damaged } => {
                let mut at = 0;
                loop {
                    match messages.next(chunk, &mut at) {
                        Ok(Some(Part::Payload(bytes)))
                            if payload.len() + bytes.len() <= MAX_FRAME =>
                        {
                            payload.extend_from_slice(bytes);
                        }
                        Ok(Some(Part::End(headers))) => {
                            let kind = headers.message_type.as_str();
                            binary_frame(*events, kind, headers.name(), payload, &mut each);
                            payload.clear();
                        }
                        Ok(None) => break,
                        Ok(Some(Part::Payload(_))) | Err(_) => {
                            *is_damaged = true;
                            each(Frame::Damaged("a message of the stream is damaged or too long"));
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Gives a last event that has no blank line after it.
    pub(super) fn finish(&mut self, mut each: impl FnMut(Frame<'_>)) {
        if let Self::Text(reader) = self
            && let Some(block) = reader.finish()
        {
            text_frame(&block, &mut each);
        }
    }

    /// The bytes that are kept until their frame is complete.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Text(reader) => {
                let (data, line) = reader.kept();
                data.len() + line.len()
            }
            Self::Binary { payload, .. } => payload.len(),
        }
    }
}

fn text_frame(block: &Block<'_>, each: &mut impl FnMut(Frame<'_>)) {
    match (block.kind, block.data) {
        (BlockKind::Event, Some(data)) => match std::str::from_utf8(data) {
            Ok(data) => each(Frame::Event((!block.event.is_empty()).then_some(block.event), data)),
            Err(_) => each(Frame::Damaged("an event of the stream is not UTF-8")),
        },
        (BlockKind::TooLong, _) => each(Frame::Damaged("an event of the stream is too long")),
        _ => {}
    }
}

fn binary_frame(
    events: BinaryEvents,
    kind: &str,
    name: &str,
    payload: &[u8],
    each: &mut impl FnMut(Frame<'_>),
) {
    let text = |bytes| String::from_utf8(bytes);
    if kind != "event" {
        return each(Frame::Exception(name, &String::from_utf8_lossy(payload)));
    }
    let unwrapped = match events {
        BinaryEvents::Plain => Ok(Cow::Borrowed(payload)),
        BinaryEvents::Wrapped if name == "chunk" => unwrap(payload).map(Cow::Owned).ok_or(()),
        BinaryEvents::Wrapped => return,
    };
    let name = (events == BinaryEvents::Plain).then_some(name);
    match unwrapped.and_then(|bytes| text(bytes.into_owned()).map_err(drop)) {
        Ok(data) => each(Frame::Event(name, &data)),
        Err(()) => each(Frame::Damaged("a message of the stream can't be read")),
    }
}

/// The event in the payload of a message of Bedrock's `InvokeModelWithResponseStream`:
/// `{"bytes": "<base64>"}`.
fn unwrap(payload: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(payload).ok()?;
    let bytes = parse_object(text)?.find_text("bytes")?;
    BASE64_STANDARD.decode(bytes.as_bytes()).ok()
}
