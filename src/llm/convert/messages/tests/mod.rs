//! Tests of the format as a whole.

mod read_answers;
mod read_requests;
mod robustness;
mod written_answers;
mod written_parameters;
mod written_requests;

use super::{AnswerWriter, StreamReader};
use crate::llm::convert::AnswerContext;
use crate::llm::convert::answer::{Answer, AnswerEvent, BlockKind, ReadEvents, WriteEvents};
use crate::llm::convert::sequence::in_order;

/// The events of a stream, from the data of its events.
fn events<'d>(data: impl IntoIterator<Item = &'d str>) -> Vec<AnswerEvent> {
    let (mut reader, mut events) = (StreamReader::default(), Vec::new());
    data.into_iter().for_each(|data| reader.read(None, data, &mut events));
    reader.finish(&mut events);
    events
}

fn context() -> AnswerContext {
    AnswerContext {
        model: "anthropic/claude".to_owned(),
        seed: "s33d".to_owned(),
        estimated_input: 70,
        ..AnswerContext::default()
    }
}

/// The caller's stream of these events, as text.
fn written(events: Vec<AnswerEvent>) -> String {
    let (mut writer, mut out) = (AnswerWriter::new(context()), Vec::new());
    in_order(events).into_iter().for_each(|event| writer.write(event, &mut out));
    String::from_utf8(out).unwrap()
}

/// The data of a stream's events.
fn data(stream: &str) -> Vec<&str> {
    stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
}

/// Kinds of the blocks with their texts, and why the model stopped.
fn outline(answer: &Answer) -> Vec<String> {
    let blocks = answer.blocks.iter().map(|block| match &block.kind {
        BlockKind::Text => format!("text {}", block.text.chars().take(12).collect::<String>()),
        BlockKind::Refusal => "refusal".to_owned(),
        BlockKind::Reasoning { .. } => {
            let kinds: Vec<String> =
                block.opaque.iter().map(|one| format!("{:?}", one.kind)).collect();
            format!("reasoning {} {}", block.text.len(), kinds.join(","))
        }
        BlockKind::ToolCall { name, .. } => format!("call {name} {}", block.text),
    });
    let stop = answer.stop.as_ref().map(|stop| format!("{:?} {}", stop.reason, stop.native));
    blocks.chain(stop).collect()
}
