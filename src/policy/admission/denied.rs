//! Why a request is denied, in words for the caller.

use chrono::SecondsFormat;

use super::{AdmissionRequest, PolicyReport};
use crate::domain::ids::PolicyId;
use crate::domain::money::NanoUsd;
use crate::domain::text_enum::text_enum;
use crate::llm::limits::{Bound, Metering};
use crate::policy::limit::Limit;

/// Seconds after which to retry when the limits can't be checked.
const RETRY_UNAVAILABLE: u64 = 1;

text_enum! {
    /// The kind of denial.
    pub enum Reason {
        /// Policies do not allow the model.
        ModelAccess = "model_access",
        /// Guards found what must not leave, or could not look for it in time.
        Content = "content",
        /// Guards apply, and the endpoint's content is not scanned.
        NotScanned = "not_scanned",
        /// A spend cap applies, and the model's price is not known.
        PriceUnknown = "price_unknown",
        /// What is left of a spend cap is less than the request may cost.
        Spend = "spend",
        /// Too many requests or tokens.
        Rate = "rate",
        /// The limits can't be checked now.
        Unavailable = "unavailable",
    }
}

impl Reason {
    /// The stable code that callers and the ledger see.
    pub fn code(self) -> &'static str {
        match self {
            Self::ModelAccess => "model_access_denied",
            Self::Content => "content_blocked",
            Self::NotScanned => "content_not_scanned",
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
    pub report: Box<PolicyReport>,
    /// The policies that deny the request, the broadest first.
    pub violated: Vec<PolicyId>,
    /// The field of the request that asks for what has no known price.
    pub field: Option<&'static str>,
    /// After how many seconds the same request would pass; none if never, or if that is not known.
    pub retry_after: Option<u64>,
    /// Why the limits can't be checked, for the log.
    pub cause: Option<String>,
}

impl Denied {
    /// The limits cannot be checked right now.
    pub fn unavailable(report: Box<PolicyReport>, cause: String) -> Self {
        Self {
            reason: Reason::Unavailable,
            message: "limits can't be checked right now; try again in a moment".to_owned(),
            report,
            violated: Vec::new(),
            field: None,
            retry_after: Some(RETRY_UNAVAILABLE),
            cause: Some(cause),
        }
    }

    /// Denied by the policies in these places of the report.
    pub(super) fn by_policies(
        reason: Reason,
        request: &AdmissionRequest<'_>,
        report: Box<PolicyReport>,
        places: &[usize],
    ) -> Self {
        let violated = places.iter().filter_map(|place| report.policies.get(*place));
        let (violated, names): (Vec<PolicyId>, Vec<&str>) =
            violated.map(|one| (one.id, &*one.policy.name)).unzip();
        let mut message = format!("request blocked by gateway policies: {}", names.join(", "));
        let extras = &request.bound.extras;
        let price = request.price.filter(|_| reason == Reason::PriceUnknown);
        let field = price.and_then(|priced| priced.price.unpriced_field(extras));
        if price.is_some() {
            message.push_str(&why_unpriced(request, field));
        } else if reason == Reason::PriceUnknown {
            let unpriced = request.targets.first();
            let model = unpriced.and_then(|target| target.model).unwrap_or_default();
            let is_unmetered = matches!(request.bound.metering, Metering::Unmetered { .. });
            message = match unpriced.and_then(|target| target.configuration) {
                None if is_unmetered => format!(
                    "{message}. They cap spending, and what {model} costs is not metered: set \
                     'despite_policies' of the endpoint in /api/v1/provider-settings"
                ),
                _ if request.bound.unknown => format!(
                    "{message}. They cap spending, and what a request for model {model:?} may use is \
                      not known, since its format is not read: call the model through Converse"
                ),
                Some(configuration) => format!(
                    "{message}. They cap spending, and no price is known for model {model:?} of model \
                     configuration {configuration:?}: set a price on the configuration, or for the \
                     model under /api/v1/model-prices (0 is a price)"
                ),
                None => format!(
                    "{message}. They cap spending, and no price is known for model {model:?}: set \
                     one under /api/v1/model-prices (0 is a price)"
                ),
            };
        }
        Self { reason, message, report, violated, field, retry_after: None, cause: None }
    }

