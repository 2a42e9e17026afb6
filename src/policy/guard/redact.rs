//! Scans the body of a request and replaces what must not leave.
//!
//! The new body differs from the old one only where a value stood. Placeholders consist of characters
//! that JSON never escapes, so that an edit is the same at each level of JSON in strings.

mod body_strings;
mod strings;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::answer::SentValues;
use super::category::Category;
use super::custom::TimeExceeded;
use super::entities::{Entities, EntityPass};
use super::note::with_note;
use super::placeholder::{ConversationKey, PlaceholderBuilder, Placeholders};
use super::policy::{Action, Guard, MediaAction, StoredAction};
use super::scan::Findings;
use crate::llm::format::Format;
use crate::llm::stored_state::{StoredState, is_file};
pub(super) use body_strings::Redactor;
pub(super) use strings::{MAX_DEPTH, hides_text};

/// The most values of a request; more are not worth the work of replacing them one by one.
pub(super) const MAX_VALUES: usize = 200_000;

/// What reports call references to what the provider stores.
pub const STORED_STATE: &str = "stored_state";

/// What became of a request's body.
#[derive(Debug)]
pub enum Guarded {
    /// It may be sent.
    Passed {
        /// The body to send; `None` for the one that came.
        body: Option<Vec<u8>>,
        /// For the answer.
        placeholders: Placeholders,
        /// Also for the answer: what was found, where answers are scanned.
        sent: SentValues,
        /// It refers to what the provider stores and nobody has scanned.
        has_stored: bool,
        report: Report,
    },
    /// It must not be sent.
    Blocked(Report),
}

/// How many values were found, by the name of the category or pattern. Never a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// All that was found.
    pub found: BTreeMap<String, usize>,
    /// What blocks the request: actions, and values where they cannot be replaced.
    pub blocking: BTreeSet<String>,
}

/// Why a body, or an answer, was not scanned to its end. Whether it is sent is for the policies to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error("the scan took longer than timeout_seconds")]
    TimeExceeded,
    /// It has more than 200,000 values.
    #[error("it has too many values")]
    TooManyValues,
    #[error("it is not JSON, or nests too deeply")]
    NotJson,
    /// An answer, or one of its events, is longer than what is kept of one.
    #[error("it is too long")]
    TooLong,
    /// An event of a stream is none of the API's, or has a key twice.
    #[error("its stream has an event that is not of the API's format")]
    NotEvent,
    /// An answer is compressed, or damaged.
    #[error("it is compressed or damaged")]
    Unreadable,
    #[error("it has too much text to search it for names")]
    TooMuchText,
    /// A service that recognizes names has not answered, or the answer has broken off before it was asked.
    #[error("it could not be searched for names, places and organizations")]
    NotSearched,
}

impl From<TimeExceeded> for ScanError {
    fn from(_: TimeExceeded) -> Self {
        Self::TimeExceeded
    }
}

#[derive(Debug)]
struct Value {
    /// Its place in the text that is being read; in the end, in the body.
    range: Range<usize>,
    category: Category,
    pattern: Option<usize>,
    /// The unescaped text, for one that is replaced.
    text: String,
    edit: Edit,
    /// Whether it stands in the text of reasoning, which may turn out to be signed.
    is_reasoning: bool,
}

/// What is to be done about a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    None,
    Block,
    /// A placeholder takes its place.
    Replace,
    /// A string with a placeholder takes the place of a number, so many strings deep.
    ReplaceNumber(usize),
}

impl Edit {
    fn is_replacement(self) -> bool {
        matches!(self, Self::Replace | Self::ReplaceNumber(_))
    }
}

