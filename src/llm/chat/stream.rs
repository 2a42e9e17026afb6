//! The events of a chat stream: `chat.completion.chunk` objects, then `[DONE]`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::USAGE_NAMES;
use crate::json::members::Members;
use crate::json::scanner::TopLevelScanner;
use crate::json::strings::StringValues;
use crate::llm::answer::event::{
    Event, EventContent, LongEvent, after_delta, is_error, mentions_error, mentions_usage,
};
use crate::llm::answer::members::parse_object;
use crate::llm::text_sample::{TextSampler, is_generated};
use crate::llm::usage::{ReportedUsage, model_name};

/// Members that tell a caller nothing beyond the answer when there is no choice in the event: the
/// envelope that every chunk has, and forms of usage.
const ENVELOPE: [&str; 11] = [
    "choices",
    "created",
    "id",
    "model",
    "object",
    "obfuscation",
    "provider",
    "service_tier",
    "system_fingerprint",
    "usage",
    "x_groq",
];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Chunk<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    model: Option<&'a RawValue>,
    choices: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    object: Option<&'a RawValue>,
    x_groq: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    finish_reason: Option<&'a RawValue>,
    usage: Option<&'a RawValue>,
}

impl<'a> Chunk<'a> {
    fn choices(&self) -> Vec<Choice<'a>> {
        self.choices.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    /// In the chunk itself, or, without being asked for, in a choice (Moonshot) or next to it (Groq).
    fn usage(&self) -> Option<ReportedUsage> {
        let parse = |raw: &RawValue| ReportedUsage::parse(raw.get(), &USAGE_NAMES);
        let in_groq = || parse_object::<Chunk<'_>>(self.x_groq?.get().as_bytes())?.usage;
        self.usage
            .and_then(parse)
            .or_else(|| in_groq().and_then(parse))
            .or_else(|| self.choices().iter().rev().find_map(|choice| parse(choice.usage?)))
    }

    /// In a member of its own, in a choice, or as all that it is.
    fn is_error(&self) -> bool {
        let has_error = |raw: Option<&RawValue>| raw.is_some_and(|raw| is_error(raw.get().bytes()));
        let is_word = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get() == r#""error""#);
        has_error(self.error)
            || is_word(self.object)
            || self
                .choices()
                .iter()
                .any(|choice| has_error(choice.error) || is_word(choice.finish_reason))
    }

    fn is_usage_event(&self) -> bool {
        // An error may come with what was used.
        let is_empty = match self.choices {
            Some(raw) => has_no_choices(raw.get()),
            None => !self.error.is_some_and(|raw| is_error(raw.get().bytes())),
        };
        is_empty && self.usage.is_some_and(|raw| raw.get() != "null")
    }
}

pub(in crate::llm) fn read_event(event: Event<'_>, text: &mut TextSampler) -> EventContent {
    let Event { name, data, wants_model } = event;
    if data == b"[DONE]" {
        return EventContent { is_terminal: true, ..EventContent::default() };
    }
    let mentions_error = mentions_error(data);
    let mut content = EventContent {
        is_answer: take_text(data, text),
        is_error: name == "error",
        ..EventContent::default()
    };
    if (wants_model || mentions_error || mentions_usage(data))
        && let Some(chunk) = parse_object::<Chunk<'_>>(data)
    {
        content.is_error |= mentions_error && chunk.is_error();
        content.is_usage_event = chunk.is_usage_event();
        content.usage = chunk.usage();
        content.model = chunk.model.and_then(|raw| model_name(raw.get()));
    }
    content
}

pub(in crate::llm) fn read_long_event(
    event: LongEvent<'_>,
    text: &mut TextSampler,
) -> EventContent {
    let LongEvent { name, members, length } = event;
    let is_usage_event = is_usage_event(members);
    let is_error = name == "error" || is_error(members.error.beginning());
    let is_answer = !is_usage_event && !is_error;
    if is_answer {
        text.count_unseen(length);
    }
    let mut content =
        EventContent { is_answer, is_error, is_usage_event, ..EventContent::default() };
    content.add_members(members, |raw| ReportedUsage::parse(raw, &USAGE_NAMES));
    content
}

/// Takes the text in every choice's `delta`. Whether there is any `delta`.
fn take_text(data: &[u8], text: &mut TextSampler) -> bool {
    let mut rest = data;
    let mut has_delta = false;
    while let Some(delta) = after_delta(rest) {
        rest = delta;
        has_delta = true;
        if !delta.starts_with(b"{") {
            continue;
        }
        let mut has_reasoning = false;
        let mut values = StringValues::new(delta);
        for value in &mut values {
            if value.raw.is_empty() || !is_generated(value.key) {
                continue;
            }
            // Some providers send their reasoning under two names.
            if value.key.starts_with(b"reasoning") && std::mem::replace(&mut has_reasoning, true) {
                continue;
            }
            text.take(value.raw);
        }
        rest = values.rest();
    }
    has_delta
}

