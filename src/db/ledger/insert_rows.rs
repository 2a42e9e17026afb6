//! Writes rows on SQLite, several of them in a statement.

use std::collections::HashSet;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use diesel::sqlite::Sqlite;

use super::super::schema::ledger;
use super::{LedgerRow, NewLedgerRow, push_value};
use crate::domain::ids::AttemptId;

/// Rows in one statement: opening the table and its indexes costs about as much as a row.
const ROWS_A_STATEMENT: usize = 16;

// The transaction ends with the first error, so what the statement has done by then need not be undone:
// with OR FAIL, SQLite keeps no copies of pages for that.
const BEFORE: &str = "INSERT OR FAIL INTO ledger (id, organization_id, workspace_id, request_id, \
                      attempt, api_key_id, user_id, configuration_id, configuration, route, \
                      model_asked, model, model_used, status, outcome, code, tokens, \
                      usage_source, cost, price_version, first_byte_ms, duration_ms, policies, \
                      metadata, client_request_id, admitted_at, list_cost, guard_findings) VALUES ";
const AFTER: &str = " ON CONFLICT (id) DO NOTHING";

/// Writes the rows that are not there yet, and returns which were. After an error the transaction has to be
/// rolled back.
pub(super) fn insert_rows(
    conn: &mut SqliteConnection,
    rows: &[NewLedgerRow],
) -> QueryResult<HashSet<AttemptId>> {
    let rowid = sql::<BigInt>("coalesce(max(rowid), 0)");
    let newest: i64 = ledger::table.select(rowid).get_result(conn)?;
    let mut inserted = 0;
    let (groups, rest) = rows.as_chunks::<ROWS_A_STATEMENT>();
    for rows in groups {
        inserted += InsertRows::new(rows).execute(conn)?;
    }
    for rows in rest.as_chunks::<1>().0 {
        inserted += InsertRows::new(rows).execute(conn)?;
    }
    if inserted == rows.len() {
        return Ok(HashSet::new());
    }
    // SQLite gives a new row a higher number than all others have.
    let is_new = sql::<Bool>("rowid > ").bind::<BigInt, _>(newest);
    let new: Vec<AttemptId> = ledger::table.filter(is_new).select(ledger::id).load(conn)?;
    let new: HashSet<AttemptId> = new.into_iter().collect();
    Ok(rows.iter().map(|new| new.row.id).filter(|id| !new.contains(id)).collect())
}

/// The statement, known by its type, so that a row costs little more than its binds.
///
/// Diesel can express it too, but then visits every column's name and value several times for each row.
struct InsertRows<'r, const N: usize> {
    rows: &'r [NewLedgerRow; N],
    /// [`LedgerRow::admitted_at`] as diesel writes it, which would interpret a format for each row.
    admitted_at: [String; N],
}

impl<'r, const N: usize> InsertRows<'r, N> {
    fn new(rows: &'r [NewLedgerRow; N]) -> Self {
        let admitted_at = rows.each_ref().map(|new| new.row.admitted_at.to_string());
        Self { rows, admitted_at }
    }
}

impl<const N: usize> QueryFragment<Sqlite> for InsertRows<'_, N> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(BEFORE);
        for (at, (new, admitted_at)) in self.rows.iter().zip(&self.admitted_at).enumerate() {
            out.push_sql(if at == 0 { "(" } else { ", (" });
            push_values(&mut out, &new.row, admitted_at)?;
            out.push_sql(")");
        }
        out.push_sql(AFTER);
        Ok(())
    }
}

/// Binds a row's values in the order of the columns.
fn push_values<'b>(
    out: &mut AstPass<'_, 'b, Sqlite>,
    row: &'b LedgerRow,
    admitted_at: &'b String,
) -> QueryResult<()> {
    out.push_bind_param::<Text, _>(&row.id)?;
    push_value::<Text, _, _>(out, &row.organization_id)?;
    push_value::<Text, _, _>(out, &row.workspace_id)?;
    push_value::<Text, _, _>(out, &row.request_id)?;
    push_value::<BigInt, _, _>(out, &row.attempt)?;
    push_value::<Text, _, _>(out, &row.api_key_id)?;
    push_value::<Nullable<Text>, _, _>(out, &row.user_id)?;
    push_value::<Text, _, _>(out, &row.configuration_id)?;
    push_value::<Text, _, _>(out, &row.configuration)?;
    push_value::<Text, _, _>(out, &row.route)?;
    push_value::<Nullable<Text>, _, _>(out, &row.model_asked)?;
    push_value::<Text, _, _>(out, &row.model)?;
    push_value::<Nullable<Text>, _, _>(out, &row.model_used)?;
    push_value::<Nullable<Integer>, _, _>(out, &row.status)?;
    push_value::<Text, _, _>(out, &row.outcome)?;
    push_value::<Nullable<Text>, _, _>(out, &row.code)?;
    push_value::<Text, _, _>(out, &row.tokens)?;
    push_value::<Text, _, _>(out, &row.usage_source)?;
    push_value::<Nullable<BigInt>, _, _>(out, &row.cost)?;
    push_value::<Nullable<Text>, _, _>(out, &row.price_version)?;
    push_value::<Nullable<BigInt>, _, _>(out, &row.first_byte_ms)?;
    push_value::<Nullable<BigInt>, _, _>(out, &row.duration_ms)?;
    push_value::<Text, _, _>(out, &row.policies)?;
    push_value::<Text, _, _>(out, &row.metadata)?;
    push_value::<Nullable<Text>, _, _>(out, &row.client_request_id)?;
    push_value::<Text, _, _>(out, admitted_at)?;
    push_value::<Nullable<BigInt>, _, _>(out, &row.list_cost)?;
    push_value::<Nullable<Text>, _, _>(out, &row.guard_findings)
}

