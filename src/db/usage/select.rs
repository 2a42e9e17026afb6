//! The statement that sums up what was used.

use chrono::{NaiveDateTime, TimeDelta, Timelike};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, QueryableByName};
use diesel::row::NamedRow;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};

use super::span::{Period, Span};
use super::{OTHER_KEYS, UsageFilter, UsageGroup};
use crate::db::ledger::find_deleted_before;
use crate::db::requests::ID_SLACK;
use crate::db::sql::Sql;
use crate::db::{Conn, DbError};
use crate::domain::ids::AttemptId;
use crate::domain::money::NanoUsd;
use crate::domain::scope::Scope;
use crate::domain::tokens::{KINDS, TokenTotals, TokenUsage};
use crate::domain::usage::{Dimension, GroupBy, Interval, UsageTotals};

/// How long after its request's admission an attempt may begin.
const MAX_ATTEMPT_DELAY: TimeDelta = TimeDelta::hours(1);

/// The figures besides tokens, and how a row of the ledger counts for each.
const OTHER_FIGURES: [(&str, &str); 6] = [
    ("cost", "COALESCE(cost, 0)"),
    ("unknown_costs", "CASE WHEN outcome <> 'blocked' AND cost IS NULL THEN 1 ELSE 0 END"),
    ("requests", "CASE WHEN attempt <= 1 THEN 1 ELSE 0 END"),
    ("attempts", "CASE WHEN attempt >= 1 THEN 1 ELSE 0 END"),
    (
        "errors",
        "CASE WHEN outcome <> 'blocked' AND (outcome <> 'completed' OR COALESCE(status, 0) >= 400) \
         THEN 1 ELSE 0 END",
    ),
    ("blocks", "CASE WHEN outcome = 'blocked' THEN 1 ELSE 0 END"),
];

/// The columns that are summed up.
fn figures() -> impl Iterator<Item = &'static str> {
    TokenTotals::COLUMNS.into_iter().chain(OTHER_FIGURES.map(|(name, _)| name))
}

struct GroupRow(UsageGroup);

impl<DB: Backend> QueryableByName<DB> for GroupRow
where
    Option<NaiveDateTime>: FromSql<Nullable<Timestamp>, DB>,
    Option<String>: FromSql<Nullable<Text>, DB>,
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

/// The time that is summed up: whole hours, and parts of an hour before and after them.
pub(super) struct Time {
    hours: Option<(NaiveDateTime, NaiveDateTime)>,
    parts: Vec<(NaiveDateTime, NaiveDateTime)>,
}

impl Time {
    /// Looks whether rows of the hours may have been deleted that are counted in part.
    pub(super) async fn of(conn: &mut Conn, filter: &UsageFilter) -> Result<Self, DbError> {
        let is_whole = |at| hour_of(at) == at;
        let deleted_before = match is_whole(filter.from) && is_whole(filter.to) {
            true => None,
            false => find_deleted_before(conn).await?,
        };
        Ok(Self::split(filter.from, filter.to, deleted_before))
    }

    fn split(
        from: NaiveDateTime,
        to: NaiveDateTime,
        deleted_before: Option<NaiveDateTime>,
    ) -> Self {
        let has_rows = |hour| deleted_before.is_none_or(|before| before <= hour);
        let next = |hour: NaiveDateTime| hour + TimeDelta::hours(1);
        let (first, last) = (hour_of(from), hour_of(to));
        let mut parts = Vec::new();
        if first < from && has_rows(first) {
            parts.push((from, to.min(next(first))));
        }
        if last < to && has_rows(last) && (last > first || first == from) {
            parts.push((from.max(last), to));
        }
        let begin = if first < from { next(first) } else { first };
        let end = if last < to && !has_rows(last) { next(last) } else { last };
        Self { hours: (begin < end).then_some((begin, end)), parts }
    }
}

fn hour_of(at: NaiveDateTime) -> NaiveDateTime {
    let hour = at.with_minute(0).and_then(|at| at.with_second(0));
    hour.and_then(|at| at.with_nanosecond(0)).unwrap_or(at)
}

/// How a statement sums up a column.
type Sum = for<'s> fn(&'s mut Sql, &str) -> &'s mut Sql;

/// What is summed up.
#[derive(Clone, Copy)]
pub(super) struct UsageSelect<'a> {
    pub(super) scope: Scope,
    pub(super) filter: &'a UsageFilter,
    pub(super) time: &'a Time,
    pub(super) interval: Option<Interval>,
    pub(super) group_by: &'a GroupBy,
    pub(super) max_groups: usize,
}

