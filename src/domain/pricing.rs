//! The cost of tokens.
//!
//! A price has rates for a million tokens by kind, a fee for each request, and tiers: providers with
//! long-context prices charge the whole request at the rates of the tier that its input falls in. Which
//! price applies to a model is in [`resolve`].

pub mod catalogue;
mod checks;
mod extras;
pub mod model_names;
pub mod resolve;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use checks::{MAX_RATE, MAX_TIERS};
pub use extras::{Extras, Factor, ToolCalls};

use super::money::NanoUsd;
use super::tokens::{ByKind, TokenUsage};

/// Every provider; in a model's name, any number of characters.
pub const ANY: &str = "*";

/// A rate is for this many tokens.
const TOKENS_PER_RATE: i128 = 1_000_000;

macro_rules! rates {
    ($(
        $(#[$total_doc:meta])+
        $total:ident {
            $($(#[$doc:meta])+ $part:ident or $fallback:ident;)+
        }
    )+) => {
        /// A price. One that was read from JSON has amounts from zero to [`MAX_RATE`] and at most
        /// [`MAX_TIERS`] tiers in ascending order.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct Price {
            $(
                $(#[$total_doc])+
                #[serde(deserialize_with = "checks::rate")]
                pub $total: NanoUsd,
                $(
                    $(#[$doc])+
                    #[serde(
                        default,
                        deserialize_with = "checks::optional_rate",
                        skip_serializing_if = "Option::is_none"
                    )]
                    pub $part: Option<NanoUsd>,
                )+
            )+
            /// US dollars for each request, in addition to its tokens, 0 to 1,000,000.
            #[serde(default, deserialize_with = "checks::rate")]
            pub request: NanoUsd,
            /// US dollars for each web search of the provider's tool; if not given, requests with the tool
            /// have no known price.
            #[serde(
                default,
                deserialize_with = "checks::optional_rate",
                skip_serializing_if = "Option::is_none"
            )]
            #[schema(example = 0.01)]
            pub web_search: Option<NanoUsd>,
            /// US dollars for each call of the provider's tool that searches files (OpenAI); if not given, requests
            /// with the tool have no known price.
            #[serde(
                default,
                deserialize_with = "checks::optional_rate",
                skip_serializing_if = "Option::is_none"
            )]
            #[schema(example = 0.0025)]
            pub file_search: Option<NanoUsd>,
            /// What the cost of tokens is multiplied by for `service_tier` `priority` or `fast`; if not given, such
            /// requests have no known price.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(example = 2)]
            pub priority_factor: Option<Factor>,
            /// The same for Anthropic's `speed: "fast"`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(example = 2)]
            pub fast_factor: Option<Factor>,
            /// The same for Anthropic's `inference_geo: "us"`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(example = 1.1)]
            pub us_inference_factor: Option<Factor>,
            /// What the cost of tokens is multiplied by where a model on Vertex answers elsewhere than at the global
            /// endpoint; if not given, the location changes nothing.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(example = 1.1)]
            pub regional_factor: Option<Factor>,
            /// Rates for requests with long input, in ascending order, at most 16.
            #[serde(
                default,
                deserialize_with = "checks::tiers",
                skip_serializing_if = "Vec::is_empty"
            )]
            #[schema(max_items = 16)]
            pub tiers: Vec<Tier>,
        }

        /// The rates for requests with more input than a threshold. They apply to the whole request. Rates
        /// that are not given are this tier's `input` or `output`.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct Tier {
            /// The tier applies to requests with more tokens of input, of all kinds together.
            #[serde(deserialize_with = "checks::threshold")]
            #[schema(minimum = 1, maximum = 1_000_000_000, example = 200_000)]
            pub above_input_tokens: u64,
            $(
                $(#[$total_doc])+
                #[serde(deserialize_with = "checks::rate")]
                pub $total: NanoUsd,
                $(
                    $(#[$doc])+
                    #[serde(
                        default,
                        deserialize_with = "checks::optional_rate",
                        skip_serializing_if = "Option::is_none"
                    )]
                    pub $part: Option<NanoUsd>,
                )+
            )+
        }

        impl<T: Copy> ByKind<T> {
            /// Input of all kinds together, and output.
            fn totals(self, add: fn(T, T) -> T) -> [T; 2] {
                [$([$(self.$part),+].into_iter().fold(self.$total, add)),+]
            }
        }

        impl Price {
            /// The rates in nano-dollars, including the ones that were not given.
            fn base(&self) -> ByKind<i128> {
                let nanos = |rate: NanoUsd| i128::from(rate.nanos());
                $(
                    let $total = nanos(self.$total);
                    $(let $part = self.$part.map_or($fallback, nanos);)+
                )+
                ByKind { $($total, $($part,)+)+ }
            }
        }

        impl Tier {
            fn rates(&self) -> ByKind<i128> {
                let price = Price {
                    $($total: self.$total, $($part: self.$part,)+)+
                    ..Price::default()
                };
                price.base()
            }
        }
    };
}

