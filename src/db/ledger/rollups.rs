//! The tables that the ledger is summed up in: by hour and by day, all of it and once more by each
//! entry of the callers' metadata.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{NaiveDateTime, NaiveTime};
use diesel::backend::Backend;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, HasSqlType, Text, Timestamp};
use diesel_async::RunQueryDsl;

use super::super::{Conn, DbError};
use crate::domain::ids::{ApiKeyId, ConfigurationId, OrganizationId, WorkspaceId};

/// No sum grows further than by one more of these: to add beyond what a column holds would fail
/// for good, on the word of one upstream that reports absurd numbers.
pub(super) const MOST: i64 = i64::MAX / 2;

/// Rows in one statement: each has at most 22 values, and PostgreSQL takes 65,535.
const ROWS_A_STATEMENT: usize = 1_000;

/// Whom and what a sum is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Of<E> {
    pub(super) organization_id: OrganizationId,
    /// The beginning of the hour, or of the day.
    pub(super) since: NaiveDateTime,
    /// Of which entry of the metadata: [`Whole`] or [`Entry`].
    pub(super) entry: E,
    pub(super) workspace_id: WorkspaceId,
    pub(super) user_id: String,
    pub(super) api_key_id: ApiKeyId,
    pub(super) configuration_id: ConfigurationId,
    pub(super) model: String,
}

/// All of it, whatever the metadata.
pub(super) type Whole = [String; 0];
/// A key of the metadata and its value, as they are told apart.
pub(super) type Entry = [String; 2];

/// The sums of some rows, in the order in which they are written.
pub(super) type SumsOf<E> = BTreeMap<Of<E>, Sums>;

macro_rules! sums {
    ($($column:ident),+ $(,)?) => {
        /// What rows count for.
        #[derive(Clone, Debug, Default)]
        pub(super) struct Sums {
            $(pub(super) $column: i64,)+
        }

        impl Sums {
            const COLUMNS: &'static [&'static str] = &[$(stringify!($column)),+];

            fn values(&self) -> impl Iterator<Item = &i64> {
                [$(&self.$column),+].into_iter()
            }

            /// Adds what other rows count for.
            pub(super) fn add(&mut self, other: &Self) {
                $(self.$column = self.$column.saturating_add(other.$column).min(MOST);)+
            }
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
    unknown_costs,
);

/// Adds sums by hour to the tables, and to those by day. A day's rows are made of nothing but its
/// hours', so they add up to the same whatever an hour tells apart.
pub(super) async fn add(
    conn: &mut Conn,
    hours: SumsOf<Whole>,
    hours_by_entry: SumsOf<Entry>,
) -> Result<(), DbError> {
    let (days, days_by_entry) = (by_day(&hours), by_day(&hours_by_entry));
    write(conn, &HOURS, hours).await?;
    write(conn, &HOURS_BY_ENTRY, hours_by_entry).await?;
    write(conn, &DAYS, days).await?;
    write(conn, &DAYS_BY_ENTRY, days_by_entry).await
}

fn by_day<E: Clone + Ord>(hours: &SumsOf<E>) -> SumsOf<E> {
    let mut days = SumsOf::new();
    for (of, sums) in hours {
        let since = of.since.date().and_time(NaiveTime::MIN);
        days.entry(Of { since, ..of.clone() }).or_insert_with(Sums::default).add(sums);
    }
    days
}

async fn write<E>(
    conn: &mut Conn,
    statement: &'static Statement,
    sums: SumsOf<E>,
) -> Result<(), DbError>
where
    E: AsRef<[String]> + Send + Sync + 'static,
{
    let rows: Vec<(Of<E>, Sums)> = sums.into_iter().collect();
    match conn {
        // In one visit to the connection's thread, as the ledger's rows.
        Conn::Sqlite(object) => {
            object
                .spawn_blocking(move |conn| {
                    for row in rows.chunks(1) {
                        diesel::RunQueryDsl::execute(Added { statement, rows: row }, conn)?;
                    }
                    Ok(())
                })
                .await?;
        }
        Conn::Postgres(object) => {
            for some in rows.chunks(ROWS_A_STATEMENT) {
                Added { statement, rows: some }.execute(&mut **object).await?;
            }
        }
    }
    Ok(())
}

/// What is said around the rows that are added to a table.
struct Statement {
    before: String,
    after: String,
}

static HOURS: LazyLock<Statement> = LazyLock::new(|| Statement::of("usage_hours", "hour", &[]));
static DAYS: LazyLock<Statement> = LazyLock::new(|| Statement::of("usage_days", "day", &[]));
static HOURS_BY_ENTRY: LazyLock<Statement> =
    LazyLock::new(|| Statement::of("usage_hours_by_metadata", "hour", &ENTRY));
static DAYS_BY_ENTRY: LazyLock<Statement> =
    LazyLock::new(|| Statement::of("usage_days_by_metadata", "day", &ENTRY));

/// The columns of an [`Entry`].
const ENTRY: [&str; 2] = ["metadata_key", "metadata_value"];

impl Statement {
    fn of(table: &str, since: &str, entry: &[&str]) -> Self {
        let mut key = vec!["organization_id", since];
        key.extend(entry);
        key.extend(["workspace_id", "user_id", "api_key_id", "configuration_id", "model"]);
        let added = |column: &&str| {
            format!(
                "{column} = CASE WHEN {table}.{column} < {MOST} \
                 THEN {table}.{column} + excluded.{column} ELSE {table}.{column} END"
            )
        };
        let added: Vec<String> = Sums::COLUMNS.iter().map(added).collect();
        let (key, sums) = (key.join(", "), Sums::COLUMNS.join(", "));
        Self {
            before: format!("INSERT INTO {table} ({key}, {sums}) VALUES "),
            after: format!(" ON CONFLICT ({key}) DO UPDATE SET {}", added.join(", ")),
        }
    }
}

/// Adds rows to those of a table.
///
/// Diesel has words for it too, but takes no statement with `DO UPDATE` for one that can be prepared
/// once: SQLite would parse it anew for each row, which takes many times as long as to add it.
struct Added<'r, E> {
    statement: &'static Statement,
    rows: &'r [(Of<E>, Sums)],
}

