//! The journal: what has begun and how it ended, written down on this machine before anything
//! depends on it.
//!
//! A directory of append-only segments. A record is one line ([`record`]), appended by one write(2)
//! under a short lock; a thread calls fdatasync(2) at most every [`SYNC_EVERY`] (`sync`). Records
//! stand in the order in which things happened: an attempt's end never before its start. What reads
//! them, and removes them once the database has them, is [`super::ledger`].

pub mod lock;
pub mod record;
mod reserve;
pub mod segment;
mod sync;
mod writer;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::accounting::record::{AttemptEnd, AttemptStart};
use crate::domain::ids::AttemptId;
use crate::telemetry::readiness::Readiness;
use lock::DirectoryLock;
use record::{RecordRef, encode};
use reserve::Reserve;
pub use sync::SYNC_EVERY;
use writer::Writer;

/// Where the journal is, and how much it may hold.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Its directory.
    pub directory: PathBuf,
    /// When so many bytes are in it, nothing more may begin.
    pub max_bytes: u64,
    /// When so many bytes are in a segment, the next one is begun.
    pub segment_bytes: u64,
    /// Bytes kept occupied, to be given up for the ends of what runs when the disk is full.
    pub reserve_bytes: u64,
    /// After so long, a segment that only attempts still open keep is given up: their starts are
    /// written down again.
    pub compact_after: Duration,
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
        }
    }
}

/// Nothing more may begin: it could not be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalFull {
    /// The journal holds all that it may, since the database does not take it.
    #[error("the journal is full: the database has not taken what it holds")]
    Bound,
    /// The disk takes no more.
    #[error("the journal is full: its disk takes no more")]
    Disk,
    /// The process ends.
    #[error("the journal is closed")]
    Closed,
}

/// What there is to read now.
pub(super) struct Written {
    /// Segments that nothing is appended to any more, since the last time this was asked: number
    /// and length.
    pub(super) sealed: Vec<(u64, u64)>,
    /// The segment that is appended to, and its length so far.
    pub(super) current: (u64, u64),
    /// Ends that no disk would take.
    pub(super) unwritten: Vec<AttemptEnd>,
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
    sync_errors: AtomicU64,
    disk_full: AtomicBool,
    closed: AtomicBool,
    unsynced: AtomicBool,
    /// Held by who makes records durable, until they are.
    syncing: Mutex<()>,
    lock: DirectoryLock,
}

thread_local! {
    /// Records are encoded here, before the lock is taken.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(4096));
}

impl Journal {
    /// Begins segment `first` in a directory that is locked, and read to its end before.
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
                tracing::warn!(%error, "no room beside the journal: nothing may begin");
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
    pub(super) fn start(&self, start: &AttemptStart) -> Result<(), JournalFull> {
        self.append_new(RecordRef::Start(start), Some(start.id), self.options.max_bytes)
    }

    /// Appends a whole row, of a request that nothing was sent of. Those may only take half of the
    /// room: refusals cost their callers nothing, and must not keep others from being served.
    pub(super) fn blocked(
        &self,
        start: &AttemptStart,
        end: &AttemptEnd,
    ) -> Result<(), JournalFull> {
        self.append_new(RecordRef::Blocked(start, end), None, self.options.max_bytes / 2)
    }

