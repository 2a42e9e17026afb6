//! Edits a stream that is one JSON array, an element for each event.

use super::MAX_EVENT;
use crate::json::array::{ArrayElements, Position};
use crate::policy::guard::redact::ScanError;
use crate::policy::guard::restore::stream::StreamRestorer;

pub(super) struct ArrayRestorer {
    elements: ArrayElements,
    /// What stands between elements and was not sent yet.
    between: Vec<u8>,
    /// The element that is being read.
    element: Vec<u8>,
    /// The element is too long to be kept, so it goes down as it comes.
    is_passing: bool,
    has_sent: bool,
    pub(super) events: StreamRestorer,
}

impl ArrayRestorer {
    pub(super) fn new(events: StreamRestorer) -> Self {
        Self {
            elements: ArrayElements::default(),
            between: Vec::new(),
            element: Vec::new(),
            is_passing: false,
            has_sent: false,
            events,
        }
    }

    /// The bytes that are kept.
    pub(super) fn kept(&self) -> usize {
        self.between.len() + self.element.len() + self.events.kept()
    }

    /// What has to stand before another element, for the caller.
    pub(super) fn before_element(&self) -> &'static str {
        if self.has_sent { ",\n" } else { "[" }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut down = Vec::with_capacity(chunk.len());
        let (mut at, mut done) = (0, 0);
        let was_over = self.elements.position() == Position::End;
        while let Some(part) = self.elements.next(chunk, &mut at) {
            let start = at - part.bytes.len();
            self.between.extend_from_slice(chunk.get(done..start).unwrap_or_default());
            done = at;
            if !self.is_passing && self.element.len() + part.bytes.len() > MAX_EVENT {
                self.is_passing = true;
                self.fail(ScanError::TooLong);
                let element = std::mem::take(&mut self.element);
                self.send(&element, &mut down);
            }
            if self.is_passing {
                self.send(part.bytes, &mut down);
            } else {
                self.element.extend_from_slice(part.bytes);
            }
            if part.is_last {
                let element = std::mem::take(&mut self.element);
                if !std::mem::take(&mut self.is_passing) {
                    self.send_element(&element, &mut down);
                }
            }
        }
        let rest = chunk.get(done..).unwrap_or_default();
        match self.elements.position() {
            Position::End => {
                let behind = if was_over { Some(rest) } else { after_bracket(rest) };
                if behind.is_some_and(|behind| !behind.trim_ascii().is_empty()) {
                    self.fail(ScanError::Unreadable);
                }
                // What is held back comes before the end of the array.
                self.send_held(&mut down);
                self.between.extend_from_slice(rest);
                down.append(&mut self.between);
            }
            Position::Other => {
                self.fail(ScanError::Unreadable);
                down.append(&mut self.between);
                down.extend_from_slice(rest);
            }
            _ => self.between.extend_from_slice(rest),
        }
        down
    }

    /// What is held back, and what came of an element that has no end.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut down = Vec::new();
        self.send_held(&mut down);
        down.append(&mut self.between);
        if self.events.edits().scan().is_none() {
            down.append(&mut self.element);
        }
        down
    }

    fn send_element(&mut self, element: &[u8], down: &mut Vec<u8>) {
        let restored = self.events.event("", element);
        for extra in restored.before {
            self.send(&extra.data, down);
            self.between.extend_from_slice(b",\n");
        }
        self.send(restored.data.as_deref().unwrap_or(element), down);
    }

    /// Elements with what is held back, behind the last one.
    fn send_held(&mut self, down: &mut Vec<u8>) {
        for extra in self.events.finish() {
            down.extend_from_slice(b",\n");
            down.extend_from_slice(&extra.data);
        }
    }

    fn send(&mut self, bytes: &[u8], down: &mut Vec<u8>) {
        down.append(&mut self.between);
        down.extend_from_slice(bytes);
        self.has_sent = true;
    }

    fn fail(&mut self, error: ScanError) {
        if let Some(scan) = self.events.edits_mut().scan_mut() {
            scan.fail(error);
        }
    }
}

/// What stands behind the bracket that ends the array.
fn after_bracket(text: &[u8]) -> Option<&[u8]> {
    memchr::memchr(b']', text).and_then(|place| text.get(place + 1..))
}
