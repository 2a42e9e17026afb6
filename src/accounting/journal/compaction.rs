//! Segments that only open attempts keep are made to go: the starts are written again.

use std::io;

use super::Journal;
use super::record::encode_start;
use crate::domain::ids::AttemptId;

/// Bytes that such segments may hold before they are compacted earlier.
const MAX_KEPT_BYTES: u64 = 64 << 20;

/// About what a start takes.
const START_BYTES: u64 = 512;

impl Journal {
    /// Writes the starts of open attempts again whose segments are old or too many, so that a stream
    /// of hours does not keep what was written when it began.
    pub(in crate::accounting) fn compact(&self) -> io::Result<()> {
        let max_kept = MAX_KEPT_BYTES.min(self.options.max_bytes / 4);
        let after = self.options.compact_after;
        let starts =
            self.writer().starts_to_move(max_kept, START_BYTES, |since| since.elapsed() >= after);
        if starts.is_empty() {
            return Ok(());
        }
        let errors = self.sync_errors();
        let mut moved = Vec::with_capacity(starts.len());
        let mut outcome = Ok(());
        for id in starts {
            match self.write_start_again(id) {
                Ok(Some(segment)) => moved.push((id, segment)),
                // It has ended, further on.
                Ok(None) => {}
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        // The earlier segments stay if the copies may not be durable, whoever failed to sync them.
        self.sync()?;
        if self.sync_errors() != errors {
            return Err(io::Error::other("starts that were written again may not be durable"));
        }
        let mut writer = self.writer();
        for (id, segment) in moved {
            writer.move_start(id, segment);
        }
        outcome
    }

    /// Appends an attempt's start again if it is still open, and says in which segment.
    fn write_start_again(&self, id: AttemptId) -> io::Result<Option<u64>> {
        let mut writer = self.writer();
        let Some(open) = writer.find_open(id) else { return Ok(None) };
        let mut buffer = Vec::new();
        encode_start(&open.start, &mut buffer);
        let appended = self.append(&mut writer, &buffer);
        appended.inspect_err(|error| {
            self.note_full_disk(error);
        })?;
        Ok(Some(writer.number()))
    }
}
