//! Why a request may not go out, in words for whoever sent it.

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER};

use super::{AdmissionRequest, headers};
use crate::domain::ids::PolicyId;
use crate::policy::limits::{Claims, Limit, Standing};
use crate::policy::set::Applied;

/// Seconds after which to ask again for what can't be checked now.
const RETRY_UNAVAILABLE: u64 = 1;

/// What kind of no it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 403: the model is not theirs to use.
    ModelAccess,
    /// 402: a spend cap applies, and what the request costs is not known.
    PriceUnknown,
    /// 402: a spend cap is used up, or what is left of it is less than the request may cost.
    Spend,
    /// 429: too many requests or tokens.
    Rate,
    /// 503: the limits can't be checked now.
    Unavailable,
}

impl Reason {
    /// A name for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::ModelAccess => "model_access",
            Self::PriceUnknown => "price_unknown",
            Self::Spend => "spend",
            Self::Rate => "rate",
            Self::Unavailable => "unavailable",
        }
    }

    /// The status that a request is refused with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::ModelAccess => StatusCode::FORBIDDEN,
            Self::PriceUnknown | Self::Spend => StatusCode::PAYMENT_REQUIRED,
            Self::Rate => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The code that it is told under; stable.
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

/// A request may not go out. Nothing is counted.
#[derive(Clone, Debug)]
pub struct Denied {
    /// What kind of no it is.
    pub reason: Reason,
    /// What to tell the caller.
    pub message: String,
    /// The policies that matched, the broadest first.
    pub matched: Vec<PolicyId>,
    /// Those of them that forbid it, in the same order.
    pub violated: Vec<PolicyId>,
    /// After how many seconds the same request passes; none if it never will, or if nobody can tell.
    pub retry_after: Option<u64>,
    /// What the answer tells of the policies, `Retry-After` among it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Why the limits can't be checked; for the log alone.
    pub cause: Option<String>,
}

impl Denied {
    /// The limits can't be checked.
    pub(super) fn unavailable(cause: String) -> Self {
        Self {
            reason: Reason::Unavailable,
            message: "limits can't be checked right now; try again in a moment".to_owned(),
            matched: Vec::new(),
            violated: Vec::new(),
            retry_after: Some(RETRY_UNAVAILABLE),
            headers: vec![(RETRY_AFTER, HeaderValue::from(RETRY_UNAVAILABLE))],
            cause: Some(cause),
        }
    }

    /// Forbidden by the policies in these places.
    pub(super) fn by(
        reason: Reason,
        request: &AdmissionRequest<'_>,
        applied: &[Applied<'_>],
        places: &[usize],
        counted: Option<(&Claims, &[usize], &[Standing])>,
    ) -> Self {
        let violated: Vec<&Applied<'_>> =
            places.iter().filter_map(|place| applied.get(*place)).collect();
        let names: Vec<&str> = violated.iter().map(|one| one.policy.name.as_ref()).collect();
        let mut message = format!("request blocked by gateway policies: {}", names.join(", "));
        if reason == Reason::PriceUnknown {
            message = format!(
                "{message}. They cap spending, and no price is known for model {:?} of model \
                 configuration {:?}: set a price on the configuration, or for the model under \
                 /api/v1/model-prices (0 is a price)",
                request.target.model, request.target.configuration
            );
        }
        Self {
            reason,
            message,
            matched: applied.iter().map(|one| one.bucket).collect(),
            violated: violated.iter().map(|one| one.bucket).collect(),
            retry_after: None,
            headers: headers::of(request, applied, counted),
            cause: None,
        }
    }

    /// Forbidden by the limits that are violated; money weighs more than pace.
    pub(super) fn by_limits(
        request: &AdmissionRequest<'_>,
        applied: &[Applied<'_>],
        claims: &Claims,
        owners: &[usize],
        standings: &[Standing],
    ) -> Self {
        let mut places = Vec::new();
        let mut of_money = false;
        let mut waits: Vec<Option<u64>> = Vec::new();
        for ((claim, owner), standing) in claims.claims.iter().zip(owners).zip(standings) {
            if !standing.violated {
                continue;
            }
            if places.last() != Some(owner) {
                places.push(*owner);
            }
            match claim.limit {
                Limit::Spend { .. } => of_money = true,
                Limit::Rate { .. } => waits.push(standing.retry_after),
            }
        }
        let reason = if of_money { Reason::Spend } else { Reason::Rate };
        let counted = Some((claims, owners, standings));
        let mut denied = Self::by(reason, request, applied, &places, counted);
        if !of_money {
            // All of them have to pass, so the longest wait counts, and "never" is the longest.
            denied.retry_after = waits
                .into_iter()
                .collect::<Option<Vec<u64>>>()
                .and_then(|waits| waits.into_iter().max());
            if let Some(seconds) = denied.retry_after {
                denied.headers.push((RETRY_AFTER, HeaderValue::from(seconds)));
            }
        }
        denied
    }
}
