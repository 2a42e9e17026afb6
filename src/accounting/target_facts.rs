//! One upstream that a request may be sent to, and the most that the request may cost there.

use std::sync::Arc;

use super::record::SUBSCRIPTION;
use crate::directory::upstream_entry::{UpstreamEntry, UpstreamModel};
use crate::domain::money::NanoUsd;
use crate::domain::pricing::resolve::ResolvedPrice;
use crate::llm::limits::{Bound, Metering};

/// One upstream that a request may be sent to.
#[derive(Clone, Copy)]
pub struct TargetFacts<'r> {
    pub upstream: &'r Arc<UpstreamEntry>,
    /// The model that it is asked for.
    pub model: &'r Arc<UpstreamModel>,
    /// The most that the request can use there.
    pub bound: Bound,
}

impl TargetFacts<'_> {
    /// The price, if it bounds the cost: without any bound of the tokens it does not.
    pub(super) fn bounding_price(&self) -> Option<&ResolvedPrice> {
        self.model.price.as_ref().filter(|_| !self.bound.unknown)
    }

    /// What the ledger names as its price.
    pub(super) fn price_version(&self) -> Option<String> {
        match self.bound.metering {
            Metering::Subscription => Some(SUBSCRIPTION.to_owned()),
            _ => self.model.price.as_ref().map(|price| price.version.clone()),
        }
    }

    /// The most that the request may cost there; none without a price, which is more than any sum.
    pub(super) fn max_cost(&self) -> (bool, Option<NanoUsd>) {
        let cost = self.bound.max_cost(self.bounding_price().map(|resolved| &resolved.price));
        (cost.is_none(), cost)
    }
}
