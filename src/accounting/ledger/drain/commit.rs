//! The batch goes to the database, and what it refuses for good is put aside.

use std::collections::HashSet;
use std::io;

use super::super::recover::Recovered;
use super::super::row::row_of;
use super::super::{LedgerError, rejected};
use super::{BATCH, Drain};
use crate::accounting::journal::record::RecordRef;
use crate::accounting::record::{AttemptOutcome, LedgerEntry};
use crate::db::ledger::{Inserted, NewLedgerRow, insert_ledger_rows, list_known_attempts};
use crate::db::{Conn, DbError};
use crate::domain::ids::AttemptId;

impl Drain {
    /// Writes the batch to the database. Everything in it stays in it until that has happened.
    ///
    /// Where the database does not take so many rows it is given fewer, down to a single one: one
    /// that is slow, and not away, would never take the same again, and of a single row it can be
    /// told whether the fault is its own.
    pub(in crate::accounting::ledger) async fn commit(
        &mut self,
        told: &mut impl AsyncFnMut(Vec<Recovered>),
    ) -> Result<(), LedgerError> {
        self.settle_orphans().await?;
        while !self.batch.is_empty() {
            let kept = self.batch.len().saturating_sub(self.at_once);
            let some = self.batch.get(kept..).unwrap_or_default();
            match self.insert(some.iter().map(row_of).collect()).await {
                Ok(inserted) => {
                    let (old, done): (Vec<_>, Vec<_>) = (self.batch.split_off(kept).into_iter())
                        .partition(|entry| inserted.too_old.contains(&entry.start.id));
                    self.taken += done.len() as u64;
                    self.tell(done, &inserted.new, told).await;
                    self.put_old_aside(old)?;
                    self.at_once = (self.at_once * 2).min(BATCH);
                }
                Err(error) => match some {
                    [entry] if error.is_of_data() && self.takes_others(entry).await => {
                        self.put_last_aside(&error.to_string())?;
                    }
                    [_] => return Err(error.into()),
                    _ => {
                        tracing::debug!(%error, rows = some.len(), "fewer rows are tried");
                        self.at_once = (some.len() / 4).max(1);
                    }
                },
            }
        }
        Ok(())
    }

    /// Puts rows aside that may have been in the ledger, and in its sums, before they grew too old
    /// for it: nobody can tell, and nothing may be counted twice.
    fn put_old_aside(&mut self, mut old: Vec<LedgerEntry>) -> io::Result<()> {
        let count = old.len();
        // Should one of them not be kept, it is all the same to the rest when that is tried again.
        self.batch.append(&mut old);
        for _ in 0..count {
            self.put_last_aside("it is older than rows that were deleted")?;
        }
        Ok(())
    }

    /// Puts the last of the batch aside: the ledger will not have it.
    fn put_last_aside(&mut self, why: &str) -> io::Result<()> {
        let Some(entry) = self.batch.last() else { return Ok(()) };
        let id = entry.start.id;
        tracing::error!(attempt_id = %id, why, "the ledger refuses a row for good, see `rejected`");
        rejected::keep(&self.directory, RecordRef::Blocked(&entry.start, &entry.end))?;
        self.counts.rejected();
        self.batch.pop();
        Ok(())
    }

    /// Whether the database takes a row like this with nothing in it. If not, the fault is not the
    /// row's: a newer binary may have added a column that has to be filled. Nothing stays of the
    /// trial, so it says nothing of what only shows when a transaction ends, such as a full disk.
    async fn takes_others(&self, entry: &LedgerEntry) -> bool {
        let mut trial = entry.clone();
        let id = AttemptId::from(uuid::Uuid::nil());
        (trial.start.id, trial.end.id) = (id, id);
        (trial.start.attempt, trial.end.status) = (1, None);
        trial.start.metadata.clear();
        for text in [&mut trial.start.configuration, &mut trial.start.model] {
            "trial".clone_into(text);
        }
        (trial.start.model_asked, trial.start.client_request_id) = (None, None);
        (trial.end.model_used, trial.end.code, trial.end.cost) = (None, None, None);
        trial.end.usage = crate::domain::tokens::TokenUsage::default();
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

    async fn tell(
        &self,
        batch: Vec<LedgerEntry>,
        inserted: &HashSet<AttemptId>,
        told: &mut impl AsyncFnMut(Vec<Recovered>),
    ) {
        let is_new = |entry: &&LedgerEntry| inserted.contains(&entry.start.id);
        let is_lost = |entry: &LedgerEntry| entry.end.outcome == AttemptOutcome::Lost;
        let new = batch.iter().filter(is_new);
        let lost = new.clone().filter(|entry| is_lost(entry)).count();
        self.counts.committed(new.count() as u64, lost as u64);
        // One that has a row of its own already is not lost.
        let known = |entry: &&LedgerEntry| is_new(entry) || !is_lost(entry);
        told(batch.iter().filter(known).map(Recovered::of).collect()).await;
    }

    /// An end without its start is normal if the attempt has its row: the segment with its start is
    /// gone already. Otherwise the start was damaged, and a person has to look.
    async fn settle_orphans(&mut self) -> Result<(), LedgerError> {
        if self.orphans.is_empty() {
            return Ok(());
        }
        let ids: Vec<AttemptId> = self.orphans.iter().map(|end| end.id).collect();
        let known: HashSet<AttemptId> = self
            .database
            .housekeeping_read(async move |conn: &mut Conn| list_known_attempts(conn, ids).await)
            .await?
            .into_iter()
            .collect();
        while let Some(end) = self.orphans.last() {
            // What is not committed yet may hold it: a second end.
            let waits = self.batch.iter().any(|entry| entry.start.id == end.id);
            if !known.contains(&end.id) && !waits {
                tracing::error!(attempt_id = %end.id, "an end in the journal has no start");
                rejected::keep(&self.directory, RecordRef::End(end))?;
                self.counts.rejected();
            }
            self.orphans.pop();
        }
        Ok(())
    }
}
