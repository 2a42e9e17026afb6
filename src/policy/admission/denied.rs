//! Why a request is denied, in words for the caller.

use super::{AdmissionRequest, PolicyReport};
use crate::domain::ids::PolicyId;

/// Seconds after which to retry when the limits can't be checked.
const RETRY_UNAVAILABLE: u64 = 1;

/// The kind of denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Policies do not allow the model.
    ModelAccess,
    /// A spend cap applies, and the model's price is not known.
    PriceUnknown,
    /// What is left of a spend cap is less than the request may cost.
    Spend,
    /// Too many requests or tokens.
    Rate,
    /// The limits can't be checked now.
    Unavailable,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ModelAccess, Self::PriceUnknown, Self::Spend, Self::Rate, Self::Unavailable];

    /// A label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::ModelAccess => "model_access",
            Self::PriceUnknown => "price_unknown",
            Self::Spend => "spend",
            Self::Rate => "rate",
            Self::Unavailable => "unavailable",
        }
    }

    /// The stable code that callers and the ledger see.
    pub fn code(self) -> &'static str {
        match self {
            Self::ModelAccess => "model_access_denied",
            Self::PriceUnknown => "price_unknown",
            Self::Spend => "spend_cap_exceeded",
            Self::Rate => "rate_limit_exceeded",
            Self::Unavailable => "limits_unavailable",
        }
    }
}

/// A request must not be sent. Nothing is counted.
#[derive(Clone, Debug)]
pub struct Denied {
    pub reason: Reason,
    /// For the caller.
    pub message: String,
    pub report: PolicyReport,
    /// The policies that deny the request, the broadest first.
    pub violated: Vec<PolicyId>,
    /// After how many seconds the same request would pass; none if never, or if that is not known.
    pub retry_after: Option<u64>,
    /// Why the limits can't be checked, for the log.
    pub cause: Option<String>,
}

impl Denied {
    pub(super) fn unavailable(report: PolicyReport, cause: String) -> Self {
        Self {
            reason: Reason::Unavailable,
            message: "limits can't be checked right now; try again in a moment".to_owned(),
            report,
            violated: Vec::new(),
            retry_after: Some(RETRY_UNAVAILABLE),
            cause: Some(cause),
        }
    }

    /// Denied by the policies in these places of the report.
    pub(super) fn by_policies(
        reason: Reason,
        request: &AdmissionRequest<'_>,
        report: PolicyReport,
        places: &[usize],
    ) -> Self {
        let violated = places.iter().filter_map(|place| report.policies.get(*place));
        let (violated, names): (Vec<PolicyId>, Vec<&str>) =
            violated.map(|one| (one.id, &*one.policy.name)).unzip();
        let mut message = format!("request blocked by gateway policies: {}", names.join(", "));
        if reason == Reason::PriceUnknown {
            message = format!(
                "{message}. They cap spending, and no price is known for model {:?} of model \
                 configuration {:?}: set a price on the configuration, or for the model under \
                 /api/v1/model-prices (0 is a price)",
                request.target.model, request.target.configuration
            );
        }
        Self { reason, message, report, violated, retry_after: None, cause: None }
    }

    /// Denied by the limits that are violated. If a spend limit is among them, that is the reason.
    pub(super) fn by_limits(request: &AdmissionRequest<'_>, report: PolicyReport) -> Self {
        let violated = || report.limits.iter().filter(|one| one.status.violated);
        let mut places: Vec<usize> = violated().map(|one| one.source.policy).collect();
        places.dedup();
        let is_spend = violated().any(|one| one.limit.is_spend());
        let reason = if is_spend { Reason::Spend } else { Reason::Rate };
        // All limits have to be passed: the longest wait counts, and "never" is the longest.
        let waits: Option<Vec<u64>> = violated().map(|one| one.status.retry_after).collect();
        let retry_after = waits.filter(|_| !is_spend).and_then(|all| all.into_iter().max());
        Self { retry_after, ..Self::by_policies(reason, request, report, &places) }
    }
}
