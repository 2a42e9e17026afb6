//! Token counts as providers report them, read from plain answers and from stream events.
//!
//! Providers are not trusted to report sense: a count that is negative, fractional, not a number or
//! beyond [`MOST_TOKENS`] is as good as absent, and never an error.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::pricing::charged_tokens;
pub use crate::domain::tokens::TokenUsage;

/// No request has more tokens than this. The bound keeps sums of money far from overflow; the
/// largest context windows of today are some millions.
pub const MOST_TOKENS: u64 = 1_000_000_000_000;

/// No model name is longer than this, in bytes; a longer one is not worth keeping.
const LONGEST_MODEL: usize = 256;

/// What a provider reported of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Tokens by kind, each as it was reported.
    pub counts: TokenUsage,
    /// All tokens together.
    pub total: Option<u64>,
}

impl Report {
    /// Reads a `usage` object of chat completions or of responses (their names do not overlap).
    /// `None` when it is not an object or holds no count that we know.
    pub fn from_json(raw: &str) -> Option<Self> {
        let fields: UsageFields<'_> = object(raw)?;
        let input = fields.prompt_tokens_details.or(fields.input_tokens_details);
        let input: DetailFields<'_> = input.and_then(|raw| object(raw.get())).unwrap_or_default();
        let output = fields.completion_tokens_details.or(fields.output_tokens_details);
        let output: DetailFields<'_> = output.and_then(|raw| object(raw.get())).unwrap_or_default();
        let counts = TokenUsage {
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
        // A total alone says nothing about kinds.
        (counts != TokenUsage::default())
            .then_some(Self { counts, total: count(fields.total_tokens) })
    }

    /// What stands when a later report of the same answer has come. Reports are cumulative, so they
    /// are not added up: each of the later counts replaces the earlier one, and a kind that only the
    /// earlier report had stays. A total of 0 after a real one is an adapter's blank, since no count
    /// goes down to nothing; then its kinds are blanks as well.
    pub fn updated(self, later: Self) -> Self {
        let is_blank = |earlier: Option<u64>, later: Option<u64>| {
            later == Some(0) && earlier.is_some_and(|count| count > 0)
        };
        let (earlier, new) = (self.counts, later.counts);
        let input = if is_blank(earlier.input, new.input) { TokenUsage::default() } else { new };
        let output = if is_blank(earlier.output, new.output) { TokenUsage::default() } else { new };
        let total = if is_blank(self.total, later.total) { None } else { later.total };
        let counts = TokenUsage {
            input: input.input.or(earlier.input),
            cached_input: input.cached_input.or(earlier.cached_input),
            cache_write: input.cache_write.or(earlier.cache_write),
            output: output.output.or(earlier.output),
            reasoning: output.reasoning.or(earlier.reasoning),
            audio_input: input.audio_input.or(earlier.audio_input),
            audio_output: output.audio_output.or(earlier.audio_output),
        };
        Self { counts, total: total.or(self.total) }
    }

    /// The tokens by kind, where the total tells of more than input and output: some providers count
    /// what the model thought beside its output, with or without saying so in the details.
    ///
    /// As much more as there is reasoning, or input from and to the cache, is just that. Anything
    /// else is output, unless the answer would become longer than `at_most_output` tokens, what the
    /// request allowed: then the total counts something else, and nothing is charged for it. A total
    /// that is smaller changes nothing.
    pub fn tokens(self, at_most_output: u64) -> TokenUsage {
        let Self { counts, total } = self;
        if counts.input.is_none() || counts.output.is_none() {
            return counts;
        }
        let (input, output) = charged_tokens(&counts);
        let more = total.unwrap_or(0).saturating_sub(input.saturating_add(output));
        let through_cache =
            counts.cached_input.unwrap_or(0).saturating_add(counts.cache_write.unwrap_or(0));
        let longer = TokenUsage { output: Some(output.saturating_add(more)), ..counts };
        match more {
            0 => counts,
            _ if counts.reasoning == Some(more) => longer,
            _ if through_cache == more => {
                TokenUsage { input: Some(input.saturating_add(more)), ..counts }
            }
            _ if longer.output <= Some(at_most_output) => longer,
            _ => counts,
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
    pub fn usage(&self) -> Option<Report> {
        Report::from_json(self.usage?.get())
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
    total_tokens: Option<&'a RawValue>,
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
mod tests;