impl Guard {
    /// Scans the body of a request. `key` is the conversation's; `entities` is what a service found in its
    /// texts. `keep_going` says whether there is time left; it is asked every few milliseconds at most.
    pub fn redact(
        &self,
        format: Format,
        body: &[u8],
        key: &ConversationKey,
        entities: &Entities,
        keep_going: &dyn Fn() -> bool,
    ) -> Result<Guarded, ScanError> {
        let mut redactor = Redactor::new(self, format, keep_going, EntityPass::Scan(entities));
        redactor.read_body(body)?;
        let stored = StoredState::of(body);
        let has_media = redactor.has_media || stored.others().any(is_file);
        let has_stored = stored.others().any(|name| !is_file(name))
            || (stored.previous_response.is_some() && !key.is_continued());
        let sent = std::mem::take(&mut redactor.sent);
        let (values, literals) = redactor.finish();
        let mut report = Report::default();
        for value in &values {
            report.add(self.name(value.category, value.pattern), value.edit == Edit::Block);
        }
        if has_media && self.scan().media == MediaAction::Block {
            report.blocking.insert("media".to_owned());
        }
        if has_stored && self.scan().stored == Some(StoredAction::Block) {
            report.blocking.insert(STORED_STATE.to_owned());
        }
        if !report.blocking.is_empty() {
            return Ok(Guarded::Blocked(report));
        }
        let mut placeholders = PlaceholderBuilder::new(key, literals);
        let mut body = edited(body, &values, &mut placeholders);
        if self.has_note()
            && let Some(noted) = body.as_deref().and_then(|body| with_note(format, body))
        {
            body = Some(noted);
        }
        let placeholders = placeholders.finish();
        Ok(Guarded::Passed { body, placeholders, sent, has_stored, report })
    }

    /// Scans text that cannot be changed: a path, a query, a header. Whatever is found there and is not
    /// only reported blocks the request.
    pub fn check_text(
        &self,
        text: &[u8],
        entities: &Entities,
        keep_going: &dyn Fn() -> bool,
    ) -> Result<Report, ScanError> {
        let mut findings = Findings::default();
        self.scanner.scan(text, b"", keep_going, &mut findings)?;
        entities.add_to(text, &mut findings);
        let mut report = Report::default();
        for finding in findings.found {
            let is_blocking = self.action(finding.category, finding.pattern) != Action::Report;
            report.add(self.name(finding.category, finding.pattern), is_blocking);
        }
        Ok(report)
    }
}

impl Report {
    pub(super) fn add(&mut self, name: &str, is_blocking: bool) {
        match self.found.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.found.insert(name.to_owned(), 1)),
        }
        if is_blocking && !self.blocking.contains(name) {
            self.blocking.insert(name.to_owned());
        }
    }
}

/// The body with placeholders; `None` if nothing is replaced. The values are in ascending order.
fn edited(
    body: &[u8],
    values: &[Value],
    placeholders: &mut PlaceholderBuilder<'_>,
) -> Option<Vec<u8>> {
    let mut new = Vec::new();
    let mut done = 0;
    for value in values {
        let quotes = match value.edit {
            Edit::None | Edit::Block => continue,
            Edit::Replace => String::new(),
            Edit::ReplaceNumber(depth) => quote(depth),
        };
        if new.is_empty() {
            new.reserve(body.len() + body.len() / 8);
        }
        new.extend_from_slice(body.get(done..value.range.start).unwrap_or_default());
        new.extend_from_slice(quotes.as_bytes());
        let placeholder = placeholders.placeholder(value.category, &value.text);
        new.extend_from_slice(placeholder.as_bytes());
        new.extend_from_slice(quotes.as_bytes());
        done = value.range.end;
    }
    if done == 0 {
        return None;
    }
    new.extend_from_slice(body.get(done..).unwrap_or_default());
    Some(new)
}

/// A quotation mark that stands so many strings deep: each level escapes what it is made of.
pub(super) fn quote(depth: usize) -> String {
    let backslashes = (1_usize << depth.min(MAX_DEPTH)) - 1;
    "\\".repeat(backslashes) + "\""
}

#[cfg(test)]
mod tests;