/// Rows that are summed up.
#[derive(Clone, Copy)]
enum Rows<'a> {
    /// Roll-ups, whatever the metadata.
    All(Span),
    /// Roll-ups of one key of the metadata.
    Key(Span, &'a str),
    /// Roll-ups of keys beyond those that their hour keeps separately, where that may be this one.
    OtherKeys(Span, &'a str),
    /// Rows of the ledger from one instant to another, within an hour.
    Ledger(NaiveDateTime, NaiveDateTime),
}

impl UsageSelect<'_> {
    /// One more row than `max_groups` says that there are too many.
    pub(super) async fn sums(&self, conn: &mut Conn) -> Result<Vec<UsageGroup>, DbError> {
        let parts = self.parts();
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let plain = self.select(&parts, Sql::of(conn), Sql::plain_sum);
        let rows: Vec<GroupRow> = match plain.load(conn).await {
            Err(error) if error.is_overflow() => {
                self.select(&parts, Sql::of(conn), Sql::sum).load(conn).await?
            }
            rows => rows?,
        };
        Ok(rows.into_iter().map(|GroupRow(group)| group).collect())
    }

    fn select(&self, parts: &[Rows<'_>], mut sql: Sql, sum: Sum) -> Sql {
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
        for (at, rows) in parts.iter().enumerate() {
            sql.push(if at == 0 { "" } else { " UNION ALL " });
            self.push_rows(&mut sql, *rows);
        }
        sql.push(") AS parts");
        if !groups.is_empty() {
            sql.push(" GROUP BY ").push(&groups.join(", "));
        }
        // Without rows there is no sum either.
        sql.push(" HAVING COUNT(*) > 0 LIMIT ").push(&(self.max_groups + 1).to_string());
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
    fn parts(&self) -> Vec<Rows<'_>> {
        let mut parts = Vec::new();
        if let Some((from, to)) = self.time.hours {
            let hours = Span::hours(from, Some(to));
            let spans = match self.interval {
                Some(Interval::Hour) => vec![hours],
                Some(Interval::Day | Interval::Month) | None => Span::split(from, Some(to)),
            };
            match &self.group_by.metadata_key {
                None => parts.extend(spans.into_iter().map(Rows::All)),
                Some(key) => {
                    parts.extend(spans.into_iter().map(|span| Rows::Key(span, key)));
                    // By the hour, since a day's hours need not keep the same keys separately. Few
                    // organizations have any.
                    parts.push(Rows::OtherKeys(hours, key));
                }
            }
        }
        parts.extend(self.time.parts.iter().map(|(from, to)| Rows::Ledger(*from, *to)));
        parts
    }

    fn push_rows(&self, sql: &mut Sql, rows: Rows<'_>) {
        sql.push("SELECT ");
        if let Some(interval) = self.interval {
            sql.push(start_of(interval, rows, sql.is_postgres())).push(" AS start, ");
        }
        for (name, dimension) in self.dimensions() {
            sql.push(column_of(dimension)).push(" AS ").push(name).push(", ");
        }
        if let Some(key) = &self.group_by.metadata_key {
            match rows {
                Rows::Ledger(..) => push_metadata_value(sql, key),
                _ => sql.push("metadata_value"),
            };
            sql.push(" AS metadata, ");
        }
        match rows {
            Rows::All(span) | Rows::Key(span, _) | Rows::OtherKeys(span, _) => {
                sql.push(&figures().collect::<Vec<_>>().join(", "));
                sql.push(" FROM usage_rollups WHERE ");
                span.bind(sql);
            }
            Rows::Ledger(from, to) => self.push_ledger(sql, from, to),
        }
        bind_scope(sql, self.scope);
        match rows {
            Rows::All(_) => {
                sql.push(" AND metadata_key = ''");
            }
            Rows::Key(_, key) => {
                sql.and_is("metadata_key", Some(key));
            }
            Rows::OtherKeys(_, key) => bind_other_keys(sql, key),
            Rows::Ledger(..) => {}
        }
        self.bind_filter(sql);
    }

    /// Figures, table and time of rows of the ledger, which are found workspace by workspace.
    fn push_ledger(&self, sql: &mut Sql, from: NaiveDateTime, to: NaiveDateTime) {
        for (name, column) in TokenUsage::NAMES.iter().zip(TokenTotals::COLUMNS) {
            sql.push(&match sql.is_postgres() {
                true => format!("COALESCE((tokens::json ->> '{name}')::bigint, 0) AS {column}, "),
                false => format!("COALESCE(json_extract(tokens, '$.{name}'), 0) AS {column}, "),
            });
        }
        for (at, (name, value)) in OTHER_FIGURES.into_iter().enumerate() {
            sql.push(if at == 0 { "" } else { ", " }).push(value).push(" AS ").push(name);
        }
        sql.push(" FROM ledger").by_index("ledger_workspace");
        sql.push(" WHERE workspace_id IN (SELECT workspace_id FROM usage_rollups WHERE ");
        Span::hours(hour_of(from), Some(hour_of(from) + TimeDelta::hours(1))).bind(sql);
        bind_scope(sql, self.scope);
        sql.push(" AND metadata_key = ''");
        self.bind_filter(sql);
        let first = AttemptId::first_at(from.and_utc() - ID_SLACK);
        let beyond = AttemptId::first_at(to.and_utc() + MAX_ATTEMPT_DELAY);
        sql.push(") AND id >= ").text(first.to_string());
        sql.push(" AND id < ").text(beyond.to_string());
        sql.push(" AND admitted_at >= ").time(from).push(" AND admitted_at < ").time(to);
        if let Some(key) = &self.group_by.metadata_key {
            push_metadata_value(sql.push(" AND "), key).push(" IS NOT NULL");
        }
    }

    fn bind_filter(&self, sql: &mut Sql) {
        let filter = self.filter;
        sql.and_is("organization_id", filter.organization_id)
            .and_is("workspace_id", filter.workspace_id)
            .and_is("user_id", filter.user_id)
            .and_is("api_key_id", filter.api_key_id)
            .and_is("configuration_id", filter.configuration_id)
            .and_is("model", filter.model.as_ref());
    }
}

fn push_metadata_value<'s>(sql: &'s mut Sql, key: &str) -> &'s mut Sql {
    match sql.is_postgres() {
        true => sql.push("(metadata::json ->> ").text(key).push(")"),
        false => sql.push("json_extract(metadata, ").text(format!("$.\"{key}\"")).push(")"),
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

/// A row with a key beyond those that its hour keeps separately may have this one, unless the hour keeps
/// it separately: it is counted with the key's values beyond the bound.
fn bind_other_keys(sql: &mut Sql, key: &str) {
    sql.and_is("metadata_key", Some(OTHER_KEYS));
    sql.push(" AND NOT EXISTS (SELECT 1 FROM usage_metadata_keys AS kept");
    sql.push(" WHERE kept.organization_id = usage_rollups.organization_id");
    sql.push(" AND kept.hour = usage_rollups.starts_at AND kept.metadata_key = ").text(key);
    sql.push(")");
}

fn column_of(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Organization => "organization_id",
        Dimension::Workspace => "workspace_id",
        Dimension::User => "COALESCE(user_id, '')",
        Dimension::ApiKey => "api_key_id",
        Dimension::Model => "model",
        Dimension::Configuration => "configuration_id",
    }
}

