//! Deletes rows that are too old. The sums stay.

use std::time::{Duration, Instant};

use chrono::TimeDelta;

use crate::clock::Clock;
use crate::db::ledger::delete_ledger_rows_before;
use crate::db::{Conn, Database, DbError};

/// Rows deleted at once: few, so that other writers wait only a moment.
const BATCH: i64 = 500;

/// How often old rows are looked for.
const EVERY: Duration = Duration::from_secs(600);

/// Deletes at most one batch of the rows older than so many days, and says whether there may be more.
pub async fn delete_expired(
    database: &Database,
    clock: &Clock,
    days: u32,
) -> Result<bool, DbError> {
    let Some(before) = clock.now().checked_sub_signed(TimeDelta::days(days.into())) else {
        return Ok(false);
    };
    let before = before.naive_utc();
    let deleted = database
        .housekeeping_write(async move |conn: &mut Conn| {
            delete_ledger_rows_before(conn, before, BATCH).await
        })
        .await?;
    Ok(i64::try_from(deleted).is_ok_and(|deleted| deleted >= BATCH))
}

/// Deletes old rows, a batch at a time.
pub(super) struct Retention {
    days: u32,
    due: Instant,
}

impl Retention {
    pub(super) fn new(days: u32) -> Self {
        Self { days, due: Instant::now() }
    }

    /// Deletes a batch, if it is time to.
    pub(super) async fn tick(&mut self, database: &Database, clock: &Clock) {
        if self.days == 0 || Instant::now() < self.due {
            return;
        }
        match delete_expired(database, clock, self.days).await {
            Ok(true) => {}
            Ok(false) => self.due = Instant::now() + EVERY,
            Err(error) => {
                tracing::debug!(%error, "cannot delete old ledger rows; trying again later");
                self.due = Instant::now() + EVERY / 10;
            }
        }
    }
}
