//! Events of answers, for tests of writers.

use super::answer::{AnswerEvent, BlockKind};

pub(super) fn open(block: u32, kind: BlockKind) -> AnswerEvent {
    AnswerEvent::Open { block, kind }
}

pub(super) fn text(block: u32, text: &str) -> AnswerEvent {
    AnswerEvent::Text { block, text: text.to_owned() }
}

pub(super) fn arguments(block: u32, json: &str) -> AnswerEvent {
    AnswerEvent::Arguments { block, json: json.to_owned() }
}

pub(super) fn close(block: u32) -> AnswerEvent {
    AnswerEvent::Close { block }
}
