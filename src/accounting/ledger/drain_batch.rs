//! What is on its way from the journal to the database: from sealing segments to their removal.

use std::collections::HashSet;
use std::io;

use super::LedgerError;
use super::commit::{MAX_ROWS, RowWriter};
use crate::accounting::journal::record::Record;
use crate::accounting::journal::segment::{self, Piece, Pieces};
use crate::accounting::journal::{Finished, Journal, Sealed};

#[derive(Default)]
pub(super) struct DrainBatch {
    /// From memory.
    entries: Vec<Finished>,
    /// Segments to be read back afterwards, oldest first.
    to_read: Vec<u64>,
    /// Segments that can be removed when all of it is committed.
    done: Vec<u64>,
    /// Some of the ends are in no file.
    pub(super) has_unwritten: bool,
}

impl DrainBatch {
    /// All that has ended before the segments were sealed.
    pub(super) fn new(entries: Vec<Finished>, sealed: Sealed) -> Self {
        let Sealed { done, to_read, has_unwritten, .. } = sealed;
        Self { entries, to_read, done, has_unwritten }
    }

    /// Commits all of it, and removes segments as soon as they can be. After an error it goes on
    /// where it stopped.
    pub(super) async fn commit(
        &mut self,
        rows: &mut RowWriter,
        journal: &Journal,
    ) -> Result<(), LedgerError> {
        while !self.entries.is_empty() {
            let before = self.entries.len();
            let committed = rows.commit(&mut self.entries).await;
            journal.release(before - self.entries.len());
            if let Err(error) = committed {
                self.remove_done(journal)?;
                return Err(error);
            }
        }
        self.has_unwritten = false;
        self.remove_done(journal)?;
        while let Some(number) = self.to_read.first().copied() {
            read_back(number, rows, journal).await?;
            journal.forget_entries(number);
            self.to_read.remove(0);
            self.remove_done(journal)?;
        }
        Ok(())
    }

    /// Removes the segments that nothing of what is left is in.
    fn remove_done(&mut self, journal: &Journal) -> io::Result<()> {
        let mut needed: HashSet<u64> = self.to_read.iter().copied().collect();
        needed.extend(self.entries.iter().flat_map(|one| one.segments));
        let (kept, removed) =
            std::mem::take(&mut self.done).into_iter().partition(|number| needed.contains(number));
        self.done = kept;
        journal.remove(&removed).inspect_err(|_| self.done.extend(&removed))
    }
}

/// Commits the entries that are in a segment.
async fn read_back(
    number: u64,
    rows: &mut RowWriter,
    journal: &Journal,
) -> Result<(), LedgerError> {
    let bytes = segment::read(&journal.options().directory, number)?;
    let mut entries = Vec::new();
    for piece in Pieces::of(&bytes, 0) {
        match piece {
            Piece::Record(Record::Entry(entry)) => {
                let segments = [number; 2];
                entries.push(Finished { entry: *entry, segments, is_only_on_disk: true });
            }
            Piece::Record(Record::Start(_) | Record::End(_)) | Piece::Truncated => {}
            Piece::Damaged(bytes) => rows.reject_damaged(number, bytes)?,
        }
        if entries.len() >= MAX_ROWS {
            while rows.commit(&mut entries).await?.is_some() {}
        }
    }
    while rows.commit(&mut entries).await?.is_some() {}
    Ok(())
}
