//! `/gateway-policies`: who may spend what, how fast, and on which models. The same under
//! `/api/v1`, `/api/v1/platform` and `/v1/platform`.

mod filter;
mod spend;
mod store;

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use filter::{GatewayPoliciesQuery, SearchGatewayPolicies};

use super::Management;
use super::access::{InOrganization, OrganizationManage};
use super::body::{Editable, Json, MergePatch, SentBack};
use super::error::ApiError;
use super::query::Query;
use super::routes::Routes;
use super::shared::{Conflicts, NotFound, path_id};
use crate::db::gateway_policies::GatewayPolicyRow;
use crate::db::{Concerns, Conn};
use crate::domain::ids::{ApiKeyId, OrganizationId, PolicyId};
use crate::domain::money::NanoUsd;
use crate::domain::names::DisplayName;
use crate::domain::policy::{PolicyType, SubjectMatcher};
use filter::{Filter, Found};

const WHAT: &str = "gateway policy";

/// What becomes of a request that a policy does not let pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyAction {
    /// It is answered with an error and not sent on.
    #[default]
    Block,
}

impl PolicyAction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
        }
    }
}

/// What people set of a gateway policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayPolicyFields {
    /// What people call it, callers that it blocks included.
    #[schema(min_length = 1, max_length = 128, example = "Search team, monthly")]
    pub name: DisplayName,
    /// What people noted about it.
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub description: Option<String>,
    /// What it is; can't change.
    pub policy_type: PolicyType,
    /// Whom it is for: 1 to 10 conditions. Values under one key are alternatives, all keys have to
    /// match. A default has one of `workspace_id`, `user_id` or `api_key_id` with an empty value,
    /// and perhaps one custom header with an empty value.
    #[schema(min_items = 1, max_items = 10)]
    pub subject_matchers: Vec<SubjectMatcher>,
    /// What it says. Spend caps: `{"window", "limit_usd"}`, or `{"version": 2, "limits": [{"window",
    /// "limit_usd"}]}` with `window` `hourly`, `daily`, `weekly` or `monthly`, each once. Rate
    /// limits: `{"version": 1, "limits": [{"metric", "window", "value"}]}` with `metric` `requests`
    /// or `tokens` and `window` `minute` or `hour`, each pair once. Model access: `{"providers":
    /// [{"provider", "models"}]}` with `models` `"all"` or a list of names; provider
    /// `model_configuration` speaks of configurations by their names.
    #[schema(value_type = Object)]
    pub config: Value,
    /// What becomes of a request that it does not let pass.
    #[serde(default)]
    pub action: PolicyAction,
    /// Whether it applies.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Its place in lists, lowest first.
    #[serde(default = "priority")]
    #[schema(minimum = -1_000_000_000, maximum = 1_000_000_000, default = 100)]
    pub priority: i64,
}

impl Editable for GatewayPolicyFields {
    const READ_ONLY: &'static [&'static str] = &[
        "id",
        "organization_id",
        "created_at",
        "updated_at",
        "created_by",
        "is_system_generated",
        "parent_policy_id",
        "current_spend_usd",
    ];
}

/// Named because the documentation takes no generic of our own.
type GatewayPolicyPatch = MergePatch<GatewayPolicyFields>;
type GatewayPolicyBody = SentBack<GatewayPolicyFields>;

fn enabled() -> bool {
    true
}

fn priority() -> i64 {
    100
}

/// A gateway policy.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct GatewayPolicy {
    /// Its id.
    pub id: PolicyId,
    /// The organization it belongs to.
    pub organization_id: OrganizationId,
    /// What people call it.
    pub name: DisplayName,
    /// What people noted about it.
    pub description: Option<String>,
    /// What it is.
    pub policy_type: PolicyType,
    /// Whom it is for, in normal form.
    pub subject_matchers: Vec<SubjectMatcher>,
    /// What it says.
    #[schema(value_type = Object)]
    pub config: Value,
    /// What becomes of a request that it does not let pass.
    pub action: PolicyAction,
    /// Whether it applies.
    pub enabled: bool,
    /// Its place in lists, lowest first.
    pub priority: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// The API key that made it; null where the gateway did.
    pub created_by: Option<ApiKeyId>,
    /// Whether the gateway made it for a subject of a default policy and nobody has edited it.
    pub is_system_generated: bool,
    /// The default policy that it was made for.
    pub parent_policy_id: Option<PolicyId>,
    /// What its subjects have spent in the window under way, of several limits the first one's.
    /// Spend caps only, and not where it can't be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_spend_usd: Option<NanoUsd>,
}

