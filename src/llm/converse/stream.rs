//! The events of a stream: `messageStart`, blocks of content, `messageStop`, and the usage in `metadata`
//! after it, with which every stream ends. An exception ends it early.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::parse_usage;
use crate::json::strings::StringValues;
use crate::llm::answer::event::{Event, EventContent, LongEvent, after_delta};
use crate::llm::answer::members::parse_object;
use crate::llm::text_sample::TextSampler;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

impl EventContent {
    fn of_conversation(name: &str) -> Self {
        Self {
            is_terminal: name == "metadata",
            is_answer: matches!(name, "contentBlockStart" | "contentBlockDelta"),
            is_error: name.ends_with("Exception") || name == "error",
            ..Self::default()
        }
    }
}

pub(in crate::llm) fn read_event(event: Event<'_>, text: &mut TextSampler) -> EventContent {
    let Event { name, data, .. } = event;
    let mut content = EventContent::of_conversation(name);
    match name {
        "contentBlockDelta" => take(after_delta(data).unwrap_or_default(), text),
        "contentBlockStart" => take(data, text),
        "metadata" => {
            let usage = parse_object::<Metadata<'_>>(data).unwrap_or_default().usage;
            content.usage = usage.and_then(|raw| parse_usage(raw.get()));
        }
        _ => {}
    }
    content
}

pub(in crate::llm) fn read_long_event(
    event: LongEvent<'_>,
    text: &mut TextSampler,
) -> EventContent {
    let LongEvent { name, members, length } = event;
    if name == "contentBlockDelta" {
        text.count_unseen(length);
    }
    EventContent {
        usage: members.usage.value().and_then(parse_usage),
        ..EventContent::of_conversation(name)
    }
}

/// Takes what is written, thought, or given to a tool, and the name of a tool.
fn take(value: &[u8], text: &mut TextSampler) {
    if !value.starts_with(b"{") {
        return;
    }
    for value in StringValues::new(value) {
        if matches!(value.key, b"text" | b"input" | b"name") {
            text.take(value.raw);
        }
    }
}
