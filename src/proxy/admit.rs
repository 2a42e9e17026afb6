//! Admission: every policy that the request falls under, before anything is sent; and the account
//! that is kept of it from then on.

use actix_web::http::header::HeaderMap;
use smallvec::SmallVec;

use super::DataPlane;
use super::context::RequestContext;
use super::error::ProxyError;
use super::target::Target;
use crate::accounting::engine::RequestFacts;
use crate::accounting::target_facts::TargetFacts;
use crate::domain::metadata::Metadata;
use crate::domain::policy::Subject;
use crate::llm::limits::Bound;
use crate::policy::admission::{AdmissionRequest, Admitted, Denied};
use crate::policy::limits::Amounts;
use crate::policy::set::PolicySet;

/// Asks the policies and opens the request's account if they admit it.
pub async fn admit(
    plane: &DataPlane,
    subject: Subject<'_>,
    policies: &PolicySet,
    targets: &[Target<'_>],
    answers_later: bool,
    context: &mut RequestContext,
) -> Result<(), ProxyError> {
    let targets: SmallVec<[TargetFacts<'_>; 1]> = targets.iter().map(Target::facts).collect();
    let facts = RequestFacts {
        record: context.request.record(),
        subject,
        policies,
        targets: &targets,
        is_background: answers_later,
    };
    match plane.accounting.admit(facts).await {
        Ok((account, report)) => {
            context.policy_report = Some(report);
            context.request.admitted(account);
            Ok(())
        }
        Err(denied) => Err(refuse(denied, context)),
    }
}

/// Asks the policies whether the gateway's own list of models may be read, which counts as a request
/// that uses nothing.
pub async fn admit_listing(
    plane: &DataPlane,
    subject: Subject<'_>,
    policies: &PolicySet,
    context: &mut RequestContext,
) -> Result<(), ProxyError> {
    let request = AdmissionRequest {
        subject,
        targets: &[],
        price: None,
        bound: Bound::FREE,
        request_id: context.request.record().ids.request_id,
        at: plane.clock.now(),
    };
    match plane.accounting.admission.admit(request, policies).await {
        Ok(Admitted { report, reservation, .. }) => {
            context.policy_report = Some(report);
            reservation.settle(Amounts::default());
            Ok(())
        }
        Err(denied) => Err(refuse(denied, context)),
    }
}

fn refuse(denied: Denied, context: &mut RequestContext) -> ProxyError {
    let error = ProxyError::from(&denied);
    context.policy_report = Some(denied.report);
    let record = context.request.record();
    record.cause = denied.cause;
    record.violated = denied.violated;
    error
}

/// What the caller says of the request. Most say nothing, which costs one pass over the names.
pub fn metadata_of(headers: &HeaderMap) -> Result<Metadata, ProxyError> {
    Metadata::from_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
        .map_err(ProxyError::InvalidMetadata)
}
