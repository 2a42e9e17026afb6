//! Phone numbers: the international form of ITU-T E.164 and E.123, and national forms of large countries
//! where separators make them one. Digits without separators are a number only after a telling name.
//!
//! The rules are those of libphonenumber's metadata for lengths and groups, without its ranges of
//! operators, which change every few weeks.

use std::ops::{Range, RangeInclusive};

use super::super::category::Category;
use super::Text;
use super::calling_codes::calling_code;
use super::number::{Gap, Number};

/// Whether the number is written like a phone number, or named one.
pub(super) fn is_phone(number: &Number<'_>) -> bool {
    let text = number.text;
    if is_international(number, text) {
        return true;
    }
    // A list of small numbers is none.
    let is_list = number.groups.len() > 6 || number.groups.iter().skip(1).any(|size| *size < 2);
    let is_named = || {
        !is_list
            && (7..=15).contains(&number.digits.len())
            && !number.gaps.contains(&Gap::Slash)
            && number.is_named(Category::Phone)
    };
    is_national(number, text) || is_named()
}

/// Where the number begins: with its plus sign, and the parenthesis that opens its first group.
pub(super) fn start(number: &Number<'_>) -> usize {
    let text = number.text;
    let opens = number.gaps.first() == Some(&Gap::Parenthesis);
    let start = match text.before(number.start) {
        Some(b'(') if opens => number.start - 1,
        _ => number.start,
    };
    start - usize::from(text.before(start) == Some(b'+'))
}

/// A plus sign or `00`, a country code, and a national number.
fn is_international(number: &Number<'_>, text: Text<'_>) -> bool {
    let has_plus = matches!(text.before(number.start), Some(b'+'))
        || text.slice(number.start.saturating_sub(2)..number.start) == b"+(";
    let digits = match number.digits {
        digits if has_plus => digits,
        // Without a plus sign the groups have to tell it.
        [b'0', b'0', digits @ ..] if number.groups.len() > 2 => digits,
        _ => return false,
    };
    // A slash separates an area from a number, and the parts of a date.
    let slashes = number.gaps.iter().filter(|gap| **gap == Gap::Slash).count();
    let is_valid = match digits {
        // Seven digits are a number within an area.
        [b'1', national @ ..] => national.len() == 10 && national.first() >= Some(&b'2'),
        _ => calling_code(digits).is_some(),
    };
    is_valid && slashes <= 1
}

fn is_national(number: &Number<'_>, text: Text<'_>) -> bool {
    let digits = number.digits;
    let has = |groups: &[u8]| number.groups == groups;
    let no_slash = !number.gaps.contains(&Gap::Slash);
    let opens = text.before(number.start) == Some(b'(');
    if is_end_of_other(text, number.start) {
        return false;
    }
    match digits {
        // North America: NPA-NXX-XXXX, with or without the 1 before it.
        [b'1', digits @ ..] if has(&[1, 3, 3, 4]) => no_slash && is_north_american(digits),
        _ if has(&[3, 3, 4]) && no_slash && is_north_american(digits) => true,
        // A trunk prefix: Europe, Japan, South Korea, Australia.
        [b'0', b'1'..=b'9', ..] => is_with_trunk_prefix(number, no_slash),
        // Mobile numbers in India and China.
        [b'6'..=b'9', ..] if has(&[5, 5]) => no_slash,
        [b'1', b'3'..=b'9', ..] if has(&[3, 4, 4]) => no_slash,
        // Brazil, with the area in parentheses.
        [b'1'..=b'9', ..] if opens && (has(&[2, 5, 4]) || has(&[2, 4, 4])) => no_slash,
        // Russia and Kazakhstan.
        [b'8', b'3' | b'4' | b'7' | b'8' | b'9', ..] => no_slash && has(&[1, 3, 3, 2, 2]),
        _ => false,
    }
}

/// After a hyphen, dot or slash it is the end of something longer.
fn is_end_of_other(text: Text<'_>, start: usize) -> bool {
    matches!(text.before(start), Some(b'-' | b'.' | b'/'))
}

