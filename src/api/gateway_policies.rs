//! `/gateway-policies`: spend caps, rate limits, model access, fallbacks and guards. The same under `/api/v1`,
//! `/api/v1/platform` and `/v1/platform`.

pub(super) mod fallback;
mod filter;
mod guard;
mod guard_config;
mod spend;
mod store;

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use filter::{GatewayPoliciesQuery, SearchGatewayPolicies};

use super::Management;
use super::access::{InOrganization, OrganizationManage};
use super::body::{Editable, Json, MergePatch, WholeResource};
use super::error::ApiError;
use super::query::Query;
use super::routes::Routes;
use super::shared::{Conflicts, NotFound, created, path_id};
use crate::db::gateway_policies::GatewayPolicyRow;
use crate::db::{ChangeScope, Conn};
use crate::domain::ids::{ApiKeyId, OrganizationId, PolicyId};
use crate::domain::money::NanoUsd;
use crate::domain::names::DisplayName;
use crate::domain::policy::{PolicyType, SubjectMatcher};
use filter::{Filter, FilteredPolicies};

const WHAT: &str = "gateway policy";

/// What happens to a request that violates a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PolicyAction {
    /// It is answered with an error and not sent upstream.
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

/// The fields of a gateway policy that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Customer 42, monthly", "policy_type": "spend_cap",
    "subject_matchers": [{"key": "customer_id", "value": "42"}],
    "config": {"window": "monthly", "limit_usd": 100},
}))]
pub(super) struct GatewayPolicyFields {
    /// The name, which blocked callers see.
    #[schema(min_length = 1, max_length = 128)]
    pub(super) name: DisplayName,
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub(super) description: Option<String>,
    /// Can't change.
    pub(super) policy_type: PolicyType,
    /// The subjects of the policy: 1 to 10 conditions. Values of one key are alternatives; all keys have
    /// to match. A default has one of `workspace_id`, `user_id` or `api_key_id` with an empty value, and
    /// optionally one custom header with an empty value.
    #[schema(min_items = 1, max_items = 10)]
    pub(super) subject_matchers: Vec<SubjectMatcher>,
    /// The limits. Spend caps: `{"window", "limit_usd"}`, or `{"version": 2, "limits": [{"window",
    /// "limit_usd"}]}` with `window` `hourly`, `daily`, `weekly` or `monthly`, each once; with
    /// `"include_subscriptions": true` they count what callers' own subscriptions paid, at its list price. Rate
    /// limits: `{"version": 1, "limits": [{"metric", "window", "value"}]}` with `metric` `requests`
    /// or `tokens` and `window` `minute` or `hour`, each pair once. Model access: `{"providers":
    /// [{"provider", "models"}]}` with `models` `"all"` or a list of names; the
    /// provider `model_configuration` stands for the names of configurations. Fallbacks:
    /// `{"triggers": {"status_codes", "first_byte_timeout_ms"}, "chain": {"selector",
    /// "candidates"}}`, in which a target is `{"type": "provider_model", "provider", "model"}` or
    /// `{"type": "model_config", "model_config_id"}`, the selector a target or `{"type": "alias",
    /// "alias"}`, and candidates are 1 to 5 targets; instead of one, `{"type": "weighted",
    /// "candidates": [{"weight", ...target}]}` spreads requests over several. Routes: `{"triggers",
    /// "fallbacks": [{"alias", "model_configs": [{"model_config_id"}]}]}`, weighted in the same way.
    /// Guards: `{"version": 1, "detect": {"secrets", "pii", "custom": [{"name", "pattern"}]}, "action",
    /// "timeout_seconds", "timeout_action", "scan": {"system", "answers", "media", "stored"}, "note"}` with
    /// `secrets`, `system`, `answers` and `note` Booleans, `pii` a Boolean or a list of categories, `action`
    /// `redact`, `block` or `report`, and `timeout_action`, `media` and `stored` `block` or `allow`.
    #[schema(value_type = Object)]
    pub(super) config: Value,
    /// What happens to a request that violates it.
    #[serde(default)]
    pub(super) action: PolicyAction,
    #[serde(default = "enabled")]
    pub(super) enabled: bool,
    /// The order in lists, lowest first.
    #[serde(default = "priority")]
    #[schema(minimum = -1_000_000_000, maximum = 1_000_000_000, default = 100)]
    pub(super) priority: i64,
}

impl Editable for GatewayPolicyFields {
    type Shown = GatewayPolicy;
}

/// Have names because utoipa's macros do not take generic types here.
type GatewayPolicyPatch = MergePatch<GatewayPolicyFields>;
type GatewayPolicyBody = WholeResource<GatewayPolicyFields>;

fn enabled() -> bool {
    true
}

fn priority() -> i64 {
    100
}

/// A gateway policy.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct GatewayPolicy {
    pub(super) id: PolicyId,
    pub(super) organization_id: OrganizationId,
    #[serde(flatten)]
    pub(super) fields: GatewayPolicyFields,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
    /// The API key that created it; null if the gateway did.
    pub(super) created_by: Option<ApiKeyId>,
    /// Whether the gateway created it for a subject of a default policy and it has not been edited.
    pub(super) is_system_generated: bool,
    /// The default policy that it was created from.
    pub(super) parent_policy_id: Option<PolicyId>,
    /// What its subjects have spent in the present window of its first limit. Only for spend caps, and
    /// only if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) current_spend_usd: Option<NanoUsd>,
}

impl GatewayPolicy {
    fn of(row: &GatewayPolicyRow) -> Result<Self, ApiError> {
        Ok(Self {
            id: row.id,
            organization_id: row.organization_id,
            fields: fields_of(row)?,
            created_at: row.created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
            created_by: row.created_by,
            is_system_generated: row.is_system_generated,
            parent_policy_id: row.parent_policy_id,
            current_spend_usd: None,
        })
    }
}

