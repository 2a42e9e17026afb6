//! A provider's plain answer.

use super::super::answer::{AnswerEvent, Failure};
use super::super::fields::{Fields, Path, parse_array};
use super::stream_reader::{StreamReader, failure};

/// Reads an answer: an answer that failed ends with that, any other one with its end.
pub(in crate::llm::convert) fn read_answer(json: &str) -> Result<Vec<AnswerEvent>, Failure> {
    let response = Fields::parse(json, &Path::ROOT)
        .map_err(|_| Failure::unreadable("it is no JSON object"))?;
    let mut events = Vec::new();
    let mut reader = StreamReader::default();
    let status = response.find_text("status").unwrap_or_default();
    match &*status {
        "completed" | "incomplete" => {}
        // Some compatible servers leave it out.
        "" if response.get("error").is_none() => {}
        "queued" | "in_progress" => return Err(Failure::unreadable("it is not complete")),
        _ => {
            reader.start(&response, &mut events);
            events.push(AnswerEvent::Failed(failure(response.get("error"))));
            return Ok(events);
        }
    }
    let output = response.get("output").and_then(parse_array);
    let output = output.ok_or_else(|| Failure::unreadable("it has no 'output'"))?;
    reader.start(&response, &mut events);
    for (index, raw) in (0..).zip(output) {
        let item = Fields::parse(raw, &Path::ROOT);
        let item = item.map_err(|_| Failure::unreadable("an item of its 'output' is no object"))?;
        reader.finish_item(index, &item, &mut events);
    }
    reader.end(&response, &mut events);
    Ok(events)
}
