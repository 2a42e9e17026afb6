//! One process uses a directory.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::segment::open_private;

/// How often, and how long in between, a lock is tried that is taken: a process that was told to stop
/// may be about to release it.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(100);

/// Why a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "the journal {} is used by another process; use PostgreSQL and Redis for several processes",
        .0.display()
    )]
    InUse(PathBuf),
    #[error("the journal {} can't be opened: {error}", directory.display())]
    Io { directory: PathBuf, error: io::Error },
}

/// A directory that only this process uses, until this is dropped or the process ends.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

impl DirectoryLock {
    /// Creates the directory where there is none, readable by its owner only, and locks it.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let io = |error| LockError::Io { directory: directory.to_owned(), error };
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory).map_err(io)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = open_private(&mut options, &directory.join("lock")).map_err(io)?;
        for attempt in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < TRIES => thread::sleep(BETWEEN),
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::InUse(directory.to_owned()));
                }
                Err(TryLockError::Error(error)) => return Err(io(error)),
            }
        }
        Ok(Self { file })
    }

    /// Unlocks the directory.
    pub fn release(&self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "cannot unlock the journal");
        }
    }
}