impl GatewayPolicy {
    fn of(row: &GatewayPolicyRow) -> Result<Self, ApiError> {
        let fields = fields_of(row)?;
        Ok(Self {
            id: row.id,
            organization_id: row.organization_id,
            name: fields.name,
            description: fields.description,
            policy_type: fields.policy_type,
            subject_matchers: fields.subject_matchers,
            config: fields.config,
            action: fields.action,
            enabled: fields.enabled,
            priority: fields.priority,
            created_at: row.created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
            created_by: row.created_by,
            is_system_generated: row.is_system_generated,
            parent_policy_id: row.parent_policy_id,
            current_spend_usd: None,
        })
    }
}

/// What people set, as a row holds it. It was written by us, so an error is a defect.
fn fields_of(row: &GatewayPolicyRow) -> Result<GatewayPolicyFields, ApiError> {
    let defect =
        |error: &dyn std::fmt::Display| ApiError::Internal(format!("a stored policy: {error}"));
    Ok(GatewayPolicyFields {
        name: DisplayName::parse(row.name.as_str()).map_err(|error| defect(&error))?,
        description: row.description.clone(),
        policy_type: row.policy_type,
        subject_matchers: stored_matchers(row).map_err(|error| defect(&error))?,
        config: row.config.clone(),
        action: serde_json::from_value(Value::String(row.action.clone()))
            .map_err(|error| defect(&error))?,
        enabled: row.enabled,
        priority: row.priority,
    })
}

fn stored_matchers(row: &GatewayPolicyRow) -> Result<Vec<SubjectMatcher>, serde_json::Error> {
    serde_json::from_value(row.subject_matchers.clone())
}

/// Shows policies with what their subjects have spent. Spending is looked up by itself, outside
/// any write: a policy is shown even if that fails.
async fn show(
    plane: &Management,
    organization_id: OrganizationId,
    now: DateTime<Utc>,
    rows: Vec<GatewayPolicyRow>,
) -> Result<Vec<GatewayPolicy>, ApiError> {
    let mut shown: Vec<GatewayPolicy> =
        rows.iter().map(GatewayPolicy::of).collect::<Result<_, _>>()?;
    if rows.iter().all(|row| row.policy_type != PolicyType::SpendCap) {
        return Ok(shown);
    }
    let spend = plane
        .database
        .read(async move |conn: &mut Conn| {
            spend::current_spend(conn, organization_id, now, &rows).await
        })
        .await;
    match spend {
        Ok(spend) => {
            for (policy, spend) in shown.iter_mut().zip(spend) {
                policy.current_spend_usd = spend;
            }
        }
        Err(error) => tracing::warn!(cause = %error, "current spend is not known"),
    }
    Ok(shown)
}

async fn show_one(
    plane: &Management,
    now: DateTime<Utc>,
    row: GatewayPolicyRow,
) -> Result<GatewayPolicy, ApiError> {
    let shown = show(plane, row.organization_id, now, vec![row]).await?;
    shown.into_iter().next().ok_or_else(|| ApiError::Internal("one policy is shown".to_owned()))
}

async fn list(
    plane: &Management,
    caller: InOrganization<OrganizationManage>,
    filter: Filter,
) -> Result<HttpResponse, ApiError> {
    let InOrganization { organization_id, actor, .. } = caller;
    let Found { rows, total } = plane
        .database
        .read(async move |conn: &mut Conn| filter.find(conn, organization_id).await)
        .await?;
    let shown = show(plane, organization_id, actor.now, rows).await?;
    Ok(HttpResponse::Ok().insert_header(("x-total-count", total)).json(shown))
}

/// Adds the operations to the scope that they are to be served in.
pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("gateway-policies")
        .add(__path_create_gateway_policy, create_gateway_policy)
        .add(__path_list_gateway_policies, list_gateway_policies)
        .add(__path_search_gateway_policies, search_gateway_policies)
        .add(__path_get_gateway_policy, get_gateway_policy)
        .add(__path_update_gateway_policy, update_gateway_policy)
        .add(__path_delete_gateway_policy, delete_gateway_policy);
}

