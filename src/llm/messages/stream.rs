//! The events of a messages stream: `message_start`, blocks of content, `message_delta` and, at the end,
//! `message_stop`; `ping` at any time.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::parse_usage;
use crate::json::strings::StringValues;
use crate::llm::answer::event::{Event, EventContent, LongEvent, NamedEvent, after_delta, named};
use crate::llm::answer::members::parse_object;
use crate::llm::text_sample::TextSampler;

/// A block as it begins; most begin empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ContentBlock<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    thinking: Option<&'a RawValue>,
    /// Of a tool.
    name: Option<&'a RawValue>,
}

impl EventContent {
    fn of_message(name: &str) -> Self {
        Self {
            is_terminal: name == "message_stop",
            is_answer: matches!(name, "content_block_start" | "content_block_delta"),
            is_error: name == "error",
            ..Self::default()
        }
    }
}

pub(in crate::llm) fn read_event(event: Event<'_>, text: &mut TextSampler) -> EventContent {
    let Event { name, data, .. } = event;
    // Nearly all events are of these, and nothing else is in them.
    match name {
        "content_block_delta" => {
            take_delta(data, text);
            return EventContent::of_message(name);
        }
        "ping" | "content_block_stop" => return EventContent::default(),
        _ => {}
    }
    let event = parse_object::<NamedEvent<'_>>(data).unwrap_or_default();
    let name = event.name(name);
    let mut content = EventContent::of_message(name);
    match name {
        "content_block_delta" => take_delta(data, text),
        "content_block_start" => take_block(&event, text),
        _ => {}
    }
    event.add_to(&mut content, parse_usage);
    content
}

pub(in crate::llm) fn read_long_event(
    event: LongEvent<'_>,
    text: &mut TextSampler,
) -> EventContent {
    let LongEvent { name, members, length } = event;
    let name = named(name, members.kind.value());
    if name == "content_block_delta" {
        text.count_unseen(length);
    }
    let mut content = EventContent::of_message(name);
    content.add_members(members, parse_usage);
    content
}

/// Takes the text in the event's `delta`: what is written, thought, or given to a tool.
fn take_delta(data: &[u8], text: &mut TextSampler) {
    let Some(delta) = after_delta(data).filter(|delta| delta.starts_with(b"{")) else { return };
    for value in StringValues::new(delta) {
        if matches!(value.key, b"text" | b"thinking" | b"partial_json") {
            text.take(value.raw);
        }
    }
}

/// Takes the text that a block begins with. The result of a tool is none of the model's.
fn take_block(event: &NamedEvent<'_>, text: &mut TextSampler) {
    let block = event.content_block.and_then(|raw| parse_object(raw.get().as_bytes()));
    let ContentBlock { text: written, thinking, name } = block.unwrap_or_default();
    for part in [written, thinking, name].into_iter().flatten() {
        let inside = part.get().strip_prefix('"').and_then(|part| part.strip_suffix('"'));
        text.take(inside.unwrap_or_default().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, data: &str) -> (EventContent, String) {
        let mut text = TextSampler::default();
        let content =
            read_event(Event { name, data: data.as_bytes(), wants_model: false }, &mut text);
        (content, text.sample().text().unwrap())
    }

    #[test]
    fn text_is_taken_from_deltas_and_from_the_beginning_of_blocks() {
        for (name, data, expected) in [
            (
                "content_block_delta",
                r#"{"index":0,"delta":{"type":"text_delta","text":"a\"b"}}"#,
                "a\"b",
            ),
            ("content_block_delta", r#"{"delta":{"type":"thinking_delta","thinking":"hm"}}"#, "hm"),
            (
                "content_block_delta",
                r#"{"delta":{"type":"input_json_delta","partial_json":"{\"x\":"}}"#,
                "{\"x\":",
            ),
            (
                "content_block_delta",
                r#"{"delta":{"type":"signature_delta","signature":"AAAA"}}"#,
                "",
            ),
            (
                "content_block_delta",
                r#"{"delta":{"type":"citations_delta","citation":{"cited_text":"no"}}}"#,
                "",
            ),
            (
                "",
                r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}"#,
                "hi",
            ),
            (
                "content_block_start",
                r#"{"content_block":{"type":"tool_use","name":"f","input":{}}}"#,
                "f",
            ),
            ("content_block_start", r#"{"content_block":{"type":"text","text":"hi"}}"#, "hi"),
            (
                "content_block_start",
                r#"{"content_block":{"type":"mcp_tool_result","content":[{"text":"no"}]}}"#,
                "",
            ),
            ("content_block_delta", r#"{"delta":7}"#, ""),
            ("ping", r#"{"type":"ping"}"#, ""),
        ] {
            assert_eq!(read(name, data).1, expected, "{data}");
        }
    }

    #[test]
    fn events_are_known_with_their_name_and_without() {
        let start = r#"{"type":"message_start","message":{"model":"claude","content":[],
            "usage":{"input_tokens":3,"output_tokens":1}}}"#;
        let end = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},
            "usage":{"output_tokens":7}}"#;
        for is_named in [true, false] {
            let name = |name| if is_named { name } else { "" };
            let content = read(name("message_start"), start).0;
            let counts = content.usage.unwrap().counts;
            assert_eq!((counts.input, counts.output), (Some(3), Some(1)));
            assert_eq!(content.model.as_deref(), Some("claude"));
            assert!(!content.is_answer && !content.is_terminal);
            let content = read(name("message_delta"), end).0;
            assert_eq!(content.usage.unwrap().counts.output, Some(7));
            assert!(read(name("message_stop"), r#"{"type":"message_stop"}"#).0.is_terminal);
            let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#;
            let content = read(name("error"), error).0;
            assert!(content.is_error && !content.is_terminal);
            let content = read(name("ping"), r#"{"type":"ping"}"#).0;
            assert!(!content.is_answer && !content.is_error);
        }
    }
}