/// SQLite keeps instants as text that begins `YYYY-MM-DD HH`.
fn start_of(interval: Interval, rows: Rows<'_>, postgres: bool) -> &'static str {
    let is_ledger = matches!(rows, Rows::Ledger(..));
    match (interval, is_ledger, postgres) {
        (Interval::Hour, false, _) => "starts_at",
        (Interval::Hour, true, true) => "date_trunc('hour', admitted_at)",
        (Interval::Hour, true, false) => "substr(admitted_at, 1, 13) || ':00:00'",
        (Interval::Day, false, true) => "date_trunc('day', starts_at)",
        (Interval::Day, false, false) => "substr(starts_at, 1, 10) || ' 00:00:00'",
        (Interval::Day, true, true) => "date_trunc('day', admitted_at)",
        (Interval::Day, true, false) => "substr(admitted_at, 1, 10) || ' 00:00:00'",
        (Interval::Month, false, true) => "date_trunc('month', starts_at)",
        (Interval::Month, false, false) => "substr(starts_at, 1, 7) || '-01 00:00:00'",
        (Interval::Month, true, true) => "date_trunc('month', admitted_at)",
        (Interval::Month, true, false) => "substr(admitted_at, 1, 7) || '-01 00:00:00'",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> NaiveDateTime {
        NaiveDateTime::default() + TimeDelta::minutes(minutes)
    }

    #[test]
    fn parts_of_an_hour_are_counted_by_the_row_and_the_rest_by_the_hour() {
        for (range, deleted, hours, parts) in [
            ((60, 180), None, Some((60, 180)), vec![]),
            ((90, 200), None, Some((120, 180)), vec![(90, 120), (180, 200)]),
            ((90, 110), None, None, vec![(90, 110)]),
            ((60, 110), None, None, vec![(60, 110)]),
            ((90, 130), None, None, vec![(90, 120), (120, 130)]),
            // An hour whose rows may be gone counts where it begins.
            ((90, 200), Some(200), Some((120, 240)), vec![]),
            ((90, 200), Some(150), Some((120, 180)), vec![(180, 200)]),
            ((90, 110), Some(150), None, vec![]),
            ((60, 90), Some(150), Some((60, 120)), vec![]),
        ] {
            let time = Time::split(at(range.0), at(range.1), deleted.map(at));
            assert_eq!(time.hours, hours.map(|(from, to)| (at(from), at(to))), "{range:?}");
            let parts: Vec<_> = parts.into_iter().map(|(from, to)| (at(from), at(to))).collect();
            assert_eq!(time.parts, parts, "{range:?}");
        }
    }
}
