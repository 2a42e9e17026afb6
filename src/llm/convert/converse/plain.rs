//! Reads a plain answer, into the events that its stream would give.

use super::super::answer::{AnswerEvent, BlockKind, Failure};
use super::super::fields::{Fields, parse_array};
use super::stop::read_stop;
use super::stream::{call_kind, read_citation, read_usage, reasoning_events};
use super::values::{parse_object, string};
use crate::json::compact::compact;

/// Reads a plain answer into events that end with `End`, or with `Failed` if it can't be used.
pub(in crate::llm::convert) fn read_answer(json: &str) -> Result<Vec<AnswerEvent>, Failure> {
    let mut events = vec![AnswerEvent::Start { id: None, model: None }];
    if let Err(failure) = read(json, &mut events) {
        if failure.code == Failure::UNUSABLE {
            return Err(Failure::unreadable(&failure.message));
        }
        events.push(AnswerEvent::Failed(failure));
    }
    Ok(events)
}

fn read(json: &str, out: &mut Vec<AnswerEvent>) -> Result<(), Failure> {
    let answer = parse_object(json)?;
    let output = answer.get("output").ok_or_else(Failure::malformed).and_then(parse_object)?;
    let message = output.get("message").ok_or_else(Failure::malformed).and_then(parse_object)?;
    let mut count = 0;
    for block in message.get("content").and_then(parse_array).ok_or_else(Failure::malformed)? {
        read_block(&parse_object(block)?, &mut count, out)?;
    }
    let stop = read_stop(&answer)?;
    out.extend(stop.map(AnswerEvent::Stop));
    let usage = answer.get("usage").and_then(read_usage);
    out.extend(usage.map(AnswerEvent::Usage));
    out.push(AnswerEvent::End);
    Ok(())
}

/// Reads a block; nothing is written for an empty one, and for what callers' formats do not have.
fn read_block(
    block: &Fields<'_>,
    count: &mut u32,
    out: &mut Vec<AnswerEvent>,
) -> Result<(), Failure> {
    let number = *count;
    let mut content = Vec::new();
    let kind = if let Some(text) = block.get("text") {
        push_text(string(text)?, number, &mut content);
        BlockKind::Text
    } else if let Some(call) = block.get("toolUse").map(parse_object).transpose()? {
        if call.get("type").is_some() {
            // It ran at the provider's.
            return Ok(());
        }
        let json = compact(call.get("input").unwrap_or("{}")).into_owned();
        content.push(AnswerEvent::Arguments { block: number, json });
        call_kind(&call)?
    } else if let Some(reasoning) = block.get("reasoningContent").map(parse_object).transpose()? {
        let text = reasoning.get("reasoningText").map(parse_object).transpose()?;
        let pieces = reasoning_events(text.as_ref().unwrap_or(&reasoning))?;
        // The signature comes after the text that it signs.
        let (texts, others): (Vec<_>, Vec<_>) = pieces
            .into_iter()
            .map(|piece| piece.of(number))
            .partition(|event| matches!(event, AnswerEvent::Text { .. }));
        content.extend(texts);
        content.extend(others);
        BlockKind::Reasoning { is_summary: false }
    } else if let Some(cited) = block.get("citationsContent").map(parse_object).transpose()? {
        for part in cited.get("content").and_then(parse_array).unwrap_or_default() {
            if let Some(text) = parse_object(part)?.get("text") {
                push_text(string(text)?, number, &mut content);
            }
        }
        let citations = cited.get("citations").and_then(parse_array).unwrap_or_default();
        let annotations = citations.into_iter().filter_map(read_citation);
        content.extend(
            annotations.map(|annotation| AnswerEvent::Annotation { block: number, annotation }),
        );
        BlockKind::Text
    } else {
        return Ok(());
    };
    if !content.is_empty() {
        *count += 1;
        out.push(AnswerEvent::Open { block: number, kind });
        out.append(&mut content);
        out.push(AnswerEvent::Close { block: number });
    }
    Ok(())
}

fn push_text(text: String, block: u32, out: &mut Vec<AnswerEvent>) {
    if !text.is_empty() {
        out.push(AnswerEvent::Text { block, text });
    }
}
