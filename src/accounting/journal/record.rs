//! One record: a line of eight hex digits, the CRC32 of what follows them, a space, and one JSON
//! object.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::accounting::record::{AttemptEnd, AttemptStart};

/// Digits and space before the JSON.
const HEAD: usize = 9;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// An attempt is about to be sent. Said again when its segment would otherwise have to stay.
    Start(Box<AttemptStart>),
    /// It has ended.
    End(Box<AttemptEnd>),
    /// Both at once: nothing was sent.
    Blocked(Box<AttemptStart>, Box<AttemptEnd>),
}

/// The same, borrowed, for writing.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordRef<'a> {
    /// See [`Record::Start`].
    Start(&'a AttemptStart),
    /// See [`Record::End`].
    End(&'a AttemptEnd),
    /// See [`Record::Blocked`].
    Blocked(&'a AttemptStart, &'a AttemptEnd),
}

/// Puts a record into the buffer: a line feed, which is only written after a torn line, and the
/// line.
pub fn encode(record: RecordRef<'_>, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    buffer.extend_from_slice(b"\n         ");
    serde_json::to_writer(&mut *buffer, &record)?;
    if let Some((head, json)) = buffer.split_at_mut_checked(1 + HEAD) {
        let checksum = crc32fast::hash(json);
        let mut digits = head.get_mut(1..).unwrap_or_default();
        write!(digits, "{checksum:08x}")?;
    }
    buffer.push(b'\n');
    Ok(())
}

/// Reads a line, with or without the line feed that ends it; `None` if it does not check.
pub fn decode(line: &[u8]) -> Option<Record> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (head, json) = line.split_at_checked(HEAD)?;
    let digits = std::str::from_utf8(head.strip_suffix(b" ")?).ok()?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let checksum = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
    (crc32fast::hash(json) == checksum).then(|| serde_json::from_slice(json).ok()).flatten()
}
