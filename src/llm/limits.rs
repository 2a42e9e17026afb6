//! The maximum that a request can use, derived from its body alone.
//!
//! A token is never less than a byte, so text is bounded by its length. What the body only refers to
//! (earlier answers, files, images, searches) is bounded by the model's context window. Where a body
//! can be read in two ways, the more expensive one counts: an upstream may be more lenient than its
//! documentation.

mod converse;
mod facts;
mod gemini;
mod input;
mod limit;
mod model_fields;
mod output;
mod thinking;

pub use facts::BodyFacts;
pub use model_fields::{KNOWN_MODEL_FIELDS, is_set};

use super::format::Format;
use crate::domain::money::NanoUsd;
use crate::domain::pricing::{Extras, Price, ToolCalls};
use input::InputKind;

/// What is known of a model, from its configuration or the catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelLimits {
    /// Maximum tokens of prompt and answer together.
    pub context_window: Option<u64>,
    /// Maximum tokens of an answer.
    pub max_output_tokens: Option<u64>,
}

/// What is assumed of a model of which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssumedLimits {
    /// Tokens of input.
    pub context_tokens: u64,
    /// Tokens of output.
    pub output_tokens: u64,
}

/// What a request is sent to, as far as its limits go.
#[derive(Clone, Copy, Debug)]
pub struct TargetLimits<'a> {
    pub format: Format,
    /// Limits on the answer that the provider accepts and ignores.
    pub ignored_limits: &'a [&'a str],
    /// Maximum tokens that the provider's models read for one image.
    pub image_tokens: u64,
    /// The model's own limits.
    pub model: ModelLimits,
    /// What is assumed where the model's are not known.
    pub assumed: AssumedLimits,
}

impl TargetLimits<'_> {
    /// The most tokens of one answer, known or assumed.
    fn longest_answer(&self) -> u64 {
        self.model.max_output_tokens.unwrap_or(self.assumed.output_tokens)
    }
}

/// The maximum that a request can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Tokens that the model reads.
    pub input_tokens: u64,
    /// Tokens that it writes, all choices together.
    pub output_tokens: u64,
    /// Whether it can't be more; otherwise a part of it is assumed.
    pub hard: bool,
    /// Tokens that token rate limits reserve: a guess, not a bound.
    pub estimate_tokens: i64,
    pub metering: Metering,
    /// Whether nothing is known of what it may use.
    pub unknown: bool,
    /// Tokens that are charged for input that is not text (images, files, stored context), where the
    /// provider does not report what it read.
    pub unseen_tokens: u64,
    /// What else changes the price.
    pub extras: Extras,
}

/// What a request is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metering {
    Tokens,
    /// Nothing at all: a listing.
    Free,
    /// Tokens, which the caller pays by a subscription of their own.
    Subscription,
    /// Nobody knows: an endpoint that is passed through.
    Unmetered {
        /// Spend caps do not stop it.
        despite_caps: bool,
    },
}

impl Bound {
    /// Of a request that calls no model, such as a listing.
    pub const FREE: Self = Self {
        input_tokens: 0,
        output_tokens: 0,
        hard: true,
        estimate_tokens: 0,
        metering: Metering::Free,
        unknown: false,
        unseen_tokens: 0,
        extras: Extras::NONE,
    };

    /// Of a request of which nothing is metered.
    pub const fn unmetered(despite_caps: bool) -> Self {
        Self { hard: false, metering: Metering::Unmetered { despite_caps }, ..Self::FREE }
    }

    /// The most that it may cost at this price, whoever pays; none if that is not known.
    pub fn max_cost(&self, price: Option<&Price>) -> Option<NanoUsd> {
        match self.metering {
            Metering::Tokens | Metering::Subscription => price.and_then(|price| {
                price.reserved_cost(self.input_tokens, self.output_tokens, &self.extras)
            }),
            Metering::Free | Metering::Unmetered { despite_caps: true } => Some(NanoUsd::ZERO),
            Metering::Unmetered { despite_caps: false } => None,
        }
    }

