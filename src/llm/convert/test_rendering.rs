//! Answers as short text, and checks of the order of events, for tests of readers.

use super::answer::{Answer, AnswerEvent, BlockKind};
use super::opaque::Opaque;

/// The whole that the events make.
pub(super) fn fold(events: impl IntoIterator<Item = AnswerEvent>) -> Answer {
    let mut answer = Answer::default();
    events.into_iter().for_each(|event| answer.fold(event));
    answer
}

/// The same after a check that they come in their order and tell no failure.
pub(super) fn folded(events: &[AnswerEvent]) -> Answer {
    check_order(events);
    assert!(!matches!(events.last(), Some(AnswerEvent::Failed(_))), "{events:?}");
    fold(events.iter().cloned())
}

/// `Start` first, blocks numbered in the order in which they are opened and closed once, nothing outside
/// of them, `Stop` after them, `End` or `Failed` last.
pub(super) fn check_order(events: &[AnswerEvent]) {
    let (mut open, mut count, mut has_stopped) = (Vec::new(), 0, false);
    for (place, event) in events.iter().enumerate() {
        let is_last = place + 1 == events.len();
        match event {
            AnswerEvent::Start { .. } => assert_eq!(place, 0, "{events:?}"),
            AnswerEvent::Open { block, .. } => {
                assert!(*block == count && !has_stopped, "{events:?}");
                open.push(*block);
                count += 1;
            }
            AnswerEvent::Text { block, .. }
            | AnswerEvent::Arguments { block, .. }
            | AnswerEvent::Opaque { block, .. }
            | AnswerEvent::Annotation { block, .. } => assert!(open.contains(block), "{events:?}"),
            AnswerEvent::Close { block } => {
                assert!(open.contains(block), "{events:?}");
                open.retain(|open| open != block);
            }
            AnswerEvent::Stop(_) => {
                assert!(open.is_empty() && !has_stopped, "{events:?}");
                has_stopped = true;
            }
            AnswerEvent::End => assert!(open.is_empty() && is_last, "{events:?}"),
            AnswerEvent::Failed(_) => assert!(is_last, "{events:?}"),
            AnswerEvent::Usage(_) | AnswerEvent::Ping => {}
        }
    }
}

/// A line for each block and for the reason of the end.
pub(super) fn shown(answer: &Answer) -> String {
    let mut out = String::new();
    for block in &answer.blocks {
        let kind = match &block.kind {
            BlockKind::Text => "text".to_owned(),
            BlockKind::Refusal => "refusal".to_owned(),
            BlockKind::Reasoning { is_summary: true } => "summary".to_owned(),
            BlockKind::Reasoning { is_summary: false } => "reasoning".to_owned(),
            BlockKind::ToolCall { id, name } => format!("call {id} {name}"),
        };
        let text = block.text.replace('\n', "\\n");
        out.push_str(&format!("{kind}: {text}"));
        for Opaque { family, kind, data, .. } in &block.opaque {
            let data = data.get(..8).unwrap_or(data);
            out.push_str(&format!(" <{} {kind:?} {data}>", family.as_str()));
        }
        for annotation in &block.annotations {
            out.push_str(&format!(" ({} {:?})", annotation.url, annotation.title));
        }
        out.push('\n');
    }
    match &answer.stop {
        Some(stop) => {
            let sequence = stop.sequence.as_deref().unwrap_or_default();
            out.push_str(&format!("{:?} {} {sequence}", stop.reason, stop.native));
        }
        None => out.push_str("no reason"),
    }
    out.trim_end().to_owned()
}
