//! `usage_hours` and `usage_hours_by_metadata`, read. The ledger's writer adds to them.

mod spend;

use std::collections::HashMap;

use chrono::NaiveDateTime;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};

pub use spend::{SpendConditions, spend_since};

use super::sql::Sql;
use super::{Conn, DbError};
use crate::domain::ids::{ApiKeyId, ConfigurationId, OrganizationId, UserId, WorkspaceId};
use crate::domain::money::NanoUsd;
use crate::domain::scope::Scope;
use crate::domain::usage::{Dimension, GroupBy, Interval, UsageTotals};

/// Which usage is summed up: all that is given has to hold, and the time always.
#[derive(Clone, Debug)]
pub struct UsageFilter {
    /// From this hour on, UTC.
    pub from: NaiveDateTime,
    /// Before this hour, UTC.
    pub to: NaiveDateTime,
    /// For the platform's eyes: only this tenant's.
    pub organization_id: Option<OrganizationId>,
    /// Only this workspace's.
    pub workspace_id: Option<WorkspaceId>,
    /// Only this person's.
    pub user_id: Option<UserId>,
    /// Only this key's.
    pub api_key_id: Option<ApiKeyId>,
    /// Only that of this model configuration.
    pub configuration_id: Option<ConfigurationId>,
    /// Only that of this model.
    pub model: Option<String>,
}

/// The usage of one group in one interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageGroup {
    /// When the interval begins, UTC; none where one figure stands for all of the time.
    pub start: Option<NaiveDateTime>,
    /// What the group has of each dimension, in the order asked for. No user is the empty text.
    pub dimensions: Vec<String>,
    /// The value of the metadata key: none where it was not sent, the empty text for all values
    /// beyond those that are told apart, and for what may have one in an hour of too many keys.
    pub metadata: Option<String>,
    /// Its figures.
    pub totals: UsageTotals,
}

#[derive(QueryableByName)]
struct GroupRow {
    #[diesel(sql_type = Nullable<Timestamp>)]
    start: Option<NaiveDateTime>,
    #[diesel(sql_type = Nullable<Text>)]
    first: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    second: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    third: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    metadata: Option<String>,
    #[diesel(sql_type = BigInt)]
    input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    cached_input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    cache_write_tokens: i64,
    #[diesel(sql_type = BigInt)]
    output_tokens: i64,
    #[diesel(sql_type = BigInt)]
    reasoning_tokens: i64,
    #[diesel(sql_type = BigInt)]
    audio_input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    audio_output_tokens: i64,
    #[diesel(sql_type = BigInt)]
    cost: i64,
    #[diesel(sql_type = BigInt)]
    unknown_costs: i64,
    #[diesel(sql_type = BigInt)]
    requests: i64,
    #[diesel(sql_type = BigInt)]
    attempts: i64,
    #[diesel(sql_type = BigInt)]
    errors: i64,
    #[diesel(sql_type = BigInt)]
    blocks: i64,
}

/// The columns that are summed up.
const FIGURES: [&str; 13] = [
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "cost",
    "unknown_costs",
    "requests",
    "attempts",
    "errors",
    "blocks",
];

impl From<GroupRow> for UsageGroup {
    fn from(row: GroupRow) -> Self {
        Self {
            start: row.start,
            dimensions: [row.first, row.second, row.third].into_iter().flatten().collect(),
            metadata: row.metadata,
            totals: UsageTotals {
                input_tokens: row.input_tokens,
                cached_input_tokens: row.cached_input_tokens,
                cache_write_tokens: row.cache_write_tokens,
                output_tokens: row.output_tokens,
                reasoning_tokens: row.reasoning_tokens,
                audio_input_tokens: row.audio_input_tokens,
                audio_output_tokens: row.audio_output_tokens,
                cost_usd: NanoUsd::from_nanos(row.cost),
                unknown_costs: row.unknown_costs,
                requests: row.requests,
                attempts: row.attempts,
                errors: row.errors,
                blocks: row.blocks,
            },
        }
    }
}

/// What the scope used, by time and group, ordered by both; none if there are more than `most`
/// groups. Intervals and groups in which nothing was used are left out.
pub async fn list_usage(
    conn: &mut Conn,
    scope: Scope,
    filter: &UsageFilter,
    interval: Option<Interval>,
    group_by: &GroupBy,
    most: usize,
) -> Result<Option<Vec<UsageGroup>>, DbError> {
    let mut groups = sums(conn, scope, filter, interval, group_by, most).await?;
    if groups.len() > most {
        return Ok(None);
    }
    if group_by.metadata_key.is_some() {
        let by_others = GroupBy { dimensions: group_by.dimensions.clone(), metadata_key: None };
        let whole = sums(conn, scope, filter, interval, &by_others, most).await?;
        if whole.len() > most {
            return Ok(None);
        }
        groups.extend(untagged(whole, &groups));
        if groups.len() > most {
            return Ok(None);
        }
    }
    groups.sort_by(|a, b| {
        let place =
            |group: &UsageGroup| (group.start, group.dimensions.clone(), group.metadata.clone());
        place(a).cmp(&place(b))
    });
    Ok(Some(groups))
}

/// What is left of the whole without the groups that have the metadata key.
fn untagged(whole: Vec<UsageGroup>, tagged: &[UsageGroup]) -> Vec<UsageGroup> {
    let mut parts: HashMap<(Option<NaiveDateTime>, &[String]), UsageTotals> = HashMap::new();
    for group in tagged {
        let part = parts.entry((group.start, &group.dimensions)).or_default();
        *part = part.plus(group.totals);
    }
    let rest = |mut group: UsageGroup| {
        let part = parts.get(&(group.start, group.dimensions.as_slice())).copied();
        group.totals = group.totals.minus(part.unwrap_or_default());
        (!group.totals.is_nothing()).then_some(group)
    };
    whole.into_iter().filter_map(rest).collect()
}

