//! The journal: what has begun and how it ended, written on this machine before anything depends on it.
//!
//! A directory of append-only segments. A record ([`record`]) is appended by one write(2) under a
//! short lock; a thread calls fdatasync(2) at most every [`SYNC_EVERY`] (`sync`). Records are in the
//! order in which things happened: an attempt's end never before its start. What has ended is handed
//! over in memory to [`super::ledger`], which removes segments once the database has their attempts.
//! Files are read at recovery, and where more has ended than there is room for in memory.

mod compaction;
pub(in crate::accounting) mod legacy;
pub mod lock;
pub mod record;
mod reserve;
pub mod segment;
mod sync;
mod writer;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::accounting::record::{AttemptEnd, AttemptStart, LedgerEntry};
use crate::telemetry::readiness::Readiness;
use lock::DirectoryLock;
use record::{encode_end, encode_entry, encode_start};
use reserve::Reserve;
pub use sync::SYNC_EVERY;
use writer::Writer;

/// Where the journal is, and how much it may hold.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    pub directory: PathBuf,
    /// When so many bytes are in it, nothing more may begin.
    pub max_bytes: u64,
    /// When so many bytes are in a segment, the next one is begun.
    pub segment_bytes: u64,
    /// Bytes of disk kept occupied, and freed for the ends of running requests when the disk is full.
    pub reserve_bytes: u64,
    /// After this time the starts of attempts that are still open are written again, so that their
    /// segment can be removed.
    pub compact_after: Duration,
    /// How many finished attempts wait in memory for the database; more are read back from the files.
    pub max_in_memory: usize,
}

impl JournalOptions {
    /// As servers have it.
    pub fn new(directory: PathBuf, max_bytes: u64) -> Self {
        Self {
            directory,
            max_bytes,
            segment_bytes: 16 << 20,
            reserve_bytes: 4 << 20,
            compact_after: Duration::from_secs(60),
            max_in_memory: 20_000,
        }
    }
}

/// Nothing more may begin: it could not be written to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalFull {
    #[error("the journal is full: the database has not taken what it holds")]
    Bound,
    #[error("the journal is full: its disk takes no more")]
    Disk,
    /// The process ends.
    #[error("the journal is closed")]
    Closed,
}

/// An attempt that has ended, or a blocked request, on its way to the database.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) entry: LedgerEntry,
    /// The segments of its start and its end.
    pub(super) segments: [u64; 2],
    /// It has to be read back from the journal for the database: there was no room in memory.
    pub(super) is_only_on_disk: bool,
}

/// What can go to the database now.
pub(super) struct Sealed {
    /// What has ended since this was asked last.
    pub(super) finished: Vec<Finished>,
    /// Segments that can be removed once that, and what was taken before, is committed.
    pub(super) done: Vec<u64>,
    /// Segments to be read back.
    pub(super) to_read: Vec<u64>,
    /// Some of the ends could not be written to any file.
    pub(super) has_unwritten: bool,
    /// How many records had been appended.
    pub(super) records: u64,
}

/// The journal, open for appending. Held by an `Arc` each by the ledger's parts.
pub(super) struct Journal {
    options: JournalOptions,
    writer: Mutex<Writer>,
    reserve: Mutex<Reserve>,
    readiness: Readiness,
    bytes: AtomicU64,
    records: AtomicU64,
    /// Finished attempts in memory that are not in the database yet.
    in_memory: AtomicUsize,
    sync_errors: AtomicU64,
    disk_full: AtomicBool,
    closed: AtomicBool,
    unsynced: AtomicBool,
    /// Held while records are made durable.
    syncing: Mutex<()>,
    lock: DirectoryLock,
}

thread_local! {
    /// Records are encoded here, before the lock is taken.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(1024));
}

