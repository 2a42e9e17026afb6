//! Disk space that is kept occupied, and freed when the disk is full.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::segment::{open_private, sync_directory};

/// A file of real bytes: a sparse one would reserve nothing.
pub(super) struct Reserve {
    directory: PathBuf,
    bytes: u64,
}

impl Reserve {
    pub(super) fn new(directory: &Path, bytes: u64) -> Self {
        Self { directory: directory.to_owned(), bytes }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("reserve")
    }

    /// Writes the file again, next to the old one if there is one: so this fails unless there is room for
    /// as much again.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        let new = self.directory.join("reserve.new");
        let filled = self.write(&new).and_then(|()| std::fs::rename(&new, self.path()));
        if filled.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        filled?;
        sync_directory(&self.directory)
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        /// Not zeros: some file systems do not store them.
        const CHUNK: [u8; 4096] = [0x74; 4096];

        let mut options = OpenOptions::new();
        let mut file = open_private(options.write(true).create(true).truncate(true), path)?;
        let mut left = self.bytes;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK.len());
            file.write_all(CHUNK.get(..length).unwrap_or_default())?;
            left -= length as u64;
        }
        file.sync_all()
    }

    /// Frees the space.
    pub(super) fn give_up(&mut self) {
        let _ = std::fs::remove_file(self.path());
    }
}
