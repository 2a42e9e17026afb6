//! Reads segments that nothing is appended to any more, pairs starts with ends, and commits the rows.
//!
//! What is read is either still open or waits for the database, and nothing more is read while the
//! database takes nothing. A segment is removed when all of it was read, everything read is committed,
//! and no attempt that began in it is still open.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use super::commit::{MAX_ROWS, RowWriter};
use super::counts::Counts;
use super::recovered::Recovered;
use super::{LedgerError, rejected};
use crate::accounting::journal::Finished;
use crate::accounting::journal::record::Record;
use crate::accounting::journal::segment::{self, Piece, Pieces};
use crate::accounting::record::{AttemptEnd, AttemptStart, LedgerEntry};
use crate::db::ledger::list_known_attempts;
use crate::db::{Conn, Database};
use crate::domain::ids::AttemptId;

pub(super) struct Reader {
    rows: RowWriter,
    segments: BTreeMap<u64, Segment>,
    open: HashMap<AttemptId, Open>,
    waiting: Vec<Finished>,
    /// Ends whose starts are not in the journal any more, or could not be read.
    without_start: Vec<AttemptEnd>,
    /// How many rows the database has.
    pub(super) committed: u64,
}

#[derive(Default)]
struct Segment {
    /// Where reading goes on.
    position: usize,
    is_read: bool,
    /// Open attempts whose start is in it.
    open: usize,
}

struct Open {
    segment: u64,
    start: Arc<AttemptStart>,
}

impl Reader {
    pub(super) fn new(
        directory: PathBuf,
        database: Database,
        counts: Arc<Counts>,
        segments: impl Iterator<Item = u64>,
    ) -> Self {
        Self {
            rows: RowWriter::new(directory, database, counts),
            segments: segments.map(|number| (number, Segment::default())).collect(),
            open: HashMap::new(),
            waiting: Vec::new(),
            without_start: Vec::new(),
            committed: 0,
        }
    }

    /// Brings everything in. Attempts that are still open at the end are lost: the process that could
    /// have ended them is gone. After an error it goes on where it stopped.
    pub(super) async fn read_all(
        &mut self,
        recovered: &mut impl AsyncFnMut(Vec<Recovered>),
    ) -> Result<(), LedgerError> {
        self.commit(recovered).await?;
        let unread = |(number, segment): (&u64, &Segment)| (!segment.is_read).then_some(*number);
        while let Some(number) = self.segments.iter().find_map(unread) {
            self.read_segment(number, recovered).await?;
            self.remove_done()?;
        }
        let open: Vec<AttemptId> = self.open.keys().copied().collect();
        for id in open {
            if let Some(Open { segment, start }) = self.close(id) {
                self.push(LedgerEntry::lost(start), [segment; 2]);
            }
            self.commit_if_full(recovered).await?;
        }
        self.commit(recovered).await?;
        Ok(self.remove_done()?)
    }

