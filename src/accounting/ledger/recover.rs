//! What an earlier process left in its journal is brought into the database.

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::LedgerError;
use super::counts::Counts;
use super::drain::Drain;
use crate::accounting::journal::lock::DirectoryLock;
use crate::accounting::journal::segment;
use crate::accounting::record::{AttemptOutcome, LedgerEntry};
use crate::db::{Database, DbError};
use crate::domain::ids::{AttemptId, OrganizationId, RequestId};
use crate::domain::money::NanoUsd;

/// For how long a database is waited for that takes nothing, since it last took something: a start
/// that fails has to read all of the journal again.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long after a failure it is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// An attempt that was found in the journal at start, and has its row now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The request.
    pub request_id: RequestId,
    /// The attempt.
    pub id: AttemptId,
    /// When the request was admitted.
    pub admitted_at: DateTime<Utc>,
    /// How it ended; [`AttemptOutcome::Lost`] if nobody saw.
    pub outcome: AttemptOutcome,
    /// What it is charged; none without a price.
    pub cost: Option<NanoUsd>,
    /// Input and output tokens.
    pub tokens: i64,
}

impl Recovered {
    pub(super) fn of(entry: &LedgerEntry) -> Self {
        let usage = &entry.end.usage;
        let tokens = usage.input.unwrap_or(0).saturating_add(usage.output.unwrap_or(0));
        Self {
            organization_id: entry.start.organization_id,
            request_id: entry.start.request_id,
            id: entry.start.id,
            admitted_at: entry.start.admitted_at,
            outcome: entry.end.outcome,
            cost: entry.end.cost,
            tokens: i64::try_from(tokens).unwrap_or(i64::MAX),
        }
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Rows that were not in the database yet.
    pub rows: u64,
    /// Those among them of attempts that nobody saw the end of.
    pub lost: u64,
    /// Rows that the database refused for good; the file `rejected` beside the journal has them.
    pub rejected: u64,
    /// Records that could not be read.
    pub damaged: u64,
    /// Which segment the journal goes on with.
    pub(super) next_segment: u64,
}

/// Brings everything in that is in a directory, which has to be locked, and removes it there.
pub(super) async fn recover(
    directory: &Path,
    database: &Database,
    counts: &std::sync::Arc<Counts>,
    mut told: impl AsyncFnMut(Vec<Recovered>),
) -> Result<Found, LedgerError> {
    let segments = segment::list(directory)?;
    let next_segment = segments.last().map_or(1, |(number, _)| number + 1);
    let mut drain = Drain::new(directory.to_owned(), database.clone(), counts.clone());
    for (number, len) in segments {
        drain.add(number, len, true);
    }
    let (mut taken, mut since) = (0, Instant::now());
    while let Err(error) = bring_in(&mut drain, &mut told).await {
        if drain.taken != taken {
            (taken, since) = (drain.taken, Instant::now());
        }
        match error {
            LedgerError::Database(DbError::Unavailable(cause)) if since.elapsed() < PATIENCE => {
                tracing::warn!(cause, "the database is slow to take the journal; it is waited for");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            error => return Err(error),
        }
    }
    let [rows, lost, rejected, damaged] = counts.totals();
    if rows + rejected + damaged > 0 {
        tracing::info!(rows, lost, rejected, damaged, "recovered the journal");
    }
    Ok(Found { rows, lost, rejected, damaged, next_segment })
}

/// Goes on where it stopped.
async fn bring_in(
    drain: &mut Drain,
    told: &mut impl AsyncFnMut(Vec<Recovered>),
) -> Result<(), LedgerError> {
    while drain.read_segment(told).await? {
        drain.remove_done()?;
    }
    drain.lose_open(told).await?;
    drain.remove_done()?;
    Ok(())
}

/// Drains the journal of a process that will not come back, and tells of every attempt that has its
/// row. Refuses while a process uses it.
pub async fn drain_journal(
    directory: &Path,
    database: &Database,
    told: impl AsyncFnMut(Vec<Recovered>),
) -> Result<Found, LedgerError> {
    let _lock = DirectoryLock::take(directory)?;
    let counts = std::sync::Arc::new(Counts::default());
    recover(directory, database, &counts, told).await
}
