//! Scans what the model says: the same detectors as for requests. What is found is masked, and a mask is
//! never restored; or it blocks the answer, or is only counted.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

use super::answer_names::AnswerNames;
use super::category::Category;
use super::custom::TimeExceeded;
use super::placeholder::Placeholders;
use super::policy::{Action, Guard};
use super::redact::{MAX_DEPTH, MAX_VALUES, Report, ScanError, hides_text};
use super::scan::{Finding, Findings};
use crate::json::escapes::UnescapedText;

/// What takes the place of a value, and is never turned back into it.
pub(super) fn mask(category: Category) -> String {
    format!("REDACTED_{}", category.label())
}

/// The values that were found in a request, so that they are no findings in its answer. Letter case and
/// punctuation do not count.
#[derive(Debug, Clone, Default)]
pub struct SentValues {
    hasher: RandomState,
    values: HashSet<u64>,
}

impl SentValues {
    pub(super) fn add(&mut self, value: &[u8]) {
        if self.values.len() < MAX_VALUES {
            self.values.insert(self.digest(value));
        }
    }

    fn digest(&self, value: &[u8]) -> u64 {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
        let mut normal = value.to_ascii_lowercase();
        if normal.iter().any(is_part) {
            normal.retain(is_part);
        }
        self.hasher.hash_one(normal)
    }
}

/// The scan of one answer.
pub struct AnswerScan {
    guard: Arc<Guard>,
    sent: SentValues,
    /// Whether there is time left for what is scanned now.
    keep_going: Box<dyn Fn() -> bool + Send>,
    /// What was found so far: each value counts once.
    counted: HashSet<u64>,
    report: Report,
    failure: Option<ScanError>,
    /// What a service found in the answer.
    names: Option<AnswerNames>,
}

/// A value in what the model says.
#[derive(Debug, Clone)]
pub(super) struct AnswerFinding {
    pub(super) range: Range<usize>,
    category: Category,
    pattern: Option<usize>,
    digest: u64,
}

impl AnswerScan {
    /// The scan of the answer to a request in which `sent` was found.
    pub fn new(guard: Arc<Guard>, sent: SentValues) -> Self {
        Self {
            guard,
            sent,
            keep_going: Box::new(|| true),
            counted: HashSet::new(),
            report: Report::default(),
            failure: None,
            names: None,
        }
    }

    /// Before a further part of the answer is scanned: what says whether there is time left for it.
    pub fn limit_time(&mut self, keep_going: impl Fn() -> bool + Send + 'static) {
        self.keep_going = Box::new(keep_going);
    }

    /// The policies' decision.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The same, to keep.
    pub fn shared_guard(&self) -> Arc<Guard> {
        Arc::clone(&self.guard)
    }

    /// Before anything of the answer is scanned: what a service found in it.
    pub fn set_names(&mut self, names: AnswerNames) {
        self.names = Some(names);
    }

    /// What was found so far. The answer must not go on once something in it blocks.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Why a part of the answer was not scanned. What comes after it is not scanned, either.
    pub fn failure(&self) -> Option<ScanError> {
        self.failure
    }

    /// A part of the answer cannot be scanned.
    pub fn fail(&mut self, error: ScanError) {
        self.failure.get_or_insert(error);
    }

    /// How much of a text that goes on may be the beginning of a match of a policy's own patterns, or of a
    /// name.
    pub(super) fn lookahead(&self) -> usize {
        let of_names = self.names.as_ref().map_or(0, AnswerNames::longest);
        self.guard.scanner.lookahead().max(of_names)
    }

    /// What is found in a text, by its place. Placeholders of the request, and what the caller has sent,
    /// are left out.
    pub(super) fn find(
        &mut self,
        text: &[u8],
        name: &[u8],
        placeholders: &Placeholders,
    ) -> Vec<AnswerFinding> {
        if self.failure.is_some() {
            return Vec::new();
        }
        let Ok(mut found) = self.find_in(text, name, 0) else {
            self.fail(ScanError::TimeExceeded);
            return Vec::new();
        };
        let standing = if found.is_empty() { Vec::new() } else { placeholders.find_all(text) };
        found.retain(|finding| {
            let Range { start, end } = finding.range;
            !standing.iter().any(|place| start < place.end && place.start < end)
        });
        self.merge(found)
    }

    /// The findings in ascending order. Those that are masked and overlap become one: of the strictest
    /// action, then of the longest.
    fn merge(&self, mut found: Vec<AnswerFinding>) -> Vec<AnswerFinding> {
        found.sort_by_key(|finding| (finding.range.start, finding.range.end, finding.category));
        let mut merged: Vec<AnswerFinding> = Vec::with_capacity(found.len());
        let mut open: Option<(usize, (Action, usize))> = None;
        for finding in found {
            let action = self.guard.action(finding.category, finding.pattern);
            let weight = (action, finding.range.len());
            let is_masked = action != Action::Report;
            if is_masked
                && let Some((place, most)) = &mut open
                && let Some(last) = merged.get_mut(*place)
                && finding.range.start < last.range.end
            {
                let range = last.range.start..last.range.end.max(finding.range.end);
                if weight > *most {
                    *most = weight;
                    *last = finding;
                }
                last.range = range;
                continue;
            }
            if is_masked {
                open = Some((merged.len(), weight));
            }
            merged.push(finding);
        }
        merged
    }

    /// The same with what escapes in the text hide.
    fn find_in(
        &self,
        text: &[u8],
        name: &[u8],
        level: usize,
    ) -> Result<Vec<AnswerFinding>, TimeExceeded> {
        let mut findings = Findings::default();
        self.guard.scanner.scan(text, name, &*self.keep_going, &mut findings)?;
        let names = self.names.iter().flat_map(|names| names.find(text));
        let names = names.map(|(range, category)| Finding { range, category, pattern: None });
        findings.found.extend(names);
        let found = findings.found.into_iter().filter_map(|finding| {
            let digest = self.sent.digest(text.get(finding.range.clone()).unwrap_or_default());
            let is_sent = self.sent.values.contains(&digest);
            (!is_sent).then_some(AnswerFinding {
                range: finding.range,
                category: finding.category,
                pattern: finding.pattern,
                digest,
            })
        });
        let mut found: Vec<AnswerFinding> = found.collect();
        let hides = level < MAX_DEPTH && hides_text(text);
        if let Some(unescaped) = hides.then(|| UnescapedText::read(text)).flatten() {
            for mut finding in self.find_in(&unescaped.text, name, level + 1)? {
                finding.range = unescaped.source(finding.range);
                found.push(finding);
            }
        }
        Ok(found)
    }

    /// Counts a value that the caller would get. Gives the mask that takes its place; none if it is only
    /// reported. One that blocks is masked as well, so that it goes nowhere.
    pub(super) fn take(&mut self, finding: &AnswerFinding) -> Option<String> {
        let AnswerFinding { category, pattern, digest, .. } = finding;
        let action = self.guard.action(*category, *pattern);
        if self.counted.len() >= MAX_VALUES || self.counted.insert(*digest) {
            self.report.add(self.guard.name(*category, *pattern), action == Action::Block);
        }
        (action != Action::Report).then(|| mask(*category))
    }
}

impl fmt::Debug for AnswerScan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AnswerScan({:?})", self.report)
    }
}
