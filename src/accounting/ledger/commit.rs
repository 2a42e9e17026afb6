//! Finished attempts go to the database, and what it refuses for good goes to a file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::counts::Counts;
use super::row::row_of;
use super::{LedgerError, rejected};
use crate::accounting::journal::Finished;
use crate::accounting::record::{AttemptOutcome, LedgerEntry};
use crate::db::ledger::{Inserted, NewLedgerRow, insert_ledger_rows};
use crate::db::{Conn, Database, DbError};
use crate::domain::ids::AttemptId;
use crate::domain::tokens::TokenUsage;

/// Rows in one transaction.
pub(super) const MAX_ROWS: usize = 4_000;

/// Writes rows to the database.
pub(super) struct RowWriter {
    pub(super) directory: PathBuf,
    pub(super) database: Database,
    pub(super) counts: Arc<Counts>,
    /// Rows that the database is given in one transaction.
    rows_at_once: usize,
}

/// What was committed in one transaction.
pub(super) struct Committed {
    /// Rows that are in the database now, new ones and others.
    pub(super) rows: Vec<Finished>,
    inserted: Inserted,
}

impl Committed {
    /// The entries that are in the database as they are. An attempt that was taken for lost and has
    /// another row already is not among them.
    pub(super) fn known(&self) -> impl Iterator<Item = &LedgerEntry> {
        let entries = self.rows.iter().map(|finished| &finished.entry);
        entries.filter(|entry| !is_lost(entry) || self.is_new(entry))
    }

    fn is_new(&self, entry: &LedgerEntry) -> bool {
        !self.inserted.existing.contains(&entry.start.id)
    }
}

fn is_lost(entry: &LedgerEntry) -> bool {
    entry.end.outcome == AttemptOutcome::Lost
}

impl RowWriter {
    pub(super) fn new(directory: PathBuf, database: Database, counts: Arc<Counts>) -> Self {
        Self { directory, database, counts, rows_at_once: MAX_ROWS }
    }

    /// Commits the first of the entries, which leave the list then; `None` when it is empty.
    ///
    /// Where the database does not take so many rows it is given fewer, down to one: a slow database
    /// would never take the same number again, and only of a single row it can be decided whether
    /// the row itself is the cause.
    pub(super) async fn commit(
        &mut self,
        entries: &mut Vec<Finished>,
    ) -> Result<Option<Committed>, LedgerError> {
        while !entries.is_empty() {
            let count = entries.len().min(self.rows_at_once);
            let some = entries.get(..count).unwrap_or_default();
            match self.insert(some.iter().map(|one| row_of(&one.entry)).collect()).await {
                Ok(inserted) => {
                    let rest = entries.split_off(count);
                    let rows = std::mem::replace(entries, rest);
                    let (too_old, rows) = if inserted.too_old.is_empty() {
                        (Vec::new(), rows)
                    } else {
                        let is_old =
                            |one: &Finished| inserted.too_old.contains(&one.entry.start.id);
                        rows.into_iter().partition(is_old)
                    };
                    self.rows_at_once = (self.rows_at_once * 2).min(MAX_ROWS);
                    let committed = Committed { rows, inserted };
                    self.count(&committed);
                    self.reject_old(entries, too_old)?;
                    return Ok(Some(committed));
                }
                Err(error) => match some {
                    [one] if error.is_caused_by_data() && self.takes_others(&one.entry).await => {
                        self.reject_first(entries, &error.to_string())?;
                    }
                    [_] => return Err(error.into()),
                    _ => {
                        tracing::debug!(%error, rows = count, "writing fewer rows at once");
                        self.rows_at_once = (count / 4).max(1);
                    }
                },
            }
        }
        Ok(None)
    }

    /// Rejects rows that may have been in the ledger, and in its sums, before they grew too old for
    /// it: it is not known, and nothing may be counted twice.
    fn reject_old(&self, entries: &mut Vec<Finished>, old: Vec<Finished>) -> io::Result<()> {
        let count = old.len();
        // Should this fail for one of them, the rest is rejected when it is tried again.
        entries.splice(0..0, old);
        for _ in 0..count {
            self.reject_first(entries, "it is older than rows that were deleted")?;
        }
        Ok(())
    }

    fn reject_first(&self, entries: &mut Vec<Finished>, why: &str) -> io::Result<()> {
        let Some(LedgerEntry { start, end }) = entries.first().map(|one| &one.entry) else {
            return Ok(());
        };
        tracing::error!(
            attempt_id = %start.id,
            why,
            "the database refuses a ledger row; it is kept in the file `rejected`"
        );
        rejected::keep_entry(&self.directory, start, end)?;
        self.counts.rejected();
        entries.remove(0);
        Ok(())
    }

    /// Keeps bytes of a segment that no record could be read from.
    pub(super) fn reject_damaged(&self, segment: u64, bytes: &[u8]) -> io::Result<()> {
        tracing::error!(
            segment,
            "a record of the journal is damaged; it is kept in the file `rejected`"
        );
        rejected::keep_damaged(&self.directory, bytes)?;
        self.counts.damaged();
        Ok(())
    }

    /// Whether the database takes a row like this with nothing in it. If not, the row is not the
    /// cause: a newer binary may have added a column that has to be filled. The trial is rolled back,
    /// so it does not show what only fails at a commit, such as a full disk.
    async fn takes_others(&self, entry: &LedgerEntry) -> bool {
        let mut trial = entry.clone();
        let start = Arc::make_mut(&mut trial.start);
        let id = AttemptId::from(uuid::Uuid::nil());
        (start.id, trial.end.id) = (id, id);
        (start.attempt, trial.end.status) = (1, None);
        start.metadata.clear();
        for text in [&mut start.configuration, &mut start.model] {
            "trial".clone_into(text);
        }
        (start.model_asked, start.client_request_id) = (None, None);
        (trial.end.model_used, trial.end.code, trial.end.cost) = (None, None, None);
        trial.end.usage = TokenUsage::default();
        let row = row_of(&trial);
        let tried = self
            .database
            .housekeeping_write(async move |conn: &mut Conn| {
                insert_ledger_rows(conn, vec![row]).await?;
                Err::<(), _>(DbError::NotFound)
            })
            .await;
        matches!(tried, Err(DbError::NotFound))
    }

    async fn insert(&self, rows: Vec<NewLedgerRow>) -> Result<Inserted, DbError> {
        self.database
            .housekeeping_write(async move |conn: &mut Conn| insert_ledger_rows(conn, rows).await)
            .await
    }

    fn count(&self, committed: &Committed) {
        let new = committed.rows.iter().map(|one| &one.entry);
        let new = new.filter(|entry| committed.is_new(entry));
        let lost = new.clone().filter(|entry| is_lost(entry)).count();
        self.counts.committed(new.count() as u64, lost as u64);
    }
}
