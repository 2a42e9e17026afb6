//! What a request has reserved, until it is known what it used.

use std::fmt;

use crate::domain::ids::{OrganizationId, RequestId};
use crate::policy::limits::{Amounts, Claims, Counters};

/// What a request has reserved; settled once. If it is dropped instead, it is released, unless the
/// request was sent upstream: then all that was reserved is charged.
#[must_use = "what is reserved has to be settled"]
pub struct Reservation {
    open: Option<Open>,
    is_sent: bool,
}

struct Open {
    counters: Counters,
    organization_id: OrganizationId,
    request_id: RequestId,
    reserved: Amounts,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reserved = self.open.as_ref().map(|open| open.reserved);
        formatter.debug_struct("Reservation").field("reserved", &reserved).finish_non_exhaustive()
    }
}

impl Reservation {
    /// Of a request that no limit counts.
    pub fn empty() -> Self {
        Self { open: None, is_sent: false }
    }

    pub(super) fn new(counters: &Counters, claims: &Claims, reserved: Amounts) -> Self {
        let Claims { organization_id, request_id, .. } = *claims;
        let open = Open { counters: counters.clone(), organization_id, request_id, reserved };
        Self { open: Some(open), is_sent: false }
    }

    /// Call before the first byte is sent upstream: from then on the upstream may charge for the
    /// request.
    pub fn mark_sent(&mut self) {
        self.is_sent = true;
    }

    /// Replaces what was reserved by what all attempts of the request have used together. The counters
    /// are updated in the background.
    pub fn settle(mut self, used: Amounts) {
        self.end(Some(used));
    }

    /// Nothing was counted.
    pub(super) fn forget(mut self) {
        self.open = None;
    }

    fn end(&mut self, used: Option<Amounts>) {
        if let Some(open) = self.open.take() {
            open.counters.end_in_background(open.organization_id, open.request_id, used);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let reserved = self.open.as_ref().map(|open| open.reserved);
        self.end(reserved.filter(|_| self.is_sent));
    }
}
