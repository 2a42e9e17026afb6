//! `usage_rollups`: the ledger summed up by hour and by day, all of it and once more by each entry of the
//! callers' metadata.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{NaiveDateTime, NaiveTime};
use diesel::backend::Backend;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, Text, Timestamp};
use diesel_async::RunQueryDsl;

use super::super::types::CallerKey;
use super::super::usage::Period;
use super::super::{Conn, DbError};
use super::push_value;
use crate::domain::ids::{OrganizationId, WorkspaceId};
use crate::domain::provider::UpstreamId;
use crate::domain::tokens::{KINDS, TokenTotals};

/// A sum at or above this does not grow any more: an addition that overflows its column would fail for
/// good, because of one upstream that reports absurd numbers.
pub(super) const MAX_SUM: i64 = i64::MAX / 2;

/// Rows in one statement: each has 24 values, and PostgreSQL takes 65,535.
const ROWS_A_STATEMENT: usize = 1_000;

/// Whom and what a sum is of: the key of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RollupKey {
    pub(super) organization_id: OrganizationId,
    pub(super) period: Period,
    /// Empty for all of it, whatever the metadata.
    pub(super) metadata_key: String,
    pub(super) starts_at: NaiveDateTime,
    pub(super) metadata_value: String,
    pub(super) workspace_id: WorkspaceId,
    pub(super) user_id: String,
    pub(super) api_key_id: CallerKey,
    pub(super) configuration_id: UpstreamId,
    pub(super) model: String,
}

/// The sums of some rows, in the order in which they are written.
pub(super) type Rollups = BTreeMap<RollupKey, Sums>;

/// What rows count for.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) requests: i64,
    pub(super) attempts: i64,
    pub(super) errors: i64,
    pub(super) blocks: i64,
    pub(super) tokens: [i64; KINDS],
    pub(super) cost: i64,
    pub(super) unknown_costs: i64,
    pub(super) subscription_cost: i64,
}

impl Sums {
    /// The columns, in the order of [`Self::values`].
    fn columns() -> impl Iterator<Item = &'static str> {
        let counts = ["requests", "attempts", "errors", "blocks"];
        let costs = ["cost", "unknown_costs", "subscription_cost"];
        counts.into_iter().chain(TokenTotals::COLUMNS).chain(costs)
    }

    fn values(&self) -> impl Iterator<Item = &i64> {
        let counts = [&self.requests, &self.attempts, &self.errors, &self.blocks];
        let costs = [&self.cost, &self.unknown_costs, &self.subscription_cost];
        counts.into_iter().chain(&self.tokens).chain(costs)
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut i64> {
        let counts = [&mut self.requests, &mut self.attempts, &mut self.errors, &mut self.blocks];
        let costs = [&mut self.cost, &mut self.unknown_costs, &mut self.subscription_cost];
        counts.into_iter().chain(&mut self.tokens).chain(costs)
    }

    /// Adds what other rows count for.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, other) in self.values_mut().zip(other.values()) {
            *sum = sum.saturating_add(*other).min(MAX_SUM);
        }
    }
}

/// Adds sums by hour to the table, and the sums by day that are made of them, so that both add up to the
/// same.
pub(super) async fn add(conn: &mut Conn, mut rollups: Rollups) -> Result<(), DbError> {
    let mut days = Rollups::new();
    for (hour, sums) in &rollups {
        let starts_at = hour.starts_at.date().and_time(NaiveTime::MIN);
        let day = RollupKey { period: Period::Day, starts_at, ..hour.clone() };
        days.entry(day).or_default().add(sums);
    }
    rollups.append(&mut days);
    let rows: Vec<(RollupKey, Sums)> = rollups.into_iter().collect();
    match conn {
        // In one visit to the connection's thread, as the ledger's rows.
        Conn::Sqlite(object) => {
            object
                .spawn_blocking(move |conn| {
                    for rows in rows.chunks(1) {
                        diesel::RunQueryDsl::execute(AddRollups { rows }, conn)?;
                    }
                    Ok(())
                })
                .await?;
        }
        Conn::Postgres(object) => {
            for rows in rows.chunks(ROWS_A_STATEMENT) {
                AddRollups { rows }.execute(&mut **object).await?;
            }
        }
    }
    Ok(())
}

