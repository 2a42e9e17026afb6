//! Models of Bedrock called in formats of their own (AWS, "InvokeModel"). Anthropic's is the one of messages;
//! others are not read: what they use is in the headers of a plain answer, and in the last event of a
//! stream.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::tokens::{ByKind, TokenUsage};
use crate::json::scanner::MemberNames;
use crate::json::strings::StringValues;
use crate::llm::answer::event::{Event, EventContent, LongEvent};
use crate::llm::answer::members::parse_object;
use crate::llm::text_sample::TextSampler;
use crate::llm::usage::{NO_KINDS, ReportedUsage, UsageNames, count};

/// What Bedrock adds to the last event of every stream.
const METRICS: &str = "amazon-bedrock-invocationMetrics";

const INPUT: &str = "x-amzn-bedrock-input-token-count";
const OUTPUT: &str = "x-amzn-bedrock-output-token-count";
const CACHE_READ: &str = "x-amzn-bedrock-cache-read-input-token-count";
const CACHE_WRITE: &str = "x-amzn-bedrock-cache-write-input-token-count";

pub(super) const USAGE_NAMES: UsageNames = UsageNames {
    kinds: ByKind {
        input: &[("", "inputTokenCount")],
        cached_input: &[("", "cacheReadInputTokenCount")],
        cache_write: &[("", "cacheWriteInputTokenCount")],
        output: &[("", "outputTokenCount")],
        ..NO_KINDS
    },
    ..UsageNames::NONE
};

pub(super) const MEMBER_NAMES: MemberNames = MemberNames { usage: METRICS, ..MemberNames::USUAL };

/// The usage in the headers of a plain answer. A model that reports no output, as one that embeds, has none.
pub fn usage_in_headers<'h>(
    header: impl Fn(&'static str) -> Option<&'h str>,
) -> Option<ReportedUsage> {
    let count_in = |name| count(header(name)?.trim().as_bytes());
    let input = count_in(INPUT)?;
    let counts = TokenUsage {
        input: Some(input),
        cached_input: count_in(CACHE_READ).filter(|count| *count > 0),
        cache_write: count_in(CACHE_WRITE).filter(|count| *count > 0),
        output: Some(count_in(OUTPUT).unwrap_or(0)),
        ..TokenUsage::default()
    };
    Some(ReportedUsage { counts, total: None, input_excludes_cache: true, web_searches: 0 })
}

/// Reads the metrics of a stream. `None` when they are no object or hold no known count.
pub(super) fn parse_usage(raw: &str) -> Option<ReportedUsage> {
    let usage = ReportedUsage::parse(raw, &USAGE_NAMES)?;
    Some(ReportedUsage { input_excludes_cache: true, ..usage })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Chunk<'a> {
    #[serde(borrow, rename = "amazon-bedrock-invocationMetrics")]
    metrics: Option<&'a RawValue>,
}

pub(super) fn read_event(event: Event<'_>, text: &mut TextSampler) -> EventContent {
    let Event { name, data, .. } = event;
    if name == "error" {
        return EventContent { is_error: true, ..EventContent::default() };
    }
    for value in StringValues::new(data).filter(|value| is_written(value.key)) {
        text.take(value.raw);
    }
    let metrics = parse_object::<Chunk<'_>>(data).unwrap_or_default().metrics;
    of_chunk(metrics.map(RawValue::get))
}

pub(super) fn read_long_event(event: LongEvent<'_>, text: &mut TextSampler) -> EventContent {
    let LongEvent { name, members, length } = event;
    if name == "error" {
        return EventContent { is_error: true, ..EventContent::default() };
    }
    text.count_unseen(length);
    of_chunk(members.usage.value())
}

fn of_chunk(metrics: Option<&str>) -> EventContent {
    EventContent {
        is_terminal: metrics.is_some(),
        is_answer: true,
        usage: metrics.and_then(parse_usage),
        ..EventContent::default()
    }
}

/// Whether the text under this key is the model's, in a format of one of Bedrock's vendors.
fn is_written(key: &[u8]) -> bool {
    matches!(key, b"text" | b"generation" | b"outputText" | b"completion" | b"content")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_stands_in_headers() {
        let usage = |all: &[(&str, &'static str)]| {
            usage_in_headers(|name| all.iter().find(|one| one.0 == name).map(|one| one.1))
        };
        let all = [(INPUT, "28"), (OUTPUT, "51"), (CACHE_READ, "100"), (CACHE_WRITE, "0")];
        let expected = TokenUsage {
            input: Some(128),
            cached_input: Some(100),
            output: Some(51),
            ..TokenUsage::default()
        };
        assert_eq!(usage(&all).unwrap().tokens(1_000), expected);
        assert_eq!(usage(&all[..1]).unwrap().counts.output, Some(0));
        assert_eq!(usage(&[(INPUT, "27.5")]).unwrap().counts.input, Some(28));
        for none in [&all[1..], &[(INPUT, "-1")], &[(INPUT, "9999999999999999")], &[(INPUT, "")]] {
            assert_eq!(usage(none), None, "{none:?}");
        }
    }

    #[test]
    fn the_last_event_tells_the_usage() {
        let mut text = TextSampler::default();
        let mut read = |name, data: &str| {
            read_event(Event { name, data: data.as_bytes(), wants_model: false }, &mut text)
        };
        let first = read("", r#"{"generation":"Good ","stop_reason":null}"#);
        assert!(first.is_answer && !first.is_terminal && first.usage.is_none());
        let last = read(
            "",
            r#"{"generation":"day","amazon-bedrock-invocationMetrics":{"inputTokenCount":9,
                "outputTokenCount":4,"invocationLatency":300,"firstByteLatency":200}}"#,
        );
        let counts = last.usage.unwrap().counts;
        assert!(last.is_terminal);
        assert_eq!((counts.input, counts.output), (Some(9), Some(4)));
        assert!(read("error", r#"{"message":"Too many requests"}"#).is_error);
        assert_eq!(text.sample().text().unwrap(), "Good day");
    }
}
