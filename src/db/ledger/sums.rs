//! What rows add to the sums by hour.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDateTime, Timelike};
use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;

use super::super::schema::{usage_hours, usage_hours_by_metadata};
use super::super::{Conn, DbError};
use super::told::{Place, Told};
use super::{LedgerRow, NewLedgerRow};
use crate::domain::ids::{ApiKeyId, ConfigurationId, OrganizationId, WorkspaceId};

/// No sum grows further than by one more of these: to add beyond what a column holds would fail
/// for good, on the word of one upstream that reports absurd numbers.
const MOST: i64 = i64::MAX / 2;

/// Rows in one statement: each has 22 values, and PostgreSQL takes 65,535.
const ROWS_A_STATEMENT: usize = 1_000;

/// Whom and what a sum is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Insertable)]
#[diesel(table_name = usage_hours)]
struct Of {
    organization_id: OrganizationId,
    hour: NaiveDateTime,
    workspace_id: WorkspaceId,
    user_id: String,
    api_key_id: ApiKeyId,
    configuration_id: ConfigurationId,
    model: String,
}

/// The same, of one value of a metadata key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Insertable)]
#[diesel(table_name = usage_hours_by_metadata)]
struct OfValue {
    organization_id: OrganizationId,
    hour: NaiveDateTime,
    metadata_key: String,
    metadata_value: String,
    workspace_id: WorkspaceId,
    user_id: String,
    api_key_id: ApiKeyId,
    configuration_id: ConfigurationId,
    model: String,
}

/// The sums' columns, and the statement that adds them to what is there.
macro_rules! sums {
    ($($column:ident),+) => {
        #[derive(Clone, Debug, Default, Insertable)]
        #[diesel(table_name = usage_hours)]
        struct Sums {
            $($column: i64,)+
        }

        #[derive(Clone, Debug, Insertable)]
        #[diesel(table_name = usage_hours_by_metadata)]
        struct ValueSums {
            $($column: i64,)+
        }

        impl Sums {
            fn add(&mut self, other: &Self) {
                $(self.$column = self.$column.saturating_add(other.$column).min(MOST);)+
            }

            fn of_values(self) -> ValueSums {
                ValueSums { $($column: self.$column),+ }
            }
        }

        macro_rules! added {
            ($table:ident) => {
                ($($table::$column.eq(
                    case_when(
                        $table::$column.lt(MOST),
                        $table::$column + excluded($table::$column),
                    )
                    .otherwise($table::$column),
                )),+)
            };
        }
    };
}

sums!(
    requests,
    attempts,
    errors,
    blocks,
    input_tokens,
    cached_input_tokens,
    cache_write_tokens,
    output_tokens,
    reasoning_tokens,
    audio_input_tokens,
    audio_output_tokens,
    cost,
    unknown_costs
);

impl Sums {
    /// What one row counts for.
    fn of(row: &LedgerRow) -> Self {
        let one = i64::from;
        let some = |count: Option<i64>| count.unwrap_or(0).clamp(0, MOST);
        let blocked = row.outcome == "blocked";
        let bad_status = row.status.is_some_and(|status| status >= 400);
        Self {
            requests: one(row.attempt <= 1),
            attempts: one(row.attempt >= 1),
            errors: one(!blocked && (row.outcome != "completed" || bad_status)),
            blocks: one(blocked),
            input_tokens: some(row.input_tokens),
            cached_input_tokens: some(row.cached_input_tokens),
            cache_write_tokens: some(row.cache_write_tokens),
            output_tokens: some(row.output_tokens),
            reasoning_tokens: some(row.reasoning_tokens),
            audio_input_tokens: some(row.audio_input_tokens),
            audio_output_tokens: some(row.audio_output_tokens),
            cost: some(row.cost),
            unknown_costs: one(!blocked && row.cost.is_none()),
        }
    }
}

/// The hour that a row belongs to.
pub(super) fn hour_of(row: &LedgerRow) -> NaiveDateTime {
    let hour = row.admitted_at.with_minute(0).and_then(|at| at.with_second(0));
    hour.and_then(|at| at.with_nanosecond(0)).unwrap_or(row.admitted_at)
}