/// Whether `choices` says that there is none. Some leave it out instead, or write null.
fn has_no_choices(raw: &str) -> bool {
    let inside = raw.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    raw == "null" || inside.is_some_and(|inside| inside.trim_ascii().is_empty())
}

/// Whether an event that has passed is what a request for usage adds to a stream: no choices, and a
/// usage.
fn is_usage_event(members: &TopLevelScanner) -> bool {
    let is_absent = members.choices.beginning().next().is_none();
    let is_bare = is_absent && !is_error(members.error.beginning());
    (is_bare || members.choices.value().is_some_and(has_no_choices))
        && members.usage.value().is_some_and(|usage| usage.starts_with('{'))
}

/// Whether an event of which this much has passed may become one with no choices and a usage.
pub(in crate::llm) fn may_become_usage_event(members: &TopLevelScanner) -> bool {
    let mut choices = members.choices.beginning();
    let usage = members.usage.beginning().next();
    let (first, second) = (choices.next(), choices.next());
    let may_be_empty = match first {
        Some(b'[') => second.is_none_or(|second| second == b']'),
        first => first.is_none_or(|first| first == b'n'),
    };
    !members.is_other() && may_be_empty && usage.is_none_or(|first| first == b'{')
}

/// What an event's `choices` say if nothing was added to the answer.
const EMPTY_DELTA: &str = r#"[{"delta":{},"finish_reason":null,"index":0}]"#;

