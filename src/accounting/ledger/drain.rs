//! From the journal into the database.
//!
//! Segments are read in order, from where reading stopped; what is read is either still open, or
//! waits in a batch for the database. Nothing is read further while the database does not take the
//! batch, so memory stays the same however long the journal is. A segment goes when all of it was
//! read, everything read is committed, and no attempt that began in it is still open.

mod commit;
mod remove;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::counts::Counts;
use super::recover::Recovered;
use super::{LedgerError, rejected};
use crate::accounting::journal::record::{Record, decode};
use crate::accounting::journal::segment::Lines;
use crate::accounting::record::{AttemptEnd, AttemptStart, LedgerEntry};
use crate::db::Database;
use crate::domain::ids::AttemptId;

/// Rows in one transaction.
const BATCH: usize = 500;

pub(super) struct Drain {
    directory: PathBuf,
    database: Database,
    counts: Arc<Counts>,
    segments: BTreeMap<u64, Segment>,
    open: HashMap<AttemptId, Open>,
    batch: Vec<LedgerEntry>,
    /// How much of the batch the database is given in one transaction.
    at_once: usize,
    /// Rows that the database has taken, or had.
    pub(super) taken: u64,
    /// Ends whose starts are not in the journal any more, or could not be read.
    orphans: Vec<AttemptEnd>,
    /// Ends that are not in the journal, and wait until all starts are read.
    pub(super) unwritten: Vec<AttemptEnd>,
}

struct Segment {
    len: u64,
    read: u64,
    /// Nothing is appended to it any more.
    sealed: bool,
    /// Attempts open whose start stands in it.
    open: usize,
    since: Instant,
}

impl Segment {
    fn is_read(&self) -> bool {
        self.sealed && self.read >= self.len
    }
}

struct Open {
    segment: u64,
    start: Box<AttemptStart>,
}

impl Drain {
    pub(super) fn new(directory: PathBuf, database: Database, counts: Arc<Counts>) -> Self {
        Self {
            directory,
            database,
            counts,
            segments: BTreeMap::new(),
            open: HashMap::new(),
            batch: Vec::new(),
            at_once: BATCH,
            taken: 0,
            orphans: Vec::new(),
            unwritten: Vec::new(),
        }
    }

    /// A segment has become so long.
    pub(super) fn add(&mut self, number: u64, len: u64, sealed: bool) {
        let segment = self.segment(number);
        segment.len = len;
        segment.sealed = sealed;
        segment.since = Instant::now();
    }

    fn segment(&mut self, number: u64) -> &mut Segment {
        self.segments.entry(number).or_insert_with(|| Segment {
            len: 0,
            read: 0,
            sealed: false,
            open: 0,
            since: Instant::now(),
        })
    }

    /// Reads what was not read yet of one segment, the oldest that has any, and commits it; false
    /// if there is none. After an error it goes on where it stopped.
    pub(super) async fn read_segment(
        &mut self,
        told: &mut impl AsyncFnMut(Vec<Recovered>),
    ) -> Result<bool, LedgerError> {
        self.commit(told).await?;
        let unread = self.segments.iter().find(|(_, segment)| segment.read < segment.len);
        let Some((&number, &Segment { read: from, len: to, .. })) = unread else {
            return Ok(false);
        };
        let mut lines = match Lines::open(&self.directory, number, from, to) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tracing::error!(segment = number, "a segment of the journal is gone");
                self.counts.damaged();
                self.segment(number).read = to;
                return Ok(true);
            }
            lines => lines?,
        };
        let mut line = Vec::new();
        while lines.next(&mut line)? {
            self.take(number, &line)?;
            self.segment(number).read += line.len() as u64;
            if self.is_batch_full() {
                self.commit(told).await?;
            }
        }
        // Shorter than it was: there is nothing to wait for.
        self.segment(number).read = to;
        self.commit(told).await?;
        Ok(true)
    }

    /// Pairs the ends that could not be written. Everything has to be read before.
    pub(super) async fn take_unwritten(
        &mut self,
        told: &mut impl AsyncFnMut(Vec<Recovered>),
    ) -> Result<(), LedgerError> {
        while let Some(end) = self.unwritten.pop() {
            self.end(Box::new(end));
            if self.is_batch_full() {
                self.commit(told).await?;
            }
        }
        self.commit(told).await
    }

    /// Takes what is still open for lost: the process that could have ended it is gone.
    pub(super) async fn lose_open(
        &mut self,
        told: &mut impl AsyncFnMut(Vec<Recovered>),
    ) -> Result<(), LedgerError> {
        let ids: Vec<AttemptId> = self.open.keys().copied().collect();
        for id in ids {
            if let Some(start) = self.close(id) {
                self.batch.push(LedgerEntry::lost(*start));
            }
            if self.is_batch_full() {
                self.commit(told).await?;
            }
        }
        self.commit(told).await
    }

    /// Fails if what could not be read can't be kept either.
    fn take(&mut self, number: u64, line: &[u8]) -> io::Result<()> {
        match decode(line) {
            // Said again. Whoever did so says when the earlier segment need not stay for it.
            Some(Record::Start(start)) if self.open.contains_key(&start.id) => {}
            Some(Record::Start(start)) => {
                self.open.insert(start.id, Open { segment: number, start });
                self.segment(number).open += 1;
            }
            Some(Record::End(end)) => self.end(end),
            Some(Record::Blocked(start, end)) => {
                self.batch.push(LedgerEntry { start: *start, end: *end });
            }
            None if line == b"\n" => {}
            // Half a record, where the power was cut or the disk was full.
            None if line.last() != Some(&b'\n') => {
                tracing::warn!(segment = number, "the last record is cut short");
            }
            None => {
                tracing::error!(
                    segment = number,
                    "a record of the journal is damaged, see `rejected`"
                );
                rejected::keep_line(&self.directory, line)?;
                self.counts.damaged();
            }
        }
        Ok(())
    }

    fn end(&mut self, end: Box<AttemptEnd>) {
        match self.close(end.id) {
            Some(start) => self.batch.push(LedgerEntry { start: *start, end: *end }),
            None => self.orphans.push(*end),
        }
    }

    fn close(&mut self, id: AttemptId) -> Option<Box<AttemptStart>> {
        let open = self.open.remove(&id)?;
        let segment = self.segment(open.segment);
        segment.open = segment.open.saturating_sub(1);
        Some(open.start)
    }

    fn is_batch_full(&self) -> bool {
        self.batch.len() + self.orphans.len() >= BATCH
    }
}
