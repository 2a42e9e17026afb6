//! Masks values in a text that arrives in pieces. Held back is what may be a part of a value: the word that
//! is being written, groups of a number before it, a private key until it ends.

use std::ops::Range;

use super::super::answer::AnswerScan;
use super::super::detect::{Text, private_key};
use super::super::placeholder::Placeholders;
use super::super::redact::quote;
use super::nesting::Nesting;

/// How much of what was passed on is kept, in bytes: the words before a value tell what it is.
const CONTEXT: usize = 256;
/// The longest number in groups, in bytes, with room: an IBAN has 34 characters and 8 blanks.
const MAX_NUMBER: usize = 64;
/// The most that is held back of one text, in bytes. A private key has at most 32 KiB.
const MAX_HELD: usize = 36 * 1024;
/// What is still held back of more, in bytes.
const MIN_HELD: usize = 4 * 1024;

/// What a text is scanned for, and the placeholders in it, which are no values.
pub(super) struct Masking<'a> {
    pub(super) scan: &'a mut AnswerScan,
    pub(super) placeholders: &'a Placeholders,
}

/// Masks one text: a string, or a block of an answer.
#[derive(Debug, Default)]
pub(super) struct TextMasker {
    /// Of what was passed on.
    nesting: Nesting,
    /// The end of what was passed on, and what is held back.
    text: String,
    /// How much of it was passed on.
    passed: usize,
}

impl TextMasker {
    /// The bytes that are kept.
    pub(super) fn kept(&self) -> usize {
        self.text.len()
    }

    /// Whether something is held back.
    pub(super) fn is_holding(&self) -> bool {
        self.passed < self.text.len()
    }

    /// Appends to `out` what follows in the masked text after this piece of it.
    pub(super) fn push(&mut self, masking: &mut Masking<'_>, piece: &str, out: &mut String) {
        self.text.push_str(piece);
        let held = self.text.get(self.passed..).unwrap_or_default();
        let decided = decided(held, masking.scan.lookahead());
        if decided > 0 {
            self.pass(masking, b"", self.passed + decided, out);
        }
    }

    /// Appends the rest.
    pub(super) fn finish(&mut self, masking: &mut Masking<'_>, out: &mut String) {
        if self.is_holding() {
            self.pass(masking, b"", self.text.len(), out);
        }
    }

    /// A whole text, the value of the JSON member `name`, with its masks.
    pub(super) fn mask_whole(masking: &mut Masking<'_>, text: &str, name: &[u8]) -> String {
        let mut masker = Self { text: text.to_owned(), ..Self::default() };
        let mut out = String::with_capacity(text.len());
        masker.pass(masking, name, text.len(), &mut out);
        out
    }

    /// Appends what is held back before `cut`, or before a value that has begun there.
    fn pass(&mut self, masking: &mut Masking<'_>, name: &[u8], cut: usize, out: &mut String) {
        let found = masking.scan.find(self.text.as_bytes(), name, masking.placeholders);
        let mut cut = cut;
        if self.text.len() - self.passed <= MAX_HELD {
            for Range { start, end } in found.iter().rev().map(|finding| finding.range.clone()) {
                if start < cut && cut < end {
                    cut = start;
                }
            }
        }
        let mut done = self.passed;
        for finding in &found {
            let Range { start, end } = finding.range;
            if end <= self.passed || start >= cut {
                continue;
            }
            if let Some(mask) = masking.scan.take(finding) {
                self.copy(done..start, out);
                done = self.put(&mask, start.max(self.passed)..end, out);
            }
        }
        self.copy(done..cut, out);
        self.passed = self.passed.max(cut).max(done);
        self.forget();
    }

    fn copy(&mut self, range: Range<usize>, out: &mut String) {
        let text = self.text.get(range).unwrap_or_default();
        self.nesting.read(text.as_bytes());
        out.push_str(text);
    }

