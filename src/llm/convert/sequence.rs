//! Puts the blocks of an answer one after another, for formats in which only one is open at a time.

use std::collections::VecDeque;

use super::answer::{AnswerEvent, Failure};

/// The most that is held back while another block is open, in bytes of text.
const MAX_HELD: usize = 1024 * 1024;

/// Lets one block pass and holds the others back until it is closed.
#[derive(Debug, Default)]
pub(super) struct Sequencer {
    /// The block that passes, as its reader numbers it.
    current: Option<u32>,
    /// Blocks that were opened meanwhile, in order, each with its events.
    waiting: VecDeque<(u32, Vec<AnswerEvent>)>,
    /// Bytes of text in `waiting`.
    held: usize,
    /// Come after the blocks: of several reasons for the stop the last one.
    stop: Option<AnswerEvent>,
    has_ended: bool,
    has_failed: bool,
}

impl Sequencer {
    /// Takes an event and gives those that may pass now, in order.
    pub(super) fn push(&mut self, event: AnswerEvent, out: &mut Vec<AnswerEvent>) {
        if self.has_failed {
            return;
        }
        let number = match &event {
            AnswerEvent::Open { block, .. }
            | AnswerEvent::Text { block, .. }
            | AnswerEvent::Arguments { block, .. }
            | AnswerEvent::Opaque { block, .. }
            | AnswerEvent::Annotation { block, .. }
            | AnswerEvent::Close { block } => *block,
            AnswerEvent::Stop(_) if self.is_waiting() => {
                self.stop = Some(event);
                return;
            }
            AnswerEvent::End if self.is_waiting() => {
                self.has_ended = true;
                return;
            }
            AnswerEvent::Failed(_) => {
                self.has_failed = true;
                return out.push(event);
            }
            _ => return out.push(event),
        };
        match self.current {
            None => {
                self.current = Some(number);
                self.pass(event, out);
            }
            Some(current) if current == number => self.pass(event, out),
            Some(_) => self.hold(number, event, out),
        }
    }

    fn is_waiting(&self) -> bool {
        self.current.is_some() || !self.waiting.is_empty()
    }

    fn pass(&mut self, event: AnswerEvent, out: &mut Vec<AnswerEvent>) {
        let mut is_closed = matches!(event, AnswerEvent::Close { .. });
        out.push(event);
        while is_closed {
            self.current = None;
            let Some((number, events)) = self.waiting.pop_front() else { break };
            self.current = Some(number);
            self.held = self.held.saturating_sub(events.iter().map(AnswerEvent::length).sum());
            is_closed = matches!(events.last(), Some(AnswerEvent::Close { .. }));
            out.extend(events);
        }
        if !self.is_waiting() {
            out.extend(self.stop.take());
            out.extend(std::mem::take(&mut self.has_ended).then_some(AnswerEvent::End));
        }
    }

    fn hold(&mut self, number: u32, event: AnswerEvent, out: &mut Vec<AnswerEvent>) {
        self.held += event.length();
        if self.held > MAX_HELD {
            self.has_failed = true;
            out.push(AnswerEvent::Failed(Failure::unusable(
                "The provider writes several tool calls at once, and they are too long to be put \
                 in order.",
            )));
            return;
        }
        match self.waiting.iter_mut().find(|(waiting, _)| *waiting == number) {
            Some((_, events)) => events.push(event),
            None => self.waiting.push_back((number, vec![event])),
        }
    }
}

/// The events as a sequencer passes them.
#[cfg(test)]
pub(super) fn in_order(events: impl IntoIterator<Item = AnswerEvent>) -> Vec<AnswerEvent> {
    let (mut sequencer, mut out) = (Sequencer::default(), Vec::new());
    events.into_iter().for_each(|event| sequencer.push(event, &mut out));
    out
}

#[cfg(test)]
mod tests {
    use super::super::answer::{BlockKind, Stop, StopReason};
    use super::*;

    fn open(block: u32) -> AnswerEvent {
        let kind = BlockKind::ToolCall { id: block.to_string(), name: "f".to_owned() };
        AnswerEvent::Open { block, kind }
    }

    fn json(block: u32, json: &str) -> AnswerEvent {
        AnswerEvent::Arguments { block, json: json.to_owned() }
    }

    fn stop() -> AnswerEvent {
        let stop =
            Stop { reason: StopReason::ToolCall, native: "tool_calls".to_owned(), sequence: None };
        AnswerEvent::Stop(stop)
    }

    #[test]
    fn interleaved_blocks_come_one_after_another() {
        let close = |block| AnswerEvent::Close { block };
        let events = vec![
            open(0),
            json(0, "a"),
            open(1),
            json(1, "b"),
            json(0, "c"),
            open(2),
            close(1),
            close(0),
            json(2, "d"),
            stop(),
            close(2),
            AnswerEvent::End,
        ];
        let expected = vec![
            open(0),
            json(0, "a"),
            json(0, "c"),
            close(0),
            open(1),
            json(1, "b"),
            close(1),
            open(2),
            json(2, "d"),
            close(2),
            stop(),
            AnswerEvent::End,
        ];
        assert_eq!(in_order(events), expected);
    }

    #[test]
    fn of_several_reasons_the_last_one_waits() {
        let close = |block| AnswerEvent::Close { block };
        let early = Stop { reason: StopReason::End, native: "stop".to_owned(), sequence: None };
        let early = AnswerEvent::Stop(early);
        let mut events = vec![open(0)];
        events.extend(std::iter::repeat_n(early, 9));
        events.extend([stop(), AnswerEvent::End, AnswerEvent::End, close(0)]);
        assert_eq!(in_order(events), [open(0), close(0), stop(), AnswerEvent::End]);
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let piece = "x".repeat(64 * 1024);
        let mut events = vec![open(0), open(1)];
        events.extend((0..17).map(|_| json(1, &piece)));
        events.push(AnswerEvent::End);
        let out = in_order(events);
        assert!(matches!(&out[..], [AnswerEvent::Open { .. }, AnswerEvent::Failed(_)]), "{out:?}");
    }
}
