//! At most one `serve` for an embedded database. It counts limits in its own memory, so a second
//! process would let callers spend every cap twice.
//!
//! Only `serve` takes the lock. `bootstrap`, `migrate`, `rotate-master-key`, `replace-platform-key`
//! and `drain-journal` count nothing and may run at the same time.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::StartError;
use crate::config::DatabaseUrl;

/// A process that is about to end gets a second to release the lock.
const MAX_ATTEMPTS: u32 = 10;
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The right to serve an embedded database. The kernel releases it when the process ends, however
/// it ends.
#[derive(Debug)]
pub(super) struct DatabaseLock {
    _file: File,
}

impl DatabaseLock {
    /// Takes the lock of an embedded database. PostgreSQL has none: replicas share it.
    pub(super) fn acquire(database: &DatabaseUrl) -> Result<Option<Self>, StartError> {
        let DatabaseUrl::Sqlite(path) = database else { return Ok(None) };
        let lock_path = lock_path(path);
        let io_error = |error| StartError::DatabaseLock(lock_path.clone(), error);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&lock_path).map_err(io_error)?;
        for attempt in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < MAX_ATTEMPTS => {
                    std::thread::sleep(RETRY_DELAY);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(StartError::DatabaseInUse(path.clone()));
                }
                Err(TryLockError::Error(error)) => return Err(io_error(error)),
            }
        }
        Ok(Some(Self { _file: file }))
    }
}

/// `tollgate.db.lock` next to the file itself, so that two paths to one database, such as a symbolic
/// link, mean the same lock.
fn lock_path(database: &Path) -> PathBuf {
    let real = database.canonicalize().unwrap_or_else(|_| database.to_owned());
    let mut name = real.into_os_string();
    name.push(".lock");
    name.into()
}