    async fn read_segment(
        &mut self,
        number: u64,
        recovered: &mut impl AsyncFnMut(Vec<Recovered>),
    ) -> Result<(), LedgerError> {
        match segment::read(&self.rows.directory, number) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tracing::error!(segment = number, "a segment of the journal is gone");
                self.rows.counts.damaged();
            }
            bytes => {
                let bytes = bytes?;
                let mut pieces = Pieces::of(&bytes, self.segment(number).position);
                while let Some(piece) = pieces.next() {
                    self.take(number, piece)?;
                    self.segment(number).position = pieces.position();
                    self.commit_if_full(recovered).await?;
                }
            }
        }
        self.segment(number).is_read = true;
        self.commit(recovered).await
    }

    /// Fails if what could not be read can't be kept either.
    fn take(&mut self, number: u64, piece: Piece<'_>) -> io::Result<()> {
        match piece {
            // Written again, before the earlier segment was removed.
            Piece::Record(Record::Start(start)) if self.open.contains_key(&start.id) => {}
            Piece::Record(Record::Start(start)) => {
                self.open.insert(start.id, Open { segment: number, start });
                self.segment(number).open += 1;
            }
            Piece::Record(Record::End(end)) => match self.close(end.id) {
                Some(Open { start, segment }) => {
                    self.push(LedgerEntry { start, end: *end }, [segment, number]);
                }
                None => self.without_start.push(*end),
            },
            Piece::Record(Record::Entry(entry)) => {
                let segment = self.close(entry.start.id).map_or(number, |open| open.segment);
                self.push(*entry, [segment, number]);
            }
            Piece::Truncated => {
                tracing::warn!(segment = number, "the journal's last record is cut short");
            }
            Piece::Damaged(bytes) => self.rows.reject_damaged(number, bytes)?,
        }
        Ok(())
    }

    fn push(&mut self, entry: LedgerEntry, segments: [u64; 2]) {
        self.waiting.push(Finished { entry, segments, is_only_on_disk: true });
    }

    fn close(&mut self, id: AttemptId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        let segment = self.segment(open.segment);
        segment.open = segment.open.saturating_sub(1);
        Some(open)
    }

    fn segment(&mut self, number: u64) -> &mut Segment {
        self.segments.entry(number).or_default()
    }

    async fn commit_if_full(
        &mut self,
        recovered: &mut impl AsyncFnMut(Vec<Recovered>),
    ) -> Result<(), LedgerError> {
        if self.waiting.len() + self.without_start.len() >= MAX_ROWS {
            self.commit(recovered).await?;
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        recovered: &mut impl AsyncFnMut(Vec<Recovered>),
    ) -> Result<(), LedgerError> {
        self.check_ends_without_start().await?;
        loop {
            match self.rows.commit(&mut self.waiting).await {
                Ok(Some(committed)) => {
                    self.committed += committed.rows.len() as u64;
                    recovered(committed.known().map(Recovered::of).collect()).await;
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    // The next process need not read what is committed.
                    self.remove_done()?;
                    return Err(error);
                }
            }
        }
    }

    /// An end without its start is normal if the attempt has its row: the segment with its start was
    /// removed. Otherwise the start was damaged, and a person has to look.
    async fn check_ends_without_start(&mut self) -> Result<(), LedgerError> {
        if self.without_start.is_empty() {
            return Ok(());
        }
        let ids: Vec<AttemptId> = self.without_start.iter().map(|end| end.id).collect();
        let known = self
            .rows
            .database
            .housekeeping_read(async move |conn: &mut Conn| list_known_attempts(conn, ids).await);
        let known: HashSet<AttemptId> = known.await?.into_iter().collect();
        while let Some(end) = self.without_start.last() {
            // A second end of an attempt that is not committed yet.
            let is_waiting = self.waiting.iter().any(|one| one.entry.start.id == end.id);
            if !known.contains(&end.id) && !is_waiting {
                tracing::error!(
                    attempt_id = %end.id,
                    "an end in the journal has no start; it is kept in the file `rejected`"
                );
                rejected::keep_end(&self.rows.directory, end)?;
                self.rows.counts.rejected();
            }
            self.without_start.pop();
        }
        Ok(())
    }

    /// Removes the segments that nothing needs any more.
    fn remove_done(&mut self) -> io::Result<()> {
        if !self.without_start.is_empty() {
            return Ok(());
        }
        let needed: HashSet<u64> = self.waiting.iter().flat_map(|one| one.segments).collect();
        let is_done = |(number, segment): (&u64, &Segment)| {
            let is_done = segment.is_read && segment.open == 0 && !needed.contains(number);
            is_done.then_some(*number)
        };
        let done: Vec<u64> = self.segments.iter().filter_map(is_done).collect();
        segment::remove(&self.rows.directory, &done, |number| {
            self.segments.remove(&number);
        })
    }
}
