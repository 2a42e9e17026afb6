//! The events of a responses stream: named, or with their name in `type`; the last is
//! `response.completed` or one of its kind.

use super::parse_usage;
use crate::json::strings::split_string;
use crate::llm::answer::event::{
    Event, EventContent, LongEvent, NamedEvent, after_delta, mentions_error, mentions_usage, named,
};
use crate::llm::answer::members::parse_object;
use crate::llm::answer::search_calls::SearchCall;
use crate::llm::text_sample::TextSampler;
use crate::llm::usage::model_name;

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
    let event =
        is_parsed.then(|| parse_object::<NamedEvent<'_>>(data)).flatten().unwrap_or_default();
    let name = event.name(name);
    take_text(name, data, text);
    let mut content = EventContent::named(name);
    content.searches = SearchCall::in_event(name, data);
    event.add_to(&mut content, parse_usage);
    content
}

pub(in crate::llm) fn read_long_event(
    event: LongEvent<'_>,
    text: &mut TextSampler,
) -> EventContent {
    let LongEvent { name, members, length } = event;
    let name = named(name, members.kind.value());
    if name.ends_with(".delta") {
        text.count_unseen(length);
    }
    let mut content = EventContent::named(name);
    let id = members.response().and_then(|response| response.id.value());
    content.response_id = id.and_then(model_name);
    for part in [Some(members), members.response()].into_iter().flatten() {
        content.add_members(part, parse_usage);
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
