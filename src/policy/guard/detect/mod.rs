//! The detectors: each reads a text around a candidate and checks formats and checksums. They look at a
//! bounded number of bytes for each candidate (a private key's end excepted), so that the whole scan is
//! linear in the text.
//!
//! They work on bytes: all that they look for is ASCII, and the text may be anything.

mod calling_codes;
pub(super) mod connection_string;
pub(super) mod crypto_address;
pub(super) mod email;
pub(super) mod gateway_key;
mod groups;
pub(super) mod iban;
pub(super) mod jwt;
mod keccak;
pub(super) mod named_secret;
pub(super) mod names;
pub(super) mod national;
pub(super) mod network;
pub(super) mod number;
mod payment_card;
mod phone;
pub(super) mod private_key;
pub(super) mod strings;
pub(super) mod token;
mod us_ssn;

use std::ops::Range;

use super::category::Category;
use crate::json::bytes;

/// A text, and the key of the JSON member that it is the value of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    /// Empty if there is none.
    pub(super) name: &'a [u8],
}

/// A detected value: its place in the text, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Detection {
    pub(super) range: Range<usize>,
    pub(super) category: Category,
}

impl<'a> Text<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, name: b"" }
    }

    pub(super) fn at(self, place: usize) -> Option<u8> {
        self.bytes.get(place).copied()
    }

    /// The byte before a place.
    pub(super) fn before(self, place: usize) -> Option<u8> {
        self.at(place.checked_sub(1)?)
    }

    /// The bytes of a range; none if it does not fit.
    pub(super) fn slice(self, range: Range<usize>) -> &'a [u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    pub(super) fn from(self, start: usize) -> &'a [u8] {
        self.bytes.get(start..).unwrap_or_default()
    }

    /// The end of the run of such bytes from `start`, at most `max` bytes.
    pub(super) fn run_end(self, start: usize, max: usize, is: impl Fn(u8) -> bool) -> usize {
        start + self.from(start).iter().take(max).take_while(|byte| is(**byte)).count()
    }

    /// The end of the run of ASCII digits from `start`, at most `max` bytes.
    pub(super) fn digits_end(self, start: usize, max: usize) -> usize {
        let rest = self.from(start);
        start + bytes::leading_digits(rest.get(..max).unwrap_or(rest))
    }

    /// The start of the run of such bytes before `end`, at most `max` bytes.
    pub(super) fn run_start(self, end: usize, max: usize, is: impl Fn(u8) -> bool) -> usize {
        let before = self.bytes.get(..end).unwrap_or_default();
        end - before.iter().rev().take(max).take_while(|byte| is(**byte)).count()
    }

    /// Whether a word of ASCII letters and digits can begin here. The letter of an escape (`\n`) in the
    /// text is not a part of it.
    pub(super) fn starts_word(self, place: usize) -> bool {
        match self.before(place) {
            Some(b'n' | b'r' | b't') => self.before(place - 1) == Some(b'\\'),
            Some(byte) => !byte.is_ascii_alphanumeric(),
            None => true,
        }
    }

    /// Whether a word of ASCII letters and digits can end here.
    pub(super) fn ends_word(self, place: usize) -> bool {
        !self.at(place).is_some_and(|byte| byte.is_ascii_alphanumeric())
    }
}

/// The value of an ASCII digit, which the caller has checked.
fn digit(byte: u8) -> u32 {
    u32::from(byte.wrapping_sub(b'0'))
}

/// The sum of digits, each with its weight, up to the shorter of both.
fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(byte, weight)| digit(*byte) * weight).sum()
}

/// ISO/IEC 7812-1, annex B: the Luhn check of ASCII digits.
fn luhn(digits: &[u8]) -> bool {
    // Every other digit counts twice, and the two digits of that are added: 9 less from 5 on.
    let doubled = |byte: u8| digit(byte) * 2 - if byte > b'4' { 9 } else { 0 };
    let (first, pairs) = digits.as_rchunks::<2>();
    let first = first.first().map_or(0, |byte| digit(*byte));
    let sum = pairs.iter().fold(first, |sum, [left, right]| sum + doubled(*left) + digit(*right));
    sum.is_multiple_of(10)
}

/// The number of different bytes.
fn distinct(bytes: &[u8]) -> usize {
    let mut seen = [0_u64; 4];
    bytes.iter().for_each(|byte| {
        if let Some(seen) = seen.get_mut(usize::from(byte >> 6)) {
            *seen |= 1 << (byte & 63);
        }
    });
    seen.into_iter().map(|seen| seen.count_ones() as usize).sum()
}

/// Whether year, month and day can be a date of birth.
fn is_date(year: u32, month: u32, day: u32) -> bool {
    let days = match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// The number that ASCII digits write; at most nine of them.
fn number_of(digits: &[u8]) -> u32 {
    digits.iter().take(9).fold(0, |number, byte| number * 10 + digit(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_limits() {
        let text = Text::new(br"a1 \n2 n3");
        assert_eq!([1, 5, 8].map(|place| text.starts_word(place)), [false, true, false]);
    }

    #[test]
    fn luhn_and_dates() {
        assert!(luhn(b"79927398713") && !luhn(b"79927398710"));
        assert!(is_date(2000, 2, 29) && !is_date(1900, 2, 29) && !is_date(2001, 13, 1));
        assert!(!is_date(2001, 4, 31) && !is_date(2001, 4, 0));
    }
}
