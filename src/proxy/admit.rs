//! Admission: every policy that the request falls under, before anything is sent; and the account
//! that is kept of it from then on.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use bytes::Bytes;

use super::DataPlane;
use super::account::Account;
use super::body::JsonBody;
use super::budget::Share;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::route::Operation;
use super::sent::Sent;
use crate::auth::Principal;
use crate::directory::configuration::ConfigurationEntry;
use crate::domain::metadata::Metadata;
use crate::domain::money::NanoUsd;
use crate::domain::policy::Subject;
use crate::domain::scope::WorkspaceScope;
use crate::domain::tokens::TokenUsage;
use crate::metering::record::{AttemptEnd, AttemptOutcome, AttemptStart, UsageSource};
use crate::policy::admission::{AdmissionRequest, Denied};
use crate::policy::bound::{Api, Bound, ModelLimits, unheeded};
use crate::policy::set::Target;
use crate::telemetry::requests::RequestIds;

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
    let limits = ModelLimits {
        context_window: configuration.context_window,
        max_output_tokens: configuration.max_output_tokens,
    };
    let unheeded = unheeded(&configuration.provider_name);
    Bound::of_body(api, unheeded, body.length(), body.fields(), limits, plane.assumed_limits)
}

/// Asks the policies, and opens the request's account if they let it through: from then on it holds
/// the body, and the right to that memory, as long as they may be needed. A request that they forbid
/// is recorded, too.
pub async fn admit(
    plane: &DataPlane,
    asked: Asked<'_>,
    memory: Option<Share>,
    exchange: &mut Exchange,
) -> Result<(), ProxyError> {
    let Some(ids) = exchange.ids().cloned() else { return Err(ProxyError::Internal) };
    let metadata = metadata_of(asked.request.headers());
    let Asked { principal, scope, configuration, bound, .. } = asked;
    let at = plane.books.clock.now();
    let providers = [configuration.provider_name.as_str(), configuration.provider.as_str()];
    let verdict = plane.admission.admit(AdmissionRequest {
        subject: Subject {
            organization_id: scope.organization_id,
            workspace_id: scope.workspace_id,
            user_id: principal.user_id,
            api_key_id: principal.key_id,
            metadata: &metadata,
        },
        target: Target {
            configuration: &configuration.name,
            providers: &providers,
            model: &configuration.model,
        },
        price: configuration.price.as_deref(),
        bound,
        request_id: ids.request_id,
        at,
    });
    let verdict = verdict.await;
    let mut attempt = attempt_of(&asked, ids, &metadata, exchange, at);
    match verdict {
        Ok(mut admitted) => {
            exchange.tell_policies(std::mem::take(&mut admitted.headers));
            attempt.policies = std::mem::take(&mut admitted.policies);
            attempt.reserved = admitted.reserved;
            exchange.account = Some(Account::open(
                &plane.books,
                attempt,
                admitted.reservation,
                configuration.price.clone(),
                bound,
                Sent::Body { bytes: asked.body.clone(), memory },
                asked.is_background,
            ));
            Ok(())
        }
        Err(denied) => {
            let error = ProxyError::from(&denied);
            record_blocked(plane, attempt, &denied, &error, exchange);
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

fn attempt_of(
    asked: &Asked<'_>,
    ids: RequestIds,
    metadata: &Metadata,
    exchange: &Exchange,
    at: chrono::DateTime<chrono::Utc>,
) -> AttemptStart {
    let configuration = asked.configuration;
    AttemptStart {
        id: uuid::Uuid::nil().into(),
        request_id: ids.request_id,
        attempt: 0,
        admitted_at: at,
        organization_id: asked.scope.organization_id,
        workspace_id: asked.scope.workspace_id,
        api_key_id: asked.principal.key_id,
        user_id: asked.principal.user_id,
        configuration_id: configuration.id,
        configuration: configuration.name.clone(),
        route: asked.operation.label().to_owned(),
        model_asked: exchange.model_asked.clone(),
        model: configuration.model.clone(),
        client_request_id: ids.client_request_id,
        policies: Vec::new(),
        metadata: metadata.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        reserved: None,
        price_version: configuration.price.as_ref().map(|price| price.version.clone()),
    }
}

fn record_blocked(
    plane: &DataPlane,
    mut attempt: AttemptStart,
    denied: &Denied,
    error: &ProxyError,
    exchange: &Exchange,
) {
    let row = error.row();
    attempt.id = plane.books.clock.new_id();
    attempt.policies.clone_from(&denied.matched);
    let end = AttemptEnd {
        id: attempt.id,
        outcome: AttemptOutcome::Blocked,
        status: Some(row.status.as_u16()),
        code: Some(row.code.to_owned()),
        model_used: None,
        usage: TokenUsage::default(),
        usage_source: UsageSource::None,
        cost: Some(NanoUsd::ZERO),
        first_byte_ms: None,
        duration_ms: u64::try_from(exchange.age().as_millis()).ok(),
        violated: denied.violated.clone(),
    };
    // Full, the journal keeps its room for what costs money; the refusal stands either way.
    if let Err(full) = plane.books.ledger.blocked(&attempt, &end) {
        tracing::warn!(error = %full, request_id = %attempt.request_id, "a refusal is not recorded");
    }
}
