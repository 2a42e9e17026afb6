//! What tokens cost.
//!
//! A price is rates for a million tokens by kind, a fee for the request, and tiers: providers with
//! long-context prices charge a whole request at the rates of its tier, by how much input it has.

mod checks;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use checks::{MOST_RATE, MOST_TIERS};

use super::money::NanoUsd;
use super::tokens::TokenUsage;

/// Stands for every provider, and in a model's name for any characters, none included.
pub const ANY: &str = "*";

/// Tokens that a rate is for.
const PER: i128 = 1_000_000;

/// What one request costs. Read from JSON, it has no negative amounts, none above [`MOST_RATE`] and
/// at most [`MOST_TIERS`] tiers in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// US dollars for a million tokens of input, 0 to 1,000,000.
    #[serde(deserialize_with = "checks::rate")]
    #[schema(example = 2.5)]
    pub input: NanoUsd,
    /// Of input that the provider had in its cache; as `input` unless given.
    #[serde(
        default,
        deserialize_with = "checks::optional_rate",
        skip_serializing_if = "Option::is_none"
    )]
    pub cached_input: Option<NanoUsd>,
    /// Of input that the provider puts into its cache; as `input` unless given.
    #[serde(
        default,
        deserialize_with = "checks::optional_rate",
        skip_serializing_if = "Option::is_none"
    )]
    pub cache_write: Option<NanoUsd>,
    /// Of output.
    #[serde(deserialize_with = "checks::rate")]
    #[schema(example = 10)]
    pub output: NanoUsd,
    /// Of output that is reasoning; as `output` unless given.
    #[serde(
        default,
        deserialize_with = "checks::optional_rate",
        skip_serializing_if = "Option::is_none"
    )]
    pub reasoning: Option<NanoUsd>,
    /// Of input that is audio; as `input` unless given.
    #[serde(
        default,
        deserialize_with = "checks::optional_rate",
        skip_serializing_if = "Option::is_none"
    )]
    pub audio_input: Option<NanoUsd>,
    /// Of output that is audio; as `output` unless given.
    #[serde(
        default,
        deserialize_with = "checks::optional_rate",
        skip_serializing_if = "Option::is_none"
    )]
    pub audio_output: Option<NanoUsd>,
    /// US dollars for each request besides, 0 to 1,000,000.
    #[serde(default, deserialize_with = "checks::rate")]
    pub request: NanoUsd,
    /// Other rates for requests with long input, ascending, at most 16.
    #[serde(default, deserialize_with = "checks::tiers", skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub tiers: Vec<Tier>,
}

/// The rates of requests with more than so much input. They hold for the whole request, and what is
/// not given follows this tier's `input` and `output`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// The tier is for requests with more input than this, of all kinds together.
    #[serde(deserialize_with = "checks::threshold")]
    #[schema(minimum = 1, maximum = 1_000_000_000, example = 200_000)]
    pub above_input_tokens: u64,
    /// US dollars for a million tokens of input, 0 to 1,000,000.
    #[serde(deserialize_with = "checks::rate")]
    pub input: NanoUsd,
    /// Of input that the provider had in its cache; as `input` unless given.
    #[serde(
        default,
        deserialize_with = "checks::optional_rate",
        skip_serializing_if = "Option::is_none"
    )]
    pub cached_input: Option<NanoUsd>,
    /// Of input that the provider puts into its cache; as `input` unless given.
    #[serde(
        default,
        deserialize_with = "checks::optional_rate",
        skip_serializing_if = "Option::is_none"
    )]
    pub cache_write: Option<NanoUsd>,
    /// Of output.
    #[serde(deserialize_with = "checks::rate")]
    pub output: NanoUsd,
    /// Of output that is reasoning; as `output` unless given.
    #[serde(
        default,
        deserialize_with = "checks::optional_rate",
        skip_serializing_if = "Option::is_none"
    )]
    pub reasoning: Option<NanoUsd>,
    /// Of input that is audio; as `input` unless given.
    #[serde(
        default,
        deserialize_with = "checks::optional_rate",
        skip_serializing_if = "Option::is_none"
    )]
    pub audio_input: Option<NanoUsd>,
    /// Of output that is audio; as `output` unless given.
    #[serde(
        default,
        deserialize_with = "checks::optional_rate",
        skip_serializing_if = "Option::is_none"
    )]
    pub audio_output: Option<NanoUsd>,
}

/// The rates of one tier, in nano-dollars for a million tokens, what was not given filled in.
#[derive(Clone, Copy, Debug)]
struct Rates {
    input: i128,
    cached_input: i128,
    cache_write: i128,
    audio_input: i128,
    output: i128,
    reasoning: i128,
    audio_output: i128,
}

/// The tokens of input and of output that a usage is charged for: parts that are more than their
/// total are counted beside it.
pub fn charged_tokens(usage: &TokenUsage) -> (u64, u64) {
    let billed = Billed::of(usage);
    (billed.all_input(), billed.all_output())
}

/// What one attempt is charged for, in tokens, each token of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Billed {
    input: u64,
    cached_input: u64,
    cache_write: u64,
    audio_input: u64,
    output: u64,
    reasoning: u64,
    audio_output: u64,
}

