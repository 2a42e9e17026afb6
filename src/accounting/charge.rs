//! What an attempt is charged, once its tokens are known.

use super::record::{AttemptEnd, SUBSCRIPTION, UsageSource};
use crate::directory::upstream_entry::{UpstreamEntry, UpstreamModel};
use crate::domain::money::NanoUsd;
use crate::domain::pricing::resolve::ResolvedPrice;
use crate::domain::pricing::{Extras, ToolCalls};
use crate::domain::tokens::TokenUsage;
use crate::policy::limits::Amounts;

/// What an attempt is charged.
pub(super) struct Charge {
    /// Unknown without a price.
    pub(super) cost: Option<NanoUsd>,
    pub(super) tokens: i64,
    /// The price of the model that answered, where the cost was computed with it.
    pub(super) price_version: Option<String>,
}

impl Charge {
    /// For this usage at a target, by the price of the model that answered if that is known, else by that of
    /// the model that was asked for.
    pub(super) fn of(
        (upstream, model, extras): (&UpstreamEntry, &UpstreamModel, &Extras),
        usage: &TokenUsage,
        source: UsageSource,
        calls: ToolCalls,
        model_used: Option<&str>,
    ) -> Self {
        if source == UsageSource::None {
            return Self { cost: Some(NanoUsd::ZERO), tokens: 0, price_version: None };
        }
        let tokens = usage.input.unwrap_or(0).saturating_add(usage.output.unwrap_or(0));
        let cost_at = |price: &ResolvedPrice| price.price.cost_with(usage, extras, calls);
        let used_price = model_used.and_then(|used| upstream.price_of_used(model, used));
        // It may lack the price of what the request asked for beside its tokens; the model that was asked
        // for may have it.
        let at_used = used_price.and_then(|price| Some((cost_at(&price)?, price.version)));
        let (cost, price_version) = match at_used {
            Some((cost, version)) => (Some(cost), Some(version)),
            None => (model.price.as_ref().and_then(cost_at), None),
        };
        Self { cost, tokens: i64::try_from(tokens).unwrap_or(i64::MAX), price_version }
    }

    /// What limits count.
    pub(super) fn amounts(&self) -> Amounts {
        Amounts { cost: self.cost.unwrap_or_default(), tokens: self.tokens }
    }

    /// The end of the attempt with what it is charged. Of a subscription the caller pays the provider.
    pub(super) fn onto(self, end: AttemptEnd, is_subscribed: bool) -> AttemptEnd {
        let Self { cost, price_version, .. } = self;
        if is_subscribed {
            let price_version = Some(SUBSCRIPTION.to_owned());
            AttemptEnd { cost: Some(NanoUsd::ZERO), list_cost: cost, price_version, ..end }
        } else {
            AttemptEnd { cost, price_version, ..end }
        }
    }
}