    /// Of a body of so many bytes as it is sent.
    pub fn of_request(facts: &BodyFacts, body_bytes: usize, target: &TargetLimits<'_>) -> Self {
        let bytes = u64::try_from(body_bytes).unwrap_or(u64::MAX);
        let input = &facts.input;
        // Each of the inputs of embeddings has the window to itself.
        let windows = if target.format.writes_text() { 1 } else { input.items.max(1) };
        let window = target.model.context_window.map(|window| window.saturating_mul(windows));
        let assumed = target.assumed.context_tokens.saturating_mul(windows);
        let (kind, added) = match target.format {
            // Converse has Anthropic's models, too.
            Format::Messages | Format::Converse => (input.kind, input.added_tool_tokens()),
            Format::Invoke => (InputKind::Stored, 0),
            Format::Chat | Format::Responses if input.has_untyped_tools => (InputKind::Hosted, 0),
            Format::Chat
            | Format::Responses
            | Format::Embeddings
            | Format::Gemini
            | Format::GeminiEmbeddings => (input.kind, 0),
        };
        // OpenAI's searches are bounded together, or not at all.
        let has_openai_search = input.has_web_search || input.has_file_search;
        let openai_calls = facts.max_tool_calls.filter(|_| has_openai_search);
        let is_endless = has_openai_search && openai_calls.is_none();
        let kind = if is_endless { kind.max(InputKind::Hosted) } else { kind };
        let searches = input.searches.saturating_add(openai_calls.unwrap_or(0));
        let (input_tokens, input_hard) = match (kind, window) {
            (InputKind::Text, _) => (bytes.saturating_add(added), true),
            (InputKind::Media | InputKind::Stored, Some(window)) => (window, true),
            // Each search may fill the window, which is then read again.
            (InputKind::Searched, Some(window)) => {
                (window.saturating_mul(searches.saturating_add(1)), true)
            }
            // A hosted tool makes the model read its window again for each of its steps.
            (InputKind::Hosted, Some(window)) => (window, false),
            (_, None) => (assumed, false),
        };
        let unseen_tokens = match kind {
            InputKind::Text | InputKind::Media => input.media_tokens(target.image_tokens),
            // It is not known how much it is.
            InputKind::Stored | InputKind::Searched | InputKind::Hosted => input_tokens,
        };
        let otherwise = if is_endless { "max_tool_calls" } else { "tools" };
        let hosted_by = (kind == InputKind::Hosted).then(|| input.hosted_by.unwrap_or(otherwise));
        let is_unbounded =
            matches!(kind, InputKind::Stored | InputKind::Searched) && window.is_none();
        let of_openai = |is_there| if is_there { openai_calls.unwrap_or(0) } else { 0 };
        let max_calls = match kind {
            InputKind::Searched => ToolCalls {
                web_searches: input.searches.saturating_add(of_openai(input.has_web_search)),
                file_searches: of_openai(input.has_file_search),
            },
            _ => ToolCalls::NONE,
        };
        let extras = facts.output.extras;
        let unpriced = extras.unpriced.or(hosted_by);
        let extras = Extras { max_calls, unpriced, is_unbounded, ..extras };
        let (output_tokens, output_hard) = facts.output.tokens(target);
        // Before each pass over the input the provider may read it to sum it up. The model then reads the
        // summary, and no limit on the answer is known to hold for it.
        let has_compaction = facts.has_compaction && target.format.writes_text();
        let (input_tokens, output_tokens, output_hard) = if has_compaction {
            let passes = if kind == InputKind::Searched { searches.saturating_add(1) } else { 1 };
            let summaries = target.longest_answer().saturating_mul(passes);
            (
                input_tokens.saturating_mul(2).saturating_add(summaries),
                output_tokens.saturating_add(summaries),
                output_hard && target.model.max_output_tokens.is_some(),
            )
        } else {
            (input_tokens, output_tokens, output_hard)
        };
        Self {
            input_tokens,
            output_tokens,
            hard: input_hard && output_hard,
            unknown: target.format == Format::Invoke && !(input_hard && output_hard),
            estimate_tokens: i64::try_from(bytes.div_ceil(4)).unwrap_or(i64::MAX),
            metering: Metering::Tokens,
            unseen_tokens: unseen_tokens.min(input_tokens),
            extras,
        }
    }
}

#[cfg(test)]
mod tests;
