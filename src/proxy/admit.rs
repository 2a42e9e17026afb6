//! Admission: every policy that the request falls under, before anything is sent; and the account
//! that is kept of it from then on.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use bytes::Bytes;

use super::DataPlane;
use super::budget::Share;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::route::Operation;
use super::sent::Sent;
use crate::accounting::books::{self, Opened};
use crate::auth::Principal;
use crate::directory::configuration::ConfigurationEntry;
use crate::domain::metadata::Metadata;
use crate::domain::policy::Subject;
use crate::domain::scope::WorkspaceScope;
use crate::json::object::JsonBody;
use crate::llm::limits::{Api, Bound};

/// What is asked for, as policies see it.
pub struct Asked<'r> {
    /// The caller's request, for its headers.
    pub request: &'r HttpRequest,
    /// Who asks.
    pub principal: &'r Principal,
    /// Where their key belongs.
    pub scope: WorkspaceScope,
    /// What for.
    pub operation: &'r Operation,
    /// Of which upstream.
    pub configuration: &'r ConfigurationEntry,
    /// The most that it can use.
    pub bound: Bound,
    /// What goes up.
    pub body: &'r Bytes,
    /// Whether the provider answers before it has done the work, and so without usage.
    pub is_background: bool,
}

/// The most that a body can use, as it goes up.
pub fn bound_of(
    plane: &DataPlane,
    operation: &Operation,
    body: &JsonBody,
    configuration: &ConfigurationEntry,
) -> Bound {
    let api = match operation {
        Operation::Responses => Api::Responses,
        Operation::ChatCompletions => Api::ChatCompletions,
        Operation::ListModels | Operation::GetModel { .. } => return Bound::FREE,
    };
    plane.books.bound(api, configuration, body.length(), body.fields())
}

/// Asks the policies, and opens the request's account if they let it through: from then on the exchange
/// holds it, and the body with the right to that memory, as long as they may be needed.
pub async fn admit(
    plane: &DataPlane,
    asked: Asked<'_>,
    memory: Option<Share>,
    exchange: &mut Exchange,
) -> Result<(), ProxyError> {
    let Some(ids) = exchange.ids().cloned() else { return Err(ProxyError::Internal) };
    let metadata = metadata_of(asked.request.headers());
    let opened = plane.books.open(books::Asked {
        subject: Subject {
            organization_id: asked.scope.organization_id,
            workspace_id: asked.scope.workspace_id,
            user_id: asked.principal.user_id,
            api_key_id: asked.principal.key_id,
            metadata: &metadata,
        },
        configuration: asked.configuration,
        route: asked.operation.label(),
        model_asked: exchange.model_asked.clone(),
        ids,
        began: exchange.began(),
        bound: asked.bound,
        is_background: asked.is_background,
    });
    match opened.await {
        Ok(Opened { account, headers }) => {
            exchange.tell_policies(headers);
            exchange.account = Some(account);
            exchange.sent = Some(Sent::Body { bytes: asked.body.clone(), memory });
            Ok(())
        }
        Err(denied) => {
            let error = ProxyError::from(&denied);
            exchange.cause = denied.cause;
            exchange.tell_policies(denied.headers);
            Err(error)
        }
    }
}

/// What the caller says of the request. Most say nothing, which costs one pass over the names.
fn metadata_of(headers: &HeaderMap) -> Metadata {
    Metadata::from_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
}
