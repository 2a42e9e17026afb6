//! Token counts as providers report them, read from plain answers and from stream events.
//!
//! Providers are not trusted to report sense: a count that is negative, fractional, not a number or
//! beyond [`MOST_TOKENS`] is as good as absent, and never an error.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

pub use crate::domain::tokens::TokenUsage;

/// No request has more tokens than this. The bound keeps sums of money far from overflow; the
/// largest context windows of today are some millions.
pub const MOST_TOKENS: u64 = 1_000_000_000_000;

/// No model name is longer than this, in bytes; a longer one is not worth keeping.
const LONGEST_MODEL: usize = 256;

impl TokenUsage {
    /// Reads a `usage` object of chat completions or of responses (their names do not overlap).
    /// `None` when it is not an object or holds no count that we know.
    pub fn from_json(raw: &str) -> Option<Self> {
        let fields: UsageFields<'_> = object(raw)?;
        let input = fields.prompt_tokens_details.or(fields.input_tokens_details);
        let input: DetailFields<'_> = input.and_then(|raw| object(raw.get())).unwrap_or_default();
        let output = fields.completion_tokens_details.or(fields.output_tokens_details);
        let output: DetailFields<'_> = output.and_then(|raw| object(raw.get())).unwrap_or_default();
        let usage = Self {
            input: count(fields.prompt_tokens).or(count(fields.input_tokens)),
            cached_input: count(input.cached_tokens)
                .or(count(fields.prompt_cache_hit_tokens))
                .or(count(fields.cached_tokens)),
            cache_write: count(input.cache_write_tokens)
                .or(count(fields.cache_creation_input_tokens)),
            output: count(fields.completion_tokens).or(count(fields.output_tokens)),
            reasoning: count(output.reasoning_tokens),
            audio_input: count(input.audio_tokens),
            audio_output: count(output.audio_tokens),
        };
        (usage != Self::default()).then_some(usage)
    }

    /// What stands when a later report of the same answer has come. Reports are cumulative, so they
    /// are not added up: each of the later counts replaces the earlier one, and a kind that only the
    /// earlier report had stays. A total of 0 after a real one is an adapter's blank, since no count
    /// goes down to nothing; then its kinds are blanks as well.
    pub fn updated(self, later: Self) -> Self {
        let is_blank = |earlier: Option<u64>, later: Option<u64>| {
            later == Some(0) && earlier.is_some_and(|count| count > 0)
        };
        let input = if is_blank(self.input, later.input) { Self::default() } else { later };
        let output = if is_blank(self.output, later.output) { Self::default() } else { later };
        Self {
            input: input.input.or(self.input),
            cached_input: input.cached_input.or(self.cached_input),
            cache_write: input.cache_write.or(self.cache_write),
            output: output.output.or(self.output),
            reasoning: output.reasoning.or(self.reasoning),
            audio_input: input.audio_input.or(self.audio_input),
            audio_output: output.audio_output.or(self.audio_output),
        }
    }
}

/// The few members of an answer, or of a stream event, that the gateway looks at.
#[derive(Debug, Default, Deserialize)]
pub struct Answer<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
}

impl<'a> Answer<'a> {
    /// Reads the members of a JSON object; `None` when it is none.
    pub fn parse(json: &'a [u8]) -> Option<Self> {
        object(std::str::from_utf8(json).ok()?)
    }

    /// The tokens reported; `usage: null` is none, not zero.
    pub fn usage(&self) -> Option<TokenUsage> {
        TokenUsage::from_json(self.usage?.get())
    }

    /// The model that answered.
    pub fn model(&self) -> Option<String> {
        model_name(self.model?.get())
    }

    /// What stands under `response`, in events of the responses API.
    pub fn response(&self) -> Option<Answer<'a>> {
        object(self.response?.get())
    }

    /// The event's own name for itself, in events of the responses API.
    pub fn kind(&self) -> Option<Cow<'a, str>> {
        text(self.kind?.get())
    }

    /// Whether this is the event that `stream_options.include_usage` adds to a chat stream: no
    /// choices, and a usage that is there.
    pub fn is_usage_event(&self) -> bool {
        let is_empty = |raw: &str| {
            raw.strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|inner| inner.trim_ascii().is_empty())
        };
        self.choices.is_some_and(|raw| is_empty(raw.get()))
            && self.usage.is_some_and(|raw| raw.get() != "null")
    }
}

/// A model's name from its raw JSON; `None` when it is not text, empty, or too long to keep.
pub fn model_name(raw: &str) -> Option<String> {
    let name = text(raw)?;
    (1..=LONGEST_MODEL).contains(&name.len()).then(|| name.into_owned())
}

#[derive(Default, Deserialize)]
struct UsageFields<'a> {
    #[serde(borrow, default)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    completion_tokens_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt_cache_hit_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cache_creation_input_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input_tokens_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output_tokens_details: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct DetailFields<'a> {
    #[serde(borrow, default)]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cache_write_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    audio_tokens: Option<&'a RawValue>,
}

