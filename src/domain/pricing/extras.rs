//! What a request asks for that changes its price, besides its tokens.

use serde::{Deserialize, Serialize};

use super::Price;
use crate::domain::money::NanoUsd;
use crate::domain::tokens::TokenUsage;

/// The largest factor of a price.
const MAX_FACTOR: i64 = 100;
/// A factor of one.
const ONE: i64 = 1_000_000_000;

/// What a price is multiplied by: above 0, at most 100, with up to nine decimal places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NanoUsd", into = "NanoUsd")]
pub struct Factor(NanoUsd);

impl TryFrom<NanoUsd> for Factor {
    type Error = String;

    fn try_from(factor: NanoUsd) -> Result<Self, Self::Error> {
        match factor.nanos() {
            1.. if factor.nanos() <= MAX_FACTOR * ONE => Ok(Self(factor)),
            _ => Err(format!("must be above 0 and at most {MAX_FACTOR}")),
        }
    }
}

impl From<Factor> for NanoUsd {
    fn from(factor: Factor) -> Self {
        factor.0
    }
}

impl utoipa::PartialSchema for Factor {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        NanoUsd::schema()
    }
}

impl utoipa::ToSchema for Factor {}

/// Calls of tools that run at the provider's and have a fee of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToolCalls {
    pub web_searches: u64,
    pub file_searches: u64,
}

impl ToolCalls {
    /// No calls.
    pub const NONE: Self = Self { web_searches: 0, file_searches: 0 };
}

/// What one request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// OpenAI's faster service tier: `service_tier` is `priority` or `fast`.
    pub is_priority: bool,
    /// Anthropic's `speed: "fast"`.
    pub is_fast: bool,
    /// Anthropic's `inference_geo: "us"`.
    pub is_us_inference: bool,
    /// It is sent to Vertex, and not to the global endpoint.
    pub is_regional: bool,
    /// The most calls of the provider's tools.
    pub max_calls: ToolCalls,
    /// A field that asks for what has no known price or bound.
    pub unpriced: Option<&'static str>,
    /// The request refers to input that is not in its body, and the model's window, which would bound it, is
    /// not known.
    pub is_unbounded: bool,
}

impl Extras {
    /// For a request that asks for nothing of the kind.
    pub const NONE: Self = Self {
        is_priority: false,
        is_fast: false,
        is_us_inference: false,
        is_regional: false,
        max_calls: ToolCalls::NONE,
        unpriced: None,
        is_unbounded: false,
    };
}

