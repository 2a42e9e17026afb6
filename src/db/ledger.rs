//! `ledger`, one row an attempt, and its sums: `usage_rollups`.
//!
//! Rows are written once. A row that is there already is left alone and not summed up again, so
//! the same rows may be written any number of times. All processes write in one order, so they cannot
//! deadlock.

mod insert_rows;
mod metadata_groups;
mod rollups;
mod sums;

use std::collections::{BTreeMap, HashSet};

use chrono::{NaiveDateTime, TimeDelta, Timelike};
use diesel::backend::Backend;
use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::query_builder::AstPass;
use diesel::serialize::ToSql;
use diesel::sql_types::HasSqlType;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;

use self::insert_rows::insert_rows;
use super::conn::on;
use super::schema::{ledger, ledger_retention};
use super::types::CallerKey;
use super::{Conn, DbError, optional};
use crate::domain::ids::{AttemptId, OrganizationId, RequestId, UserId, WorkspaceId};
use crate::domain::provider::UpstreamId;
use crate::domain::tokens::TokenUsage;

/// One attempt, or one blocked request.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, QueryableByName, Selectable, Insertable)]
#[diesel(table_name = ledger, treat_none_as_default_value = false)]
pub struct LedgerRow {
    pub id: AttemptId,
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    pub request_id: RequestId,
    /// Its place among the request's attempts, from 1; 0 for a blocked request.
    pub attempt: i64,
    pub api_key_id: CallerKey,
    pub user_id: Option<UserId>,
    pub configuration_id: UpstreamId,
    pub configuration: String,
    /// `chat_completions`, `responses`, `messages`, `count_tokens`, `list_models`, `get_model` or
    /// `check`.
    pub route: String,
    /// The model that the caller named.
    pub model_asked: Option<String>,
    /// The model that the upstream was asked for.
    pub model: String,
    /// The model that the upstream says it used.
    pub model_used: Option<String>,
    /// The status that the caller saw.
    pub status: Option<i32>,
    /// How it ended.
    pub outcome: String,
    /// The stable code of what went wrong.
    pub code: Option<String>,
    /// JSON: a [`TokenUsage`].
    pub tokens: String,
    /// `provider`, `estimated` or `none`.
    pub usage_source: String,
    /// In nano-dollars; none without a price.
    pub cost: Option<i64>,
    /// Which price applied.
    pub price_version: Option<String>,
    /// From the request's arrival to the upstream's first byte.
    pub first_byte_ms: Option<i64>,
    /// From the request's arrival to its end.
    pub duration_ms: Option<i64>,
    /// `{"matched": [ids], "violated": [ids]}`.
    pub policies: String,
    /// The caller's metadata, one JSON object of texts, its keys sorted.
    pub metadata: String,
    /// The caller's own id of the request.
    pub client_request_id: Option<String>,
    /// When the request was admitted, or blocked; UTC.
    pub admitted_at: NaiveDateTime,
    /// What it would have cost if the caller's own subscription had not paid, in nano-dollars.
    pub list_cost: Option<i64>,
    /// JSON: what guards found, [`ContentFindings`](crate::domain::content_finding::ContentFindings).
    pub guard_findings: Option<String>,
}

impl LedgerRow {
    /// The hour that it is summed up in.
    fn hour(&self) -> NaiveDateTime {
        let hour = self.admitted_at.with_minute(0).and_then(|at| at.with_second(0));
        hour.and_then(|at| at.with_nanosecond(0)).unwrap_or(self.admitted_at)
    }
}

/// A row to be written, with what its sums are made of.
#[derive(Clone, Debug)]
pub struct NewLedgerRow {
    pub row: LedgerRow,
    /// What [`LedgerRow::tokens`] says.
    pub tokens: TokenUsage,
    /// What [`LedgerRow::metadata`] says.
    pub metadata: BTreeMap<String, String>,
}

/// Rows that were not written. All others were, and were added to the sums.
#[derive(Clone, Debug, Default)]
pub struct Inserted {
    /// They were there already.
    pub existing: HashSet<AttemptId>,
    /// Rows as old as these have been deleted, and they may be among those, summed up long ago.
    pub too_old: HashSet<AttemptId>,
}

/// Maximum time between the creation of a row's id, at its admission, and the row's own time.
pub(super) const ID_SLACK: TimeDelta = TimeDelta::minutes(2);

/// Rows in one statement: each has 28 values, and PostgreSQL takes 65,535.
const ROWS_A_STATEMENT: usize = 500;