/// What comes before and after the rows of the statement.
static STATEMENT: LazyLock<[String; 2]> = LazyLock::new(|| {
    const KEY: &str = "organization_id, period, metadata_key, starts_at, metadata_value, \
                       workspace_id, user_id, api_key_id, configuration_id, model";
    let columns: Vec<&str> = Sums::columns().collect();
    let added = columns.iter().map(|column| {
        format!(
            "{column} = CASE WHEN usage_rollups.{column} < {MAX_SUM} \
             THEN usage_rollups.{column} + excluded.{column} ELSE usage_rollups.{column} END"
        )
    });
    let added: Vec<String> = added.collect();
    [
        format!("INSERT INTO usage_rollups ({KEY}, {}) VALUES ", columns.join(", ")),
        format!(" ON CONFLICT ({KEY}) DO UPDATE SET {}", added.join(", ")),
    ]
});

/// Adds sums to those of the table.
///
/// Diesel can express the statement too, but does not cache it when it has `DO UPDATE`: SQLite would
/// parse it for each row, which takes many times as long as to add the row.
struct AddRollups<'r> {
    rows: &'r [(RollupKey, Sums)],
}

impl<DB: Backend> QueryFragment<DB> for AddRollups<'_>
where
    OrganizationId: ToSql<Text, DB>,
    NaiveDateTime: ToSql<Timestamp, DB>,
    String: ToSql<Text, DB>,
    str: ToSql<Text, DB>,
    WorkspaceId: ToSql<Text, DB>,
    CallerKey: ToSql<Text, DB>,
    UpstreamId: ToSql<Text, DB>,
    i64: ToSql<BigInt, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        // The same number of rows seldom comes again.
        if self.rows.len() > 1 {
            out.unsafe_to_cache_prepared();
        }
        let [before, after] = &*STATEMENT;
        out.push_sql(before);
        for (at, (key, sums)) in self.rows.iter().enumerate() {
            out.push_sql(if at == 0 { "(" } else { ", (" });
            out.push_bind_param::<Text, _>(&key.organization_id)?;
            push_value::<Text, _, str>(&mut out, key.period.as_str())?;
            push_value::<Text, _, _>(&mut out, &key.metadata_key)?;
            push_value::<Timestamp, _, _>(&mut out, &key.starts_at)?;
            push_value::<Text, _, _>(&mut out, &key.metadata_value)?;
            push_value::<Text, _, _>(&mut out, &key.workspace_id)?;
            push_value::<Text, _, _>(&mut out, &key.user_id)?;
            push_value::<Text, _, _>(&mut out, &key.api_key_id)?;
            push_value::<Text, _, _>(&mut out, &key.configuration_id)?;
            push_value::<Text, _, _>(&mut out, &key.model)?;
            for sum in sums.values() {
                push_value::<BigInt, _, _>(&mut out, sum)?;
            }
            out.push_sql(")");
        }
        out.push_sql(after);
        Ok(())
    }
}

// Its text says which statement it is.
impl QueryId for AddRollups<'_> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl diesel::RunQueryDsl<SqliteConnection> for AddRollups<'_> {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use chrono::NaiveDateTime;
    use diesel::connection::InstrumentationEvent;
    use diesel::prelude::*;
    use diesel_migrations::MigrationHarness as _;
    use uuid::Uuid;

    use super::{AddRollups, MAX_SUM, Period, RollupKey, Sums};
    use crate::db::schema::usage_rollups;
    use crate::db::{CallerKey, migrate};
    use crate::domain::provider::UpstreamId;

    #[test]
    fn a_statement_is_prepared_once_on_sqlite() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.run_pending_migrations(migrate::SQLITE).unwrap();
        let prepared = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&prepared);
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if matches!(event, InstrumentationEvent::CacheQuery { .. }) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let id = Uuid::nil();
        for (model, cost) in [("a", 1), ("b", 2), ("a", 3), ("b", MAX_SUM), ("b", MAX_SUM)] {
            let key = RollupKey {
                organization_id: id.into(),
                period: Period::Hour,
                metadata_key: String::new(),
                starts_at: NaiveDateTime::default(),
                metadata_value: String::new(),
                workspace_id: id.into(),
                user_id: String::new(),
                api_key_id: CallerKey::default(),
                configuration_id: UpstreamId::Configuration(id.into()),
                model: model.to_owned(),
            };
            let rows = [(key, Sums { cost, ..Sums::default() })];
            assert_eq!(AddRollups { rows: &rows }.execute(&mut conn), Ok(1));
        }
        assert_eq!(prepared.load(Ordering::Relaxed), 1);
        let sums = usage_rollups::table.order(usage_rollups::model);
        let sums = sums.select((usage_rollups::model, usage_rollups::cost));
        let sums: Vec<(String, i64)> = sums.load(&mut conn).unwrap();
        assert_eq!(sums, [("a".to_owned(), 4), ("b".to_owned(), MAX_SUM + 2)]);
    }
}
