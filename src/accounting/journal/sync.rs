//! Making what was written durable, now and then, on a thread of its own: fdatasync(2) may take as
//! long as the disk likes.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::Journal;
use super::segment::sync_directory;

/// The longest that a record is not durable, the disk's own time not counted: what a power cut can
/// take.
pub const SYNC_EVERY: Duration = Duration::from_millis(100);

/// Starts the thread, which ends soon after the journal is dropped.
pub(super) fn start(journal: &Arc<Journal>) -> io::Result<()> {
    let journal: Weak<Journal> = Arc::downgrade(journal);
    thread::Builder::new().name("journal".to_owned()).spawn(move || {
        while let Some(journal) = journal.upgrade() {
            // It has said so itself.
            let _ = journal.sync();
            drop(journal);
            thread::sleep(SYNC_EVERY);
        }
    })?;
    Ok(())
}

impl Journal {
    /// Makes everything durable that was written before, and waits for whoever is about it. What
    /// failed once may be lost without failing again: [`Journal::sync_errors`] counts that.
    pub(in crate::accounting) fn sync(&self) -> io::Result<()> {
        let _turn = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let (files, made) = self.writer().take_unsynced();
        // Each of them, also after one that fails.
        let synced = files.iter().map(|file| file.sync_data());
        let mut outcome = synced.fold(Ok(()), Result::and);
        if made {
            outcome = outcome.and(sync_directory(&self.options.directory));
        }
        outcome.inspect_err(|error| {
            // The kernel reports it once and may have dropped the pages: what can still be done is
            // to say so, and to have the next records in a file that has not failed.
            self.sync_errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "what the journal holds may not survive a power cut");
            let _ = self.writer().roll(&self.options.directory);
        })
    }
}
