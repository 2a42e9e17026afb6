//! Counts tokens of OpenAI's o200k_base encoding.
//!
//! `o200k_base.tokens` holds the tokens in the order of their ranks, each as a length byte and that
//! many bytes. It is used in place; the index over it (7 MB) is built at the first count. A text is
//! split into pieces by a regular expression, and the bytes of each piece are merged pair by pair,
//! the lowest rank first, as tiktoken does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::LazyLock;

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};

static TOKENS: &[u8] = include_bytes!("o200k_base.tokens");

static ENCODING: LazyLock<Encoding> = LazyLock::new(Encoding::build);

/// The encoding's own expression ends in `\s+(?!\S)|\s+`. The engine has no look-ahead, so
/// [`SPACE_BEFORE_SPACE`] takes one character more, which is given back.
const WORDS: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"|\s*[\r\n]+",
    r"|\s+$",
);
const SPACE_BEFORE_SPACE: &str = r"\s+\s";
const SPACE: &str = r"\s+";

/// Tokens of a text. No special tokens: `<|endoftext|>` in a prompt is text.
pub(super) fn count(text: &str) -> u64 {
    ENCODING.pieces(text).map(|piece| ENCODING.count_piece(piece.as_bytes())).sum()
}

struct Encoding {
    ranks: HashMap<&'static [u8], u32>,
    max_token_bytes: usize,
    splitter: Regex,
}

impl Encoding {
    #[expect(clippy::expect_used, reason = "the expressions are constant and compiled in tests")]
    fn build() -> Self {
        // Grown step by step, it would leave its smaller tables behind in the allocator.
        let mut ranks: HashMap<&'static [u8], u32> = HashMap::with_capacity(tokens().count());
        ranks.extend(tokens().zip(0..));
        let max_token_bytes = ranks.keys().map(|token| token.len()).max().unwrap_or(1);
        let splitter = Regex::new_many(&[WORDS, SPACE_BEFORE_SPACE, SPACE]).expect("it compiles");
        Self { ranks, max_token_bytes, splitter }
    }

    fn rank(&self, bytes: &[u8]) -> Option<u32> {
        (bytes.len() <= self.max_token_bytes).then(|| self.ranks.get(bytes).copied())?
    }

    fn pieces<'a>(&'a self, mut text: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::from_fn(move || {
            let found = self.splitter.find(Input::new(text).anchored(Anchored::Yes))?;
            let mut end = found.end();
            if found.pattern().as_usize() == 1 {
                let given_back = text.get(..end)?.chars().next_back()?;
                end -= given_back.len_utf8();
            }
            let (piece, rest) = text.split_at_checked(end)?;
            text = rest;
            Some(piece)
        })
    }

    /// Merges neighbours, the pair of the lowest rank first and of equal ones the leftmost. Takes
    /// O(n log n) for any text.
    fn count_piece(&self, piece: &[u8]) -> u64 {
        if self.rank(piece).is_some() {
            return 1;
        }
        let mut parts = Parts::of_bytes(piece.len());
        let mut candidates = BinaryHeap::new();
        let candidate = |parts: &Parts, start: usize| {
            let end = parts.end(parts.end(start)?)?;
            Some(Reverse((self.rank(piece.get(start..end)?)?, start, end)))
        };
        candidates.extend((0..piece.len()).filter_map(|start| candidate(&parts, start)));
        let mut count = piece.len() as u64;
        while let Some(Reverse((_, start, end))) = candidates.pop() {
            // Outdated where one of the two has been merged with another part.
            let Some(middle) = parts.end(start) else { continue };
            if parts.end(middle) != Some(end) {
                continue;
            }
            parts.merge(start, middle, end);
            count -= 1;
            candidates.extend(candidate(&parts, start));
            let before = parts.start_before(start);
            candidates.extend(before.and_then(|before| candidate(&parts, before)));
        }
        count
    }
}

/// A piece cut into parts, found by where they start.
struct Parts {
    /// Where the part that starts here ends; 0 where none starts.
    ends: Vec<usize>,
    /// Where the part that ends here starts.
    starts: Vec<usize>,
}

impl Parts {
    fn of_bytes(length: usize) -> Self {
        Self {
            ends: (1..=length).collect(),
            starts: (0..=length).map(|end| end.saturating_sub(1)).collect(),
        }
    }

    fn end(&self, start: usize) -> Option<usize> {
        self.ends.get(start).copied().filter(|end| *end > 0)
    }

    fn start_before(&self, start: usize) -> Option<usize> {
        (start > 0).then(|| self.starts.get(start).copied())?
    }

    fn merge(&mut self, start: usize, middle: usize, end: usize) {
        set(&mut self.ends, middle, 0);
        set(&mut self.ends, start, end);
        set(&mut self.starts, end, start);
    }
}

fn set(list: &mut [usize], at: usize, value: usize) {
    if let Some(entry) = list.get_mut(at) {
        *entry = value;
    }
}

fn tokens() -> impl Iterator<Item = &'static [u8]> {
    let mut rest = TOKENS;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first()?;
        let (token, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        Some(token)
    })
}

#[cfg(test)]
mod tests {
    use bpe_openai::o200k_base;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_tokens_are_those_of_the_encoding() {
        let reference = &o200k_base().bpe;
        assert_eq!(tokens().count(), reference.num_tokens());
        assert!(tokens().zip(0..).all(|(token, rank)| token == reference.token_bytes(rank)));
    }

    #[test]
    fn counts_are_those_of_the_encoding() {
        for text in [
            "",
            " ",
            "The quick brown fox jumps over the lazy dog.",
            "<|endoftext|>",
            "fn main() {\n    println!(\"{}\", 1234567890);\n}\r\n\r\n\t// DON'T, don'ſ, we'LL\n",
            "こんにちは 世界! Привет, мир — naïve café e\u{301} 👩‍👩‍👧 \u{a0}\u{2003}x",
            "  leading\n\n   and trailing   ",
            "https://example.com/a/b?c=%20d#e ///\n",
            "antidisestablishmentarianism Donaudampfschifffahrtsgesellschaft",
        ] {
            assert_eq!(count(text), o200k_base().count(text) as u64, "{text:?}");
        }
        for unit in ["a", " ", "\n", "é", "\u{301}", "ab", "A b", "\r\n ", "!", "1", "世"] {
            let text = unit.repeat(3_000);
            assert_eq!(count(&text), o200k_base().count(&text) as u64, "{unit:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_counts_as_in_the_encoding(text in "(\\PC|[ \\t\\r\\na-zA-Z'0-9é]{1,9}){0,60}") {
            prop_assert_eq!(count(&text), o200k_base().count(&text) as u64);
        }
    }
}
