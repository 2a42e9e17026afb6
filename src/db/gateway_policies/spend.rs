//! What the roll-ups say was spent, by whom.

use chrono::NaiveDateTime;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;

use super::{Conn, DbError, OrganizationId, on};
use crate::db::schema::{usage_hours, usage_hours_by_metadata};
use crate::domain::ids::{ApiKeyId, UserId, WorkspaceId};
use crate::domain::money::NanoUsd;

/// The most groups that are summed up; an answer that would have more is none.
const MOST_GROUPS: i64 = 100_000;
/// The most values that one query asks for.
const MOST_VALUES: usize = 500;

/// What one key has spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectSpend {
    /// The key's workspace.
    pub workspace_id: WorkspaceId,
    /// The person whose key it is.
    pub user_id: Option<UserId>,
    /// The key.
    pub api_key_id: ApiKeyId,
    /// How much.
    pub cost: NanoUsd,
}

/// What was spent from `from` to before `until`, whole hours, by each key. `None` where that is
/// too much to tell.
pub async fn sum_spend_by_subject(
    conn: &mut Conn,
    organization_id: OrganizationId,
    (from, until): (NaiveDateTime, NaiveDateTime),
) -> Result<Option<Vec<SubjectSpend>>, DbError> {
    use usage_hours as hours;

    let rows: Vec<(WorkspaceId, String, ApiKeyId, i64)> = on!(conn, c => hours::table
        .filter(hours::organization_id.eq(organization_id))
        .filter(hours::hour.ge(from))
        .filter(hours::hour.lt(until))
        .group_by((hours::workspace_id, hours::user_id, hours::api_key_id))
        .select((
            hours::workspace_id,
            hours::user_id,
            hours::api_key_id,
            sql::<BigInt>("CAST(SUM(cost) AS BIGINT)"),
        ))
        .limit(MOST_GROUPS + 1)
        .load(c))?;
    Ok(few(&rows).then(|| rows.into_iter().map(of).collect()))
}

/// The same for requests with one of these values under a key of their metadata, with the value.
pub async fn sum_spend_by_metadata(
    conn: &mut Conn,
    organization_id: OrganizationId,
    (from, until): (NaiveDateTime, NaiveDateTime),
    key: &str,
    values: &[String],
) -> Result<Option<Vec<(String, SubjectSpend)>>, DbError> {
    use usage_hours_by_metadata as hours;

    let mut all = Vec::new();
    for values in values.chunks(MOST_VALUES) {
        let rows: Vec<(String, (WorkspaceId, String, ApiKeyId, i64))> = on!(conn, c => hours::table
                .filter(hours::organization_id.eq(organization_id))
                .filter(hours::hour.ge(from))
                .filter(hours::hour.lt(until))
                .filter(hours::metadata_key.eq(key.to_owned()))
                .filter(hours::metadata_value.eq_any(values.to_vec()))
                .group_by((
                    hours::metadata_value,
                    hours::workspace_id,
                    hours::user_id,
                    hours::api_key_id,
                ))
                .select((
                    hours::metadata_value,
                    (
                        hours::workspace_id,
                        hours::user_id,
                        hours::api_key_id,
                        sql::<BigInt>("CAST(SUM(cost) AS BIGINT)"),
                    ),
                ))
                .limit(MOST_GROUPS + 1)
                .load(c))?;
        all.extend(rows.into_iter().map(|(value, row)| (value, of(row))));
        if !few(&all) {
            return Ok(None);
        }
    }
    Ok(Some(all))
}

fn few<T>(rows: &[T]) -> bool {
    i64::try_from(rows.len()).is_ok_and(|rows| rows <= MOST_GROUPS)
}

fn of(row: (WorkspaceId, String, ApiKeyId, i64)) -> SubjectSpend {
    let (workspace_id, user_id, api_key_id, cost) = row;
    SubjectSpend {
        workspace_id,
        user_id: user_id.parse().ok(),
        api_key_id,
        cost: NanoUsd::from_nanos(cost),
    }
}
