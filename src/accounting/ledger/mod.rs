//! The ledger: every attempt is written to the journal first, and from there into the database.
//!
//! [`Ledger`] is what the data plane holds. A thread of its own (`task`) takes what has ended from the
//! journal, in memory, writes rows and sums in one transaction, and has segments removed that the
//! database has. At start everything that an
//! earlier process left is brought in first ([`recover`]).

mod commit;
mod counts;
mod drain_batch;
mod reader;
pub mod recover;
mod recovered;
mod rejected;
pub mod retention;
mod row;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::accounting::journal::lock::{DirectoryLock, LockError};
use crate::accounting::journal::{Journal, JournalFull, JournalOptions};
use crate::accounting::record::{AttemptEnd, AttemptStart, LedgerEntry};
use crate::clock::Clock;
use crate::db::{Database, DbError};
use crate::telemetry::Metrics;
use crate::telemetry::readiness::Readiness;
use counts::Counts;
pub use recovered::Recovered;
pub use rejected::NAME as REJECTED;

/// Why the ledger can't be opened or flushed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("cannot read or write the journal: {0}")]
    Journal(#[from] std::io::Error),
    #[error("cannot write the journal to the database; it stays in the journal: {0}")]
    Database(#[from] DbError),
    #[error("the ledger is closed")]
    Closed,
}

/// What the ledger needs besides the journal.
#[derive(Clone)]
pub struct LedgerParts {
    pub database: Database,
    pub clock: Clock,
    pub metrics: Metrics,
    pub readiness: Readiness,
    /// How many days rows are kept; 0 is for ever.
    pub retention_days: u32,
}

/// The ledger. Clones share it; when all are gone, or it was closed, its directory is free.
#[derive(Clone)]
pub struct Ledger {
    journal: Arc<Journal>,
    commands: mpsc::Sender<task::Command>,
}

impl Ledger {
    /// Locks the journal, brings what an earlier process left there into the database, and begins.
    ///
    /// `recovered` is called with those rows in batches, after each is committed, so that counters can be
    /// settled: ended attempts as they ended, others as lost, at their reserved cost. A request may
    /// have several; after another crash an attempt may be passed again.
    pub async fn open(
        options: JournalOptions,
        parts: LedgerParts,
        recovered: impl AsyncFnMut(Vec<Recovered>),
    ) -> Result<Self, LedgerError> {
        let lock = DirectoryLock::take(&options.directory)?;
        let counts = Arc::new(Counts::default());
        let database = &parts.database;
        let recovery = recover::recover(&options.directory, database, &counts, recovered).await?;
        let journal = Journal::open(options, lock, recovery.next_segment, parts.readiness.clone())?;
        counts::watch(&parts.metrics, &journal, &counts);
        let (commands, receiver) = mpsc::channel(64);
        task::start(Arc::clone(&journal), parts, counts, receiver)?;
        Ok(Self { journal, commands })
    }

    /// Records that an attempt is about to be sent. One that can't be recorded may not be sent.
    pub fn start(&self, start: impl Into<Arc<AttemptStart>>) -> Result<(), JournalFull> {
        self.journal.start(start.into())
    }

    /// Records how an attempt ended whose start was recorded. Never fails; of several ends the first
    /// counts.
    pub fn end(&self, end: AttemptEnd) {
        self.journal.end(end);
    }

    /// Records a request that was refused before anything was sent.
    pub fn blocked(
        &self,
        start: impl Into<Arc<AttemptStart>>,
        end: AttemptEnd,
    ) -> Result<(), JournalFull> {
        self.journal.blocked(LedgerEntry { start: start.into(), end })
    }

    /// Waits until all that has ended so far is in the database, or says why it is not. Takes as
    /// long as the database does: give it a time limit.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        self.ask(task::Command::Flush).await
    }

    /// Flushes and unlocks the directory, also if flushing failed: the next process recovers what is
    /// there. Nothing can be started afterwards.
    pub async fn close(&self) -> Result<(), LedgerError> {
        self.ask(task::Command::Close).await
    }

    /// Releases the directory without flushing: the next process recovers what is there.
    pub fn close_journal(&self) {
        self.journal.close();
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), LedgerError>>) -> task::Command,
    ) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| LedgerError::Closed)?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }
}
