//! From the journal into the database.
//!
//! Segments are read in order, from where reading stopped; what is read is either still open, or
//! waits in a batch for the database. Nothing is read further while the database does not take the
//! batch, so memory stays the same however long the journal is. A segment goes when all of it was
//! read, everything read is committed, and no attempt that began in it is still open.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::counts::Counts;
use super::recover::Recovered;
use super::row::row_of;
use super::{LedgerError, rejected};
use crate::db::ledger::{NewLedgerRow, insert_ledger_rows, list_known_attempts};
use crate::db::{Conn, Database, DbError};
use crate::domain::ids::AttemptId;
use crate::metering::journal::Journal;
use crate::metering::journal::record::{Record, RecordRef, decode};
use crate::metering::journal::segment::{self, Lines};
use crate::metering::record::{AttemptEnd, AttemptOutcome, AttemptStart, LedgerEntry};

/// Rows in one transaction.
const BATCH: usize = 500;

/// Rows that any database that is there can take before it is given up on.
const FEW: usize = 32;

/// Bytes that segments may hold which only open attempts keep, before they are given up earlier.
const CROWDED: u64 = 64 << 20;

/// About what a start takes.
const START_BYTES: u64 = 1 << 10;

pub(super) struct Drain {
    directory: PathBuf,
    database: Database,
    counts: Arc<Counts>,
    segments: BTreeMap<u64, Segment>,
    open: HashMap<AttemptId, Open>,
    batch: Vec<LedgerEntry>,
    /// How much of the batch the database is given in one transaction.
    at_once: usize,
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

    /// Reads what was not read yet and commits it.
    pub(super) async fn read(
        &mut self,
        told: &mut impl AsyncFnMut(Vec<Recovered>),
    ) -> Result<(), LedgerError> {
        if self.is_batch_full() {
            self.commit(told).await?;
        }
        let unread: Vec<(u64, u64, u64)> = (self.segments.iter())
            .filter(|(_, segment)| segment.read < segment.len)
            .map(|(number, segment)| (*number, segment.read, segment.len))
            .collect();
        for (number, from, to) in unread {
            let mut lines = match Lines::open(&self.directory, number, from, to) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    tracing::error!(segment = number, "a segment of the journal is gone");
                    self.counts.damaged();
                    self.segment(number).read = to;
                    continue;
                }
                lines => lines?,
            };
            let mut line = Vec::new();
            while lines.next(&mut line)? {
                self.take(number, &line);
                self.segment(number).read += line.len() as u64;
                if self.is_batch_full() {
                    self.commit(told).await?;
                }
            }
            // Shorter than it was: there is nothing to wait for.
            self.segment(number).read = to;
        }
        self.commit(told).await
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

    fn take(&mut self, number: u64, line: &[u8]) {
        match decode(line) {
            Some(Record::Start(start)) => {
                let id = start.id;
                // Said again: the earlier segment need not stay for it.
                self.close(id);
                self.open.insert(id, Open { segment: number, start });
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
                self.counts.damaged();
                if let Err(error) = rejected::keep_line(&self.directory, line) {
                    tracing::error!(%error, "a damaged record could not be kept");
                }
            }
        }
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

    /// Writes the batch to the database. Everything in it stays in it until that has happened.
    pub(super) async fn commit(
        &mut self,
        told: &mut impl AsyncFnMut(Vec<Recovered>),
    ) -> Result<(), LedgerError> {
        self.settle_orphans().await?;
        while !self.batch.is_empty() {
            let kept = self.batch.len().saturating_sub(self.at_once);
            let some = self.batch.get(kept..).unwrap_or_default();
            match self.insert(some.iter().map(row_of).collect()).await {
                Ok(inserted) => {
                    let done = self.batch.split_off(kept);
                    self.tell(done, &inserted, told).await;
                    self.at_once = (self.at_once * 2).min(BATCH);
                }
                // A database that is slow, and not away, would never take the same again.
                Err(DbError::Unavailable(_)) if self.at_once > FEW => self.at_once /= 4,
                Err(error @ DbError::Unavailable(_)) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "rows of the ledger are tried one by one");
                    self.commit_one_by_one(told).await?;
                }
            }
        }
        Ok(())
    }

    /// Finds the rows that the database refuses, so that they do not keep the others out.
    async fn commit_one_by_one(
        &mut self,
        told: &mut impl AsyncFnMut(Vec<Recovered>),
    ) -> Result<(), LedgerError> {
        while let Some(entry) = self.batch.last() {
            match self.insert(vec![row_of(entry)]).await {
                Ok(inserted) => {
                    let done = self.batch.pop().into_iter().collect();
                    self.tell(done, &inserted, told).await;
                }
                Err(error @ DbError::Unavailable(_)) => return Err(error.into()),
                Err(error) if !self.takes_others(entry).await => return Err(error.into()),
                Err(error) => {
                    let id = entry.start.id;
                    tracing::error!(attempt_id = %id, %error, "the ledger refuses a row for good");
                    let record = RecordRef::Blocked(&entry.start, &entry.end);
                    rejected::keep(&self.directory, record)?;
                    self.counts.rejected();
                    self.batch.pop();
                }
            }
        }
        Ok(())
    }

    /// Whether the database takes a row like this with nothing in it: if not, the fault is not the
    /// row's. Nothing stays of the trial.
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

    async fn insert(&self, rows: Vec<NewLedgerRow>) -> Result<HashSet<AttemptId>, DbError> {
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

    /// Removes segments that nothing needs any more; how many bytes they had.
    pub(super) fn remove_done(&mut self) -> io::Result<u64> {
        if !self.batch.is_empty() || !self.orphans.is_empty() {
            return Ok(0);
        }
        let is_done = |segment: &Segment| segment.is_read() && segment.open == 0;
        let done: Vec<u64> = (self.segments.iter())
            .filter(|(_, segment)| is_done(segment))
            .map(|(number, _)| *number)
            .collect();
        let mut bytes = 0;
        for number in &done {
            match std::fs::remove_file(segment::path(&self.directory, *number)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            bytes += self.segments.remove(number).map_or(0, |segment| segment.len);
        }
        if !done.is_empty() {
            segment::sync_directory(&self.directory)?;
        }
        Ok(bytes)
    }

    /// Writes open starts down again whose segments should go, so that a stream of hours does not
    /// keep what happened when it began.
    pub(super) fn compact(&mut self, journal: &Journal) -> io::Result<()> {
        let after = journal.options().compact_after;
        let kept = self.segments.values().filter(|segment| segment.is_read());
        let kept: u64 = kept.map(|segment| segment.len).sum();
        let crowded = kept > CROWDED.min(journal.options().max_bytes / 4)
            && kept > 4 * START_BYTES * self.open.len() as u64;
        let due: HashSet<u64> = (self.segments.iter())
            .filter(|(_, segment)| segment.is_read() && segment.open > 0)
            .filter(|(_, segment)| crowded || segment.since.elapsed() >= after)
            .map(|(number, _)| *number)
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let mut moved = Vec::new();
        let mut outcome = Ok(());
        for (id, open) in self.open.iter().filter(|(_, open)| due.contains(&open.segment)) {
            match journal.start_again(&open.start) {
                Ok(Some(number)) => moved.push((*id, number)),
                // It has ended, further on.
                Ok(None) => {}
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        for (id, number) in moved {
            let Some(open) = self.open.get_mut(&id) else { continue };
            let before = std::mem::replace(&mut open.segment, number);
            let before = self.segment(before);
            before.open = before.open.saturating_sub(1);
            self.segment(number).open += 1;
        }
        journal.sync();
        outcome
    }
}