/// One more row than `most` says that there are too many.
async fn sums(
    conn: &mut Conn,
    scope: Scope,
    filter: &UsageFilter,
    interval: Option<Interval>,
    group_by: &GroupBy,
    most: usize,
) -> Result<Vec<UsageGroup>, DbError> {
    let select = |sql, sum| select_sums(sql, sum, scope, filter, interval, group_by, most);
    let plain = select(Sql::of(conn), Sql::plain_sum);
    let rows: Vec<GroupRow> = match plain.load(conn).await {
        Err(error) if error.is_overflow() => select(Sql::of(conn), Sql::sum).load(conn).await?,
        rows => rows?,
    };
    Ok(rows.into_iter().map(UsageGroup::from).collect())
}

/// How a statement sums up a column.
type Sum = for<'s> fn(&'s mut Sql, &str) -> &'s mut Sql;

fn select_sums(
    mut sql: Sql,
    sum: Sum,
    scope: Scope,
    filter: &UsageFilter,
    interval: Option<Interval>,
    group_by: &GroupBy,
    most: usize,
) -> Sql {
    let mut groups = Vec::new();
    let places = [("2", "first"), ("3", "second"), ("4", "third")];
    sql.push("SELECT ");
    match interval {
        Some(interval) => {
            groups.push("1");
            sql.push(start_of(interval, sql.is_postgres()));
        }
        None => {
            sql.push("CAST(NULL AS timestamp)");
        }
    }
    sql.push(" AS start");
    for (at, (number, place)) in places.into_iter().enumerate() {
        match group_by.dimensions.get(at) {
            Some(dimension) => {
                groups.push(number);
                sql.push(", ").push(column_of(*dimension));
            }
            None => {
                sql.push(", CAST(NULL AS text)");
            }
        }
        sql.push(" AS ").push(place);
    }
    match &group_by.metadata_key {
        Some(_) => {
            groups.push("5");
            sql.push(", metadata_value AS metadata");
        }
        None => {
            sql.push(", CAST(NULL AS text) AS metadata");
        }
    }
    for column in FIGURES {
        sum(sql.push(", "), column).push(" AS ").push(column);
    }
    let table = match group_by.metadata_key {
        Some(_) => "usage_hours_by_metadata",
        None => "usage_hours",
    };
    sql.push(" FROM ").push(table);
    sql.push(" WHERE hour >= ").time(filter.from).push(" AND hour < ").time(filter.to);
    bind_scope(&mut sql, scope);
    if let Some(key) = &group_by.metadata_key {
        bind_metadata_key(&mut sql, key);
    }
    sql.and_is("organization_id", filter.organization_id)
        .and_is("workspace_id", filter.workspace_id)
        .and_is("user_id", filter.user_id)
        .and_is("api_key_id", filter.api_key_id)
        .and_is("configuration_id", filter.configuration_id)
        .and_is("model", filter.model.as_ref());
    if !groups.is_empty() {
        sql.push(" GROUP BY ").push(&groups.join(", "));
    }
    // Of nothing at all there is no sum either.
    sql.push(" HAVING COUNT(*) > 0 LIMIT ").push(&(most + 1).to_string());
    sql
}

fn bind_scope(sql: &mut Sql, scope: Scope) {
    match scope {
        // Named one by one, so that the tables' keys, which begin with it, can be used.
        Scope::Platform => {
            sql.push(" AND organization_id IN (SELECT id FROM organizations)");
        }
        Scope::Organization(id) => {
            sql.and_is("organization_id", Some(id));
        }
        Scope::Workspace(scope) => {
            sql.and_is("organization_id", Some(scope.organization_id))
                .and_is("workspace_id", Some(scope.workspace_id));
        }
    }
}

/// Rows that have a key beyond those that their hour told apart may have this one, unless the hour
/// told it apart: they are with its values beyond the bound.
fn bind_metadata_key(sql: &mut Sql, key: &str) {
    sql.and_one_of("metadata_key", &[key, ""]).push(" AND (metadata_key = ").text(key);
    sql.push(" OR NOT EXISTS (SELECT 1 FROM usage_hours_keys AS told");
    sql.push(" WHERE told.organization_id = usage_hours_by_metadata.organization_id");
    sql.push(" AND told.hour = usage_hours_by_metadata.hour AND told.metadata_key = ").text(key);
    sql.push("))");
}

fn column_of(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Organization => "organization_id",
        Dimension::Workspace => "workspace_id",
        Dimension::User => "user_id",
        Dimension::ApiKey => "api_key_id",
        Dimension::Model => "model",
        Dimension::Configuration => "configuration_id",
    }
}

/// SQLite keeps instants as text that begins `YYYY-MM-DD HH`.
fn start_of(interval: Interval, postgres: bool) -> &'static str {
    match (interval, postgres) {
        (Interval::Hour, _) => "hour",
        (Interval::Day, true) => "date_trunc('day', hour)",
        (Interval::Day, false) => "substr(hour, 1, 10) || ' 00:00:00'",
        (Interval::Month, true) => "date_trunc('month', hour)",
        (Interval::Month, false) => "substr(hour, 1, 7) || '-01 00:00:00'",
    }
}
