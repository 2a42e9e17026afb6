//! What a request has reserved, until it is known what it used.

use std::fmt;

use crate::domain::ids::{OrganizationId, RequestId};
use crate::domain::money::NanoUsd;
use crate::llm::limits::Bound;
use crate::policy::limits::{Actual, Claims, Counters};

/// What was reserved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amounts(Actual);

impl Amounts {
    pub(super) fn of(cost: Option<NanoUsd>, bound: Bound) -> Self {
        Self(Actual { cost: cost.unwrap_or_default(), tokens: bound.estimate_tokens })
    }
}

struct Held {
    counters: Counters,
    organization_id: OrganizationId,
    request_id: RequestId,
    amounts: Amounts,
}

/// What a request has reserved. It is settled once. One that is dropped without is taken back as if
/// it had never come, unless something was sent upstream: then it is charged as reserved.
#[must_use = "what is reserved has to be settled"]
pub struct Reservation {
    held: Option<Held>,
    is_sent: bool,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.as_ref().map(|held| held.amounts);
        formatter.debug_struct("Reservation").field("held", &held).finish_non_exhaustive()
    }
}

impl Reservation {
    /// Of a request that no limit counts.
    pub fn of_nothing() -> Self {
        Self { held: None, is_sent: false }
    }

    pub(super) fn of(counters: Counters, claims: &Claims, amounts: Amounts) -> Self {
        let Claims { organization_id, request_id, .. } = *claims;
        let held = Held { counters, organization_id, request_id, amounts };
        Self { held: Some(held), is_sent: false }
    }

    /// Says that from now on an upstream may charge for the request. To be called before its first
    /// byte goes out.
    pub fn is_sent(&mut self) {
        self.is_sent = true;
    }

    /// Turns what was reserved into what all the request's attempts have used together. Does not
    /// wait: the counters hear of it in the background.
    pub fn settle(mut self, actual: Actual) {
        if let Some(held) = self.held.take() {
            held.end(Some(actual));
        }
    }

    /// Nothing was counted after all.
    pub(super) fn forget(mut self) {
        self.held = None;
    }
}

impl Held {
    /// Without an actual, nothing was used.
    fn end(self, actual: Option<Actual>) {
        self.counters.end_soon(self.organization_id, self.request_id, actual);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        if self.is_sent {
            let Amounts(reserved) = held.amounts;
            held.end(Some(reserved));
        } else {
            held.end(None);
        }
    }
}