    /// Puts a mask in the place of a value, and gives the place behind it. In place of a number in JSON it
    /// is a string, and stands for the whole number.
    fn put(&mut self, mask: &str, value: Range<usize>, out: &mut String) -> usize {
        let text = Text::new(self.text.as_bytes());
        if self.nesting.is_bare() && text.slice(value.clone()).iter().all(u8::is_ascii_digit) {
            let quotes = quote(self.nesting.depth());
            out.extend([&quotes, mask, &quotes]);
            let is_number = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
            return text.run_end(value.end, MAX_NUMBER, is_number);
        }
        // To the text around it, a mask is a word.
        self.nesting.read(b"x");
        out.push_str(mask);
        value.end
    }

    /// Keeps the context of what is held back, from the beginning of a word on.
    fn forget(&mut self) {
        let start = floor_char_boundary(&self.text, self.passed.saturating_sub(CONTEXT));
        if start > 0 {
            let context = self.text.get(start..self.passed).unwrap_or_default();
            let word = context.find(is_separator).unwrap_or(0);
            self.text.drain(..start + word);
            self.passed -= start + word;
        }
    }
}

/// How much of a text that goes on can be passed on: what follows cannot make it a part of a value.
/// `lookahead` bytes may belong to a match of a policy's own patterns.
fn decided(text: &str, lookahead: usize) -> usize {
    let bytes = text.as_bytes();
    let mut decided = number_start(text, word_start(text));
    decided = decided.min(text.len().saturating_sub(lookahead));
    let is_open = |place: &usize| private_key::is_open(Text::new(bytes), *place);
    let open = memchr::memmem::find_iter(bytes, private_key::MARK).find(is_open);
    decided = decided.min(open.unwrap_or(text.len()));
    if text.len() - decided > MAX_HELD {
        decided = text.len() - MIN_HELD;
    }
    floor_char_boundary(text, decided)
}

/// The last place of a character's beginning that is not behind this one.
fn floor_char_boundary(text: &str, place: usize) -> usize {
    (0..=place.min(text.len())).rev().find(|place| text.is_char_boundary(*place)).unwrap_or(0)
}

/// Where the groups of a number begin that may go on with the word at `word`; without any, `word`.
fn number_start(text: &str, word: usize) -> usize {
    let mut start = word;
    loop {
        let before = text.get(..start).unwrap_or_default();
        let group_end = before.trim_end_matches(' ').len();
        let before = text.get(..group_end).unwrap_or_default();
        let group_start = word_start(before);
        let group = before.get(group_start..).unwrap_or_default();
        let has_gap = (1..=3).contains(&(start - group_end));
        if !has_gap || !is_group(group, before.get(..group_start).unwrap_or_default()) {
            return start;
        }
        start = group_start;
        if word - start > MAX_NUMBER {
            return start;
        }
    }
}

/// Whether a word may be a group of a number: of digits, of capital letters as in an IBAN, or of small
/// ones after the beginning of one.
fn is_group(word: &str, before: &str) -> bool {
    let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
    let is_short = (1..=4).contains(&word.len());
    let first = before.trim_end_matches(' ');
    let is_second = || match first.get(word_start(first)..).unwrap_or_default().as_bytes() {
        [a, b, c, d] => {
            a.is_ascii_alphabetic()
                && b.is_ascii_alphabetic()
                && c.is_ascii_digit()
                && d.is_ascii_digit()
        }
        _ => false,
    };
    has_digit || (is_short && (!word.bytes().any(|byte| byte.is_ascii_lowercase()) || is_second()))
}

/// Where the last word of a text begins, which may go on.
fn word_start(text: &str) -> usize {
    let last = text.char_indices().rfind(|(_, char)| is_separator(*char));
    last.map_or(0, |(place, char)| place + char.len_utf8())
}

/// Whether no value has this character, but for blanks between the groups of a number and in private keys.
/// Letters above U+07FF are in none; there are dashes and blanks of numbers from U+2000 on.
fn is_separator(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r' | '"' | '<' | '>' | '`')
        || (char >= '\u{800}' && !('\u{2000}'..='\u{206f}').contains(&char))
}

#[cfg(test)]
pub(super) mod tests;
