//! Segments: files whose names are numbers, in the order in which they were written.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".journal";

/// The path of a segment.
pub fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}{SUFFIX}"))
}

/// The segments in a directory, and their lengths in bytes, oldest first.
pub fn list(directory: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
        if let Some(number) = number {
            found.push((number, entry.metadata()?.len()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Opens a file that is its owner's alone; makes it if `options` say so.
pub(in crate::accounting) fn open_private(
    options: &mut OpenOptions,
    path: &Path,
) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// Makes what was made and removed in a directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Reads the lines of a part of a segment.
pub struct Lines {
    reader: io::Take<BufReader<File>>,
}

impl Lines {
    /// The lines from `from` on, up to `to`.
    pub fn open(directory: &Path, number: u64, from: u64, to: u64) -> io::Result<Self> {
        let mut file = File::open(path(directory, number))?;
        file.seek(SeekFrom::Start(from))?;
        Ok(Self { reader: BufReader::with_capacity(64 << 10, file).take(to.saturating_sub(from)) })
    }

    /// Puts the next line into the buffer, its line feed included, which a torn last line lacks;
    /// false at the end.
    pub fn next(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        Ok(self.reader.read_until(b'\n', line)? > 0)
    }
}
