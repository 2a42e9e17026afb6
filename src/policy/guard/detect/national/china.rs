//! Resident identity numbers. Source: GB 11643-1999: area, date of birth, sequence, and a check
//! character by ISO 7064, MOD 11-2, which may be X.

use super::super::super::category::Category;
use super::super::number::Number;
use super::super::{Detection, Text, is_date, number_of, weighted};

const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
/// The check characters in the order of the rest.
const CHECKS: &[u8; 11] = b"10X98765432";

/// Eighteen digits in one piece.
pub(in super::super) fn is_resident_id(number: &Number<'_>) -> bool {
    number.is_bare() && is_valid(number.digits)
}

/// Seventeen digits and an X.
pub(in super::super::super) fn find_word(
    text: Text<'_>,
    start: usize,
    end: usize,
) -> Option<Detection> {
    let word = text.slice(start..end);
    is_valid(word).then_some(Detection { range: start..end, category: Category::CnResidentId })
}

fn is_valid(word: &[u8]) -> bool {
    let [digits @ .., check] = word else { return false };
    if digits.len() != 17 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let part = |from: usize, to: usize| number_of(digits.get(from..to).unwrap_or_default());
    let year = part(6, 10);
    let expected = CHECKS.get((weighted(digits, &WEIGHTS) % 11) as usize);
    expected == Some(&check.to_ascii_uppercase())
        && (1..=9).contains(&part(0, 1))
        && (1850..2150).contains(&year)
        && is_date(year, part(10, 12), part(12, 14))
}
