//! The events of a responses stream: named, or with their name in `type`; the last is
//! `response.completed` or one of its kind.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::USAGE_NAMES;
use crate::json::scanner::TopLevelScanner;
use crate::json::strings::split_string;
use crate::llm::answer::event::{
    Event, EventContent, after_delta, is_error, mentions_error, mentions_usage, parse_object,
};
use crate::llm::text_sample::TextSampler;
use crate::llm::usage::{ReportedUsage, model_name};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Members<'a> {
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

impl EventContent {
    fn named(name: &str) -> Self {
        Self {
            is_terminal: matches!(
                name,
                "response.completed" | "response.failed" | "response.incomplete"
            ),
            is_answer: name.starts_with("response.output") || name.ends_with(".delta"),
            is_error: matches!(name, "error" | "response.failed"),
            ..Self::default()
        }
    }
}

pub(in crate::llm) fn read_event(event: Event<'_>, text: &mut TextSampler) -> EventContent {
    let Event { name, data, wants_model } = event;
    if data == b"[DONE]" {
        return EventContent { is_terminal: true, ..EventContent::default() };
    }
    let mentions_error = mentions_error(data);
    let is_parsed = name.is_empty() || wants_model || mentions_error || mentions_usage(data);
    let members =
        is_parsed.then(|| parse_object::<Members<'_>>(data)).flatten().unwrap_or_default();
    let own_name = members.r#type.map(|raw| raw.get().trim_matches('"'));
    let name = own_name.filter(|_| name.is_empty()).unwrap_or(name);
    take_text(name, data, text);
    let mut content = EventContent::named(name);
    let response = members.response.and_then(|raw| parse_object(raw.get().as_bytes()));
    for part in [Some(members), response].into_iter().flatten() {
        content.is_error |= part.error.is_some_and(|raw| is_error(raw.get().bytes()));
        let usage = part.usage.and_then(|raw| ReportedUsage::parse(raw.get(), &USAGE_NAMES));
        content.usage = usage.or(content.usage);
        content.model = content.model.or_else(|| part.model.and_then(|raw| model_name(raw.get())));
    }
    content
}

pub(in crate::llm) fn read_long_event(
    name: &str,
    members: &TopLevelScanner,
    length: u64,
    text: &mut TextSampler,
) -> EventContent {
    let own_name = members.kind.value().map(|name| name.trim_matches('"'));
    let name = own_name.filter(|_| name.is_empty()).unwrap_or(name);
    if name.ends_with(".delta") {
        text.count_unseen(length);
    }
    let mut content = EventContent::named(name);
    for part in [Some(members), members.response()].into_iter().flatten() {
        content.is_error |= is_error(part.error.beginning());
        let usage = part.usage.value().and_then(|raw| ReportedUsage::parse(raw, &USAGE_NAMES));
        content.usage = usage.or(content.usage);
        content.model = content.model.or_else(|| part.model.value().and_then(model_name));
    }
    content
}

/// Takes the event's `delta`, if it is of text.
fn take_text(name: &str, data: &[u8], text: &mut TextSampler) {
    if !name.ends_with(".delta") || name.ends_with("audio.delta") {
        return;
    }
    if let Some(value) = after_delta(data).and_then(|value| value.strip_prefix(b"\"")) {
        text.take(split_string(value).0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_taken_from_deltas() {
        for (name, data, expected) in [
            ("response.output_text.delta", r#"{"type":"x","delta":"a\"b","logprobs":[]}"#, "a\"b"),
            ("response.output_text.done", r#"{"text":"ab"}"#, ""),
            ("response.audio.delta", r#"{"delta":"AAAA"}"#, ""),
            ("response.audio.transcript.delta", r#"{"delta" : "hi"}"#, "hi"),
            ("", r#"{"type":"response.output_text.delta","delta":"hi"}"#, "hi"),
            ("x.delta", r#"{"delta":{"text":"a"}}"#, ""),
        ] {
            let mut text = TextSampler::default();
            read_event(Event { name, data: data.as_bytes(), wants_model: false }, &mut text);
            assert_eq!(text.sample().text().unwrap(), expected, "{data}");
        }
    }

    #[test]
    fn errors_end_a_stream() {
        let read = |name, data: &str| {
            let event = Event { name, data: data.as_bytes(), wants_model: false };
            let content = read_event(event, &mut TextSampler::default());
            (content.is_terminal, content.is_error)
        };
        assert_eq!(read("response.failed", r#"{"response":{"error":null}}"#), (true, true));
        assert_eq!(read("", r#"{"type":"response.failed"}"#), (true, true));
        assert_eq!(read("error", r#"{"message":"overloaded"}"#), (false, true));
        assert_eq!(read("", r#"{"type":"error","message":"overloaded"}"#), (false, true));
        assert_eq!(read("response.created", r#"{"response":{"error":null}}"#), (false, false));
        let incomplete = r#"{"response":{"error":null,"incomplete_details":{"reason":"x"}}}"#;
        assert_eq!(read("response.incomplete", incomplete), (true, false));
    }
}