// The text depends on nothing but the number of rows.
impl<const N: usize> QueryId for InsertRows<'_, N> {
    type QueryId = InsertRows<'static, N>;

    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const N: usize> RunQueryDsl<SqliteConnection> for InsertRows<'_, N> {}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use chrono::{NaiveDate, NaiveDateTime};
    use diesel::connection::InstrumentationEvent;
    use diesel::prelude::*;
    use diesel_migrations::MigrationHarness as _;
    use uuid::Uuid;

    use super::{LedgerRow, NewLedgerRow, ROWS_A_STATEMENT, insert_rows};
    use crate::db::schema::ledger;
    use crate::db::{CallerKey, migrate};
    use crate::domain::provider::UpstreamId;
    use crate::domain::tokens::TokenUsage;

    fn row(number: u128, admitted_at: NaiveDateTime) -> LedgerRow {
        let text = |name: &str| format!("{name} {number}");
        LedgerRow {
            id: Uuid::from_u128(number).into(),
            organization_id: Uuid::from_u128(101).into(),
            workspace_id: Uuid::from_u128(102).into(),
            request_id: Uuid::from_u128(103).into(),
            attempt: 1,
            api_key_id: CallerKey(Some(Uuid::from_u128(104).into())),
            user_id: Some(Uuid::from_u128(105).into()),
            configuration_id: UpstreamId::Configuration(Uuid::from_u128(106).into()),
            configuration: text("configuration"),
            route: text("route"),
            model_asked: Some(text("model asked")),
            model: text("model"),
            model_used: Some(text("model used")),
            status: Some(200),
            outcome: text("outcome"),
            code: Some(text("code")),
            tokens: text("tokens"),
            usage_source: text("usage source"),
            cost: Some(2),
            price_version: Some(text("price version")),
            first_byte_ms: Some(3),
            duration_ms: Some(4),
            policies: text("policies"),
            metadata: text("metadata"),
            client_request_id: Some(text("client request")),
            admitted_at,
            list_cost: Some(5),
            guard_findings: Some(text("findings")),
        }
    }

    #[test]
    fn rows_are_written_once_and_statements_are_prepared_once() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.run_pending_migrations(migrate::SQLITE).unwrap();
        let prepared = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&prepared);
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if matches!(event, InstrumentationEvent::CacheQuery { .. }) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let day = NaiveDate::from_ymd_opt(2026, 1, 2).unwrap();
        let nanos = [0, 5_000_000, 5_000, 5];
        let times = nanos.map(|nanos| day.and_hms_nano_opt(3, 4, 5, nanos).unwrap());
        let count = 2 * ROWS_A_STATEMENT as u128 + 3;
        let mut rows: Vec<LedgerRow> =
            (1..=count).zip(times.into_iter().cycle()).map(|(n, time)| row(n, time)).collect();
        let nulls =
            LedgerRow { user_id: None, model_used: None, status: None, ..row(99, times[0]) };
        rows.push(LedgerRow { cost: None, ..nulls });
        let new = |row: &LedgerRow| NewLedgerRow {
            row: row.clone(),
            tokens: TokenUsage::default(),
            metadata: BTreeMap::new(),
        };
        let all: Vec<NewLedgerRow> = rows.iter().map(new).collect();
        let some = [20, 21, 35].map(|at: usize| all[at].clone());
        assert_eq!(insert_rows(&mut conn, &some), Ok(HashSet::new()));
        let existing = some.map(|new| new.row.id).into();
        assert_eq!(insert_rows(&mut conn, &all), Ok(existing));
        let existing = rows.iter().map(|row| row.id).collect();
        assert_eq!(insert_rows(&mut conn, &all), Ok(existing));
        // The statement for many rows, and that for one.
        assert_eq!(prepared.load(Ordering::Relaxed), 2);
        let read = ledger::table.order(ledger::id).select(LedgerRow::as_select());
        assert_eq!(read.load(&mut conn), Ok(rows));
        // The same text as diesel's, with which it is compared.
        for time in times {
            let same = ledger::table.filter(ledger::admitted_at.eq(time)).count();
            assert!(same.get_result::<i64>(&mut conn).unwrap() >= 1);
        }
    }
}