/// Raw values are parsed as counts here rather than by serde, to which one number out of range
/// would be the end of the whole object.
fn count(raw: Option<&RawValue>) -> Option<u64> {
    raw?.get().parse().ok().filter(|count| *count <= MOST_TOKENS)
}

/// serde takes an array for a struct as well; an answer is an object or nothing.
fn object<'a, T: Deserialize<'a>>(raw: &'a str) -> Option<T> {
    if !raw.trim_ascii_start().starts_with('{') {
        return None;
    }
    serde_json::from_str(raw).ok()
}

fn text(raw: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw).ok().map(|text| text.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_usage_with_all_its_details() {
        let usage = TokenUsage::from_json(
            r#"{"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 4}}"#,
        );
        assert_eq!(
            usage,
            Some(TokenUsage {
                input: Some(100),
                cached_input: Some(64),
                cache_write: None,
                output: Some(50),
                reasoning: Some(20),
                audio_input: Some(3),
                audio_output: Some(4),
            })
        );
    }

    #[test]
    fn responses_usage_and_other_dialects() {
        let usage = TokenUsage::from_json(
            r#"{"input_tokens": 7, "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 2}}"#,
        )
        .unwrap();
        assert_eq!((usage.input, usage.output), (Some(7), Some(9)));
        assert_eq!((usage.cached_input, usage.reasoning), (Some(0), Some(2)));

        let usage = TokenUsage::from_json(
            r#"{"prompt_tokens": 7, "prompt_cache_hit_tokens": 5, "prompt_tokens_details": null,
                "cache_creation_input_tokens": 1}"#,
        )
        .unwrap();
        assert_eq!((usage.cached_input, usage.cache_write), (Some(5), Some(1)));
        assert_eq!(usage.output, None);
    }

    #[test]
    fn cached_input_in_all_spellings() {
        for spelling in [
            r#""prompt_tokens_details": {"cached_tokens": 5}"#,
            r#""prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 2"#,
            r#""cached_tokens": 5"#,
            r#""prompt_tokens_details": {"cached_tokens": 5}, "prompt_cache_hit_tokens": 4"#,
            r#""prompt_tokens_details": {"cached_tokens": null}, "prompt_cache_hit_tokens": 5"#,
        ] {
            let usage = TokenUsage::from_json(&format!(r#"{{"prompt_tokens": 7, {spelling}}}"#));
            let usage = usage.unwrap_or_default();
            assert_eq!((usage.input, usage.cached_input), (Some(7), Some(5)), "{spelling}");
        }
    }

    #[test]
    fn later_reports_replace_earlier_ones() {
        let usage = |raw: &str| TokenUsage::from_json(raw).unwrap();
        let first = usage(
            r#"{"prompt_tokens": 25, "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 10}}"#,
        );
        let last = usage(r#"{"prompt_tokens": 26, "completion_tokens": 30}"#);
        let expected = TokenUsage { input: Some(26), output: Some(30), ..first };
        assert_eq!(first.updated(last), expected);
        assert_eq!(first.updated(first), first);

        let blank = usage(
            r#"{"prompt_tokens": 0, "completion_tokens": 30,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0}}"#,
        );
        let expected = TokenUsage { output: Some(30), reasoning: Some(0), ..first };
        assert_eq!(first.updated(blank), expected);
        assert_eq!(blank.updated(first).output, Some(1), "a correction");
        assert_eq!(blank.updated(first).input, Some(25));
    }

    #[test]
    fn absurd_counts_are_ignored_one_by_one() {
        for absurd in [
            "-1",
            "1.5",
            "1e999",
            "99999999999999999999999",
            "1000000000001",
            "\"3\"",
            "[3]",
            "null",
        ] {
            let raw = format!(r#"{{"prompt_tokens": {absurd}, "completion_tokens": 2}}"#);
            let usage = TokenUsage::from_json(&raw).unwrap();
            assert_eq!((usage.input, usage.output), (None, Some(2)), "{absurd}");
        }
        for nothing in ["null", "{}", "[1, 2]", "3", "", "{", r#"{"prompt_tokens": null}"#] {
            assert_eq!(TokenUsage::from_json(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn the_usage_event_is_told_from_its_likes() {
        let is = |json: &str| Answer::parse(json.as_bytes()).is_some_and(|a| a.is_usage_event());
        assert!(is(r#"{"choices": [ ], "usage": {"prompt_tokens": 1}}"#));
        assert!(!is(r#"{"choices": [], "usage": null}"#));
        assert!(!is(r#"{"choices": [], "prompt_filter_results": []}"#));
        assert!(!is(r#"{"choices": [{}], "usage": {"prompt_tokens": 1}}"#));
        assert!(!is(r#"{"usage": {"prompt_tokens": 1}}"#));
        assert!(!is("[DONE]"));
    }

    #[test]
    fn models_are_bounded_text() {
        let model = |json: &str| Answer::parse(json.as_bytes()).and_then(|a| a.model());
        assert_eq!(model(r#"{"model": "gpt\u002d4"}"#).as_deref(), Some("gpt-4"));
        assert_eq!(model(r#"{"model": 4}"#), None);
        assert_eq!(model(&format!(r#"{{"model": "{}"}}"#, "x".repeat(257))), None);
    }
}
