//! Makes what was written durable, on a thread of its own: fdatasync(2) may block for long.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::Journal;
use super::segment::sync_directory;

/// How often records are made durable: a power cut can take what was written since, and during the
/// fdatasync(2) itself.
pub const SYNC_EVERY: Duration = Duration::from_millis(100);

/// Starts the thread, which ends soon after the journal is dropped.
pub(super) fn start(journal: &Arc<Journal>) -> io::Result<()> {
    let journal: Weak<Journal> = Arc::downgrade(journal);
    thread::Builder::new().name("journal".to_owned()).spawn(move || {
        while let Some(journal) = journal.upgrade() {
            // A failure is logged there.
            let _ = journal.sync();
            drop(journal);
            thread::sleep(SYNC_EVERY);
        }
    })?;
    Ok(())
}

impl Journal {
    /// Makes everything durable that was written before, after another thread's call that is under
    /// way. What failed once may be lost without failing again: [`Journal::sync_errors`] counts that.
    pub(in crate::accounting) fn sync(&self) -> io::Result<()> {
        let _guard = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let (files, created) = self.writer().take_unsynced();
        // Each of them, also after one that fails.
        let synced = files.iter().map(|file| file.sync_data());
        let mut outcome = synced.fold(Ok(()), Result::and);
        if created {
            outcome = outcome.and(sync_directory(&self.options.directory));
        }
        outcome.inspect_err(|error| {
            // The kernel reports it once and may have dropped the pages. The next records go to a
            // file that has not failed.
            self.sync_errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "journal fsync failed; records may not survive a power loss");
            let _ = self.writer().roll(&self.options.directory);
        })
    }
}
