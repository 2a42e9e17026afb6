//! What tokens cost.

use serde::{Deserialize, Serialize};

use super::money::NanoUsd;
use super::tokens::TokenUsage;

/// Tokens that a rate is for.
const PER: i128 = 1_000_000;

/// What one request costs: rates by the length of its prompt, and a fee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// US dollars for a million tokens of input.
    pub input: NanoUsd,
    /// Of input that the provider had in its cache; as `input` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<NanoUsd>,
    /// Of input that the provider puts into its cache; as `input` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<NanoUsd>,
    /// Of output.
    pub output: NanoUsd,
    /// Of output that is reasoning; as `output` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<NanoUsd>,
    /// US dollars for each request besides.
    #[serde(default)]
    pub request: NanoUsd,
}

impl Price {
    /// What these tokens cost: one rounding up, to whole nano-dollars.
    pub fn cost(&self, usage: &TokenUsage) -> NanoUsd {
        let input = usage.input.unwrap_or(0);
        let output = usage.output.unwrap_or(0);
        let sum = i128::from(input) * i128::from(self.input.nanos())
            + i128::from(output) * i128::from(self.output.nanos());
        NanoUsd::from_ratio_up(sum, PER) + self.request
    }

    /// The most that a request can cost whose prompt and answer have at most so many tokens.
    pub fn most(&self, input: u64, output: u64) -> NanoUsd {
        self.cost(&TokenUsage { input: Some(input), output: Some(output), ..TokenUsage::default() })
    }
}
