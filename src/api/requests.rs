//! `/workspaces/{workspace_id}/requests`: the rows of the ledger, one for each attempt and one for
//! each blocked request.

use std::collections::BTreeMap;

use actix_web::web;
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Management;
use super::access::{InWorkspace, UsageRead};
use super::date_time;
use super::error::ApiError;
use super::field_errors::both;
use super::page::{Paged, page};
use super::query::Query;
use super::routes::Routes;
use super::shared::{time_range, upstream_filter};
use crate::accounting::record::{AttemptOutcome, SUBSCRIPTION, UsageSource};
use crate::db::Conn;
use crate::db::ledger::LedgerRow;
use crate::db::names::workspace_existed;
use crate::db::requests::{RequestFilter, list_attempts, list_requests as list_rows};
use crate::domain::content_finding::ContentFinding;
use crate::domain::ids::{
    ApiKeyId, AttemptId, ConfigurationId, PolicyId, RequestId, UserId, WorkspaceId,
};
use crate::domain::money::NanoUsd;
use crate::domain::provider::Provider;
use crate::domain::tokens::{TokenCounts, TokenUsage};

/// The longest id of a caller that is kept.
const MAX_CHARS: usize = 128;

/// The query of a workspace's requests. All filters that are given apply.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestsQuery {
    /// The largest number of items to return, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub(super) limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    pub(super) cursor: Option<String>,
    /// Only what was admitted at this time or later.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub(super) from: Option<DateTime<Utc>>,
    /// Only what was admitted before this time.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub(super) to: Option<DateTime<Utc>>,
    /// Only with this key.
    pub(super) api_key_id: Option<ApiKeyId>,
    /// Only with keys of this person.
    pub(super) user_id: Option<UserId>,
    /// Only for this model configuration.
    pub(super) configuration_id: Option<ConfigurationId>,
    /// Only for this provider, called by its name. Not together with `configuration_id`.
    pub(super) provider: Option<Provider>,
    /// Only with this status, such as `429`, or one of this class, such as `4xx`.
    #[param(pattern = "^[1-5](xx|[0-9]{2})$", example = "4xx")]
    pub(super) status: Option<String>,
    /// Only with this outcome.
    pub(super) outcome: Option<AttemptOutcome>,
    /// Only requests that this policy matched or blocked.
    pub(super) policy_id: Option<PolicyId>,
    /// Only attempts of this request.
    pub(super) request_id: Option<RequestId>,
    /// Only of requests that their caller gave this id.
    #[param(max_length = 128)]
    pub(super) client_request_id: Option<String>,
}

/// The policies that applied to a request.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(super) struct RequestPolicies {
    /// All that applied.
    pub(super) matched: Vec<PolicyId>,
    /// Those that blocked it.
    pub(super) violated: Vec<PolicyId>,
}

/// One attempt, or one blocked request.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RequestAttempt {
    /// Later attempts have higher ids.
    pub(super) id: AttemptId,
    /// The request that it belongs to: the `x-request-id` of its answer.
    pub(super) request_id: RequestId,
    /// The caller's own id of the request.
    pub(super) client_request_id: Option<String>,
    /// The number of the attempt within the request, from 1; 0 for a blocked request.
    pub(super) attempt: i64,
    /// When the request was admitted or blocked.
    pub(super) admitted_at: DateTime<Utc>,
    pub(super) workspace_id: WorkspaceId,
    /// Null for a caller without an API key.
    pub(super) api_key_id: Option<ApiKeyId>,
    pub(super) user_id: Option<UserId>,
    /// Null for a provider that was called by its name.
    pub(super) configuration_id: Option<ConfigurationId>,
    /// The name of the model configuration at the time, or the provider's.
    pub(super) configuration: String,
    /// The provider that was called by its name; null for a model configuration.
    pub(super) provider: Option<Provider>,
    /// `chat_completions`, `responses`, `messages`, `count_tokens`, `list_models` or `get_model`;
    /// `check` where a check of the configuration asked for a token.
    #[schema(example = "chat_completions")]
    pub(super) route: String,
    /// The model that the caller named.
    pub(super) model_asked: Option<String>,
    /// The model that was requested from the upstream.
    pub(super) model: String,
    /// The model that the upstream says it used.
    pub(super) model_used: Option<String>,
    /// The upstream's status, or else that of the gateway's error; null if the caller disconnected before.
    pub(super) status: Option<i32>,
    pub(super) outcome: AttemptOutcome,
    /// The stable code of the error.
    pub(super) code: Option<String>,
    pub(super) usage: TokenCounts,
    /// Where the token counts come from.
    pub(super) usage_source: UsageSource,
    /// Null if the cost is not known.
    pub(super) cost_usd: Option<NanoUsd>,
    /// What it would have cost if the caller's own subscription had not paid for it; null for others.
    pub(super) list_cost_usd: Option<NanoUsd>,
    /// Who pays, and whether that is known.
    pub(super) cost_kind: CostKind,
    /// The price that the cost was computed with.
    #[schema(example = "catalogue:2026-11-01:openai/gpt-4o-mini")]
    pub(super) price_version: Option<String>,
    /// From the request's arrival to the upstream's first byte, in milliseconds; of further attempts, from
    /// the attempt's beginning.
    pub(super) first_byte_ms: Option<i64>,
    /// From the request's arrival to the attempt's end, in milliseconds; of further attempts, from the
    /// attempt's beginning.
    pub(super) duration_ms: Option<i64>,
    pub(super) policies: RequestPolicies,
    /// What guards found in the request and in its answer: numbers of values, never a value. With the last
    /// attempt of a request.
    pub(super) guard_findings: Vec<ContentFinding>,
    /// The caller's `X-Gateway-*` metadata, normalized.
    pub(super) metadata: BTreeMap<String, String>,
}

