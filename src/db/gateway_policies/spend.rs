//! What the roll-ups say was spent, by whom.

use chrono::NaiveDateTime;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};

use super::{Conn, DbError, OrganizationId};
use crate::db::sql::{MAX_LISTED, Sql};
use crate::db::usage::Stretch;
use crate::domain::ids::{ApiKeyId, UserId, WorkspaceId};
use crate::domain::money::NanoUsd;

/// The most groups that are summed up; an answer that would have more is none.
const MOST_GROUPS: usize = 100_000;

/// What one key has spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectSpend {
    pub workspace_id: WorkspaceId,
    pub user_id: Option<UserId>,
    pub api_key_id: ApiKeyId,
    pub cost: NanoUsd,
}

#[derive(QueryableByName)]
struct SpendRow {
    #[diesel(sql_type = Text)]
    workspace_id: WorkspaceId,
    #[diesel(sql_type = Text)]
    user_id: String,
    #[diesel(sql_type = Text)]
    api_key_id: ApiKeyId,
    #[diesel(sql_type = Text)]
    value: String,
    #[diesel(sql_type = BigInt)]
    cost: i64,
}

impl From<SpendRow> for SubjectSpend {
    fn from(row: SpendRow) -> Self {
        Self {
            workspace_id: row.workspace_id,
            user_id: row.user_id.parse().ok(),
            api_key_id: row.api_key_id,
            cost: NanoUsd::from_nanos(row.cost),
        }
    }
}

/// What was spent from `from` to before `until`, whole hours, by each key; what it spent on whole
/// days and beside them is told apart. `None` where that is too much to tell.
pub async fn sum_spend_by_subject(
    conn: &mut Conn,
    organization_id: OrganizationId,
    (from, until): (NaiveDateTime, NaiveDateTime),
) -> Result<Option<Vec<SubjectSpend>>, DbError> {
    let mut all = Vec::new();
    for stretch in Stretch::split(from, Some(until)) {
        let mut sql = Sql::of(conn);
        sql.push("SELECT workspace_id, user_id, api_key_id, CAST('' AS text) AS value, ");
        sql.sum("cost").push(" AS cost FROM ").push(stretch.grain.table()).push(" WHERE ");
        stretch.bind(&mut sql);
        sql.and_is("organization_id", Some(organization_id));
        sql.push(" GROUP BY workspace_id, user_id, api_key_id");
        all.extend(few(sql, conn).await?.into_iter().map(SubjectSpend::from));
        if all.len() > MOST_GROUPS {
            return Ok(None);
        }
    }
    Ok(Some(all))
}

/// The same for requests with one of these values under a key of their metadata, with the value.
pub async fn sum_spend_by_metadata(
    conn: &mut Conn,
    organization_id: OrganizationId,
    (from, until): (NaiveDateTime, NaiveDateTime),
    key: &str,
    values: &[String],
) -> Result<Option<Vec<(String, SubjectSpend)>>, DbError> {
    let mut all = Vec::new();
    for stretch in Stretch::split(from, Some(until)) {
        for values in values.chunks(MAX_LISTED) {
            let mut sql = Sql::of(conn);
            sql.push("SELECT workspace_id, user_id, api_key_id, metadata_value AS value, ");
            sql.sum("cost").push(" AS cost FROM ").push(stretch.grain.table_by_metadata());
            sql.push(" WHERE ");
            stretch.bind(&mut sql);
            sql.and_is("organization_id", Some(organization_id)).and_is("metadata_key", Some(key));
            sql.and_one_of("metadata_value", values);
            sql.push(" GROUP BY workspace_id, user_id, api_key_id, metadata_value");
            let rows = few(sql, conn).await?.into_iter();
            all.extend(rows.map(|mut row| (std::mem::take(&mut row.value), row.into())));
            if all.len() > MOST_GROUPS {
                return Ok(None);
            }
        }
    }
    Ok(Some(all))
}

/// One more row than [`MOST_GROUPS`] says that there are too many.
async fn few(mut sql: Sql, conn: &mut Conn) -> Result<Vec<SpendRow>, DbError> {
    sql.push(" LIMIT ").push(&(MOST_GROUPS + 1).to_string());
    sql.load(conn).await
}
