//! Segments go when the database has what they hold, and are made to go where only attempts still
//! open keep them.

use std::collections::HashSet;
use std::io::{self, ErrorKind};

use super::{Drain, Segment};
use crate::accounting::journal::Journal;
use crate::accounting::journal::segment;

/// Bytes that segments may hold which only open attempts keep, before they are given up earlier.
const CROWDED: u64 = 64 << 20;

/// About what a start takes.
const START_BYTES: u64 = 1 << 10;

impl Drain {
    /// Removes segments that nothing needs any more; how many bytes they had.
    pub(in crate::accounting::ledger) fn remove_done(&mut self) -> io::Result<u64> {
        if !self.batch.is_empty() || !self.orphans.is_empty() {
            return Ok(0);
        }
        let is_done = |segment: &Segment| segment.is_read() && segment.open == 0;
        let done: Vec<u64> = (self.segments.iter())
            .filter(|(_, segment)| is_done(segment))
            .map(|(number, _)| *number)
            .collect();
        let mut bytes = 0;
        for number in &done {
            match std::fs::remove_file(segment::path(&self.directory, *number)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    // What is gone has to be told first; this one is tried again.
                    if bytes == 0 {
                        return Err(error);
                    }
                    break;
                }
                _ => {}
            }
            bytes += self.segments.remove(number).map_or(0, |segment| segment.len);
        }
        if !done.is_empty()
            && let Err(error) = segment::sync_directory(&self.directory)
        {
            // Should one come back, its rows are there already.
            tracing::warn!(%error, "segments of the journal may come back after a power cut");
        }
        Ok(bytes)
    }

    /// Writes open starts down again whose segments should go, so that a stream of hours does not
    /// keep what happened when it began.
    pub(in crate::accounting::ledger) fn compact(&mut self, journal: &Journal) -> io::Result<()> {
        let after = journal.options().compact_after;
        let kept = self.segments.values().filter(|segment| segment.is_read());
        let kept: u64 = kept.map(|segment| segment.len).sum();
        let crowded = kept > CROWDED.min(journal.options().max_bytes / 4)
            && kept > 4 * START_BYTES * self.open.len() as u64;
        let due: HashSet<u64> = (self.segments.iter())
            .filter(|(_, segment)| segment.is_read() && segment.open > 0)
            .filter(|(_, segment)| crowded || segment.since.elapsed() >= after)
            .map(|(number, _)| *number)
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let mut moved = Vec::new();
        let mut outcome = Ok(());
        let errors = journal.sync_errors();
        for (id, open) in self.open.iter().filter(|(_, open)| due.contains(&open.segment)) {
            match journal.start_again(&open.start) {
                Ok(Some(number)) => moved.push((*id, number)),
                // It has ended, further on.
                Ok(None) => {}
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        // Whoever made them durable, or failed to: the earlier segments stay if it may have failed.
        journal.sync()?;
        if journal.sync_errors() != errors {
            return Err(io::Error::other("starts that were written down again may not be durable"));
        }
        for (id, number) in moved {
            let Some(open) = self.open.get_mut(&id) else { continue };
            let before = std::mem::replace(&mut open.segment, number);
            let before = self.segment(before);
            before.open = before.open.saturating_sub(1);
            self.segment(number).open += 1;
        }
        outcome
    }
}
