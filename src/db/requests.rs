//! `ledger`, read: attempts and blocked requests, one by one. The ledger's writer adds them.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::ledger::{ID_SLACK, LedgerRow};
use super::page::Page;
use super::sql::Sql;
use super::{Conn, DbError};
use crate::domain::ids::{ApiKeyId, AttemptId, PolicyId, RequestId, UserId};
use crate::domain::provider::UpstreamId;
use crate::domain::scope::WorkspaceScope;

/// Maximum number of rows that one page searches where no index finds the matching ones.
const MAX_SEARCHED_ROWS: usize = 50_000;
/// Maximum number of rows of one request that are read; there are a few.
const MAX_ATTEMPTS: usize = 100;

/// Which rows a list shows. All that is given has to hold.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    /// Admitted at this instant or later, UTC.
    pub from: Option<NaiveDateTime>,
    /// Admitted before this instant, UTC.
    pub to: Option<NaiveDateTime>,
    pub api_key_id: Option<ApiKeyId>,
    /// With a key of this person.
    pub user_id: Option<UserId>,
    pub configuration_id: Option<UpstreamId>,
    /// The lowest and the highest status.
    pub status: Option<(u16, u16)>,
    pub outcome: Option<&'static str>,
    /// Matched or violated this policy.
    pub policy_id: Option<PolicyId>,
    pub request_id: Option<RequestId>,
    /// Of requests that their caller gave this id.
    pub client_request_id: Option<String>,
}

impl RequestFilter {
    /// Whether it asks for what no index leads to.
    fn searches(&self) -> bool {
        self.request_id.is_none()
            && (self.user_id.is_some()
                || self.configuration_id.is_some()
                || self.status.is_some()
                || self.outcome.is_some()
                || self.policy_id.is_some()
                || self.client_request_id.is_some())
    }

    /// The index that leads to the fewest rows.
    fn index(&self) -> &'static str {
        if self.request_id.is_some() {
            "ledger_request"
        } else if self.api_key_id.is_some() {
            "ledger_key"
        } else if self.has_errors_only() {
            "ledger_errors"
        } else {
            "ledger_workspace"
        }
    }

    fn has_errors_only(&self) -> bool {
        self.status.is_some_and(|(low, _)| low >= 400)
    }
}

/// Rows of a list, newest first.
#[derive(Clone, Debug)]
pub struct RequestRows {
    /// One more than the page holds, if there are more.
    pub rows: Vec<LedgerRow>,
    /// The oldest row that was looked at, where the search ended before the rows did.
    pub searched_to: Option<AttemptId>,
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = Text)]
    id: AttemptId,
}

/// The workspace's rows, newest first. A filter that no index serves looks at a bounded number of
/// rows, and says how far it came.
pub async fn list_requests(
    conn: &mut Conn,
    scope: WorkspaceScope,
    filter: &RequestFilter,
    page: Page<AttemptId>,
) -> Result<RequestRows, DbError> {
    let searched_to = match filter.searches() {
        true => {
            let mut sql = Sql::of(conn);
            sql.push("SELECT id FROM ledger").by_index(filter.index());
            bind_found_by_index(&mut sql, scope, filter, page.after);
            sql.push(" ORDER BY id DESC LIMIT 1 OFFSET ")
                .push(&(MAX_SEARCHED_ROWS - 1).to_string());
            sql.load::<IdRow>(conn).await?.pop().map(|row| row.id)
        }
        false => None,
    };
    let mut sql = Sql::of(conn);
    sql.push("SELECT * FROM ledger").by_index(filter.index());
    bind_found_by_index(&mut sql, scope, filter, page.after);
    if let Some(id) = searched_to {
        sql.push(" AND id >= ").text(id.to_string());
    }
    bind_searched(&mut sql, filter);
    sql.push(" ORDER BY id DESC LIMIT ").push(&page.rows().to_string());
    Ok(RequestRows { rows: sql.load(conn).await?, searched_to })
}

/// The rows of one of the workspace's requests, first attempt first.
pub async fn list_attempts(
    conn: &mut Conn,
    scope: WorkspaceScope,
    request_id: RequestId,
) -> Result<Vec<LedgerRow>, DbError> {
    let mut sql = Sql::of(conn);
    let filter = RequestFilter { request_id: Some(request_id), ..RequestFilter::default() };
    sql.push("SELECT * FROM ledger").by_index(filter.index());
    bind_found_by_index(&mut sql, scope, &filter, None);
    sql.push(" ORDER BY attempt, id LIMIT ").push(&MAX_ATTEMPTS.to_string());
    sql.load(conn).await
}

/// The conditions by which indexes find rows, or walk along them: time as a range of ids.
fn bind_found_by_index(
    sql: &mut Sql,
    scope: WorkspaceScope,
    filter: &RequestFilter,
    before: Option<AttemptId>,
) {
    sql.push(" WHERE organization_id = ").text(scope.organization_id.to_string());
    sql.and_is("workspace_id", Some(scope.workspace_id));
    sql.and_is("api_key_id", filter.api_key_id).and_is("request_id", filter.request_id);
    if filter.has_errors_only() {
        // In the very words of the index.
        sql.push(" AND status >= 400");
    }
    if let Some(from) = filter.from {
        let first = AttemptId::first_at(from.and_utc() - ID_SLACK);
        sql.push(" AND id >= ").text(first.to_string());
        sql.push(" AND admitted_at >= ").time(from);
    }
    if let Some(to) = filter.to {
        let beyond = AttemptId::first_at(to.and_utc() + ID_SLACK);
        sql.push(" AND id < ").text(beyond.to_string());
        sql.push(" AND admitted_at < ").time(to);
    }
    if let Some(before) = before {
        sql.push(" AND id < ").text(before.to_string());
    }
}

/// The other conditions.
fn bind_searched(sql: &mut Sql, filter: &RequestFilter) {
    sql.and_is("user_id", filter.user_id)
        .and_is("configuration_id", filter.configuration_id)
        .and_is("outcome", filter.outcome)
        .and_is("client_request_id", filter.client_request_id.as_ref());
    if let Some((low, high)) = filter.status {
        sql.push(&format!(" AND status >= {low} AND status <= {high}"));
    }
    if let Some(policy_id) = filter.policy_id {
        sql.push(" AND ").contains("policies", format!("\"{policy_id}\""));
    }
}