impl Price {
    /// What these tokens cost: the rates of the tier that the input falls in, and one rounding up,
    /// to whole nano-dollars. What was not reported counts as nothing.
    ///
    /// Cached, written and audio input are parts of the input, reasoning and audio are parts of the
    /// output. Where parts are more than their total, the provider counts them beside it, and they
    /// are charged on top: rather too much than too little. Audio alone overlaps with others, since it
    /// comes from the cache as well: where both fit into the input, but not beside each other, what
    /// both have in common is charged as cached, which is how audio from the cache is priced. Never
    /// overflows; a sum beyond what [`NanoUsd`] holds is [`NanoUsd::MAX`].
    pub fn cost(&self, usage: &TokenUsage) -> NanoUsd {
        let billed = Billed::of(usage);
        let rates = self.rates(billed.all_input());
        let sum = [
            (billed.input, rates.input),
            (billed.cached_input, rates.cached_input),
            (billed.cache_write, rates.cache_write),
            (billed.audio_input, rates.audio_input),
            (billed.output, rates.output),
            (billed.reasoning, rates.reasoning),
            (billed.audio_output, rates.audio_output),
        ]
        .into_iter()
        .fold(0, |sum: i128, (tokens, rate)| sum.saturating_add(product(tokens, rate)));
        NanoUsd::from_ratio_up(sum, PER) + self.request
    }

    /// The most that a request can cost that is charged for at most so many tokens of input and of
    /// output, whatever their kinds: the dearest rate of each side, in the dearest tier that so
    /// much input can reach. No usage whose parts fit into its totals, and its totals into these
    /// bounds, costs more; and some usage costs exactly this.
    ///
    /// A provider that counts parts beside the total is charged for the sum of them, so the bounds
    /// have to hold for that sum.
    pub fn most(&self, input: u64, output: u64) -> NanoUsd {
        let starts = std::iter::once(None).chain(self.tiers.iter().map(Some));
        let ends = self.tiers.iter().map(|tier| Some(tier.above_input_tokens)).chain([None]);
        starts
            .zip(ends)
            .filter(|(tier, _)| tier.is_none_or(|tier| input > tier.above_input_tokens))
            .map(|(tier, end)| {
                let rates = tier.map_or_else(|| self.base(), Tier::rates);
                let input = end.map_or(input, |end| input.min(end));
                let sum = product(input, rates.most_input());
                let sum = sum.saturating_add(product(output, rates.most_output()));
                NanoUsd::from_ratio_up(sum, PER) + self.request
            })
            .max()
            .unwrap_or(self.request)
    }

    /// The rates for a request with so much input.
    fn rates(&self, input: u64) -> Rates {
        let tier = self.tiers.iter().rfind(|tier| input > tier.above_input_tokens);
        tier.map_or_else(|| self.base(), Tier::rates)
    }

    fn base(&self) -> Rates {
        let nanos = |rate: NanoUsd| i128::from(rate.nanos());
        let (input, output) = (nanos(self.input), nanos(self.output));
        Rates {
            input,
            cached_input: self.cached_input.map_or(input, nanos),
            cache_write: self.cache_write.map_or(input, nanos),
            audio_input: self.audio_input.map_or(input, nanos),
            output,
            reasoning: self.reasoning.map_or(output, nanos),
            audio_output: self.audio_output.map_or(output, nanos),
        }
    }
}

impl Tier {
    fn rates(&self) -> Rates {
        let nanos = |rate: NanoUsd| i128::from(rate.nanos());
        let (input, output) = (nanos(self.input), nanos(self.output));
        Rates {
            input,
            cached_input: self.cached_input.map_or(input, nanos),
            cache_write: self.cache_write.map_or(input, nanos),
            audio_input: self.audio_input.map_or(input, nanos),
            output,
            reasoning: self.reasoning.map_or(output, nanos),
            audio_output: self.audio_output.map_or(output, nanos),
        }
    }
}

impl Rates {
    fn most_input(self) -> i128 {
        self.input.max(self.cached_input).max(self.cache_write).max(self.audio_input)
    }

    fn most_output(self) -> i128 {
        self.output.max(self.reasoning).max(self.audio_output)
    }
}

impl Billed {
    fn of(usage: &TokenUsage) -> Self {
        let count = |tokens: Option<u64>| tokens.unwrap_or(0);
        let mut billed = Self {
            input: count(usage.input),
            cached_input: count(usage.cached_input),
            cache_write: count(usage.cache_write),
            audio_input: count(usage.audio_input),
            output: count(usage.output),
            reasoning: count(usage.reasoning),
            audio_output: count(usage.audio_output),
        };
        let through_cache = billed.cached_input.saturating_add(billed.cache_write);
        if let Some(others) = billed.input.checked_sub(through_cache)
            && billed.audio_input <= billed.input
        {
            billed.audio_input = billed.audio_input.min(others);
        }
        billed.input =
            rest(billed.input, &[billed.cached_input, billed.cache_write, billed.audio_input]);
        billed.output = rest(billed.output, &[billed.reasoning, billed.audio_output]);
        billed
    }

    fn all_input(&self) -> u64 {
        [self.cached_input, self.cache_write, self.audio_input]
            .into_iter()
            .fold(self.input, u64::saturating_add)
    }

    fn all_output(&self) -> u64 {
        self.output.saturating_add(self.reasoning).saturating_add(self.audio_output)
    }
}

/// What is left of the total without its parts; all of it where the parts stand beside it.
fn rest(total: u64, parts: &[u64]) -> u64 {
    let left = parts.iter().try_fold(total, |left, part| left.checked_sub(*part));
    left.unwrap_or(total)
}

fn product(tokens: u64, rate: i128) -> i128 {
    i128::from(tokens).saturating_mul(rate)
}
