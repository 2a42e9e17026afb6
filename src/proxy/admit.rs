//! Admission: every policy that the request falls under, before anything is sent; and the account
//! that is kept of it from then on.

use actix_web::http::header::HeaderMap;
use smallvec::SmallVec;

use super::DataPlane;
use super::context::RequestContext;
use super::error::ProxyError;
use super::target::Target;
use crate::accounting::engine::{RequestFacts, TargetFacts};
use crate::domain::metadata::Metadata;
use crate::domain::policy::Subject;
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
            context.policy_report = report;
            context.request.admitted(account);
            Ok(())
        }
        Err(denied) => {
            let error = ProxyError::from(&denied);
            context.policy_report = *denied.report;
            let record = context.request.record();
            record.cause = denied.cause;
            record.violated = denied.violated;
            Err(error)
        }
    }
}

/// What the caller says of the request. Most say nothing, which costs one pass over the names.
pub fn metadata_of(headers: &HeaderMap) -> Result<Metadata, ProxyError> {
    Metadata::from_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
        .map_err(ProxyError::InvalidMetadata)
}
