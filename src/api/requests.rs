//! `/workspaces/{workspace_id}/requests`: the rows of the ledger, one an attempt and one for each
//! blocked request.

use std::collections::BTreeMap;

use actix_web::web;
use chrono::{DateTime, Datelike, NaiveDateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Management;
use super::access::{InWorkspace, UsageRead};
use super::date_time;
use super::error::ApiError;
use super::page::{Paged, page};
use super::query::Query;
use super::routes::Routes;
use crate::accounting::record::{AttemptOutcome, UsageSource};
use crate::db::Conn;
use crate::db::names::was_workspace;
use crate::db::requests::{RequestFilter, RequestRow, list_attempts, list_requests as list_rows};
use crate::domain::ids::{
    ApiKeyId, AttemptId, ConfigurationId, PolicyId, RequestId, UserId, WorkspaceId,
};
use crate::domain::money::NanoUsd;
use crate::domain::tokens::{TokenCounts, TokenUsage};

/// Callers' ids of requests are kept to this length.
const MOST_CHARS: usize = 128;

/// The query of a workspace's requests. All filters that are given have to hold.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RequestsQuery {
    /// How many to return, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Only what was admitted at this instant or later.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub from: Option<DateTime<Utc>>,
    /// Only what was admitted before this instant.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub to: Option<DateTime<Utc>>,
    /// Only with this key.
    pub api_key_id: Option<ApiKeyId>,
    /// Only with keys of this person.
    pub user_id: Option<UserId>,
    /// Only for this model configuration.
    pub configuration_id: Option<ConfigurationId>,
    /// Only with this status, such as `429`, or one of this class, such as `4xx`.
    #[param(pattern = "^[1-5](xx|[0-9]{2})$", example = "4xx")]
    pub status: Option<String>,
    /// Only with this outcome.
    pub outcome: Option<AttemptOutcome>,
    /// Only what this policy matched or forbade.
    pub policy_id: Option<PolicyId>,
    /// Only of this request.
    pub request_id: Option<RequestId>,
    /// Only of requests that their caller gave this id.
    #[param(max_length = 128)]
    pub client_request_id: Option<String>,
}

/// The policies that had to do with a request.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RequestPolicies {
    /// Those that it was held to.
    pub matched: Vec<PolicyId>,
    /// Those that forbade it.
    pub violated: Vec<PolicyId>,
}

/// One attempt, or one blocked request.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct RequestAttempt {
    /// Its id; later ones have higher ids.
    pub id: AttemptId,
    /// The request that it belongs to: the `x-request-id` of its answer.
    pub request_id: RequestId,
    /// The caller's own id of the request.
    pub client_request_id: Option<String>,
    /// Its place among the request's attempts, from 1; 0 for a blocked request.
    pub attempt: i64,
    /// When it was admitted, or blocked.
    pub admitted_at: DateTime<Utc>,
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// Who asked.
    pub api_key_id: ApiKeyId,
    /// Whose key that is.
    pub user_id: Option<UserId>,
    /// For what.
    pub configuration_id: ConfigurationId,
    /// Its name at the time.
    pub configuration: String,
    /// `chat_completions`, `responses`, `list_models` or `retrieve_model`; `check` where a check of the
    /// configuration asked for a token.
    #[schema(example = "chat_completions")]
    pub route: String,
    /// The model that the caller named.
    pub model_asked: Option<String>,
    /// The model that the upstream was asked for.
    pub model: String,
    /// The model that the upstream says it used.
    pub model_used: Option<String>,
    /// The status that the caller saw, of a check the upstream's; none if they left before.
    pub status: Option<i32>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The stable code of what went wrong.
    pub code: Option<String>,
    /// Tokens by kind.
    pub usage: TokenCounts,
    /// Where their numbers come from.
    pub usage_source: UsageSource,
    /// What it cost; null if that is not known.
    pub cost_usd: Option<NanoUsd>,
    /// Which price that was computed with.
    #[schema(example = "catalogue:2026-11-01:openai/gpt-4o-mini")]
    pub price_version: Option<String>,
    /// From the request's arrival to the upstream's first byte, in milliseconds.
    pub first_byte_ms: Option<i64>,
    /// From the request's arrival to its end, in milliseconds.
    pub duration_ms: Option<i64>,
    /// The policies that had to do with it.
    pub policies: RequestPolicies,
    /// The caller's `X-Gateway-*` metadata, normalized.
    pub metadata: BTreeMap<String, String>,
}

/// All that is recorded of one request.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct RequestRecord {
    /// The request.
    pub request_id: RequestId,
    /// What its attempts cost together, as far as that is known.
    pub cost_usd: NanoUsd,
    /// Its attempts, the first first; one entry for a blocked request.
    pub attempts: Vec<RequestAttempt>,
}

impl TryFrom<RequestRow> for RequestAttempt {
    type Error = ApiError;

