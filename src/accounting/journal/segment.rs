//! Segments: files whose names are numbers, in the order in which they were written.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::legacy;
use super::record::{self, Decoded, MARK, Record};

const SUFFIX: &str = ".journal";

/// The path of a segment.
pub fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}{SUFFIX}"))
}

/// The segments in a directory, and their lengths in bytes, oldest first.
pub fn list(directory: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
        if let Some(number) = number {
            segments.push((number, entry.metadata()?.len()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// A segment's bytes.
pub fn read(directory: &Path, number: u64) -> io::Result<Vec<u8>> {
    std::fs::read(path(directory, number))
}

/// Opens a file that only its owner may read or write; creates it if `options` say so.
pub(in crate::accounting) fn open_private(
    options: &mut OpenOptions,
    path: &Path,
) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// Makes the creation and removal of files in a directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes segments, and reports each whose file is gone. Those after one that can't be removed stay.
pub(in crate::accounting) fn remove(
    directory: &Path,
    segments: &[u64],
    mut removed: impl FnMut(u64),
) -> io::Result<()> {
    if segments.is_empty() {
        return Ok(());
    }
    for number in segments {
        match std::fs::remove_file(path(directory, *number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => removed(*number),
        }
    }
    if let Err(error) = sync_directory(directory) {
        // Should one come back, its rows are there already.
        tracing::warn!(%error, "removed journal segments may come back after a power loss");
    }
    Ok(())
}

/// What a segment's bytes hold, piece by piece.
pub enum Piece<'a> {
    Record(Record),
    /// Bytes that no record can be read from.
    Damaged(&'a [u8]),
    /// The beginning of a record at the segment's end: the power was cut, or the disk was full.
    Truncated,
}

/// Reads a segment's pieces from its bytes.
pub struct Pieces<'a> {
    bytes: &'a [u8],
    at: usize,
    is_legacy: bool,
}

impl<'a> Pieces<'a> {
    /// The pieces from `from` on, where a piece begins.
    pub fn of(bytes: &'a [u8], from: usize) -> Self {
        let is_legacy =
            bytes.first().is_some_and(|byte| byte.is_ascii_hexdigit() || *byte == b'\n');
        Self { bytes, at: from, is_legacy }
    }

    /// Where the next piece begins.
    pub fn position(&self) -> usize {
        self.at
    }

    /// A line of an earlier release.
    fn next_line(&mut self) -> Option<Piece<'a>> {
        loop {
            let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
            let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let line = rest.get(..length).unwrap_or_default();
            self.at += length;
            match legacy::decode(line) {
                Some(record) => return Some(Piece::Record(record)),
                None if line == b"\n" => {}
                None if line.last() != Some(&b'\n') => return Some(Piece::Truncated),
                None => return Some(Piece::Damaged(line)),
            }
        }
    }

    /// Up to the next record after damage, or to the end.
    fn skip_damage(&mut self, rest: &'a [u8], truncated: bool) -> Piece<'a> {
        let next = memchr::memchr_iter(MARK, rest).skip_while(|at| *at == 0).find(|at| {
            matches!(record::decode(rest.get(*at..).unwrap_or_default()), Decoded::Record(..))
        });
        let length = next.unwrap_or(rest.len());
        self.at += length;
        if next.is_none() && (truncated || rest.iter().all(|byte| *byte == 0)) {
            return Piece::Truncated;
        }
        Piece::Damaged(rest.get(..length).unwrap_or_default())
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.is_legacy {
            return self.next_line();
        }
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        Some(match record::decode(rest) {
            Decoded::Record(record, length) => {
                self.at += length;
                Piece::Record(record)
            }
            Decoded::Truncated => self.skip_damage(rest, true),
            Decoded::Damaged => self.skip_damage(rest, false),
        })
    }
}
