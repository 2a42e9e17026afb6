//! National insurance numbers. Source: HMRC, National Insurance Manual NIM39110: two letters with
//! exceptions, six digits, and a letter A to D.

use super::super::super::category::Category;
use super::super::{Detection, Text};

/// The letters that the prefix does not have in its first, and in its second place.
const NOT_FIRST: &[u8] = b"DFIQUV";
const NOT_SECOND: &[u8] = b"DFIQUVO";
const NOT_USED: [&[u8]; 7] = [b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"];

/// A number whose prefix begins at `start`: `AB123456C`, `AB 12 34 56 C`.
pub(in super::super::super) fn find(text: Text<'_>, start: usize) -> Option<Detection> {
    let prefix = text.slice(start..start + 2);
    let [first, second] = prefix else { return None };
    let is_prefix = prefix.iter().all(u8::is_ascii_uppercase)
        && !NOT_FIRST.contains(first)
        && !NOT_SECOND.contains(second)
        && !NOT_USED.contains(&prefix);
    if !is_prefix || !text.starts_word(start) {
        return None;
    }
    let mut at = start + 2;
    for _ in 0..3 {
        at += usize::from(text.at(at) == Some(b' '));
        if !text.slice(at..at + 2).iter().all(u8::is_ascii_digit)
            || text.slice(at..at + 2).is_empty()
        {
            return None;
        }
        at += 2;
    }
    at += usize::from(text.at(at) == Some(b' '));
    let is_number = matches!(text.at(at), Some(b'A'..=b'D')) && text.ends_word(at + 1);
    is_number.then_some(Detection { range: start..at + 1, category: Category::UkNino })
}