/// Create a gateway policy
///
/// A policy of the same family (spend, rate or model access) with the same matchers, in whatever
/// order, is updated instead and keeps its id. One that the gateway made for a subject of a default
/// policy is detached from it.
#[utoipa::path(
    post,
    path = "/gateway-policies",
    responses((status = 201, description = "It was made or updated", body = GatewayPolicy), NotFound, Conflicts),
)]
async fn create_gateway_policy(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    request: HttpRequest,
    body: Json<GatewayPolicyBody>,
) -> Result<HttpResponse, ApiError> {
    let InOrganization { organization_id, actor, .. } = caller;
    let checked = store::check(body.0.0)?;
    let now = actor.now;
    let row = plane
        .database
        .write(Concerns::Organization(organization_id), async move |conn: &mut Conn| {
            store::put(conn, organization_id, &actor, checked).await
        })
        .await?;
    let shown = show_one(&plane, now, row).await?;
    let location = format!("{}/{}", request.path(), shown.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(shown))
}

/// List gateway policies
///
/// By priority, then newest first, children of defaults included. `x-total-count` tells how many
/// there are, also beyond `limit`.
#[utoipa::path(
    get,
    path = "/gateway-policies",
    params(GatewayPoliciesQuery),
    responses((status = 200, description = "The policies", body = Vec<GatewayPolicy>,
            headers(("x-total-count" = u64, description = "How many there are")))),
)]
async fn list_gateway_policies(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    query: Query<GatewayPoliciesQuery>,
) -> Result<HttpResponse, ApiError> {
    let filter = Filter::of_query(query.0)?;
    list(&plane, caller, filter).await
}

/// Find the policies of many subjects
///
/// The list, for more values than a URL holds; the first 20,000.
#[utoipa::path(
    post,
    path = "/gateway-policies/search",
    responses((status = 200, description = "The policies", body = Vec<GatewayPolicy>,
            headers(("x-total-count" = u64, description = "How many there are")))),
)]
async fn search_gateway_policies(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    body: Json<SearchGatewayPolicies>,
) -> Result<HttpResponse, ApiError> {
    let filter = Filter::of_search(body.0)?;
    list(&plane, caller, filter).await
}

/// Read a gateway policy
#[utoipa::path(
    get,
    path = "/gateway-policies/{policy_id}",
    responses((status = 200, description = "The policy", body = GatewayPolicy)),
)]
async fn get_gateway_policy(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
) -> Result<web::Json<GatewayPolicy>, ApiError> {
    let id = path_id(&path, WHAT)?;
    let InOrganization { organization_id, actor, .. } = caller;
    let row = plane
        .database
        .read(async move |conn: &mut Conn| store::existing(conn, organization_id, id).await)
        .await?;
    Ok(web::Json(show_one(&plane, actor.now, row).await?))
}

/// Update a gateway policy
///
/// A JSON merge patch, as `application/json` or `application/merge-patch+json`: only the fields
/// that are given change, and a `config` that is whole takes the place of the old one. A default's
/// `config`, `action`, `enabled` and `priority` go over to its children that nobody has edited;
/// those are deleted when its matchers change. Editing a child detaches it from its default.
#[utoipa::path(
    patch,
    path = "/gateway-policies/{policy_id}",
    responses((status = 200, description = "The policy as it is now", body = GatewayPolicy), Conflicts),
)]
async fn update_gateway_policy(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    patch: Json<GatewayPolicyPatch>,
) -> Result<web::Json<GatewayPolicy>, ApiError> {
    let id = path_id(&path, WHAT)?;
    let InOrganization { organization_id, actor, .. } = caller;
    let now = actor.now;
    let row = plane
        .database
        .write(Concerns::Organization(organization_id), async move |conn: &mut Conn| {
            store::patch(conn, organization_id, &actor, id, &patch.0).await
        })
        .await?;
    Ok(web::Json(show_one(&plane, now, row).await?))
}

/// Delete a gateway policy
///
/// With a default go its children that nobody has edited.
#[utoipa::path(
    delete,
    path = "/gateway-policies/{policy_id}",
    responses((status = 204, description = "It is gone")),
)]
async fn delete_gateway_policy(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path, WHAT)?;
    let InOrganization { organization_id, actor, .. } = caller;
    plane
        .database
        .write(Concerns::Organization(organization_id), async move |conn: &mut Conn| {
            store::delete(conn, organization_id, &actor, id).await
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
