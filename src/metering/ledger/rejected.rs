//! What can't be in the ledger: kept in a file beside the journal, for a person to look at.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use crate::metering::journal::record::{RecordRef, encode};
use crate::metering::journal::segment::open_private;

/// Its name in the journal's directory. Its lines are records as in the journal, so a segment made
/// of them can be drained once the cause is gone.
pub(super) const NAME: &str = "rejected";

/// Appends a record, durably.
pub(super) fn keep(directory: &Path, record: RecordRef<'_>) -> io::Result<()> {
    let mut line = Vec::new();
    encode(record, &mut line)?;
    keep_line(directory, line.get(1..).unwrap_or_default())
}

/// Appends a line as it was found, durably.
pub(super) fn keep_line(directory: &Path, line: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = open_private(options.append(true).create(true), &directory.join(NAME))?;
    file.write_all(line)?;
    file.sync_all()
}