/// Everything that is recorded of a request.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RequestRecord {
    pub(super) request_id: RequestId,
    /// The sum of the known costs of its attempts.
    pub(super) cost_usd: NanoUsd,
    /// Its attempts in order; one entry for a blocked request.
    pub(super) attempts: Vec<RequestAttempt>,
}

impl TryFrom<LedgerRow> for RequestAttempt {
    type Error = ApiError;

    fn try_from(row: LedgerRow) -> Result<Self, ApiError> {
        let id = row.id;
        let findings = row.guard_findings.as_deref().unwrap_or("[]");
        let guard_findings =
            serde_json::from_str(findings).map_err(|error| unreadable(id, error))?;
        let usage: TokenUsage =
            serde_json::from_str(&row.tokens).map_err(|error| unreadable(id, error))?;
        Ok(Self {
            id,
            request_id: row.request_id,
            client_request_id: row.client_request_id,
            attempt: row.attempt,
            admitted_at: row.admitted_at.and_utc(),
            workspace_id: row.workspace_id,
            api_key_id: row.api_key_id.0,
            user_id: row.user_id,
            configuration_id: row.configuration_id.configuration_id(),
            configuration: row.configuration,
            provider: row.configuration_id.provider(),
            cost_kind: CostKind::of(&row.route, row.price_version.as_deref()),
            route: row.route,
            model_asked: row.model_asked,
            model: row.model,
            model_used: row.model_used,
            status: row.status,
            outcome: variant(id, row.outcome)?,
            code: row.code,
            usage: usage.into(),
            usage_source: variant(id, row.usage_source)?,
            cost_usd: row.cost.map(NanoUsd::from_nanos),
            list_cost_usd: row.list_cost.map(NanoUsd::from_nanos),
            price_version: row.price_version,
            first_byte_ms: row.first_byte_ms,
            duration_ms: row.duration_ms,
            guard_findings,
            policies: serde_json::from_str(&row.policies).map_err(|error| unreadable(id, error))?,
            metadata: serde_json::from_str(&row.metadata).map_err(|error| unreadable(id, error))?,
        })
    }
}

/// What a request's cost is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CostKind {
    /// Computed from what was used.
    Metered,
    /// Nothing: the caller's own subscription at the provider paid.
    Subscription,
    /// Not known: an endpoint that is passed through.
    Unmetered,
}

impl CostKind {
    fn of(route: &str, price_version: Option<&str>) -> Self {
        match (route, price_version) {
            (_, Some(SUBSCRIPTION)) => Self::Subscription,
            ("unmetered", _) => Self::Unmetered,
            _ => Self::Metered,
        }
    }
}

/// Reads a value of an enumeration.
fn variant<T: DeserializeOwned>(id: AttemptId, text: String) -> Result<T, ApiError> {
    serde_json::from_value(Value::String(text)).map_err(|error| unreadable(id, error))
}

fn unreadable(id: AttemptId, error: serde_json::Error) -> ApiError {
    ApiError::Internal(format!("row {id} of the ledger can't be read: {error}"))
}

