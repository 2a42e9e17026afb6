//! A policy's own patterns.

use regex::bytes::{Regex, RegexBuilder};

/// The longest pattern, in bytes.
pub const MAX_PATTERN: usize = 512;
/// The largest compiled pattern, in bytes.
const MAX_COMPILED: usize = 1 << 20;
/// Texts in which a pattern that can match nothing does so.
const PROBES: [&str; 5] = ["", "a", "a b", "1\n2", "-é-"];
/// How much text a pattern searches at once, in bytes, and how much of it is searched again with the
/// next part. Finding all matches of a pattern may take time quadratic in the text.
const WINDOW: usize = 64 * 1024;
const OVERLAP: usize = 4 * 1024;

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("must be 1 to {MAX_PATTERN} bytes")]
    Length,
    #[error("must not match the empty string")]
    MatchesNothing,
    #[error("is too large when compiled: at most {MAX_COMPILED} bytes")]
    Size,
    /// The message of the parser.
    #[error("{0}")]
    Syntax(String),
}

/// The time for a scan is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeExceeded;

/// The longest match that is found wherever a text is divided, in bytes.
const MAX_LOOKAHEAD: usize = 256;
/// What a pattern may want to see behind its match, such as whether a word ends there, in bytes.
const AFTER_MATCH: usize = 4;

/// A compiled pattern. It searches in time linear in the text.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    lookahead: usize,
}

impl Pattern {
    /// Compiles a pattern.
    pub fn compile(pattern: &str) -> Result<Self, PatternError> {
        if !(1..=MAX_PATTERN).contains(&pattern.len()) {
            return Err(PatternError::Length);
        }
        let compiled = RegexBuilder::new(pattern)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => PatternError::Size,
                error => PatternError::Syntax(error.to_string()),
            })?;
        let matches_nothing = PROBES
            .iter()
            .any(|probe| compiled.find_iter(probe.as_bytes()).any(|found| found.is_empty()));
        if matches_nothing {
            return Err(PatternError::MatchesNothing);
        }
        let syntax = regex_syntax::ParserBuilder::new().utf8(false).build().parse(pattern);
        let longest = syntax.ok().and_then(|syntax| syntax.properties().maximum_len());
        let lookahead = longest.unwrap_or(MAX_LOOKAHEAD).min(MAX_LOOKAHEAD) + AFTER_MATCH;
        Ok(Self { regex: compiled, lookahead })
    }

    /// How much of the end of a text that goes on may belong to a match, in bytes; at most 260.
    pub(super) fn lookahead(&self) -> usize {
        self.lookahead
    }

    /// Calls `found` with the place of each match. Matches longer than 4 KiB may be cut. Between parts
    /// of the text and between matches, `keep_going` says whether there is time left.
    pub(super) fn find(
        &self,
        text: &[u8],
        keep_going: &dyn Fn() -> bool,
        mut found: impl FnMut(std::ops::Range<usize>),
    ) -> Result<(), TimeExceeded> {
        let mut start = 0;
        loop {
            let end = window_end(text, start);
            let window = text.get(start..end).unwrap_or_default();
            for part in self.regex.find_iter(window).filter(|part| !part.is_empty()) {
                found(start + part.start()..start + part.end());
                if !keep_going() {
                    return Err(TimeExceeded);
                }
            }
            if end == text.len() {
                return Ok(());
            }
            if !keep_going() {
                return Err(TimeExceeded);
            }
            start = word_start(text, end - OVERLAP);
        }
    }
}

/// The end of the window that begins at `start`: where a word ends, if one does near.
fn window_end(text: &[u8], start: usize) -> usize {
    let end = (start + WINDOW).min(text.len());
    if end == text.len() { end } else { word_start(text, end) }
}

/// The place after the last blank in the 1,024 bytes before `place`; without one, `place`.
fn word_start(text: &[u8], place: usize) -> usize {
    let before = text.get(..place).unwrap_or_default().iter().rev().take(1024);
    place - before.into_iter().position(u8::is_ascii_whitespace).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(pattern: &str, text: &[u8]) -> Vec<std::ops::Range<usize>> {
        let mut places = Vec::new();
        Pattern::compile(pattern)
            .unwrap()
            .find(text, &|| true, |range| places.push(range))
            .unwrap();
        places
    }

    #[test]
    fn patterns_are_checked() {
        let error = |pattern: &str| Pattern::compile(pattern).unwrap_err();
        for pattern in ["", &"a".repeat(513)] {
            assert_eq!(error(pattern), PatternError::Length);
        }
        for pattern in ["a*", "^", "\\b", "|a", "(?m)$", "a?b?"] {
            assert_eq!(error(pattern), PatternError::MatchesNothing, "{pattern}");
        }
        assert_eq!(error("((a{99}){99}){99}"), PatternError::Size);
        assert!(matches!(error("(a"), PatternError::Syntax(_)));
        assert!(matches!(error("(?=a)b"), PatternError::Syntax(_)));
    }

    #[test]
    fn long_texts_are_searched_in_parts() {
        let mut text = "x ".repeat(200_000);
        text.insert_str(100_000, "PRJ-1234");
        text.insert_str(65_530, "PRJ-5678 PRJ-90");
        text.push_str("PRJ-7");
        let mut found = places("PRJ-\\d+", text.as_bytes());
        found.dedup();
        found.sort_by_key(|range| range.start);
        found.dedup();
        let found: Vec<_> = found.into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["PRJ-5678", "PRJ-90", "PRJ-1234", "PRJ-7"]);
        assert!(places("PRJ", b"").is_empty());
    }

    #[test]
    fn a_search_stops_when_it_is_late() {
        let calls = std::cell::Cell::new(0);
        let keep_going = || {
            calls.set(calls.get() + 1);
            calls.get() < 10
        };
        // All matches of this one are quadratic in the text.
        let pattern = Pattern::compile(".*[^A-Z]|[A-Z]").unwrap();
        let text = "A".repeat(200_000);
        assert_eq!(pattern.find(text.as_bytes(), &keep_going, |_| {}), Err(TimeExceeded));
        assert_eq!(calls.get(), 10);
    }
}
