//! A provider's plain answer.

use super::super::answer::{AnswerEvent, AnswerUsage};
use super::super::error::UnreadableAnswer;
use super::super::fields::{Fields, Path, parse_array, parse_text};
use super::stream_reader::{StreamReader, failure};
use crate::llm::format::Format;

/// Reads an answer: an answer that failed ends with that, any other one with its end.
pub(in crate::llm::convert) fn read_answer(
    json: &str,
) -> Result<Vec<AnswerEvent>, UnreadableAnswer> {
    let unreadable = |problem: &'static str| UnreadableAnswer(problem.into());
    let response =
        Fields::parse(json, &Path::ROOT).map_err(|_| unreadable("it is no JSON object"))?;
    let mut events = Vec::new();
    let mut reader = StreamReader::new();
    let status = response.get("status").and_then(parse_text).unwrap_or_default();
    match &*status {
        "completed" | "incomplete" => {}
        // Some compatible servers leave it out.
        "" if response.get("error").is_none() => {}
        "queued" | "in_progress" => return Err(unreadable("it is not complete")),
        _ => {
            reader.start(&response, &mut events);
            events.push(AnswerEvent::Failed(failure(response.get("error"))));
            return Ok(events);
        }
    }
    let output = response.get("output").and_then(parse_array);
    let output = output.ok_or_else(|| unreadable("it has no 'output'"))?;
    reader.start(&response, &mut events);
    for (index, raw) in (0..).zip(output) {
        let item = Fields::parse(raw, &Path::ROOT);
        let item = item.map_err(|_| unreadable("an item of its 'output' is no object"))?;
        reader.finish_item(index, &item, &mut events);
    }
    reader.end(&response, &mut events);
    Ok(events)
}

/// Reads a `usage` object.
pub(super) fn read_usage(raw: &str) -> Option<AnswerUsage> {
    let counts = Format::Responses.parse_usage(raw)?.counts;
    let through_cache =
        counts.cached_input.unwrap_or(0).saturating_add(counts.cache_write.unwrap_or(0));
    Some(AnswerUsage {
        input: counts.input.map(|input| input.saturating_sub(through_cache)),
        cache_read: counts.cached_input,
        cache_write: counts.cache_write,
        cache_write_1h: counts.cache_write_1h,
        output: counts.output,
        reasoning: counts.reasoning,
        audio_input: counts.audio_input,
        audio_output: counts.audio_output,
    })
}
