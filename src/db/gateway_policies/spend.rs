//! Sums of cost by subject, from the roll-ups.

use chrono::NaiveDateTime;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};

use super::{Conn, DbError, OrganizationId};
use crate::db::sql::{MAX_LISTED, Sql};
use crate::db::types::CallerKey;
use crate::db::usage::RollupRange;
use crate::domain::ids::{ApiKeyId, UserId, WorkspaceId};
use crate::domain::money::NanoUsd;

/// The most groups of a result.
const MAX_GROUPS: usize = 100_000;

/// The cost of the requests with one API key, or of those of a user without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectSpend {
    pub workspace_id: WorkspaceId,
    pub user_id: Option<UserId>,
    pub api_key_id: Option<ApiKeyId>,
    pub cost: NanoUsd,
    /// The list price of what the callers' own subscriptions paid.
    pub subscription_cost: NanoUsd,
}

#[derive(QueryableByName)]
struct SpendRow {
    #[diesel(sql_type = Text)]
    workspace_id: WorkspaceId,
    #[diesel(sql_type = Text)]
    user_id: String,
    #[diesel(sql_type = Text)]
    api_key_id: CallerKey,
    #[diesel(sql_type = Text)]
    value: String,
    #[diesel(sql_type = BigInt)]
    cost: i64,
    #[diesel(sql_type = BigInt)]
    subscription_cost: i64,
}

impl From<SpendRow> for SubjectSpend {
    fn from(row: SpendRow) -> Self {
        Self {
            workspace_id: row.workspace_id,
            user_id: row.user_id.parse().ok(),
            api_key_id: row.api_key_id.0,
            cost: NanoUsd::from_nanos(row.cost),
            subscription_cost: NanoUsd::from_nanos(row.subscription_cost),
        }
    }
}

/// The cost from `from` to before `until` (whole hours) by API key. A key may have several entries, since
/// days and hours are summed separately. `None` if there are more than `MAX_GROUPS`.
pub async fn sum_spend_by_subject(
    conn: &mut Conn,
    organization_id: OrganizationId,
    (from, until): (NaiveDateTime, NaiveDateTime),
) -> Result<Option<Vec<SubjectSpend>>, DbError> {
    let mut all = Vec::new();
    for range in RollupRange::split(from, Some(until)) {
        let mut sql = Sql::of(conn);
        sql.push("SELECT workspace_id, user_id, api_key_id, CAST('' AS text) AS value, ");
        sql.sum("cost").push(" AS cost, ").sum("subscription_cost");
        sql.push(" AS subscription_cost FROM usage_rollups WHERE metadata_key = '' AND ");
        range.bind(&mut sql);
        sql.and_is("organization_id", Some(organization_id));
        sql.push(" GROUP BY workspace_id, user_id, api_key_id");
        all.extend(load_groups(sql, conn).await?.into_iter().map(SubjectSpend::from));
        if all.len() > MAX_GROUPS {
            return Ok(None);
        }
    }
    Ok(Some(all))
}

/// The same for requests with one of these values for a key of metadata, with the value.
pub async fn sum_spend_by_metadata(
    conn: &mut Conn,
    organization_id: OrganizationId,
    (from, until): (NaiveDateTime, NaiveDateTime),
    key: &str,
    values: &[String],
) -> Result<Option<Vec<(String, SubjectSpend)>>, DbError> {
    let mut all = Vec::new();
    for range in RollupRange::split(from, Some(until)) {
        for values in values.chunks(MAX_LISTED) {
            let mut sql = Sql::of(conn);
            sql.push("SELECT workspace_id, user_id, api_key_id, metadata_value AS value, ");
            sql.sum("cost").push(" AS cost, ").sum("subscription_cost");
            sql.push(" AS subscription_cost FROM usage_rollups WHERE metadata_key <> '' AND ");
            range.bind(&mut sql);
            sql.and_is("organization_id", Some(organization_id)).and_is("metadata_key", Some(key));
            sql.and_one_of("metadata_value", values);
            sql.push(" GROUP BY workspace_id, user_id, api_key_id, metadata_value");
            let rows = load_groups(sql, conn).await?.into_iter();
            all.extend(rows.map(|mut row| (std::mem::take(&mut row.value), row.into())));
            if all.len() > MAX_GROUPS {
                return Ok(None);
            }
        }
    }
    Ok(Some(all))
}

/// Loads at most one row more than `MAX_GROUPS`, which shows that there are too many.
async fn load_groups(mut sql: Sql, conn: &mut Conn) -> Result<Vec<SpendRow>, DbError> {
    sql.push(" LIMIT ").push(&(MAX_GROUPS + 1).to_string());
    sql.load(conn).await
}