// Rates for input and output, each with those for its parts and the rate that applies where one is not given.
rates! {
    /// US dollars for a million tokens of input, 0 to 1,000,000.
    input {
        /// Input that the provider read from its cache; `input` if not given.
        cached_input or input;
        /// Input that the provider wrote to its cache; `input` if not given.
        cache_write or input;
        /// Input that the provider wrote to its cache for one hour; `cache_write` if not given.
        cache_write_1h or cache_write;
        /// Input that is audio; `input` if not given.
        audio_input or input;
    }
    /// US dollars for a million tokens of output, 0 to 1,000,000.
    output {
        /// Output that is reasoning; `output` if not given.
        reasoning or output;
        /// Output that is audio; `output` if not given.
        audio_output or output;
    }
}

/// The tokens of input and of output that are charged for a usage: parts that exceed their total are
/// added to it.
pub fn charged_tokens(usage: &TokenUsage) -> (u64, u64) {
    charged_by_kind(usage).totals(u64::saturating_add).into()
}

impl Price {
    /// The cost of these tokens at the rates of the tier that the input falls in, rounded up once to
    /// whole nano-dollars. Counts that were not reported are zero.
    ///
    /// Cached, written and audio input are parts of the input, what was written for one hour is a part
    /// of what was written, and reasoning and audio output are parts of the output. If the parts exceed
    /// their total, the provider counts them separately, and they are charged in addition: too much rather
    /// than too little. Audio input may also be cached: if the two fit into the input only together, their
    /// common part is charged as cached, which is how audio from the cache is priced. Never overflows; a sum
    /// that [`NanoUsd`] cannot represent is [`NanoUsd::MAX`].
    pub fn cost(&self, usage: &TokenUsage) -> NanoUsd {
        let charged = charged_by_kind(usage);
        let [input, _] = charged.totals(u64::saturating_add);
        let costs = charged.values().into_iter().zip(self.rates(input).values());
        let sum =
            costs.fold(0, |sum: i128, (tokens, rate)| sum.saturating_add(product(tokens, rate)));
        NanoUsd::from_ratio_up(sum, TOKENS_PER_RATE) + self.request
    }

    /// The highest cost of a request with at most this many tokens of input and output of any kinds:
    /// the highest rates, in the most expensive tier that this much input can reach. It is exact: some
    /// usage within these bounds costs this much.
    ///
    /// A provider that counts parts separately from the total is charged for their sum, so the bounds
    /// have to include that sum.
    pub fn max_cost(&self, input: u64, output: u64) -> NanoUsd {
        let starts = std::iter::once(None).chain(self.tiers.iter().map(Some));
        let ends = self.tiers.iter().map(|tier| Some(tier.above_input_tokens)).chain([None]);
        starts
            .zip(ends)
            .filter(|(tier, _)| tier.is_none_or(|tier| input > tier.above_input_tokens))
            .map(|(tier, end)| {
                let rates = tier.map_or_else(|| self.base(), Tier::rates);
                let [input_rate, output_rate] = rates.totals(i128::max);
                let input = end.map_or(input, |end| input.min(end));
                let sum = product(input, input_rate);
                let sum = sum.saturating_add(product(output, output_rate));
                NanoUsd::from_ratio_up(sum, TOKENS_PER_RATE) + self.request
            })
            .max()
            .unwrap_or(self.request)
    }

    /// The price with the rates that Anthropic's API has for cache writes, where it has none of its own:
    /// 1.25 times the input for five minutes and twice the input for one hour (Anthropic, "Prompt
    /// caching").
    #[must_use]
    pub fn with_cache_write_rates(mut self) -> Self {
        let times = |input: NanoUsd, quarters: i128| {
            NanoUsd::from_ratio_up(i128::from(input.nanos()).saturating_mul(quarters), 4)
        };
        let fill = |input, short: &mut Option<NanoUsd>, long: &mut Option<NanoUsd>| {
            short.get_or_insert_with(|| times(input, 5));
            long.get_or_insert_with(|| times(input, 8));
        };
        fill(self.input, &mut self.cache_write, &mut self.cache_write_1h);
        for tier in &mut self.tiers {
            fill(tier.input, &mut tier.cache_write, &mut tier.cache_write_1h);
        }
        self
    }

    /// The rates for a request with this much input.
    fn rates(&self, input: u64) -> ByKind<i128> {
        let tier = self.tiers.iter().rfind(|tier| input > tier.above_input_tokens);
        tier.map_or_else(|| self.base(), Tier::rates)
    }
}

/// The tokens that an attempt is charged for. Each token is counted as one kind only.
fn charged_by_kind(usage: &TokenUsage) -> ByKind<u64> {
    let mut charged = ByKind::from(usage);
    charged.cache_write = remainder(charged.cache_write, &[charged.cache_write_1h]);
    let written = charged.cache_write.saturating_add(charged.cache_write_1h);
    let through_cache = charged.cached_input.saturating_add(written);
    if let Some(others) = charged.input.checked_sub(through_cache)
        && charged.audio_input <= charged.input
    {
        charged.audio_input = charged.audio_input.min(others);
    }
    charged.input = remainder(charged.input, &[charged.cached_input, written, charged.audio_input]);
    charged.output = remainder(charged.output, &[charged.reasoning, charged.audio_output]);
    charged
}

/// The total without its parts, or the whole total if the parts exceed it.
fn remainder(total: u64, parts: &[u64]) -> u64 {
    let left = parts.iter().try_fold(total, |left, part| left.checked_sub(*part));
    left.unwrap_or(total)
}

fn product(tokens: u64, rate: i128) -> i128 {
    i128::from(tokens).saturating_mul(rate)
}
