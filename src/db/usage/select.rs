//! The statement that sums up what was used.

use chrono::NaiveDateTime;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};

use super::rollup_range::{Grain, RollupRange};
use super::{UsageFilter, UsageGroup};
use crate::db::sql::Sql;
use crate::db::{Conn, DbError};
use crate::domain::money::NanoUsd;
use crate::domain::scope::Scope;
use crate::domain::usage::{Dimension, GroupBy, Interval, UsageTotals};

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

/// How a statement sums up a column.
type Sum = for<'s> fn(&'s mut Sql, &str) -> &'s mut Sql;

/// What the figures are to be of.
#[derive(Clone, Copy)]
pub(super) struct UsageSelect<'a> {
    pub(super) scope: Scope,
    pub(super) filter: &'a UsageFilter,
    pub(super) interval: Option<Interval>,
    pub(super) group_by: &'a GroupBy,
    pub(super) most: usize,
}

/// Rows of a roll-up that are summed up.
#[derive(Clone, Copy)]
enum Rows<'a> {
    /// All of them.
    All,
    /// Those of one key of the metadata.
    Key(&'a str),
    /// Those that have a key beyond those that their hour told apart, where that may be this one.
    OtherKeys(&'a str),
}

impl UsageSelect<'_> {
    /// One more row than `most` says that there are too many.
    pub(super) async fn sums(&self, conn: &mut Conn) -> Result<Vec<UsageGroup>, DbError> {
        let plain = self.select(Sql::of(conn), Sql::plain_sum);
        let rows: Vec<GroupRow> = match plain.load(conn).await {
            Err(error) if error.is_overflow() => {
                self.select(Sql::of(conn), Sql::sum).load(conn).await?
            }
            rows => rows?,
        };
        Ok(rows.into_iter().map(UsageGroup::from).collect())
    }

    fn select(&self, mut sql: Sql, sum: Sum) -> Sql {
        let groups = self.groups();
        let columns = [
            ("start", "timestamp"),
            ("first", "text"),
            ("second", "text"),
            ("third", "text"),
            ("metadata", "text"),
        ];
        sql.push("SELECT ");
        for (name, kind) in columns {
            if !groups.contains(&name) {
                sql.push("CAST(NULL AS ").push(kind).push(") AS ");
            }
            sql.push(name).push(", ");
        }
        for (at, column) in FIGURES.into_iter().enumerate() {
            sum(sql.push(if at == 0 { "" } else { ", " }), column).push(" AS ").push(column);
        }
        sql.push(" FROM (");
        for (at, (range, rows)) in self.parts().into_iter().enumerate() {
            sql.push(if at == 0 { "" } else { " UNION ALL " });
            self.push_rows(&mut sql, range, rows);
        }
        sql.push(") AS parts");
        if !groups.is_empty() {
            sql.push(" GROUP BY ").push(&groups.join(", "));
        }
        // Of nothing at all there is no sum either.
        sql.push(" HAVING COUNT(*) > 0 LIMIT ").push(&(self.most + 1).to_string());
        sql
    }

    /// The columns that tell groups apart.
    fn groups(&self) -> Vec<&'static str> {
        let start = self.interval.map(|_| "start");
        let dimensions = self.dimensions().map(|(name, _)| name);
        let metadata = self.group_by.metadata_key.as_ref().map(|_| "metadata");
        start.into_iter().chain(dimensions).chain(metadata).collect()
    }

    fn dimensions(&self) -> impl Iterator<Item = (&'static str, Dimension)> {
        let dimensions = self.group_by.dimensions.iter().copied();
        ["first", "second", "third"].into_iter().zip(dimensions)
    }

    /// Where the rows are that the sums are made of.
    fn parts(&self) -> Vec<(RollupRange, Rows<'_>)> {
        let (from, to) = (self.filter.from, Some(self.filter.to));
        let hours = RollupRange::hours(from, to);
        let ranges = match self.interval {
            Some(Interval::Hour) => vec![hours],
            Some(Interval::Day | Interval::Month) | None => RollupRange::split(from, to),
        };
        let Some(key) = &self.group_by.metadata_key else {
            return ranges.into_iter().map(|range| (range, Rows::All)).collect();
        };
        let rows = ranges.into_iter().map(|range| (range, Rows::Key(key)));
        // By the hour, since a day's hours need not tell the same keys apart. Few organizations
        // have any.
        rows.chain([(hours, Rows::OtherKeys(key))]).collect()
    }

    fn push_rows(&self, sql: &mut Sql, range: RollupRange, rows: Rows<'_>) {
        let grain = range.grain;
        sql.push("SELECT ");
        if let Some(interval) = self.interval {
            sql.push(start_of(interval, grain, sql.is_postgres())).push(" AS start, ");
        }
        for (name, dimension) in self.dimensions() {
            sql.push(column_of(dimension)).push(" AS ").push(name).push(", ");
        }
        let table = match rows {
            Rows::All => grain.table(),
            Rows::Key(_) | Rows::OtherKeys(_) => {
                sql.push("metadata_value AS metadata, ");
                grain.table_by_metadata()
            }
        };
        sql.push(&FIGURES.join(", ")).push(" FROM ").push(table).push(" WHERE ");
        range.bind(sql);
        bind_scope(sql, self.scope);
        match rows {
            Rows::All => {}
            Rows::Key(key) => {
                sql.and_is("metadata_key", Some(key));
            }
            Rows::OtherKeys(key) => bind_other_keys(sql, key),
        }
        let filter = self.filter;
        sql.and_is("organization_id", filter.organization_id)
            .and_is("workspace_id", filter.workspace_id)
            .and_is("user_id", filter.user_id)
            .and_is("api_key_id", filter.api_key_id)
            .and_is("configuration_id", filter.configuration_id)
            .and_is("model", filter.model.as_ref());
    }
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

/// What has a key beyond those that its hour told apart may have this one, unless the hour told it
/// apart: it is with the key's values beyond the bound.
fn bind_other_keys(sql: &mut Sql, key: &str) {
    sql.push(" AND metadata_key = '' AND NOT EXISTS (SELECT 1 FROM usage_hours_keys AS told");
    sql.push(" WHERE told.organization_id = usage_hours_by_metadata.organization_id");
    sql.push(" AND told.hour = usage_hours_by_metadata.hour AND told.metadata_key = ").text(key);
    sql.push(")");
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
fn start_of(interval: Interval, grain: Grain, postgres: bool) -> &'static str {
    match (interval, grain, postgres) {
        (Interval::Hour, ..) => "hour",
        (Interval::Day, Grain::Day, _) => "day",
        (Interval::Day, Grain::Hour, true) => "date_trunc('day', hour)",
        (Interval::Day, Grain::Hour, false) => "substr(hour, 1, 10) || ' 00:00:00'",
        (Interval::Month, Grain::Day, true) => "date_trunc('month', day)",
        (Interval::Month, Grain::Hour, true) => "date_trunc('month', hour)",
        (Interval::Month, Grain::Day, false) => "substr(day, 1, 7) || '-01 00:00:00'",
        (Interval::Month, Grain::Hour, false) => "substr(hour, 1, 7) || '-01 00:00:00'",
    }
}
