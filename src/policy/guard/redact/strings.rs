//! Scans one string of the body, through the escapes and the JSON in it.

use std::ops::Range;

use super::super::media::Encoded;
use super::super::policy::Action;
use super::super::restore::is_json;
use super::super::scan::{Finding, Findings};
use super::super::texts::{Area, Treatment};
use super::body_strings::{BodyString, Redactor};
use super::{Edit, MAX_VALUES, ScanError, Value};
use crate::json::escapes;

/// How deep JSON in strings is followed; what is deeper is scanned as text.
pub(in super::super) const MAX_DEPTH: usize = 4;

impl Redactor<'_> {
    /// Scans a string whose bytes between the quotes stand at `offset` of the text that is being read.
    pub(super) fn read_string(&mut self, string: BodyString<'_>) -> Result<(), ScanError> {
        let first = self.values.len();
        let unescaped = escapes::unescape_bytes(string.raw);
        let text = unescaped.as_deref().unwrap_or(string.raw);
        if let Some(encoded) = Encoded::read(string.name, text) {
            match encoded.decode_text(None) {
                Some(decoded) => self.scan_decoded(&decoded, string)?,
                None if string.depth == 0 => {
                    self.media.push(string.offset..string.offset + string.raw.len());
                }
                None => self.has_media = true,
            }
            if encoded.is_media_file() {
                return Ok(());
            }
        }
        let can_nest = string.treatment == Treatment::Text && string.depth < MAX_DEPTH;
        if can_nest && is_json_container(text) {
            self.read_json(text, Area::Values, string.depth + 1)?;
        } else {
            let mut values = self.scan_text(text, string, 0)?;
            self.values.append(&mut values);
        }
        let Some(new) = self.values.get_mut(first..) else { return Ok(()) };
        new.sort_by_key(|value| value.range.start);
        if unescaped.is_some() {
            escapes::move_to_source(string.raw, new.iter_mut().map(|value| &mut value.range));
        }
        for value in new {
            value.range = value.range.start + string.offset..value.range.end + string.offset;
            value.is_reasoning |= string.is_reasoning;
        }
        if self.values.len() > MAX_VALUES { Err(ScanError::TooManyValues) } else { Ok(()) }
    }

    /// Scans what a string in base64 encodes. Nothing in it can be replaced.
    pub(super) fn scan_decoded(
        &mut self,
        decoded: &[u8],
        string: BodyString<'_>,
    ) -> Result<(), ScanError> {
        let string = BodyString { treatment: Treatment::Identifier, ..string };
        let mut values = self.scan_text(decoded, string, 0)?;
        for value in &mut values {
            value.range = string.offset..string.offset + string.raw.len();
        }
        self.values.append(&mut values);
        Ok(())
    }

    /// Scans a text, and once more what its own escapes hide: `a\u0040b.co` in code or in parts of JSON.
    fn scan_text(
        &mut self,
        text: &[u8],
        string: BodyString<'_>,
        level: usize,
    ) -> Result<Vec<Value>, ScanError> {
        let mut findings = Findings::default();
        let scanner = &self.guard.scanner;
        let is_collected = self.pass.collect(text, string.treatment, string.word)?;
        match string.treatment {
            Treatment::Opaque => return Ok(Vec::new()),
            _ if is_collected => {}
            Treatment::Constant => {
                scanner.scan_built_in(text, string.name, self.keep_going, &mut findings)?;
            }
            Treatment::Text | Treatment::Identifier => {
                scanner.scan(text, string.name, self.keep_going, &mut findings)?;
            }
        }
        self.pass.add_to(text, (string.treatment, string.word), &mut findings);
        // Reasoning keeps its placeholders, and they go on standing for their values.
        if !string.is_reasoning {
            self.literals.append(&mut findings.literals);
        }
        if self.guard.scan().answers {
            let found = findings.found.iter();
            let found = found.map(|found| text.get(found.range.clone()).unwrap_or_default());
            found.for_each(|value| self.sent.add(value));
        }
        let mut values = self.merge(text, findings.found, string);
        let hides = level < MAX_DEPTH && hides_text(text);
        if let Some(unescaped) = hides.then(|| escapes::unescape_bytes(text)).flatten() {
            let mut hidden = self.scan_text(&unescaped, string, level + 1)?;
            escapes::move_to_source(text, hidden.iter_mut().map(|value| &mut value.range));
            add_hidden(&mut values, hidden);
        }
        if values.len() > MAX_VALUES { Err(ScanError::TooManyValues) } else { Ok(values) }
    }

    /// The values in a text, in ascending order. Those that are replaced and overlap become one, of the
    /// category of the longest, so that no part of a value is left.
    fn merge(&self, text: &[u8], mut found: Vec<Finding>, string: BodyString<'_>) -> Vec<Value> {
        found.sort_by_key(|finding| (finding.range.start, finding.range.end, finding.category));
        let mut values: Vec<Value> = Vec::with_capacity(found.len());
        // The last value that is replaced, and the length of what gave it its category.
        let mut open: Option<(usize, usize)> = None;
        for finding in found {
            let edit = match self.guard.action(finding.category, finding.pattern) {
                Action::Report => Edit::None,
                Action::Block => Edit::Block,
                Action::Redact if string.treatment != Treatment::Text => Edit::Block,
                Action::Redact if string.is_number => Edit::ReplaceNumber(string.depth),
                Action::Redact => Edit::Replace,
            };
            let Finding { range, category, pattern } = finding;
            let length = range.len();
            let is_replaced = edit.is_replacement();
            if is_replaced
                && let Some((place, longest)) = &mut open
                && let Some(last) = values.get_mut(*place)
                && range.start < last.range.end
            {
                if length > *longest || (length == *longest && category < last.category) {
                    *longest = length;
                    last.category = category;
                    last.pattern = pattern;
                }
                last.range.end = last.range.end.max(range.end);
                continue;
            }
            if is_replaced {
                open = Some((values.len(), length));
            }
            // A number is replaced as a whole: half of one would not be JSON.
            let range = if string.is_number { 0..text.len() } else { range };
            let text = String::new();
            values.push(Value { range, category, pattern, text, edit, is_reasoning: false });
        }
        for value in values.iter_mut().filter(|value| value.edit.is_replacement()) {
            let bytes = text.get(value.range.clone()).unwrap_or_default();
            value.text = String::from_utf8_lossy(bytes).into_owned();
        }
        values
    }
}

/// Whether a text has escapes that can hide a value, as code and parts of JSON do.
pub(in super::super) fn hides_text(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"\\u").is_some() || memchr::memmem::find(text, b"\\/").is_some()
}

/// Whether a text is a JSON object or array.
fn is_json_container(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')) && is_json(text)
}

/// Adds values that were hidden by escapes. What was seen of one without them is a part of it; a value
/// that only overlaps another is a misreading, such as that of a path with backslashes.
fn add_hidden(values: &mut Vec<Value>, hidden: Vec<Value>) {
    let mut added = Vec::new();
    for value in hidden {
        let Range { start, end } = value.range;
        let from = values.partition_point(|seen| seen.range.end <= start);
        let to = values.partition_point(|seen| seen.range.start < end);
        let seen = values.get_mut(from..to.max(from)).unwrap_or_default();
        let is_whole = |part: &Value| {
            start <= part.range.start && part.range.end <= end && part.range != value.range
        };
        if seen.iter().all(is_whole) {
            seen.iter_mut()
                .filter(|part| part.edit.is_replacement())
                .for_each(|part| part.edit = Edit::None);
            added.push(value);
        }
    }
    values.append(&mut added);
    values.sort_by_key(|value| value.range.start);
}
