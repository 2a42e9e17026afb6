//! Edits a binary event stream. A message whose payload changes gets other lengths and checksums; its
//! headers stay.

use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::MAX_EVENT;
use crate::json::tokenizer::{Token, Tokenizer};
use crate::llm::answer::BinaryEvents;
use crate::llm::event_stream::{EventStreamReader, Part, event_message, with_payload};
use crate::policy::guard::redact::ScanError;
use crate::policy::guard::restore::stream::{ExtraEvent, StreamRestorer};

/// The name of a message with a wrapped event.
const CHUNK: &str = "chunk";

pub(super) struct BinaryRestorer {
    form: BinaryEvents,
    reader: EventStreamReader,
    /// The message that is being read, and its payload.
    message: Vec<u8>,
    payload: Vec<u8>,
    /// Nothing is edited any more: a message is too long, or the stream is damaged.
    is_off: bool,
    pub(super) events: StreamRestorer,
}

impl BinaryRestorer {
    pub(super) fn new(form: BinaryEvents, events: StreamRestorer) -> Self {
        let (message, payload) = (Vec::new(), Vec::new());
        Self { form, reader: EventStreamReader::default(), message, payload, is_off: false, events }
    }

    /// The bytes that are kept.
    pub(super) fn kept(&self) -> usize {
        self.message.len() + self.payload.len() + self.events.kept()
    }

    pub(super) fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut down = Vec::with_capacity(chunk.len());
        let (mut at, mut done) = (0, 0);
        while !self.is_off {
            let name = match self.reader.next(chunk, &mut at) {
                Ok(None) => break,
                Ok(Some(Part::Payload(bytes))) => {
                    self.payload.extend_from_slice(bytes);
                    if self.payload.len() > MAX_EVENT {
                        self.turn_off(ScanError::TooLong);
                    }
                    continue;
                }
                Ok(Some(Part::End(headers))) => headers.name().to_owned(),
                Err(_) => {
                    self.turn_off(ScanError::Unreadable);
                    continue;
                }
            };
            self.message.extend_from_slice(chunk.get(done..at).unwrap_or_default());
            done = at;
            let (message, payload) =
                (std::mem::take(&mut self.message), std::mem::take(&mut self.payload));
            let new = self.edited(&name, &payload, &mut down);
            let new = new.and_then(|payload| with_payload(&message, &payload));
            down.extend_from_slice(new.as_deref().unwrap_or(&message));
        }
        self.message.extend_from_slice(chunk.get(done..).unwrap_or_default());
        if self.is_off {
            down.append(&mut self.message);
        }
        down
    }

    /// What is held back of blocks, and a message without an end as it came, which no client reads.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut down = Vec::new();
        let held = self.events.finish();
        self.write_extra(held, &mut down);
        if self.events.edits().scan().is_none() {
            down.append(&mut self.message);
        }
        down
    }

    /// The payload that a message gets; `None` for its own. Writes what has to go before it.
    fn edited(&mut self, name: &str, payload: &[u8], down: &mut Vec<u8>) -> Option<Vec<u8>> {
        let is_wrapped = self.form == BinaryEvents::Wrapped && name == CHUNK;
        let wrapped = if is_wrapped { wrapped_event(payload) } else { None };
        let Some((place, event)) = wrapped else {
            if is_wrapped {
                self.fail(ScanError::Unreadable);
            }
            // An exception, or a message that is no wrapped event.
            let restored = self.events.event(name, payload);
            self.write_extra(restored.before, down);
            return restored.data;
        };
        let restored = self.events.event("", &event);
        self.write_extra(restored.before, down);
        let bytes = BASE64_STANDARD.encode(restored.data?);
        let before = payload.get(..place.start)?;
        let after = payload.get(place.end..)?;
        Some([before, bytes.as_bytes(), after].concat())
    }

    fn write_extra(&self, events: Vec<ExtraEvent>, down: &mut Vec<u8>) {
        for ExtraEvent { name, data } in events {
            let message = match self.form {
                BinaryEvents::Plain => event_message(&name, &data),
                BinaryEvents::Wrapped => {
                    let bytes = BASE64_STANDARD.encode(data);
                    event_message(CHUNK, format!("{{\"bytes\":\"{bytes}\"}}").as_bytes())
                }
            };
            down.extend_from_slice(&message);
        }
    }

    fn turn_off(&mut self, error: ScanError) {
        self.is_off = true;
        self.payload = Vec::new();
        self.fail(error);
    }

    fn fail(&mut self, error: ScanError) {
        if let Some(scan) = self.events.edits_mut().scan_mut() {
            scan.fail(error);
        }
    }
}

/// The event in the payload of a message, and the place of its base64.
fn wrapped_event(payload: &[u8]) -> Option<(Range<usize>, Vec<u8>)> {
    let mut tokens = Tokenizer::new(payload);
    let mut found = None;
    tokens.next().ok().filter(|first| *first == Token::BeginObject)?;
    while let Token::Key(key) = tokens.next().ok()? {
        match tokens.next().ok()? {
            Token::String(bytes) if key.raw() == b"bytes" => {
                let start = tokens.token_start() + 1;
                let event = BASE64_STANDARD.decode(bytes.text()?.as_bytes()).ok()?;
                found = Some((start..start + bytes.raw().len(), event));
            }
            value => tokens.skip(value).ok()?,
        }
    }
    found
}
