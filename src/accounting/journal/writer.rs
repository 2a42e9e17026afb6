//! The end of the journal, where records are appended, and what the process knows of its segments and
//! of the attempts in them. All of it is behind one lock.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use foldhash::HashMap;

use super::Finished;
use super::segment::{open_private, path};
use crate::accounting::record::AttemptStart;
use crate::domain::ids::AttemptId;

pub(super) struct Writer {
    file: Arc<File>,
    number: u64,
    /// A file was created that the directory may not durably have.
    created: bool,
    /// Files that are full and not synced yet.
    retired: Vec<Arc<File>>,
    /// The segments that are still there, by number; the last one is appended to.
    segments: BTreeMap<u64, Segment>,
    /// Attempts that have started and not ended.
    open: HashMap<AttemptId, OpenAttempt>,
    /// Attempts that have ended and were not taken yet.
    pub(super) finished: Vec<Finished>,
    /// Ends among them could not be written to any file.
    pub(super) has_unwritten: bool,
}

struct Segment {
    len: u64,
    /// Open attempts whose start is in it.
    open: usize,
    /// It holds entries that are not in memory.
    has_entries: bool,
    since: Instant,
}

pub(super) struct OpenAttempt {
    pub(super) start: Arc<AttemptStart>,
    /// Where its start is.
    pub(super) segment: u64,
}

impl Writer {
    pub(super) fn begin(directory: &Path, number: u64) -> io::Result<Self> {
        let mut writer = Self {
            file: Arc::new(create(directory, number)?),
            number,
            created: true,
            retired: Vec::new(),
            segments: BTreeMap::new(),
            open: HashMap::default(),
            finished: Vec::new(),
            has_unwritten: false,
        };
        writer.current();
        Ok(writer)
    }

    /// The segment's number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes in the segment.
    pub(super) fn len(&self) -> u64 {
        self.segments.get(&self.number).map_or(0, |segment| segment.len)
    }

    fn current(&mut self) -> &mut Segment {
        self.segments.entry(self.number).or_insert_with(|| Segment {
            len: 0,
            open: 0,
            has_entries: false,
            since: Instant::now(),
        })
    }

    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let outcome = loop {
            match (&*self.file).write(record) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        let written = outcome? as u64;
        if written == record.len() as u64 {
            self.current().len += written;
            return Ok(());
        }
        // Half a record is cut off; where that fails, readers skip it.
        if written > 0 && self.file.set_len(self.len()).is_err() {
            self.current().len += written;
        }
        Err(ErrorKind::StorageFull.into())
    }

    /// Goes on in a new segment.
    pub(super) fn roll(&mut self, directory: &Path) -> io::Result<()> {
        let next = create(directory, self.number + 1)?;
        self.retired.push(std::mem::replace(&mut self.file, Arc::new(next)));
        self.current().since = Instant::now();
        self.number += 1;
        self.created = true;
        self.current();
        Ok(())
    }

    /// An attempt's start was appended.
    pub(super) fn open(&mut self, start: Arc<AttemptStart>) {
        let segment = self.number;
        self.current().open += 1;
        self.open.insert(start.id, OpenAttempt { start, segment });
    }

    /// An attempt ends; `None` if it is not open.
    pub(super) fn close(&mut self, id: AttemptId) -> Option<OpenAttempt> {
        let open = self.open.remove(&id)?;
        self.leave(open.segment);
        Some(open)
    }

    /// An open attempt.
    pub(super) fn find_open(&self, id: AttemptId) -> Option<&OpenAttempt> {
        self.open.get(&id)
    }

    /// The start of an attempt that is still open was appended again, to this segment.
    pub(super) fn move_start(&mut self, id: AttemptId, segment: u64) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let before = std::mem::replace(&mut open.segment, segment);
        self.leave(before);
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.open += 1;
        }
    }

    fn leave(&mut self, segment: u64) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.open = segment.open.saturating_sub(1);
        }
    }

    /// The record appended last is an entry that is not in memory.
    pub(super) fn mark_entries(&mut self) {
        self.current().has_entries = true;
    }

    /// The entries of a segment are in the database.
    pub(super) fn forget_entries(&mut self, number: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.has_entries = false;
        }
    }

    /// The sealed segments in which no start of an open attempt is.
    pub(super) fn done(&self) -> Vec<u64> {
        self.sealed(|segment| segment.open == 0)
    }

    /// The sealed segments with entries that are not in memory.
    pub(super) fn with_entries(&self) -> Vec<u64> {
        self.sealed(|segment| segment.has_entries)
    }

    fn sealed(&self, which: impl Fn(&Segment) -> bool) -> Vec<u64> {
        let sealed = self.segments.range(..self.number);
        sealed.filter(|(_, segment)| which(segment)).map(|(number, _)| *number).collect()
    }

    /// The open attempts whose starts should be written again, and how many bytes sealed segments
    /// hold. `is_due` decides by a segment's age.
    pub(super) fn starts_to_move(
        &self,
        max_kept: u64,
        start_bytes: u64,
        is_due: impl Fn(Instant) -> bool,
    ) -> Vec<AttemptId> {
        let kept = || self.segments.range(..self.number).filter(|(_, segment)| segment.open > 0);
        let bytes: u64 = kept().map(|(_, segment)| segment.len).sum();
        let is_crowded = bytes > max_kept && bytes > 4 * start_bytes * self.open.len() as u64;
        let due: Vec<u64> = kept()
            .filter(|(_, segment)| is_crowded || is_due(segment.since))
            .map(|(number, _)| *number)
            .collect();
        if due.is_empty() {
            return Vec::new();
        }
        let open = self.open.iter().filter(|(_, open)| due.binary_search(&open.segment).is_ok());
        open.map(|(id, _)| *id).collect()
    }

    /// A segment's file is gone; how many bytes it had.
    pub(super) fn remove(&mut self, number: u64) -> u64 {
        self.segments.remove(&number).map_or(0, |segment| segment.len)
    }

    /// For tests of a disk that fails.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = Arc::new(file);
    }

    /// The files that may hold what is not durable, and whether the directory itself does.
    pub(super) fn take_unsynced(&mut self) -> (Vec<Arc<File>>, bool) {
        let mut files = std::mem::take(&mut self.retired);
        files.push(Arc::clone(&self.file));
        (files, std::mem::take(&mut self.created))
    }
}

fn create(directory: &Path, number: u64) -> io::Result<File> {
    open_private(OpenOptions::new().append(true).create_new(true), &path(directory, number))
}
