//! The journal of earlier releases: lines of eight hex digits, the CRC32 of what follows them, a
//! space, and one JSON object. Read at recovery, and still the form of what is rejected, which people
//! read: a segment made of such lines can be drained once the cause is gone.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::accounting::record::{AttemptEnd, AttemptStart, LedgerEntry};

/// Digits and space before the JSON.
const HEAD: usize = 9;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Start(Box<AttemptStart>),
    End(Box<AttemptEnd>),
    Blocked(Box<AttemptStart>, Box<AttemptEnd>),
}

/// What a line is made of.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::accounting) enum LineRef<'a> {
    /// The end of an attempt whose start is not known.
    End(&'a AttemptEnd),
    /// Start and end at once.
    Blocked(&'a AttemptStart, &'a AttemptEnd),
}

/// The line, with the line feed that ends it.
pub(in crate::accounting) fn encode(line: LineRef<'_>) -> std::io::Result<Vec<u8>> {
    let json = serde_json::to_vec(&line)?;
    let mut text = Vec::with_capacity(json.len() + HEAD + 1);
    write!(text, "{:08x} ", crc32fast::hash(&json))?;
    text.extend_from_slice(&json);
    text.push(b'\n');
    Ok(text)
}

/// Reads a line, with or without the line feed that ends it; `None` if its checksum does not match.
pub(super) fn decode(line: &[u8]) -> Option<Record> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (head, json) = line.split_at_checked(HEAD)?;
    let digits = std::str::from_utf8(head.strip_suffix(b" ")?).ok()?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let checksum = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
    let line = (crc32fast::hash(json) == checksum).then(|| serde_json::from_slice(json).ok());
    Some(match line.flatten()? {
        Line::Start(start) => Record::Start((*start).into()),
        Line::End(end) => Record::End(end),
        Line::Blocked(start, end) => {
            Record::Entry(Box::new(LedgerEntry { start: (*start).into(), end: *end }))
        }
    })
}