/// List requests
///
/// Attempts and blocked requests, newest first. A page may hold fewer than `limit`, even none, and
/// more may follow: one page searches a bounded number of rows. The list ends when `next_cursor` is
/// null.
#[utoipa::path(
    get,
    path = "/workspaces/{workspace_id}/requests",
    params(RequestsQuery),
    responses((status = 200, description = "A page", body = Paged<RequestAttempt>)),
)]
async fn list_requests(
    caller: InWorkspace<UsageRead>,
    plane: web::Data<Management>,
    query: Query<RequestsQuery>,
) -> Result<web::Json<Paged<RequestAttempt>>, ApiError> {
    let scope = caller.scope;
    let (page, filter) = query.check(|query| {
        both(page::<AttemptId>(query.limit, query.cursor.as_deref()), filter(query))
    })?;
    let list = plane
        .database
        .read(async move |conn: &mut Conn| {
            if !workspace_existed(conn, scope).await? {
                return Err(ApiError::NotFound("workspace"));
            }
            Ok(list_rows(conn, scope, &filter, page).await?)
        })
        .await?;
    let searched_to = list.searched_to.map(AttemptId::uuid);
    let items: Result<Vec<_>, _> = list.rows.into_iter().map(RequestAttempt::try_from).collect();
    let page = Paged::of(items?, page, |item| item.id.uuid(), |item| item);
    Ok(web::Json(page.or_after(searched_to)))
}

/// Read a request
///
/// With all of its attempts.
#[utoipa::path(
    get,
    path = "/workspaces/{workspace_id}/requests/{request_id}",
    responses((status = 200, description = "The request", body = RequestRecord)),
)]
async fn get_request(
    caller: InWorkspace<UsageRead>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
) -> Result<web::Json<RequestRecord>, ApiError> {
    let scope = caller.scope;
    let request_id: RequestId = path.1.parse().map_err(|_| ApiError::NotFound("request"))?;
    let rows = plane
        .database
        .read(async move |conn: &mut Conn| list_attempts(conn, scope, request_id).await)
        .await?;
    if rows.is_empty() {
        return Err(ApiError::NotFound("request"));
    }
    let attempts: Result<Vec<_>, _> = rows.into_iter().map(RequestAttempt::try_from).collect();
    let attempts = attempts?;
    let cost_usd = attempts.iter().filter_map(|attempt| attempt.cost_usd).sum();
    Ok(web::Json(RequestRecord { request_id, cost_usd, attempts }))
}

fn filter(query: RequestsQuery) -> Result<RequestFilter, ApiError> {
    let id = query.client_request_id.as_deref().unwrap_or_default();
    let id = match id.len() > MAX_CHARS || id.contains('\0') {
        true => {
            let message = format!("must be at most {MAX_CHARS} characters of text");
            Err(ApiError::field("client_request_id", message))
        }
        false => Ok(()),
    };
    let status = query.status.as_deref().map(status_range).transpose();
    // The years that ids and databases can represent.
    let times = time_range(query.from, query.to, 1970..=9999);
    let upstream = upstream_filter(query.configuration_id, query.provider);
    let (((), status), (times, upstream)) = both(both(id, status), both(times, upstream))?;
    Ok(RequestFilter {
        from: times.0,
        to: times.1,
        api_key_id: query.api_key_id,
        user_id: query.user_id,
        configuration_id: upstream,
        status,
        outcome: query.outcome.map(AttemptOutcome::as_str),
        policy_id: query.policy_id,
        request_id: query.request_id,
        client_request_id: query.client_request_id,
    })
}

/// The lowest and the highest status of a filter.
fn status_range(text: &str) -> Result<(u16, u16), ApiError> {
    let exact = || text.parse().ok().map(|status| (status, status));
    let class =
        || text.strip_suffix("xx")?.parse().ok().map(|class: u16| (class * 100, class * 100 + 99));
    let digits = text.len() == 3 && text.starts_with(|c: char| c.is_ascii_digit());
    let found = if digits { exact().or_else(class) } else { None };
    found.filter(|(low, _)| (100..=599).contains(low)).ok_or_else(|| {
        ApiError::field("status", "must be a status such as 429 or a class such as 4xx")
    })
}

pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("requests")
        .add(__path_list_requests, list_requests)
        .add(__path_get_request, get_request);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_filter_is_a_number_or_a_class() {
        for (text, range) in [("429", (429, 429)), ("4xx", (400, 499)), ("5xx", (500, 599))] {
            assert_eq!(status_range(text).unwrap(), range);
        }
        for text in ["", "4", "40", "4000", "6xx", "0xx", "xx", "4xx ", "abc", "099", "+42", "-xx"]
        {
            assert!(status_range(text).is_err(), "{text}");
        }
    }
}