    fn append_new(
        &self,
        record: RecordRef<'_>,
        begins: Option<AttemptId>,
        most: u64,
    ) -> Result<(), JournalFull> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(JournalFull::Closed);
        }
        if self.disk_full.load(Ordering::Relaxed) {
            return Err(JournalFull::Disk);
        }
        if self.bytes() >= most {
            if most == self.options.max_bytes {
                self.readiness.set_journal_full(true);
            }
            return Err(JournalFull::Bound);
        }
        let appended = BUFFER.with_borrow_mut(|buffer| {
            encode(record, buffer)?;
            let mut writer = self.writer();
            self.append(&mut writer, buffer)?;
            if let Some(id) = begins {
                writer.open.insert(id);
            }
            Ok::<_, io::Error>(())
        });
        appended.map_err(|error| {
            self.note_full_disk(&error);
            JournalFull::Disk
        })
    }

    /// Appends an attempt's end, by all means: the reserve is given up for it, another file is
    /// tried, and at last it is kept in memory. The second end of an attempt is none.
    pub(super) fn end(&self, end: AttemptEnd) {
        BUFFER.with_borrow_mut(|buffer| {
            let encoded = encode(RecordRef::End(&end), buffer);
            let mut writer = self.writer();
            if !writer.open.remove(&end.id) {
                drop(writer);
                tracing::warn!(attempt_id = %end.id, "an attempt that is not open has ended");
                return;
            }
            let appended = encoded.and_then(|()| {
                self.append(&mut writer, buffer).or_else(|error| {
                    self.note_full_disk(&error);
                    self.give_up_reserve();
                    self.append(&mut writer, buffer).or_else(|_| {
                        writer.roll(&self.options.directory)?;
                        self.append(&mut writer, buffer)
                    })
                })
            });
            if appended.is_err() {
                writer.unwritten.push(end);
            }
        });
    }

    /// Appends an attempt's start again if it is still open, and says in which segment. Of one that
    /// has ended meanwhile the end stands further on already.
    pub(super) fn start_again(&self, start: &AttemptStart) -> io::Result<Option<u64>> {
        BUFFER.with_borrow_mut(|buffer| {
            encode(RecordRef::Start(start), buffer)?;
            let mut writer = self.writer();
            if !writer.open.contains(&start.id) {
                return Ok(None);
            }
            let appended = self.append(&mut writer, buffer);
            appended.inspect_err(|error| self.note_full_disk(error))?;
            Ok(Some(writer.number()))
        })
    }

    /// Begins a new segment if there is something in this one (and the disk allows), and says what
    /// there is to read.
    pub(super) fn seal(&self) -> Written {
        let mut writer = self.writer();
        if writer.len() > 0
            && let Err(error) = writer.roll(&self.options.directory)
        {
            self.note_full_disk(&error);
        }
        Written {
            sealed: std::mem::take(&mut writer.sealed),
            current: (writer.number(), writer.len()),
            unwritten: std::mem::take(&mut writer.unwritten),
            records: self.records(),
        }
    }

    /// So many bytes are no longer in the journal.
    pub(super) fn forget(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Looks whether there is room again, and tells readiness. `settled` says that nothing waits in
    /// memory any more.
    pub(super) fn recover_room(&self, settled: bool) {
        if self.disk_full.load(Ordering::Relaxed) && settled {
            let filled = self.reserve.lock().unwrap_or_else(PoisonError::into_inner).fill();
            if filled.is_ok() {
                // The file that could not grow may still be one that can't.
                let _ = self.writer().roll(&self.options.directory);
                self.disk_full.store(false, Ordering::Relaxed);
                tracing::info!("there is room for the journal again");
            }
        }
        let full = self.bytes() >= self.options.max_bytes;
        self.readiness.set_journal_full(full || self.disk_full.load(Ordering::Relaxed));
    }

    /// Takes nothing more, makes all that is written durable, and lets go of the directory.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        // It says so itself if that fails, and the next process can do nothing about it.
        let _ = self.sync();
        self.lock.release();
    }

    /// How much it may hold, and when.
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

    /// How often the disk could not say that what was written is durable.
    pub(super) fn sync_errors(&self) -> u64 {
        self.sync_errors.load(Ordering::Relaxed)
    }

    /// Whether something waits in memory for the database.
    pub(super) fn has_unwritten(&self) -> bool {
        !self.writer().unwritten.is_empty()
    }

    /// For tests of a disk that fails.
    #[cfg(test)]
    pub(super) fn replace_file(&self, file: std::fs::File) {
        self.writer().replace_file(file);
    }

    fn append(&self, writer: &mut Writer, line: &[u8]) -> io::Result<()> {
        if writer.len() >= self.options.segment_bytes {
            // On failure the old one goes on growing.
            let _ = writer.roll(&self.options.directory);
        }
        let before = writer.len();
        let outcome = writer.append(line);
        self.bytes.fetch_add(writer.len() - before, Ordering::Relaxed);
        outcome?;
        self.records.fetch_add(1, Ordering::Relaxed);
        self.unsynced.store(true, Ordering::Release);
        Ok(())
    }

    fn note_full_disk(&self, error: &io::Error) {
        self.readiness.set_journal_full(true);
        if !self.disk_full.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the journal can't be written: nothing more may begin");
        }
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
