//! Admission: every policy that the request falls under, before anything is sent; and the account
//! that is kept of it from then on.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;

use super::context::RequestContext;
use super::error::ProxyError;
use super::route::Operation;
use super::{DataPlane, Outgoing};
use crate::accounting::engine::RequestFacts;
use crate::accounting::sent_body::SentBody;
use crate::auth::Principal;
use crate::directory::configuration::ConfigurationEntry;
use crate::domain::metadata::Metadata;
use crate::domain::policy::Subject;
use crate::domain::scope::WorkspaceScope;
use crate::json::object::BodyEdits;
use crate::llm::limits::{Api, BodyFacts, Bound};

/// The maximum that a body can use as it goes up.
pub fn bound_of(
    plane: &DataPlane,
    operation: &Operation,
    mut facts: BodyFacts,
    edits: &BodyEdits<'_>,
    configuration: &ConfigurationEntry,
) -> Bound {
    let api = match operation {
        Operation::Responses => Api::Responses,
        Operation::ChatCompletions => Api::ChatCompletions,
        Operation::ListModels | Operation::GetModel { .. } => return Bound::FREE,
    };
    edits.added().for_each(|(key, raw)| facts.add_field(key, raw));
    plane.accounting.bound(api, configuration, edits.length(), &facts)
}

/// Asks the policies and opens the request's account if they admit it.
pub async fn admit(
    plane: &DataPlane,
    request: &HttpRequest,
    principal: &Principal,
    scope: WorkspaceScope,
    configuration: &ConfigurationEntry,
    outgoing: &mut Outgoing,
    context: &mut RequestContext,
) -> Result<(), ProxyError> {
    let metadata = metadata_of(request.headers())?;
    let facts = RequestFacts {
        record: context.request.record(),
        subject: Subject {
            organization_id: scope.organization_id,
            workspace_id: scope.workspace_id,
            user_id: principal.user_id,
            api_key_id: principal.api_key_id(),
            metadata: &metadata,
        },
        configuration,
        bound: outgoing.bound,
        is_background: outgoing.is_background,
        body: SentBody::Whole(outgoing.body.clone(), outgoing.memory.take()),
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
fn metadata_of(headers: &HeaderMap) -> Result<Metadata, ProxyError> {
    Metadata::from_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
        .map_err(ProxyError::InvalidMetadata)
}