/// The settable fields of a row. The gateway wrote them, so an error is a defect.
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

/// Policies with what their subjects have spent. Spending is read separately, outside of any write: a
/// policy is shown even if that fails.
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
        Err(error) => {
            tracing::warn!(cause = %error, "can't read current spend; showing policies without it")
        }
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
    let InOrganization { scope: organization_id, actor, .. } = caller;
    let FilteredPolicies { rows, total } = plane
        .database
        .read(async move |conn: &mut Conn| filter.find(conn, organization_id).await)
        .await?;
    let shown = show(plane, organization_id, actor.now, rows).await?;
    Ok(HttpResponse::Ok().insert_header(("x-total-count", total)).json(shown))
}

pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("gateway-policies")
        .add(__path_create_gateway_policy, create_gateway_policy)
        .add(__path_list_gateway_policies, list_gateway_policies)
        .add(__path_search_gateway_policies, search_gateway_policies)
        .add(__path_get_gateway_policy, get_gateway_policy)
        .add(__path_update_gateway_policy, update_gateway_policy)
        .add(__path_delete_gateway_policy, delete_gateway_policy)
        .add(guard::__path_test_gateway_policy, guard::test_gateway_policy);
}

/// Create a gateway policy
///
/// If there is a policy of the same family (spend, rate, model access or guard) with the same matchers, in any
/// order, it is updated instead and keeps its id. Fallbacks are not: a name that is taken is a conflict. A policy that the gateway created from a default
/// policy is detached from it.
#[utoipa::path(
    post,
    path = "/gateway-policies",
    responses((status = 201, description = "The created or updated policy", body = GatewayPolicy), NotFound, Conflicts),
)]
async fn create_gateway_policy(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    request: HttpRequest,
    body: Json<GatewayPolicyBody>,
) -> Result<HttpResponse, ApiError> {
    let InOrganization { scope: organization_id, actor, .. } = caller;
    let has_recognizer = plane.presidio.is_some();
    let checked = match body.is_wrong("policy_type") {
        // What is right for `config` depends on it.
        true => body.check(|_| Err(ApiError::Invalid(Vec::new()))),
        false => body.check(|whole| store::check(whole.0, has_recognizer)),
    }?;
    let now = actor.now;
    let row = plane
        .database
        .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
            store::put(conn, organization_id, &actor, checked).await
        })
        .await?;
    let shown = show_one(&plane, now, row).await?;
    let location = format!("{}/{}", request.path(), shown.id);
    Ok(created(location, shown))
}

/// List gateway policies
///
/// By priority, then newest first, including children of default policies. `x-total-count` is the number
/// of policies without `limit`.
#[utoipa::path(
    get,
    path = "/gateway-policies",
    params(GatewayPoliciesQuery),
    responses((status = 200, description = "The policies", body = Vec<GatewayPolicy>,
            headers(("x-total-count" = u64, description = "The number of policies without a limit")))),
)]
async fn list_gateway_policies(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    query: Query<GatewayPoliciesQuery>,
) -> Result<HttpResponse, ApiError> {
    let filter = query.check(Filter::of_query)?;
    list(&plane, caller, filter).await
}

/// Search policies by subjects
///
/// The list for more values than a URL can hold; the first 20,000 policies.
#[utoipa::path(
    post,
    path = "/gateway-policies/search",
    responses((status = 200, description = "The policies", body = Vec<GatewayPolicy>,
            headers(("x-total-count" = u64, description = "The number of policies without a limit")))),
)]
async fn search_gateway_policies(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    body: Json<SearchGatewayPolicies>,
) -> Result<HttpResponse, ApiError> {
    let filter = body.check(Filter::of_search)?;
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
    let InOrganization { scope: organization_id, actor, .. } = caller;
    let row = plane
        .database
        .read(async move |conn: &mut Conn| store::existing(conn, organization_id, id).await)
        .await?;
    Ok(web::Json(show_one(&plane, actor.now, row).await?))
}

/// Update a gateway policy
///
/// A JSON merge patch, as `application/json` or `application/merge-patch+json`: only the fields
/// that are given change, and a complete `config` replaces the present one. The `config`, `action`,
/// `enabled` and `priority` of a default are copied to its children that have not been edited; those are
/// deleted when its matchers change. Editing a child detaches it from its default.
#[utoipa::path(
    patch,
    path = "/gateway-policies/{policy_id}",
    responses((status = 200, description = "The updated policy", body = GatewayPolicy), Conflicts),
)]
async fn update_gateway_policy(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    patch: Json<GatewayPolicyPatch>,
) -> Result<web::Json<GatewayPolicy>, ApiError> {
    let id = path_id(&path, WHAT)?;
    let InOrganization { scope: organization_id, actor, .. } = caller;
    let patch = patch.valid()?;
    let has_recognizer = plane.presidio.is_some();
    let now = actor.now;
    let row = plane
        .database
        .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
            store::patch(conn, organization_id, &actor, id, &patch, has_recognizer).await
        })
        .await?;
    Ok(web::Json(show_one(&plane, now, row).await?))
}

/// Delete a gateway policy
///
/// The children of a default that have not been edited are deleted with it.
#[utoipa::path(
    delete,
    path = "/gateway-policies/{policy_id}",
    responses((status = 204, description = "The policy is deleted")),
)]
async fn delete_gateway_policy(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path, WHAT)?;
    let InOrganization { scope: organization_id, actor, .. } = caller;
    plane
        .database
        .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
            store::delete(conn, organization_id, &actor, id).await
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