    /// Denied by the limits that are violated. If a spend limit is among them, that is the reason.
    pub(super) fn by_limits(request: &AdmissionRequest<'_>, report: Box<PolicyReport>) -> Self {
        let violated = || report.limits.iter().filter(|one| one.status.violated);
        let mut places: Vec<usize> = violated().map(|one| one.source.policy).collect();
        places.dedup();
        let is_spend = violated().any(|one| one.limit.is_spend());
        let reason = if is_spend { Reason::Spend } else { Reason::Rate };
        // All limits have to be passed: the longest wait counts, and "never" is the longest.
        let waits: Option<Vec<u64>> = violated().map(|one| one.status.retry_after).collect();
        let retry_after = waits.filter(|_| !is_spend).and_then(|all| all.into_iter().max());
        let mut denied = Self::by_policies(reason, request, report, &places);
        denied.message.extend(spend_explanation(request, &denied.report));
        denied.retry_after = retry_after;
        denied
    }
}

/// What has no known price although the model has one; without a field it lacks a bound.
fn why_unpriced(request: &AdmissionRequest<'_>, field: Option<&str>) -> String {
    let model = request.targets.first().and_then(|target| target.model).unwrap_or_default();
    match field {
        None => format!(
            ". They cap spending, and the request refers to input that is not in its body, while \
             the context window of model {model:?} is not known: set context_window on a model \
             configuration"
        ),
        Some(field) => format!(
            ". They cap spending, and what the field '{field}' asks for has no known price or bound \
             with model {model:?}: change it, or have its price set under /api/v1/model-prices"
        ),
    }
}

/// What the request may cost and what is left of the violated spend limit with the least left, so that
/// a reservation that does not fit is not mistaken for money spent.
fn spend_explanation(request: &AdmissionRequest<'_>, report: &PolicyReport) -> Option<String> {
    let violated = report.limits.iter().filter(|one| one.status.violated && one.limit.is_spend());
    let tightest = violated.min_by_key(|one| one.remaining())?;
    let Limit::Spend { window, limit } = tightest.limit else { return None };
    let name = report.policies.get(tightest.source.policy).map(|one| &*one.policy.name)?;
    let cost = NanoUsd::from_nanos(tightest.amount);
    let window_name = window.as_str();
    let limit = format!("{name}'s {window_name} limit of {limit} USD");
    Some(match tightest.remaining() {
        0 => {
            let end = window.end(report.at).to_rfc3339_opts(SecondsFormat::Secs, true);
            format!(". It may cost up to {cost} USD, and nothing is left of {limit} until {end}.")
        }
        left => {
            let left = NanoUsd::from_nanos(left);
            let advice = output_advice(request, left);
            format!(". It may cost up to {cost} USD, and {left} USD is left of {limit}.{advice}")
        }
    })
}

/// Whether a lower limit on the output would make the request fit into what is left.
fn output_advice(request: &AdmissionRequest<'_>, left: NanoUsd) -> String {
    let price = request.price.map(|resolved| &resolved.price);
    let cost_with = |output_tokens: u64| Bound { output_tokens, ..request.bound }.max_cost(price);
    match (cost_with(0), cost_with(1)) {
        (Some(prompt), _) if prompt > left => {
            format!(
                " The prompt alone may cost up to {prompt} USD, so a lower limit on the output does \
                 not make it fit."
            )
        }
        // No model answers with less than a token.
        (_, Some(least)) if least > left || request.bound.output_tokens <= 1 => String::new(),
        _ => {
            " A lower max_tokens (max_output_tokens in the Responses API) lowers what it may cost."
                .to_owned()
        }
    }
}
