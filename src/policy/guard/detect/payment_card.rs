//! Payment card numbers: ISO/IEC 7812, with the ranges and lengths that the card networks publish.

use super::number::Number;
use super::{distinct, luhn, number_of};

/// The first and last beginning of a range, written with the same number of digits, and the lengths of
/// its numbers.
type Range = (u32, u32, &'static [usize]);

/// The networks' ranges.
const RANGES: [Range; 22] = [
    // Visa
    (4, 4, &[13, 16, 19]),
    // Mastercard
    (51, 55, &[16]),
    (2221, 2720, &[16]),
    // American Express
    (34, 34, &[15]),
    (37, 37, &[15]),
    // Discover, and RuPay within its ranges
    (6011, 6011, &[16, 17, 18, 19]),
    (644, 649, &[16, 17, 18, 19]),
    (65, 65, &[16, 17, 18, 19]),
    (60, 60, &[16]),
    // Diners Club
    (300, 305, &[14, 16, 17, 18, 19]),
    (36, 36, &[14, 15, 16, 17, 18, 19]),
    (38, 39, &[14, 16, 17, 18, 19]),
    // JCB
    (3528, 3589, &[16, 17, 18, 19]),
    // UnionPay, and RuPay
    (62, 62, &[16, 17, 18, 19]),
    (81, 82, &[16, 17, 18, 19]),
    (508, 508, &[16]),
    // Maestro
    (5018, 5038, &[13, 14, 15, 16, 17, 18, 19]),
    (5893, 5893, &[13, 14, 15, 16, 17, 18, 19]),
    (6304, 6304, &[13, 14, 15, 16, 17, 18, 19]),
    (6759, 6763, &[13, 14, 15, 16, 17, 18, 19]),
    // Mir
    (2200, 2204, &[16, 17, 18, 19]),
    // Troy
    (9792, 9792, &[16]),
];

/// The lengths that a number can have, a bit each, by its first two digits.
const LENGTHS: [u32; 100] = {
    let mut table = [0; 100];
    let mut place = 0;
    while place < RANGES.len() {
        let (first, last, lengths) = RANGES[place];
        let (from, to) = match first {
            0..10 => (first * 10, last * 10 + 9),
            10..100 => (first, last),
            100..1000 => (first / 10, last / 10),
            _ => (first / 100, last / 100),
        };
        let mut length = 0;
        while length < lengths.len() {
            let mut beginning = from;
            while beginning <= to {
                table[beginning as usize] |= 1 << lengths[length];
                beginning += 1;
            }
            length += 1;
        }
        place += 1;
    }
    table
};

/// The lengths that numbers can have that begin with these digits, a bit each.
pub(super) fn lengths(digits: &[u8]) -> u32 {
    let beginning = number_of(digits.get(..2).unwrap_or_default());
    LENGTHS.get(beginning as usize).copied().unwrap_or_default()
}

/// Whether the number has a network's beginning and length, and the Luhn check.
pub(super) fn is_card(number: &Number<'_>) -> bool {
    let digits = number.digits;
    let beginning = |width: usize| number_of(digits.get(..width).unwrap_or_default());
    // Most numbers end here, and the ranges are many.
    if lengths(digits) >> digits.len() & 1 == 0 || !luhn(digits) {
        return false;
    }
    let is_written_so = number.is_bare()
        || (number.groups.iter().all(|size| (3..=6).contains(size))
            && number.gaps.windows(2).all(|gaps| gaps.first() == gaps.last()));
    // With a plus sign before it, it is a phone number, unless it is too long for one.
    let is_phone = number.text.before(number.start) == Some(b'+') && digits.len() <= 15;
    let is_issued = || {
        RANGES.iter().any(|(first, last, lengths)| {
            let width = first.checked_ilog10().unwrap_or_default() as usize + 1;
            lengths.contains(&digits.len()) && (*first..=*last).contains(&beginning(width))
        })
    };
    is_written_so && !is_phone && is_issued() && distinct(digits) > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_ranges() {
        for (first, last, lengths) in RANGES {
            for beginning in [first, last] {
                let digits = format!("{beginning}0");
                let known = LENGTHS[number_of(&digits.as_bytes()[..2]) as usize];
                assert!(lengths.iter().all(|length| known >> length & 1 == 1), "{beginning}");
            }
        }
        let unknown = [0, 1, 7, 40].map(|beginning| LENGTHS[beginning]);
        assert_eq!(unknown[..3], [0; 3]);
        assert_eq!(unknown[3], 1 << 13 | 1 << 16 | 1 << 19);
    }
}
