//! Finds fixed strings in any case: an automaton that can stop after any part of a text and go on with
//! the next one.

use std::ops::Range;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, MatchKind};

/// Bytes in a row that are skipped together where no string can begin with one of them.
const BLOCK: usize = 16;

/// Some fixed strings, told apart by their place in the list.
pub(in super::super) struct Strings {
    automaton: DFA,
    root: StateID,
}

/// Where a search stands.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Position(StateID);

impl Strings {
    #[expect(clippy::expect_used, reason = "the strings are constants, which the tests compile")]
    pub(in super::super) fn new(strings: impl Iterator<Item = &'static str>) -> Self {
        let automaton = DFA::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .prefilter(false)
            .build(strings)
            .expect("the strings are few and short");
        let root = automaton.start_state(Anchored::No).expect("the automaton is unanchored");
        Self { automaton, root }
    }

    /// The memory that the automaton takes, in bytes.
    pub(in super::super) fn memory_usage(&self) -> usize {
        self.automaton.memory_usage()
    }

    /// Where a search begins.
    pub(in super::super) fn start(&self) -> Position {
        Position(self.root)
    }

    /// Calls `found` with the place in the list and the range of each string that ends in a part of the
    /// text. `position` is where the search stood at the beginning of the part.
    pub(in super::super) fn find(
        &self,
        text: &[u8],
        part: Range<usize>,
        position: &mut Position,
        mut found: impl FnMut(usize, Range<usize>),
    ) {
        let mut rest = text.get(part.clone()).unwrap_or_default();
        let mut at = part.start;
        while let Some(read) = self.read(rest, position) {
            at += read;
            rest = rest.get(read..).unwrap_or_default();
            for index in 0..self.automaton.match_len(position.0) {
                let string = self.automaton.match_pattern(position.0, index);
                let length = self.automaton.pattern_len(string);
                found(string.as_usize(), at - length..at);
            }
        }
    }

    /// Reads until the end of a string. Returns how far that is; `None` if no string ends in the text. Not
    /// inlined, so that all that the loop needs stays in registers.
    #[inline(never)]
    fn read(&self, text: &[u8], position: &mut Position) -> Option<usize> {
        let mut state = position.0;
        for (index, block) in text.chunks(BLOCK).enumerate() {
            if state == self.root && !has_beginning(block) {
                continue;
            }
            for (place, byte) in block.iter().enumerate() {
                state = self.automaton.next_state(Anchored::No, state, *byte);
                if self.automaton.is_special(state) && self.automaton.is_match(state) {
                    position.0 = state;
                    return Some(index * BLOCK + place + 1);
                }
            }
        }
        position.0 = state;
        None
    }
}

/// Whether a string can begin in the block.
fn has_beginning(block: &[u8]) -> bool {
    match <&[u8; BLOCK]>::try_from(block) {
        // Without branches, which compiles to vector instructions.
        Ok(block) => block.iter().fold(false, |any, byte| any | can_begin(*byte)),
        Err(_) => block.iter().any(|byte| can_begin(*byte)),
    }
}

fn can_begin(byte: u8) -> bool {
    (byte.wrapping_sub(b'a') < 26) | (byte.wrapping_sub(b'A') < 26) | (byte >= 0x80)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{named_secret, names, private_key, token};
    use super::*;

    fn all() -> impl Iterator<Item = &'static str> {
        [private_key::WORD]
            .into_iter()
            .chain(named_secret::NAMES)
            .chain(token::FORMS.iter().map(|form| form.prefix))
            .chain(names::words().map(|(word, _)| word))
    }

    #[test]
    fn all_strings_begin_with_what_is_not_skipped() {
        for string in all() {
            assert!(string.as_bytes().first().copied().is_some_and(can_begin), "{string}");
        }
    }

    proptest! {
        /// In any division of the text.
        #[test]
        fn each_string_is_found_where_it_stands(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::sample::select(all().collect::<Vec<_>>()).prop_map(str::to_owned),
                    "[a-zA-Z]{1,4}",
                    "[0-9 .,:/-]{0,40}",
                    "\\PC{0,3}",
                ],
                0..12,
            ),
            cut in 0usize..200,
        ) {
            let text = pieces.concat();
            let strings = Strings::new(all());
            let mut found = Vec::new();
            let mut position = strings.start();
            let cut = cut.min(text.len());
            for part in [0..cut, cut..text.len()] {
                strings.find(text.as_bytes(), part, &mut position, |string, range| {
                    found.push((range.start, string));
                });
            }
            found.sort_unstable();
            let lower = text.to_ascii_lowercase();
            let mut expected = Vec::new();
            for (place, string) in all().enumerate() {
                let string = string.to_ascii_lowercase();
                let starts = (0..lower.len())
                    .filter(|start| lower.as_bytes()[*start..].starts_with(string.as_bytes()));
                expected.extend(starts.map(|start| (start, place)));
            }
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