impl<E: AsRef<[String]>, DB: Backend> QueryFragment<DB> for Added<'_, E>
where
    OrganizationId: ToSql<Text, DB>,
    NaiveDateTime: ToSql<Timestamp, DB>,
    String: ToSql<Text, DB>,
    WorkspaceId: ToSql<Text, DB>,
    ApiKeyId: ToSql<Text, DB>,
    ConfigurationId: ToSql<Text, DB>,
    i64: ToSql<BigInt, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        // Seldom are there as many again.
        if self.rows.len() > 1 {
            out.unsafe_to_cache_prepared();
        }
        out.push_sql(&self.statement.before);
        for (at, (of, sums)) in self.rows.iter().enumerate() {
            out.push_sql(if at == 0 { "(" } else { ", (" });
            out.push_bind_param::<Text, _>(&of.organization_id)?;
            push::<Timestamp, _, _>(&mut out, &of.since)?;
            for text in of.entry.as_ref() {
                push::<Text, _, _>(&mut out, text)?;
            }
            push::<Text, _, _>(&mut out, &of.workspace_id)?;
            push::<Text, _, _>(&mut out, &of.user_id)?;
            push::<Text, _, _>(&mut out, &of.api_key_id)?;
            push::<Text, _, _>(&mut out, &of.configuration_id)?;
            push::<Text, _, _>(&mut out, &of.model)?;
            for sum in sums.values() {
                push::<BigInt, _, _>(&mut out, sum)?;
            }
            out.push_sql(")");
        }
        out.push_sql(&self.statement.after);
        Ok(())
    }
}

fn push<'b, ST, DB, T>(out: &mut AstPass<'_, 'b, DB>, value: &'b T) -> QueryResult<()>
where
    DB: Backend + HasSqlType<ST>,
    T: ToSql<ST, DB>,
{
    out.push_sql(", ");
    out.push_bind_param::<ST, T>(value)
}

// Its text says which it is.
impl<E> QueryId for Added<'_, E> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<E> diesel::RunQueryDsl<SqliteConnection> for Added<'_, E> {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use chrono::NaiveDateTime;
    use diesel::connection::InstrumentationEvent;
    use diesel::prelude::*;
    use diesel_migrations::MigrationHarness as _;
    use uuid::Uuid;

    use super::{Added, HOURS, MOST, Of, Sums, Whole};
    use crate::db::migrate;
    use crate::db::schema::usage_hours;

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
        for (model, cost) in [("a", 1), ("b", 2), ("a", 3), ("b", MOST), ("b", MOST)] {
            let of = Of::<Whole> {
                organization_id: id.into(),
                since: NaiveDateTime::default(),
                entry: [],
                workspace_id: id.into(),
                user_id: String::new(),
                api_key_id: id.into(),
                configuration_id: id.into(),
                model: model.to_owned(),
            };
            let rows = [(of, Sums { cost, ..Sums::default() })];
            let added = Added { statement: &HOURS, rows: &rows };
            assert_eq!(added.execute(&mut conn), Ok(1));
        }
        assert_eq!(prepared.load(Ordering::Relaxed), 1);
        let sums = usage_hours::table.order(usage_hours::model);
        let sums = sums.select((usage_hours::model, usage_hours::cost));
        let sums: Vec<(String, i64)> = sums.load(&mut conn).unwrap();
        assert_eq!(sums, [("a".to_owned(), 4), ("b".to_owned(), MOST + 2)]);
    }
}
