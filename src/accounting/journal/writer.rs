//! The end of the journal, where records are appended. All of it happens under one lock.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use super::segment::{open_private, path};
use crate::accounting::record::AttemptEnd;
use crate::domain::ids::AttemptId;

pub(super) struct Writer {
    file: Arc<File>,
    number: u64,
    len: u64,
    /// What stands last is half a record that could not be taken back.
    torn: bool,
    /// A file was made that the directory may not durably have.
    made: bool,
    /// Files that are full and not synced yet.
    retired: Vec<Arc<File>>,
    /// Segments sealed that the reader has not heard of: number and length.
    pub(super) sealed: Vec<(u64, u64)>,
    /// Attempts whose start was appended, and whose end was not.
    pub(super) open: HashSet<AttemptId>,
    /// Ends that no disk would take. Nothing begins while there are any, so they are at most as
    /// many as requests were running.
    pub(super) unwritten: Vec<AttemptEnd>,
}

impl Writer {
    /// Begins a segment.
    pub(super) fn begin(directory: &Path, number: u64) -> io::Result<Self> {
        Ok(Self {
            file: Arc::new(create(directory, number)?),
            number,
            len: 0,
            torn: false,
            made: true,
            retired: Vec::new(),
            sealed: Vec::new(),
            open: HashSet::new(),
            unwritten: Vec::new(),
        })
    }

    /// The segment's number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes in the segment.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Appends a line, which begins with a line feed that is only written if it has to be.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let bytes = if self.torn { line } else { line.get(1..).unwrap_or_default() };
        let outcome = loop {
            match (&*self.file).write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(written) if written == bytes.len() => {
                self.len += written as u64;
                self.torn = false;
                Ok(())
            }
            Ok(written) => {
                self.take_back(written as u64);
                Err(ErrorKind::StorageFull.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Cuts off half a record; where that fails, the next one begins on a line of its own.
    fn take_back(&mut self, written: u64) {
        if written > 0 && self.file.set_len(self.len).is_err() {
            self.len += written;
            self.torn = true;
        }
    }

    /// Goes on in a new segment.
    pub(super) fn roll(&mut self, directory: &Path) -> io::Result<()> {
        let next = create(directory, self.number + 1)?;
        self.retired.push(std::mem::replace(&mut self.file, Arc::new(next)));
        self.sealed.push((self.number, self.len));
        self.number += 1;
        self.len = 0;
        self.torn = false;
        self.made = true;
        Ok(())
    }

    /// For tests of a disk that fails.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = Arc::new(file);
    }

    /// The files that may hold what is not durable, and whether the directory itself does.
    pub(super) fn take_unsynced(&mut self) -> (Vec<Arc<File>>, bool) {
        let mut files = std::mem::take(&mut self.retired);
        files.push(Arc::clone(&self.file));
        (files, std::mem::take(&mut self.made))
    }
}

fn create(directory: &Path, number: u64) -> io::Result<File> {
    open_private(OpenOptions::new().append(true).create_new(true), &path(directory, number))
}
