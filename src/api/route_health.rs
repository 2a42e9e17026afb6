//! `/workspaces/{workspace_id}/routes/{name}/health`: how the targets of a fallback chain have done lately on
//! the process that answers.

use actix_web::web;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Management;
use super::access::{InWorkspace, ModelConfigurationsRead};
use super::error::ApiError;
use super::routes::Routes;
use super::shared::check_workspace;
use crate::db::Conn;
use crate::domain::ids::ConfigurationId;
use crate::domain::names::SecretName;
use crate::domain::policy::fallback::Candidate;
use crate::domain::provider::UpstreamId;
use crate::domain::scope::WorkspaceScope;
use crate::policy::set::{Chain, NamedChain};
use crate::routing::find::find_upstream;
use crate::routing::health::{CoolDownReason, TargetKey, TargetReport};

/// The chains that go by a name.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RouteHealth {
    pub(super) name: String,
    /// Those of a route; of an alias, one for each policy that has it.
    pub(super) chains: Vec<ChainHealth>,
}

/// One chain.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ChainHealth {
    /// The name of its policy.
    pub(super) policy: String,
    /// The model that callers name for it; null if the chain needs none.
    pub(super) alias: Option<String>,
    pub(super) targets: Vec<TargetState>,
}

/// Whether requests are sent to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Availability {
    Available,
    /// It failed lately and is left out until a time.
    CoolingDown,
    /// It can't be used until an administrator changes something.
    Unavailable,
}

/// Why requests are not sent to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TargetReason {
    /// The target limits the rate (429).
    RateLimited,
    /// The target refused the credential (401, 402).
    CredentialRefused,
    /// The target did not answer, or failed.
    Failing,
    /// The workspace does not have the secret in `missing_secret`.
    MissingSecret,
    /// The model configuration is disabled.
    Disabled,
    /// The model configuration was deleted.
    NotFound,
}

/// One target of a chain.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct TargetState {
    /// The place of its step in the chain, from 1.
    pub(super) step: usize,
    /// Its weight within the step; 1 where the step has no other target.
    pub(super) weight: u32,
    /// The built-in provider; null for a model configuration.
    pub(super) provider: Option<&'static str>,
    /// Null for a provider.
    pub(super) model_config_id: Option<ConfigurationId>,
    /// The name of the model configuration.
    pub(super) configuration: Option<String>,
    pub(super) model: Option<String>,
    pub(super) state: Availability,
    /// Null if it is available.
    pub(super) reason: Option<TargetReason>,
    /// When it may be tried again, if it cools down.
    pub(super) until: Option<DateTime<Utc>>,
    pub(super) missing_secret: Option<SecretName>,
    /// The code of the last failure since the process started, such as `rate_limited` or
    /// `upstream_unreachable`.
    pub(super) last_error: Option<&'static str>,
    pub(super) last_error_at: Option<DateTime<Utc>>,
    /// Attempts since the process started whose answer was the caller's.
    pub(super) answered: u64,
    /// Attempts since the process started that failed.
    pub(super) failed: u64,
}

/// Read the health of a fallback chain
///
/// By the name of a route, the alias of a chain, or the name of its policy. Each process has its own view:
/// what is shown is that of the process that answers.
#[utoipa::path(
    get,
    path = "/workspaces/{workspace_id}/routes/{name}/health",
    responses((status = 200, description = "The targets of its chains", body = RouteHealth)),
)]
async fn get_route_health(
    caller: InWorkspace<ModelConfigurationsRead>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
) -> Result<web::Json<RouteHealth>, ApiError> {
    let InWorkspace { scope, actor, .. } = caller;
    let (_, name) = path.into_inner();
    let read = async move |conn: &mut Conn| check_workspace(conn, scope).await;
    plane.database.read(read).await?;
    let policies = plane.directory.find_policies(scope.organization_id).await?;
    let mut chains = Vec::new();
    for NamedChain { alias, chain } in policies.chains_named(scope.workspace_id, &name) {
        chains.push(ChainHealth {
            policy: chain.name.to_string(),
            alias: alias.map(str::to_owned),
            targets: targets_of(&plane, scope, chain, actor.now).await?,
        });
    }
    match chains.is_empty() {
        true => Err(ApiError::NotFound("route")),
        false => Ok(web::Json(RouteHealth { name, chains })),
    }
}

async fn targets_of(
    plane: &Management,
    scope: WorkspaceScope,
    chain: &Chain,
    now: DateTime<Utc>,
) -> Result<Vec<TargetState>, ApiError> {
    let mut targets = Vec::new();
    for (place, step) in chain.steps.iter().enumerate() {
        for (weight, candidate) in step.members() {
            targets.push(TargetState {
                step: place + 1,
                weight,
                ..state_of(plane, scope, candidate, now).await?
            });
        }
    }
    Ok(targets)
}

async fn state_of(
    plane: &Management,
    scope: WorkspaceScope,
    candidate: &Candidate,
    now: DateTime<Utc>,
) -> Result<TargetState, ApiError> {
    let upstream = find_upstream(&plane.directory, &plane.built_in, scope, candidate).await?;
    let entry = upstream.as_deref();
    let (provider, model_config_id, id, model) = match candidate {
        Candidate::Model { provider, model } => {
            (Some(provider.as_str()), None, UpstreamId::Provider(*provider), Some(model.clone()))
        }
        Candidate::Configuration(id) => {
            let model =
                entry.and_then(|entry| entry.model.as_ref()).map(|model| model.name.clone());
            (None, Some(*id), UpstreamId::Configuration(*id), model)
        }
    };
    let key = TargetKey { workspace_id: scope.workspace_id, upstream: id, model: model.clone() };
    let TargetReport { cooling, last_failure, answered, failed } = plane.health.report(&key, now);
    let missing_secret = entry.and_then(|entry| entry.missing_secret());
    let missing_secret = missing_secret.and_then(|name| SecretName::parse(name).ok());
    let unusable = match entry {
        None => Some(TargetReason::NotFound),
        Some(entry) if !entry.enabled => Some(TargetReason::Disabled),
        Some(_) => missing_secret.is_some().then_some(TargetReason::MissingSecret),
    };
    let cooling = cooling.filter(|_| unusable.is_none());
    let (state, reason) = match (unusable, cooling.map(|cooling| cooling.reason)) {
        (Some(reason), _) => (Availability::Unavailable, Some(reason)),
        (None, Some(reason)) => (Availability::CoolingDown, Some(reason.into())),
        (None, None) => (Availability::Available, None),
    };
    Ok(TargetState {
        step: 0,
        weight: 0,
        provider,
        model_config_id,
        configuration: model_config_id.and(entry).map(|entry| entry.name.to_string()),
        model,
        state,
        reason,
        until: cooling.map(|cooling| cooling.until),
        missing_secret,
        last_error: last_failure.map(|(code, _)| code),
        last_error_at: last_failure.map(|(_, at)| at),
        answered,
        failed,
    })
}

impl From<CoolDownReason> for TargetReason {
    fn from(reason: CoolDownReason) -> Self {
        match reason {
            CoolDownReason::RateLimited => Self::RateLimited,
            CoolDownReason::CredentialRefused => Self::CredentialRefused,
            CoolDownReason::Failing => Self::Failing,
        }
    }
}

pub(super) fn configure(routes: &mut Routes) {
    routes.tag("gateway-policies").add(__path_get_route_health, get_route_health);
}
