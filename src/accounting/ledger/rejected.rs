//! What can't be in the ledger: kept in a file in the journal's folder, for a person to look at.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::accounting::journal::legacy::{LineRef, encode};
use crate::accounting::journal::segment::open_private;
use crate::accounting::record::{AttemptEnd, AttemptStart};

/// Its name in the journal's directory. Its lines are records as JSON, so a segment made of them can be
/// drained once the cause is gone; what could not be read is in it as hex digits.
pub const NAME: &str = "rejected";

/// Appends an attempt, durably.
pub(super) fn keep_entry(
    directory: &Path,
    start: &AttemptStart,
    end: &AttemptEnd,
) -> io::Result<()> {
    keep_line(directory, &encode(LineRef::Blocked(start, end))?)
}

/// Appends an end without its start, durably.
pub(super) fn keep_end(directory: &Path, end: &AttemptEnd) -> io::Result<()> {
    keep_line(directory, &encode(LineRef::End(end))?)
}

/// Appends bytes that no record could be read from, durably: a line of an earlier release as it was
/// found, others as hex digits.
pub(super) fn keep_damaged(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    if bytes.ends_with(b"\n") && std::str::from_utf8(bytes).is_ok() {
        return keep_line(directory, bytes);
    }
    let mut line = b"damaged ".to_vec();
    bytes.iter().try_for_each(|byte| write!(line, "{byte:02x}"))?;
    line.push(b'\n');
    keep_line(directory, &line)
}

/// Begins on a line of its own, also after one that was cut short when the disk was full.
fn keep_line(directory: &Path, line: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.read(true).append(true).create(true);
    let mut file = open_private(options, &directory.join(NAME))?;
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    file.write_all(line)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_after_half_a_line() {
        let directory = tempfile::tempdir().unwrap();
        keep_line(directory.path(), b"first\n").unwrap();
        keep_line(directory.path(), b"sec").unwrap();
        keep_line(directory.path(), b"second\n").unwrap();
        keep_damaged(directory.path(), b"third\n").unwrap();
        keep_damaged(directory.path(), b"\xff\x00").unwrap();
        let kept = std::fs::read_to_string(directory.path().join(NAME)).unwrap();
        assert_eq!(kept, "first\nsec\nsecond\nthird\ndamaged ff00\n");
    }
}