impl Of {
    fn row(row: &LedgerRow) -> Self {
        Self {
            organization_id: row.organization_id,
            hour: hour_of(row),
            workspace_id: row.workspace_id,
            user_id: row.user_id.map(|id| id.to_string()).unwrap_or_default(),
            api_key_id: row.api_key_id,
            configuration_id: row.configuration_id,
            model: row.model.clone(),
        }
    }

    fn with(&self, key: String, value: String) -> OfValue {
        OfValue {
            organization_id: self.organization_id,
            hour: self.hour,
            metadata_key: key,
            metadata_value: value,
            workspace_id: self.workspace_id,
            user_id: self.user_id.clone(),
            api_key_id: self.api_key_id,
            configuration_id: self.configuration_id,
            model: self.model.clone(),
        }
    }
}

/// Adds what rows count for that were just inserted.
pub(super) async fn add(conn: &mut Conn, rows: &[NewLedgerRow]) -> Result<(), DbError> {
    let mut hours: BTreeMap<Of, Sums> = BTreeMap::new();
    for new in rows {
        hours.entry(Of::row(&new.row)).or_default().add(&Sums::of(&new.row));
    }
    let told = Told::apart(conn, rows).await?;
    let mut values: BTreeMap<OfValue, Sums> = BTreeMap::new();
    for new in rows {
        let of = Of::row(&new.row);
        // Of the keys that are not told apart, a row counts once.
        let entries: BTreeSet<(&str, &str)> = new
            .metadata
            .iter()
            .map(|(key, value)| match told.place((of.organization_id, of.hour), key, value) {
                Place::Value => (key.as_str(), value.as_str()),
                Place::OtherValues => (key.as_str(), ""),
                Place::OtherKeys => ("", ""),
            })
            .collect();
        for (key, value) in entries {
            let of = of.with(key.to_owned(), value.to_owned());
            values.entry(of).or_default().add(&Sums::of(&new.row));
        }
    }
    let hours: Vec<(Of, Sums)> = hours.into_iter().collect();
    let values: Vec<(OfValue, ValueSums)> =
        values.into_iter().map(|(of, sums)| (of, sums.of_values())).collect();
    upsert(conn, hours, values).await?;
    told.write(conn).await
}

/// The statement that adds sums to those of a table.
macro_rules! upserted {
    ($table:ident, $values:expr, $($key:ident),+) => {
        diesel::insert_into($table::table)
            .values($values)
            .on_conflict(($($table::$key),+))
            .do_update()
            .set(added!($table))
    };
}

macro_rules! hours {
    ($values:expr) => {
        upserted!(
            usage_hours,
            $values,
            organization_id,
            hour,
            workspace_id,
            user_id,
            api_key_id,
            configuration_id,
            model
        )
    };
}

macro_rules! values {
    ($values:expr) => {
        upserted!(
            usage_hours_by_metadata,
            $values,
            organization_id,
            hour,
            metadata_key,
            metadata_value,
            workspace_id,
            user_id,
            api_key_id,
            configuration_id,
            model
        )
    };
}

async fn upsert(
    conn: &mut Conn,
    hours: Vec<(Of, Sums)>,
    values: Vec<(OfValue, ValueSums)>,
) -> Result<(), DbError> {
    match conn {
        // In one visit to the connection's thread, as the rows themselves.
        Conn::Sqlite(object) => {
            object
                .spawn_blocking(move |conn| {
                    for row in hours {
                        diesel::RunQueryDsl::execute(hours!(row), conn)?;
                    }
                    for row in values {
                        diesel::RunQueryDsl::execute(values!(row), conn)?;
                    }
                    Ok(())
                })
                .await?;
        }
        Conn::Postgres(object) => {
            for rows in hours.chunks(ROWS_A_STATEMENT) {
                hours!(rows.to_vec()).execute(&mut **object).await?;
            }
            for rows in values.chunks(ROWS_A_STATEMENT) {
                values!(rows.to_vec()).execute(&mut **object).await?;
            }
        }
    }
    Ok(())
}