    fn try_from(row: RequestRow) -> Result<Self, ApiError> {
        let id = row.id;
        Ok(Self {
            id,
            request_id: row.request_id,
            client_request_id: row.client_request_id,
            attempt: row.attempt,
            admitted_at: row.admitted_at.and_utc(),
            workspace_id: row.workspace_id,
            api_key_id: row.api_key_id,
            user_id: row.user_id,
            configuration_id: row.configuration_id,
            configuration: row.configuration,
            route: row.route,
            model_asked: row.model_asked,
            model: row.model,
            model_used: row.model_used,
            status: row.status,
            outcome: word(id, row.outcome)?,
            code: row.code,
            usage: serde_json::from_str::<TokenUsage>(&row.tokens)
                .map_err(|error| unreadable(id, error))?
                .into(),
            usage_source: word(id, row.usage_source)?,
            cost_usd: row.cost.map(NanoUsd::from_nanos),
            price_version: row.price_version,
            first_byte_ms: row.first_byte_ms,
            duration_ms: row.duration_ms,
            policies: serde_json::from_str(&row.policies).map_err(|error| unreadable(id, error))?,
            metadata: serde_json::from_str(&row.metadata).map_err(|error| unreadable(id, error))?,
        })
    }
}

/// One of the words of an enumeration.
fn word<T: DeserializeOwned>(id: AttemptId, text: String) -> Result<T, ApiError> {
    serde_json::from_value(Value::String(text)).map_err(|error| unreadable(id, error))
}

fn unreadable(id: AttemptId, error: serde_json::Error) -> ApiError {
    ApiError::Internal(format!("row {id} of the ledger can't be read: {error}"))
}

/// List requests
///
/// Attempts and blocked requests, newest first. A page may hold fewer than `limit`, even none, and
/// more may follow: one page looks at a bounded number of rows for what its filters ask. The list
/// has ended when `next_cursor` is null.
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
    let page = page::<AttemptId>(query.0.limit, query.0.cursor.as_deref())?;
    let filter = filter(query.0)?;
    let found = plane
        .database
        .read(async move |conn: &mut Conn| {
            if !was_workspace(conn, scope).await? {
                return Err(ApiError::NotFound("workspace"));
            }
            Ok(list_rows(conn, scope, &filter, page).await?)
        })
        .await?;
    let searched_to = found.searched_to.map(AttemptId::uuid);
    let items: Result<Vec<_>, _> = found.rows.into_iter().map(RequestAttempt::try_from).collect();
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
    let asked = query.client_request_id.as_deref().unwrap_or_default();
    if asked.len() > MOST_CHARS || asked.contains('\0') {
        let message = format!("must be at most {MOST_CHARS} characters of text");
        return Err(ApiError::field("client_request_id", message));
    }
    Ok(RequestFilter {
        from: instant("from", query.from)?,
        to: instant("to", query.to)?,
        api_key_id: query.api_key_id,
        user_id: query.user_id,
        configuration_id: query.configuration_id,
        status: query.status.as_deref().map(statuses).transpose()?,
        outcome: query.outcome.map(AttemptOutcome::as_str),
        policy_id: query.policy_id,
        request_id: query.request_id,
        client_request_id: query.client_request_id,
    })
}

/// An end of the time that is asked for, if ids and databases can tell it.
fn instant(
    field: &'static str,
    at: Option<DateTime<Utc>>,
) -> Result<Option<NaiveDateTime>, ApiError> {
    match at {
        Some(at) if !(1970..=9999).contains(&at.year()) => {
            Err(ApiError::field(field, "must lie in the years 1970 to 9999"))
        }
        at => Ok(at.map(|at| at.naive_utc())),
    }
}

/// The lowest and the highest status that are meant.
fn statuses(text: &str) -> Result<(u16, u16), ApiError> {
    let exact = || text.parse().ok().map(|status| (status, status));
    let class =
        || text.strip_suffix("xx")?.parse().ok().map(|class: u16| (class * 100, class * 100 + 99));
    let digits = text.len() == 3 && text.starts_with(|c: char| c.is_ascii_digit());
    let found = if digits { exact().or_else(class) } else { None };
    found.filter(|(low, _)| (100..=599).contains(low)).ok_or_else(|| {
        ApiError::field("status", "must be a status such as 429 or a class such as 4xx")
    })
}

/// Adds the operations.
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
    fn statuses_are_numbers_or_classes() {
        for (text, range) in [("429", (429, 429)), ("4xx", (400, 499)), ("5xx", (500, 599))] {
            assert_eq!(statuses(text).unwrap(), range);
        }
        for text in ["", "4", "40", "4000", "6xx", "0xx", "xx", "4xx ", "abc", "099", "+42", "-xx"]
        {
            assert!(statuses(text).is_err(), "{text}");
        }
    }
}
