//! What an earlier process left in its journal is brought into the database.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::LedgerError;
use super::counts::Counts;
use super::reader::Reader;
use super::recovered::Recovered;
use crate::accounting::journal::lock::DirectoryLock;
use crate::accounting::journal::segment;
use crate::db::{Database, DbError};

/// How long to wait for a database that takes nothing, since it last took something: a start that
/// fails has to read all of the journal again.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// How long after a failure the next attempt is made.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What was recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Rows that were not in the database yet.
    pub rows: u64,
    /// Those among them of attempts whose end is not known.
    pub lost: u64,
    /// Rows that the database refused for good; the file `rejected` in the journal's folder has them.
    pub rejected: u64,
    /// Records that could not be read.
    pub damaged: u64,
    /// The journal goes on with this segment.
    pub(super) next_segment: u64,
}

/// Brings everything in a directory, which has to be locked, into the database, and removes it there.
pub(super) async fn recover(
    directory: &Path,
    database: &Database,
    counts: &Arc<Counts>,
    mut recovered: impl AsyncFnMut(Vec<Recovered>),
) -> Result<Recovery, LedgerError> {
    let segments = segment::list(directory)?;
    let next_segment = segments.last().map_or(1, |(number, _)| number + 1);
    let numbers = segments.iter().map(|(number, _)| *number);
    let mut reader = Reader::new(directory.to_owned(), database.clone(), counts.clone(), numbers);
    let (mut committed, mut since) = (0, Instant::now());
    while let Err(error) = reader.read_all(&mut recovered).await {
        if reader.committed != committed {
            (committed, since) = (reader.committed, Instant::now());
        }
        match error {
            LedgerError::Database(DbError::Unavailable(cause)) if since.elapsed() < MAX_WAIT => {
                tracing::warn!(cause, "cannot write the journal to the database yet; retrying");
                tokio::time::sleep(RETRY_AFTER).await;
            }
            error => return Err(error),
        }
    }
    let [rows, lost, rejected, damaged] = counts.totals();
    if rows + rejected + damaged > 0 {
        tracing::info!(rows, lost, rejected, damaged, "recovered the journal");
    }
    Ok(Recovery { rows, lost, rejected, damaged, next_segment })
}

/// Drains the journal of a process that will not come back, and reports every attempt that has its
/// row. Refuses while a process uses it.
pub async fn drain_journal(
    directory: &Path,
    database: &Database,
    recovered: impl AsyncFnMut(Vec<Recovered>),
) -> Result<Recovery, LedgerError> {
    let _lock = DirectoryLock::take(directory)?;
    let counts = Arc::new(Counts::default());
    recover(directory, database, &counts, recovered).await
}
