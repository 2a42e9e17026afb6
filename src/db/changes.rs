//! The change sequence, from which the directories of all replicas learn of writes.

use std::time::Duration;

use chrono::{NaiveDateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::schema::{change_sequence, changes};
use super::{Conn, DbError};
use crate::domain::ids::OrganizationId;

/// The PostgreSQL notification channel. Its messages are empty: they tell replicas to read the
/// sequence.
pub(super) const CHANNEL: &str = "tollgate_changes";

/// How long changes are kept. A directory that is further behind invalidates all of its entries.
const RETENTION: TimeDelta = TimeDelta::hours(1);

/// What a write changes: which cached entries it invalidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeScope {
    /// One organization and everything in it.
    Organization(OrganizationId),
    Everything,
}

/// One committed write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The number in the sequence, from 1.
    pub sequence: i64,
    pub scope: ChangeScope,
}

/// Takes the next number and records the change. Other writers wait for the updated row until this
/// transaction ends.
pub(super) async fn next_change(conn: &mut Conn, scope: ChangeScope) -> Result<Change, DbError> {
    let sequence: i64 = on!(conn, c => diesel::update(change_sequence::table)
        .set(change_sequence::value.eq(change_sequence::value + 1))
        .returning(change_sequence::value)
        .get_result(c))?;
    let now: NaiveDateTime = Utc::now().naive_utc();
    let organization_id = match scope {
        ChangeScope::Organization(id) => Some(id.to_string()),
        ChangeScope::Everything => None,
    };
    on!(conn, c => diesel::insert_into(changes::table)
        .values((
            changes::sequence.eq(sequence),
            changes::organization_id.eq(organization_id.clone()),
            changes::changed_at.eq(now),
        ))
        .execute(c))?;
    on!(conn, c => diesel::delete(changes::table.filter(changes::changed_at.lt(now - RETENTION)))
        .execute(c))?;
    if let Conn::Postgres(_) = conn {
        // Delivered at commit.
        on!(conn, c => diesel::sql_query(format!("NOTIFY {CHANNEL}")).execute(c))?;
    }
    Ok(Change { sequence, scope })
}

/// The last number of the sequence.
pub async fn current_sequence(conn: &mut Conn) -> Result<i64, DbError> {
    on!(conn, c => change_sequence::table.select(change_sequence::value).first(c))
}

/// The changes after `sequence`, in order. `None` if some of them are no longer kept: then anything may
/// have changed.
pub async fn changes_since(conn: &mut Conn, sequence: i64) -> Result<Option<Vec<Change>>, DbError> {
    /// For more changes than this, invalidating everything is cheaper.
    const MAX_CHANGES: i64 = 1_000;

    let current = current_sequence(conn).await?;
    if current == sequence {
        return Ok(Some(Vec::new()));
    }
    if current < sequence || current - sequence > MAX_CHANGES {
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
        scope: match organization.and_then(|id| id.parse().ok()) {
            Some(id) => ChangeScope::Organization(id),
            None => ChangeScope::Everything,
        },
    };
    Ok(Some(rows.into_iter().map(change).collect()))
}

/// How long the connection for notifications may take to be established.
pub(super) const LISTEN_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait before the connection for notifications is established again.
pub(super) const LISTEN_RETRY: Duration = Duration::from_secs(1);
