//! The change sequence, by which the directories of all replicas learn of writes.

use std::time::Duration;

use chrono::{NaiveDateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::schema::{change_sequence, changes};
use super::{Conn, DbError};
use crate::domain::ids::OrganizationId;

/// The PostgreSQL notification channel. Its messages only say "look at the sequence".
pub(super) const CHANNEL: &str = "tollgate_changes";

/// How long a step stays readable. A directory that lags more than this forgets everything it
/// holds.
const KEPT: TimeDelta = TimeDelta::hours(1);

/// Whom a write concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concerns {
    /// One organization and everything in it.
    Organization(OrganizationId),
    /// Everybody.
    Everybody,
}

/// One committed write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its place in the sequence; the first is 1.
    pub sequence: i64,
    /// Whom it concerns.
    pub concerns: Concerns,
}

/// Takes the next number, which makes other writers wait until this transaction ends, and records
/// whom it concerns.
pub(super) async fn next_change(conn: &mut Conn, concerns: Concerns) -> Result<Change, DbError> {
    let sequence: i64 = on!(conn, c => diesel::update(change_sequence::table)
        .set(change_sequence::value.eq(change_sequence::value + 1))
        .returning(change_sequence::value)
        .get_result(c))?;
    let now: NaiveDateTime = Utc::now().naive_utc();
    let organization_id = match concerns {
        Concerns::Organization(id) => Some(id.to_string()),
        Concerns::Everybody => None,
    };
    on!(conn, c => diesel::insert_into(changes::table)
        .values((
            changes::sequence.eq(sequence),
            changes::organization_id.eq(organization_id.clone()),
            changes::changed_at.eq(now),
        ))
        .execute(c))?;
    on!(conn, c => diesel::delete(changes::table.filter(changes::changed_at.lt(now - KEPT)))
        .execute(c))?;
    if let Conn::Postgres(_) = conn {
        // Delivered at commit, and not at all if the transaction fails.
        on!(conn, c => diesel::sql_query(format!("NOTIFY {CHANNEL}")).execute(c))?;
    }
    Ok(Change { sequence, concerns })
}

/// Where the sequence stands.
pub async fn current_sequence(conn: &mut Conn) -> Result<i64, DbError> {
    on!(conn, c => change_sequence::table.select(change_sequence::value).first(c))
}

/// The steps after `sequence`, in order. `None` if some of them are no longer kept: then anything
/// may have changed.
pub async fn changes_since(conn: &mut Conn, sequence: i64) -> Result<Option<Vec<Change>>, DbError> {
    /// More than this at once is not worth telling apart.
    const MOST: i64 = 1_000;

    let current = current_sequence(conn).await?;
    if current == sequence {
        return Ok(Some(Vec::new()));
    }
    if current < sequence || current - sequence > MOST {
        return Ok(None);
    }
    let rows: Vec<(i64, Option<String>)> = on!(conn, c => changes::table
        .filter(changes::sequence.gt(sequence))
        .filter(changes::sequence.le(current))
        .order(changes::sequence)
        .select((changes::sequence, changes::organization_id))
        .load(c))?;
    if i64::try_from(rows.len()).ok() != Some(current - sequence) {
        return Ok(None);
    }
    let change = |(sequence, organization): (i64, Option<String>)| Change {
        sequence,
        concerns: match organization.and_then(|id| id.parse().ok()) {
            Some(id) => Concerns::Organization(id),
            None => Concerns::Everybody,
        },
    };
    Ok(Some(rows.into_iter().map(change).collect()))
}

/// How long the listening connection may take to be made.
pub(super) const LISTEN_LIMIT: Duration = Duration::from_secs(10);

/// How long the listening connection waits before it tries again.
pub(super) const LISTEN_RETRY: Duration = Duration::from_secs(1);
