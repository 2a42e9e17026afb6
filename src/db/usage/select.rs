//! The statement that sums up what was used.

use chrono::NaiveDateTime;
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, QueryableByName};
use diesel::row::NamedRow;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};

use super::{OTHER_KEYS, RollupRange, UsageFilter, UsageGroup};
use crate::db::sql::Sql;
use crate::db::{Conn, DbError};
use crate::domain::money::NanoUsd;
use crate::domain::scope::Scope;
use crate::domain::tokens::{KINDS, TokenTotals};
use crate::domain::usage::{Dimension, GroupBy, Interval, UsageTotals};

/// The columns that are summed up.
fn figures() -> impl Iterator<Item = &'static str> {
    let others = ["cost", "unknown_costs", "requests", "attempts", "errors", "blocks"];
    TokenTotals::COLUMNS.into_iter().chain(others)
}

struct GroupRow(UsageGroup);

impl<DB: Backend> QueryableByName<DB> for GroupRow
where
    NaiveDateTime: FromSql<Timestamp, DB>,
    String: FromSql<Text, DB>,
    i64: FromSql<BigInt, DB>,
{
    fn build<'a>(row: &impl NamedRow<'a, DB>) -> deserialize::Result<Self> {
        let text = |name| NamedRow::get::<Nullable<Text>, Option<String>>(row, name);
        let figure = |name| NamedRow::get::<BigInt, i64>(row, name);
        let mut tokens = [0; KINDS];
        for (sum, column) in tokens.iter_mut().zip(TokenTotals::COLUMNS) {
            *sum = figure(column)?;
        }
        let dimensions = [text("first")?, text("second")?, text("third")?];
        Ok(Self(UsageGroup {
            start: NamedRow::get::<Nullable<Timestamp>, _>(row, "start")?,
            dimensions: dimensions.into_iter().flatten().collect(),
            metadata: text("metadata")?,
            totals: UsageTotals {
                tokens: tokens.into(),
                cost_usd: NanoUsd::from_nanos(figure("cost")?),
                unknown_costs: figure("unknown_costs")?,
                requests: figure("requests")?,
                attempts: figure("attempts")?,
                errors: figure("errors")?,
                blocks: figure("blocks")?,
            },
        }))
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

/// Rows of the roll-ups that are summed up.
#[derive(Clone, Copy)]
enum Rows<'a> {
    /// Those of everything, whatever the metadata.
    All,
    /// Those of one key of the metadata.
    Key(&'a str),
    /// Those of keys without sums of their own in their hour, where this may be one.
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
        Ok(rows.into_iter().map(|GroupRow(group)| group).collect())
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
        for (at, column) in figures().enumerate() {
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
        // There is no sum of no rows.
        sql.push(" HAVING COUNT(*) > 0 LIMIT ").push(&(self.most + 1).to_string());
        sql
    }

    /// The columns that distinguish groups.
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
        // By the hour, since a day's hours need not distinguish the same keys. Few organizations
        // have any.
        rows.chain([(hours, Rows::OtherKeys(key))]).collect()
    }

    fn push_rows(&self, sql: &mut Sql, range: RollupRange, rows: Rows<'_>) {
        sql.push("SELECT ");
        if let Some(interval) = self.interval {
            sql.push(start_of(interval, sql.is_postgres())).push(" AS start, ");
        }
        for (name, dimension) in self.dimensions() {
            sql.push(column_of(dimension)).push(" AS ").push(name).push(", ");
        }
        if self.group_by.metadata_key.is_some() {
            sql.push("metadata_value AS metadata, ");
        }
        sql.push(&figures().collect::<Vec<_>>().join(", ")).push(" FROM usage_rollups WHERE ");
        range.bind(sql);
        bind_scope(sql, self.scope);
        match rows {
            Rows::All => {
                sql.push(" AND metadata_key = ''");
            }
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
        // Named one by one, so that the table's key, which begins with it, can be used.
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

/// A row of other keys may have this key, unless the key has sums of its own in that hour. It counts with
/// the key's values beyond the bound.
fn bind_other_keys(sql: &mut Sql, key: &str) {
    sql.and_is("metadata_key", Some(OTHER_KEYS));
    sql.push(" AND NOT EXISTS (SELECT 1 FROM usage_metadata_keys AS own");
    sql.push(" WHERE own.organization_id = usage_rollups.organization_id");
    sql.push(" AND own.hour = usage_rollups.starts_at AND own.metadata_key = ").text(key);
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
fn start_of(interval: Interval, postgres: bool) -> &'static str {
    match (interval, postgres) {
        (Interval::Hour, _) => "starts_at",
        (Interval::Day, true) => "date_trunc('day', starts_at)",
        (Interval::Day, false) => "substr(starts_at, 1, 10) || ' 00:00:00'",
        (Interval::Month, true) => "date_trunc('month', starts_at)",
        (Interval::Month, false) => "substr(starts_at, 1, 7) || '-01 00:00:00'",
    }
}