/// The North American Numbering Plan: neither part begins with 0 or 1, and an area is not N11.
fn is_north_american(digits: &[u8]) -> bool {
    matches!(digits, [b'2'..=b'9', second, third, b'2'..=b'9', _, _, _, _, _, _]
        if (*second, *third) != (b'1', b'1'))
}

/// The digits of a number with a trunk prefix.
pub(super) const TRUNK_DIGITS: RangeInclusive<usize> = 9..=12;

/// Whether a number with a trunk prefix can begin with these digits and a second group of this size. Dates
/// and times, which have zeros as well, do not.
pub(super) fn can_have_trunk_prefix(text: Text<'_>, first: &Range<usize>, second: usize) -> bool {
    matches!(text.from(first.start), [b'0', b'1'..=b'9', ..])
        && (2..=5).contains(&first.len())
        && second >= 2
        && !is_end_of_other(text, first.start)
}

/// A zero, an area or operator, and a subscriber's number, in groups.
fn is_with_trunk_prefix(number: &Number<'_>, no_slash: bool) -> bool {
    let slash_after_area = number.gaps.first() == Some(&Gap::Slash)
        && !number.gaps.iter().skip(1).any(|gap| *gap == Gap::Slash);
    let groups = number.groups;
    let is_pairs = groups == [2, 2, 2, 2, 2];
    let is_area = groups.first().is_some_and(|size| (2..=5).contains(size))
        && groups.iter().skip(1).all(|size| *size >= 2)
        && groups.iter().skip(1).any(|size| *size >= 3);
    TRUNK_DIGITS.contains(&number.digits.len())
        && (2..=6).contains(&groups.len())
        && (is_pairs || is_area)
        && (no_slash || slash_after_area)
        && !(number.gaps.contains(&Gap::Dot)
            && (groups.len() == 2 || number.gaps.contains(&Gap::Hyphen)))
}

#[cfg(test)]
mod tests {
    use super::super::super::category::Categories;
    use super::super::number;
    use super::*;

    fn find_in(text: &str) -> Option<&str> {
        let wanted: Categories = [Category::Phone].into_iter().collect();
        let start = text.find(|char: char| char.is_ascii_digit())?;
        let found = number::tests::find_in(text, start, wanted)?;
        Some(&text[found.range])
    }

    #[test]
    fn numbers() {
        for number in [
            "+1 415 555 2671",
            "+14155552671",
            "+1 (415) 555-2671",
            "+44 20 7946 0958",
            "+49 30/901820",
            "+33 6 12 34 56 78",
            "+91 98765 43210",
            "+86 138 1234 5678",
            "+55 11 91234-5678",
            "+852 2123 4567",
            "0049 30 901820",
            "(415) 555-2671",
            "415-555-2671",
            "415.555.2671",
            "1-800-555-0199",
            "020 7946 0958",
            "07700 900123",
            "030/12345678",
            "06 12 34 56 78",
            "090-1234-5678",
            "010-1234-5678",
            "0412 345 678",
            "98765 43210",
            "138-1234-5678",
            "(11) 91234-5678",
            "8 912 345-67-89",
        ] {
            let text = format!("at {number}, x");
            assert_eq!(find_in(&text), Some(number), "{number}");
        }
        assert_eq!(find_in("phone: 4155552671"), Some("4155552671"));
        assert_eq!(find_in("Tel. 555 2671"), Some("555 2671"));
    }

    #[test]
    fn other_numbers() {
        for text in [
            "4155552671",
            "415 555 267",
            "111-222-3333",
            "2024-01-15 10:30",
            "01-02-2024",
            "15/01/2024 12",
            "1,234,567.89",
            "+12",
            "+999",
            "+33 6 12 34 56 7",
            "+34 612 34 56",
            "+999 123 456 789",
            "123-45-6789",
            "911-555-2671",
            "192.168.100.200",
            "id 12-3456789",
        ] {
            assert_eq!(find_in(text), None, "{text}");
        }
    }
}