/// Writes the rows that are not there yet and adds them to the sums.
pub async fn insert_ledger_rows(
    conn: &mut Conn,
    mut rows: Vec<NewLedgerRow>,
) -> Result<Inserted, DbError> {
    // The same id twice among the rows is one row.
    rows.sort_by_key(|new| new.row.id);
    rows.dedup_by_key(|new| new.row.id);
    let existing = match conn {
        Conn::Sqlite(object) => {
            // All rows in one visit to the connection's thread: to go there and back for each would
            // take longer than the row itself.
            let (given_back, existing) = object
                .spawn_blocking(move |c| insert_rows(c, &rows).map(|existing| (rows, existing)))
                .await?;
            rows = given_back;
            existing
        }
        Conn::Postgres(object) => {
            let mut inserted = HashSet::with_capacity(rows.len());
            for some in rows.chunks(ROWS_A_STATEMENT) {
                let values: Vec<&LedgerRow> = some.iter().map(|new| &new.row).collect();
                let ids: Vec<AttemptId> = diesel::insert_into(ledger::table)
                    .values(values)
                    .on_conflict(ledger::id)
                    .do_nothing()
                    .returning(ledger::id)
                    .get_results(&mut **object)
                    .await?;
                inserted.extend(ids);
            }
            let ids = rows.iter().map(|new| new.row.id);
            ids.filter(|id| !inserted.contains(id)).collect()
        }
    };
    if !existing.is_empty() {
        rows.retain(|new| !existing.contains(&new.row.id));
    }
    let too_old = take_back_old(conn, &mut rows).await?;
    sums::add(conn, &rows).await?;
    Ok(Inserted { existing, too_old })
}

/// Takes those of the rows, which have just been written, out again that may have been there before
/// and deleted. Asked after they were written: who deleted one of the same id has committed by then.
async fn take_back_old(
    conn: &mut Conn,
    rows: &mut Vec<NewLedgerRow>,
) -> Result<HashSet<AttemptId>, DbError> {
    let asked = on!(conn, c => ledger_retention::table
        .select(ledger_retention::deleted_before)
        .first::<NaiveDateTime>(c));
    let Some(deleted_before) = optional(asked)? else { return Ok(HashSet::new()) };
    let is_old = |new: &NewLedgerRow| new.row.admitted_at < deleted_before;
    let old: Vec<AttemptId> = rows.iter().filter(|new| is_old(new)).map(|new| new.row.id).collect();
    if !old.is_empty() {
        rows.retain(|new| !is_old(new));
        on!(conn, c =>
            diesel::delete(ledger::table.filter(ledger::id.eq_any(old.clone()))).execute(c))?;
    }
    Ok(old.into_iter().collect())
}

/// Those of the ids that have a row. For the journal's reader, which knows ids alone.
pub async fn list_known_attempts(
    conn: &mut Conn,
    ids: Vec<AttemptId>,
) -> Result<Vec<AttemptId>, DbError> {
    on!(conn, c => ledger::table
        .filter(ledger::id.eq_any(ids.clone()))
        .select(ledger::id)
        .load(c))
}

/// Deletes at most `most` of the rows admitted before the instant, oldest first; how many it were.
/// The sums stay, and with them the knowledge of what may be in them without a row.
///
/// Finds rows by the time in their ids, so a row may stay for `ID_SLACK` longer.
pub async fn delete_ledger_rows_before(
    conn: &mut Conn,
    before: NaiveDateTime,
    most: i64,
) -> Result<usize, DbError> {
    let beyond = AttemptId::first_at(before.and_utc() - ID_SLACK);
    let ids: Vec<AttemptId> = on!(conn, c => ledger::table
        .filter(ledger::id.lt(beyond))
        .filter(ledger::admitted_at.lt(before))
        .order(ledger::id)
        .limit(most)
        .select(ledger::id)
        .load(c))?;
    if ids.is_empty() {
        return Ok(0);
    }
    // Never back: days to keep may become more.
    on!(conn, c => diesel::insert_into(ledger_retention::table)
        .values((ledger_retention::id.eq(1), ledger_retention::deleted_before.eq(before)))
        .on_conflict(ledger_retention::id)
        .do_update()
        .set(ledger_retention::deleted_before.eq(
            case_when(
                ledger_retention::deleted_before.lt(excluded(ledger_retention::deleted_before)),
                excluded(ledger_retention::deleted_before),
            )
            .otherwise(ledger_retention::deleted_before),
        ))
        .execute(c))?;
    on!(conn, c => diesel::delete(ledger::table.filter(ledger::id.eq_any(ids.clone()))).execute(c))
}

/// Adds a comma and the value to a statement.
fn push_value<'b, ST, DB, T>(out: &mut AstPass<'_, 'b, DB>, value: &'b T) -> QueryResult<()>
where
    DB: Backend + HasSqlType<ST>,
    T: ToSql<ST, DB> + ?Sized,
{
    out.push_sql(", ");
    out.push_bind_param::<ST, T>(value)
}
