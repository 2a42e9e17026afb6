//! What can't be in the ledger: kept in a file beside the journal, for a person to look at.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::accounting::journal::record::{RecordRef, encode};
use crate::accounting::journal::segment::open_private;

/// Its name in the journal's directory. Its lines are records as in the journal, so a segment made
/// of them can be drained once the cause is gone.
pub const NAME: &str = "rejected";

/// Appends a record, durably.
pub(super) fn keep(directory: &Path, record: RecordRef<'_>) -> io::Result<()> {
    let mut line = Vec::new();
    encode(record, &mut line)?;
    keep_line(directory, line.get(1..).unwrap_or_default())
}

/// Appends a line as it was found, durably. On a line of its own, also after one that was written
/// by half when the disk was full.
pub(super) fn keep_line(directory: &Path, line: &[u8]) -> io::Result<()> {
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
    fn what_follows_half_a_line_stands_on_its_own() {
        let directory = tempfile::tempdir().unwrap();
        keep_line(directory.path(), b"first\n").unwrap();
        keep_line(directory.path(), b"sec").unwrap();
        keep_line(directory.path(), b"second\n").unwrap();
        keep_line(directory.path(), b"third\n").unwrap();
        let kept = std::fs::read_to_string(directory.path().join(NAME)).unwrap();
        assert_eq!(kept, "first\nsec\nsecond\nthird\n");
    }
}
