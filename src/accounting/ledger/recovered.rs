//! What admission learns of attempts that an earlier process began.

use chrono::{DateTime, Utc};

use crate::accounting::record::{AttemptOutcome, LedgerEntry};
use crate::domain::ids::{AttemptId, OrganizationId, RequestId};
use crate::domain::money::NanoUsd;

/// An attempt that was in the journal at start, and has its row now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub organization_id: OrganizationId,
    pub request_id: RequestId,
    pub id: AttemptId,
    pub admitted_at: DateTime<Utc>,
    /// [`AttemptOutcome::Lost`] if the process ended before the attempt did.
    pub outcome: AttemptOutcome,
    /// What it is charged, or its list price if the caller's own subscription paid; none without a price.
    pub cost: Option<NanoUsd>,
    /// Input and output tokens.
    pub tokens: i64,
}

impl Recovered {
    pub(super) fn of(entry: &LedgerEntry) -> Self {
        let usage = &entry.end.usage;
        let tokens = usage.input.unwrap_or(0).saturating_add(usage.output.unwrap_or(0));
        Self {
            organization_id: entry.start.organization_id,
            request_id: entry.start.request_id,
            id: entry.start.id,
            admitted_at: entry.start.admitted_at,
            outcome: entry.end.outcome,
            cost: entry.end.list_cost.or(entry.end.cost),
            tokens: i64::try_from(tokens).unwrap_or(i64::MAX),
        }
    }
}