/// The usage event without its usage, if it holds anything else that its caller may want, such as the
/// `timings` of llama.cpp or `citations`.
pub(in crate::llm) fn without_usage(event: &[u8]) -> Option<String> {
    let event = std::str::from_utf8(event).ok()?;
    let mut other_lines = String::new();
    let mut data = String::new();
    for line in event.split(['\r', '\n']).filter(|line| !line.is_empty()) {
        if let Some(value) = line.strip_prefix("data:") {
            data.push_str(value);
            data.push(' ');
        } else {
            other_lines.push_str(line);
            other_lines.push('\n');
        }
    }
    let Members(mut members) = Members::parse(&data)?;
    let is_empty = |raw: &str| matches!(raw, "null" | "\"\"" | "[]" | "{}");
    if members.iter().all(|(name, raw)| ENVELOPE.contains(&name.as_ref()) || is_empty(raw.get())) {
        return None;
    }
    members.retain(|(name, _)| name != "usage");
    let has_choices = members.iter().any(|(name, _)| name == "choices");
    // Callers that did not ask for usage read `choices[0]` of every event.
    let added = (!has_choices).then(|| format!("\"choices\":{EMPTY_DELTA}"));
    let members = members.iter().map(|(name, raw)| {
        let raw = if name == "choices" { EMPTY_DELTA } else { raw.get() };
        format!("{}:{raw}", serde_json::Value::from(name.as_ref()))
    });
    let members: Vec<String> = added.into_iter().chain(members).collect();
    Some(format!("{other_lines}data: {{{}}}\n\n", members.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::scanner::{Keep, MemberNames};

    fn read(data: &str) -> (EventContent, TextSampler) {
        let mut text = TextSampler::default();
        let event = Event { name: "", data: data.as_bytes(), wants_model: true };
        (read_event(event, &mut text), text)
    }

    #[test]
    fn text_is_taken_from_deltas() {
        for (data, expected) in [
            (r#"{"choices":[{"index":0,"delta":{"content":" a\"b"},"logprobs":null}]}"#, " a\"b"),
            (r#"{"choices": [{"delta" : {"role": "assistant", "content": "delta"}}]}"#, "delta"),
            (r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"refusal":"b"}}],"x":"y"}"#, "ab"),
            (r#"{"choices":[{"delta":{"reasoning":"a","reasoning_content":"a"}}]}"#, "a"),
            (
                r#"{"choices":[{"delta":{"reasoning":"a","reasoning_details":[{"text":"a"}]}}]}"#,
                "a",
            ),
            (
                r#"{"choices":[{"delta":{"content":null,"tool_calls":[{"index":0,"id":"i","type":"function",
                  "function":{"name":"f","arguments":"{\"delta\":"}}]},"finish_reason":"stop"}]}"#,
                "f{\"delta\":",
            ),
            (r#"{"choices":[{"delta":{"content":[{"type":"text","text":"m"}]}}]}"#, "m"),
            (r#"{"content":"no","choices":[{"delta":{},"name":"no"}],"usage":null}"#, ""),
            (r#"{"choices":[{"delta":null,"name":"no"}]}"#, ""),
            ("[DONE]", ""),
            ("\"delta\":{", ""),
            ("\"delta\"", ""),
        ] {
            let sample = read(data).1.sample();
            assert_eq!(sample.text().unwrap(), expected, "{data}");
        }
    }

    #[test]
    fn without_text_nothing_is_allocated() {
        let (content, text) = read(r#"{"choices":[{"delta":{"role":"a","content":""}}]}"#);
        assert!(content.is_answer);
        assert_eq!(text.capacity(), 0);
    }

    #[test]
    fn the_usage_event_differs_from_similar_events() {
        let is = |json: &str| read(json).0.is_usage_event;
        assert!(is(r#"{"choices": [ ], "usage": {"prompt_tokens": 1}}"#));
        assert!(!is(r#"{"choices": [], "usage": null}"#));
        assert!(!is(r#"{"choices": [], "prompt_filter_results": []}"#));
        assert!(!is(r#"{"choices": [{}], "usage": {"prompt_tokens": 1}}"#));
        assert!(is(r#"{"usage": {"prompt_tokens": 1}}"#));
        assert!(is(r#"{"choices": null, "usage": {"prompt_tokens": 1}}"#));
        assert!(!is(r#"{"usage": null}"#));
        assert!(!is(r#"{"error": {"code": 1}, "usage": {"prompt_tokens": 1}}"#));
        assert!(!is(r#"{"choices": {"a": 1}, "usage": {"prompt_tokens": 1}}"#));
        assert!(!is("[DONE]"));
    }

    #[test]
    fn a_long_usage_event_is_known_at_its_end() {
        let names = &MemberNames::USUAL;
        let (usage, choices) = (64, 64);
        let keep =
            Keep { names, usage, model: 0, id: 0, choices, kind: 0, state: 0, response: false };
        let is = |json: &str| {
            let mut members = TopLevelScanner::new(keep);
            members.feed(json.as_bytes());
            is_usage_event(&members)
        };
        assert!(is("{\"choices\": [ ],\"usage\":{\"a\":1}}"));
        assert!(!is("{\"choices\":[],\"usage\":{\"a\":1"));
        assert!(is("{\"choices\":null,\"usage\":{}}"));
        assert!(is("{\"usage\":{\"a\":1}}"));
        assert!(!is("{\"choices\":[],\"usage\":null}"));
        assert!(!is("{\"choices\":[{}],\"usage\":{}}"));
    }

    #[test]
    fn usage_is_found_where_providers_put_it() {
        let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":4}"#;
        for data in [
            format!(r#"{{"choices":[],{usage}}}"#),
            format!(r#"{{"choices":[{{"delta":{{}}}}],"x_groq":{{"id":"r",{usage}}}}}"#),
            format!(
                r#"{{"choices":[{{"delta":{{}},"finish_reason":"stop",{usage}}}],"usage":null}}"#
            ),
        ] {
            let counts = read(&data).0.usage.unwrap().counts;
            assert_eq!((counts.input, counts.output), (Some(3), Some(4)), "{data}");
        }
    }

    #[test]
    fn errors_are_found_where_providers_put_them() {
        for (data, expected) in [
            (r#"{"error":{"message":"overloaded"}}"#, true),
            (r#"{"error":"overloaded","choices":[]}"#, true),
            (r#"{"object":"error","message":"overloaded"}"#, true),
            (r#"{"choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#, true),
            (r#"{"choices":[{"delta":{},"error":{"code":502}}]}"#, true),
            (r#"{"choices":[{"delta":{"content":"an \"error\""}}],"error":null}"#, false),
            (r#"{"choices":[{"delta":{"content":"error"}}],"error":{}}"#, false),
        ] {
            assert_eq!(read(data).0.is_error, expected, "{data}");
        }
    }

    #[test]
    fn what_is_not_usage_is_kept() {
        let usage = r#""usage":{"prompt_tokens":3}"#;
        for (event, expected) in [
            (format!("data: {{\"id\":\"1\",\"choices\":[],{usage}}}\n\n"), None),
            (
                format!(
                    "data: {{\"choices\":[],{usage},\"x_groq\":{{}},\"citations\":[],\"error\":null}}\n\n"
                ),
                None,
            ),
            (
                format!(
                    "data: {{\"id\":\"1\",\"choices\":[],{usage},\"timings\":{{\"prompt_ms\":2.50}}}}\n\n"
                ),
                Some(
                    "data: {\"id\":\"1\",\"choices\":[{\"delta\":{},\"finish_reason\":null,\"index\":0}],\"timings\":{\"prompt_ms\":2.50}}\n\n",
                ),
            ),
            (
                format!(
                    "id: 7\r\ndata: {{\"choices\":[],\r\ndata:{usage},\r\ndata:\"citations\":[\"a\"]}}\r\n\r\n"
                ),
                Some(
                    "id: 7\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":null,\"index\":0}],\"citations\":[\"a\"]}\n\n",
                ),
            ),
            (
                format!("data: {{\"choices\":[],\"error\":{{\"code\":1}},{usage}}}"),
                Some(
                    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":null,\"index\":0}],\"error\":{\"code\":1}}\n\n",
                ),
            ),
            (format!("data: {{\"id\":\"1\",\"choices\":null,{usage}}}\n\n"), None),
            (format!("data: {{{usage}}}\n\n"), None),
            (
                format!("data: {{{usage},\"timings\":{{\"n\":1}}}}\n\n"),
                Some(
                    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":null,\"index\":0}],\"timings\":{\"n\":1}}\n\n",
                ),
            ),
            ("data: {".to_owned(), None),
        ] {
            assert_eq!(without_usage(event.as_bytes()).as_deref(), expected, "{event}");
        }
    }
}