impl Journal {
    /// Begins segment `first` in a directory that is locked and was recovered before.
    pub(super) fn open(
        options: JournalOptions,
        lock: DirectoryLock,
        first: u64,
        readiness: Readiness,
    ) -> io::Result<Arc<Self>> {
        let writer = Writer::begin(&options.directory, first)?;
        let mut reserve = Reserve::new(&options.directory, options.reserve_bytes);
        let disk_full = match reserve.fill() {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(%error, "cannot reserve journal disk space; rejecting requests");
                true
            }
        };
        readiness.set_journal_full(disk_full);
        let journal = Arc::new(Self {
            options,
            writer: Mutex::new(writer),
            reserve: Mutex::new(reserve),
            readiness,
            bytes: AtomicU64::new(0),
            records: AtomicU64::new(0),
            in_memory: AtomicUsize::new(0),
            sync_errors: AtomicU64::new(0),
            disk_full: AtomicBool::new(disk_full),
            closed: AtomicBool::new(false),
            unsynced: AtomicBool::new(true),
            syncing: Mutex::new(()),
            lock,
        });
        sync::start(&journal)?;
        Ok(journal)
    }

    /// Appends an attempt's start.
    pub(super) fn start(&self, start: Arc<AttemptStart>) -> Result<(), JournalFull> {
        self.may_begin(self.options.max_bytes)?;
        BUFFER.with_borrow_mut(|buffer| {
            encode_start(&start, buffer);
            let mut writer = self.writer();
            self.append(&mut writer, buffer).map_err(|error| self.note_full_disk(&error))?;
            writer.open(start);
            Ok(())
        })
    }

    /// Appends a whole entry, of a request for which nothing was sent. Those may only take half of the
    /// room: refusals cost their callers nothing, and must not keep others from being served.
    pub(super) fn blocked(&self, entry: LedgerEntry) -> Result<(), JournalFull> {
        self.may_begin(self.options.max_bytes / 2)?;
        BUFFER.with_borrow_mut(|buffer| {
            encode_entry(&entry.start, &entry.end, buffer);
            let mut writer = self.writer();
            self.append(&mut writer, buffer).map_err(|error| self.note_full_disk(&error))?;
            let segment = writer.number();
            let is_only_on_disk = self.is_memory_full();
            self.finish(&mut writer, Finished { entry, segments: [segment; 2], is_only_on_disk });
            Ok(())
        })
    }

    fn may_begin(&self, max_bytes: u64) -> Result<(), JournalFull> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(JournalFull::Closed);
        }
        if self.disk_full.load(Ordering::Relaxed) {
            return Err(JournalFull::Disk);
        }
        if self.bytes() >= max_bytes {
            if max_bytes == self.options.max_bytes {
                self.readiness.set_journal_full(true);
            }
            return Err(JournalFull::Bound);
        }
        Ok(())
    }

    /// Appends an attempt's end, by all means: the reserve is given up for it, another file is
    /// tried, and at last it is kept in memory alone. A second end of an attempt is ignored.
    pub(super) fn end(&self, end: AttemptEnd) {
        BUFFER.with_borrow_mut(|buffer| {
            let mut is_only_on_disk = self.is_memory_full();
            if !is_only_on_disk {
                encode_end(&end, buffer);
            }
            let mut writer = self.writer();
            let Some(open) = writer.close(end.id) else {
                drop(writer);
                tracing::warn!(attempt_id = %end.id, "ignoring the end of an attempt that is not open");
                return;
            };
            if is_only_on_disk {
                // Read back alone, without looking for its start.
                encode_entry(&open.start, &end, buffer);
            }
            let appended = self.append(&mut writer, buffer).or_else(|error| {
                self.note_full_disk(&error);
                self.give_up_reserve();
                self.append(&mut writer, buffer).or_else(|_| {
                    writer.roll(&self.options.directory)?;
                    self.append(&mut writer, buffer)
                })
            });
            if appended.is_err() {
                // Nothing begins while there are any, so they are not more than ran.
                writer.has_unwritten = true;
                is_only_on_disk = false;
            }
            let segments = [open.segment, writer.number()];
            let entry = LedgerEntry { start: open.start, end };
            self.finish(&mut writer, Finished { entry, segments, is_only_on_disk });
        });
    }

    fn finish(&self, writer: &mut Writer, finished: Finished) {
        if finished.is_only_on_disk {
            writer.mark_entries();
        } else {
            self.in_memory.fetch_add(1, Ordering::Relaxed);
        }
        writer.finished.push(finished);
    }

    fn is_memory_full(&self) -> bool {
        self.in_memory.load(Ordering::Relaxed) >= self.options.max_in_memory
    }

    /// So many finished attempts are no longer in memory.
    pub(super) fn release(&self, count: usize) {
        self.in_memory.fetch_sub(count, Ordering::Relaxed);
    }

    /// Exchanges what has ended since the last exchange for an empty list, whose space is used next:
    /// under load a new one would grow by megabytes, again and again, while requests wait.
    pub(super) fn exchange_finished(&self, list: &mut Vec<Finished>) {
        std::mem::swap(&mut self.writer().finished, list);
    }

    /// Begins a new segment if there is something in this one (and the disk allows), and says what
    /// can go to the database.
    pub(super) fn seal(&self) -> Sealed {
        let mut writer = self.writer();
        if writer.len() > 0
            && let Err(error) = writer.roll(&self.options.directory)
        {
            self.note_full_disk(&error);
        }
        Sealed {
            finished: std::mem::take(&mut writer.finished),
            done: writer.done(),
            to_read: writer.with_entries(),
            has_unwritten: std::mem::take(&mut writer.has_unwritten),
            records: self.records(),
        }
    }

    /// All entries of a segment are in the database.
    pub(super) fn forget_entries(&self, number: u64) {
        self.writer().forget_entries(number);
    }

    /// Removes segments that nothing needs any more. The first failure is reported; the segments that fail
    /// can be removed again.
    pub(super) fn remove(&self, segments: &[u64]) -> io::Result<()> {
        segment::remove(&self.options.directory, segments, |number| {
            let bytes = self.writer().remove(number);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        })
    }

    /// Looks whether there is room again, and updates readiness. `settled`: every end is in a file or in
    /// the database.
    pub(super) fn recover_room(&self, settled: bool) {
        if self.disk_full.load(Ordering::Relaxed) && settled {
            let filled = self.reserve.lock().unwrap_or_else(PoisonError::into_inner).fill();
            if filled.is_ok() {
                // The file that could not grow may still be one that can't.
                let _ = self.writer().roll(&self.options.directory);
                self.disk_full.store(false, Ordering::Relaxed);
                tracing::info!("the journal has disk space again; accepting requests");
            }
        }
        let full = self.bytes() >= self.options.max_bytes;
        self.readiness.set_journal_full(full || self.disk_full.load(Ordering::Relaxed));
    }

    /// Refuses new attempts, makes all that is written durable, and unlocks the directory.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        // A failure is logged there.
        let _ = self.sync();
        self.lock.release();
    }

    pub(super) fn options(&self) -> &JournalOptions {
        &self.options
    }

    /// Bytes in it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Records appended since it was opened.
    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// How often fdatasync(2) failed.
    pub(super) fn sync_errors(&self) -> u64 {
        self.sync_errors.load(Ordering::Relaxed)
    }

    /// Whether an end that is in no file was not taken yet.
    pub(super) fn has_unwritten(&self) -> bool {
        self.writer().has_unwritten
    }

    /// For tests of a disk that fails.
    #[cfg(test)]
    pub(super) fn replace_file(&self, file: std::fs::File) {
        self.writer().replace_file(file);
    }

    fn append(&self, writer: &mut Writer, record: &[u8]) -> io::Result<()> {
        if writer.len() >= self.options.segment_bytes {
            // On failure the old one goes on growing.
            let _ = writer.roll(&self.options.directory);
        }
        let before = writer.len();
        let outcome = writer.append(record);
        self.bytes.fetch_add(writer.len() - before, Ordering::Relaxed);
        outcome?;
        self.records.fetch_add(1, Ordering::Relaxed);
        self.unsynced.store(true, Ordering::Release);
        Ok(())
    }

    fn note_full_disk(&self, error: &io::Error) -> JournalFull {
        self.readiness.set_journal_full(true);
        if !self.disk_full.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "cannot write to the journal; rejecting requests");
        }
        JournalFull::Disk
    }

    fn give_up_reserve(&self) {
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner).give_up();
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
