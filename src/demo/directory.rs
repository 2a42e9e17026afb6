//! The directory of the demo's installation: temporary, or one that is kept.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::DemoError;
use crate::clock::Clock;

/// It contains the master key.
const MODE: u32 = 0o700;

/// The default name of `serve`.
pub(super) const DATABASE_FILE: &str = "tollgate.db";

/// A directory for one installation. A temporary one is removed when this is dropped;
/// [`DemoDirectory::close`] also reports errors.
#[derive(Debug)]
pub(super) struct DemoDirectory {
    path: PathBuf,
    temporary: bool,
}

impl DemoDirectory {
    /// Creates a temporary directory, or uses the given one if it has no installation yet.
    pub(super) fn make(given: Option<&Path>, clock: &Clock) -> Result<Self, DemoError> {
        let (path, temporary) = match given {
            Some(path) => (path.to_owned(), false),
            None => {
                let unique = clock.new_id::<Uuid>().simple();
                (std::env::temp_dir().join(format!("tollgate-demo-{unique}")), true)
            }
        };
        // Fails if the temporary directory exists, since another user may have created it.
        let created = DirBuilder::new().mode(MODE).recursive(!temporary).create(&path);
        created.map_err(|error| DemoError::Directory { path: path.clone(), error })?;
        let directory = Self { path, temporary };
        if directory.database().exists() {
            return Err(DemoError::NotFresh(directory.database()));
        }
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the database. The master key's file is next to it.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Removes the directory if it is temporary.
    pub(super) fn close(mut self) -> Result<(), DemoError> {
        self.remove().map_err(|error| DemoError::Directory { path: self.path.clone(), error })
    }

    fn remove(&mut self) -> std::io::Result<()> {
        if std::mem::take(&mut self.temporary) { fs::remove_dir_all(&self.path) } else { Ok(()) }
    }
}

impl Drop for DemoDirectory {
    fn drop(&mut self) {
        // `close` reports errors; here another error is already being reported.
        let _ = self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_directory_is_removed_and_a_given_one_is_kept() {
        let clock = Clock::default();
        let temporary = DemoDirectory::make(None, &clock).unwrap();
        let path = temporary.path().to_owned();
        fs::write(temporary.database(), "x").unwrap();
        drop(temporary);
        assert!(!path.exists());

        let home = tempfile::tempdir().unwrap();
        let given = home.path().join("a/b");
        let kept = DemoDirectory::make(Some(&given), &clock).unwrap();
        fs::write(kept.database(), "x").unwrap();
        kept.close().unwrap();
        assert!(given.join("tollgate.db").exists());
        let again = DemoDirectory::make(Some(&given), &clock);
        assert!(matches!(again, Err(DemoError::NotFresh(_))), "{again:?}");
    }
}