impl Price {
    /// The first field that asks for what this price does not cover.
    pub fn unpriced_field(&self, extras: &Extras) -> Option<&'static str> {
        let [priority, fast, us, _] = self.factors(extras);
        let lacks = |asked: Option<Option<Factor>>, field| {
            asked.is_some_and(|factor| factor.is_none()).then_some(field)
        };
        let ToolCalls { web_searches, file_searches } = extras.max_calls;
        let has_fees = (web_searches == 0 || self.web_search.is_some())
            && (file_searches == 0 || self.file_search.is_some());
        extras
            .unpriced
            .or_else(|| lacks(priority, "service_tier"))
            .or_else(|| lacks(fast, "speed"))
            .or_else(|| lacks(us, "inference_geo"))
            .or_else(|| (!has_fees).then_some("tools"))
    }

    /// Whether the most that the request may cost is not known although its price is. What costs nothing
    /// needs no bound.
    pub fn lacks_bound(&self, extras: &Extras) -> bool {
        extras.is_unbounded && self.max_cost(u64::MAX, u64::MAX) != NanoUsd::ZERO
    }

    /// What has to be reserved for the request; none if that is not known.
    pub fn reserved_cost(&self, input: u64, output: u64, extras: &Extras) -> Option<NanoUsd> {
        self.max_cost_with(input, output, extras).filter(|_| !self.lacks_bound(extras))
    }

    /// [`Self::max_cost`] with what the request asks for besides its tokens; none if that has no price.
    pub fn max_cost_with(&self, input: u64, output: u64, extras: &Extras) -> Option<NanoUsd> {
        self.with(self.max_cost(input, output), extras, extras.max_calls)
    }

    /// [`Self::cost`] with what the request asked for besides its tokens, and these calls of tools; none if
    /// that has no price.
    pub fn cost_with(
        &self,
        usage: &TokenUsage,
        extras: &Extras,
        calls: ToolCalls,
    ) -> Option<NanoUsd> {
        self.with(self.cost(usage), extras, calls)
    }

    fn with(&self, cost: NanoUsd, extras: &Extras, calls: ToolCalls) -> Option<NanoUsd> {
        if self.unpriced_field(extras).is_some() {
            return None;
        }
        let factors = self.factors(extras).into_iter().flatten().flatten();
        let cost = factors.fold(cost, |cost, Factor(factor)| {
            let product = i128::from(cost.nanos()).saturating_mul(i128::from(factor.nanos()));
            NanoUsd::from_ratio_up(product, i128::from(ONE))
        });
        let fees = [(self.web_search, calls.web_searches), (self.file_search, calls.file_searches)]
            .into_iter()
            .fold(0_i128, |sum, (fee, calls)| {
                let fee = i128::from(fee.unwrap_or_default().nanos());
                sum.saturating_add(fee.saturating_mul(i128::from(calls)))
            });
        Some(cost + NanoUsd::from_ratio_up(fees, 1))
    }

    /// The factor for each thing that is asked for, if this price has one.
    fn factors(&self, extras: &Extras) -> [Option<Option<Factor>>; 4] {
        [
            extras.is_priority.then_some(self.priority_factor),
            extras.is_fast.then_some(self.fast_factor),
            extras.is_us_inference.then_some(self.us_inference_factor),
            extras.is_regional.then_some(self.regional_factor),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn price() -> Price {
        serde_json::from_value(json!({"input": 1, "output": 2, "fast_factor": 2,
            "us_inference_factor": 1.1, "web_search": 0.01}))
        .unwrap()
    }

    #[test]
    fn factors_and_fees_are_added() {
        let cost =
            |extras: &Extras| price().max_cost_with(1_000, 1_000, extras).map(NanoUsd::nanos);
        assert_eq!(cost(&Extras::NONE), Some(3_000_000));
        let fast = Extras { is_fast: true, ..Extras::NONE };
        assert_eq!(cost(&fast), Some(6_000_000));
        assert_eq!(cost(&Extras { is_us_inference: true, ..fast }), Some(6_600_000));
        let regional = Extras { is_regional: true, ..Extras::NONE };
        assert_eq!(cost(&regional), Some(3_000_000), "it makes no difference without a factor");
        let dearer: Price =
            serde_json::from_value(json!({"input": 1, "output": 2, "regional_factor": 1.1}))
                .unwrap();
        let costs =
            |extras: &Extras| dearer.max_cost_with(1_000, 1_000, extras).map(NanoUsd::nanos);
        assert_eq!((costs(&Extras::NONE), costs(&regional)), (Some(3_000_000), Some(3_300_000)));
        let web = |web_searches| ToolCalls { web_searches, ..ToolCalls::NONE };
        let searching = Extras { max_calls: web(3), ..Extras::NONE };
        assert_eq!(cost(&searching), Some(33_000_000));
        let usage = TokenUsage { input: Some(1_000), output: Some(1_000), ..TokenUsage::default() };
        let used = price().cost_with(&usage, &searching, web(1)).map(NanoUsd::nanos);
        assert_eq!(used, Some(13_000_000));
        let priced = Price { file_search: "0.0025".parse().ok(), ..price() };
        let both = ToolCalls { web_searches: 1, file_searches: 2 };
        let extras = Extras { max_calls: both, ..Extras::NONE };
        let used = priced.cost_with(&usage, &extras, both).map(NanoUsd::nanos);
        assert_eq!(used, Some(3_000_000 + 10_000_000 + 5_000_000));
    }

    #[test]
    fn what_has_no_price_is_named() {
        let one = ToolCalls { web_searches: 1, ..ToolCalls::NONE };
        let files = ToolCalls { file_searches: 1, ..ToolCalls::NONE };
        for (extras, field) in [
            (Extras { is_priority: true, ..Extras::NONE }, Some("service_tier")),
            (Extras { unpriced: Some("speed"), ..Extras::NONE }, Some("speed")),
            (Extras { is_fast: true, max_calls: one, ..Extras::NONE }, None),
            (Extras { max_calls: files, ..Extras::NONE }, Some("tools")),
        ] {
            assert_eq!(price().unpriced_field(&extras), field);
            assert_eq!(price().max_cost_with(1, 1, &extras).is_none(), field.is_some());
        }
        let stored = Extras { is_unbounded: true, ..Extras::NONE };
        assert_eq!(price().unpriced_field(&stored), None);
        assert_eq!(price().reserved_cost(1, 1, &stored), None);
        assert!(price().max_cost_with(1, 1, &stored).is_some());
        assert_eq!(Price::default().reserved_cost(1, 1, &stored), Some(NanoUsd::ZERO));
        let plain = Price { fast_factor: None, web_search: None, ..price() };
        let fast = Extras { is_fast: true, ..Extras::NONE };
        assert_eq!(plain.unpriced_field(&fast), Some("speed"));
        let searching = Extras { max_calls: one, ..Extras::NONE };
        assert_eq!(plain.unpriced_field(&searching), Some("tools"));
    }

    #[test]
    fn factors_have_bounds() {
        for (factor, is_valid) in [
            (json!(1.1), true),
            (json!(100), true),
            (json!(0), false),
            (json!(100.1), false),
            (json!(-1), false),
        ] {
            let price = json!({"input": 1, "output": 1, "fast_factor": factor});
            assert_eq!(serde_json::from_value::<Price>(price).is_ok(), is_valid, "{factor}");
        }
    }
}
