//! Resident registration numbers. Source: Enforcement rule of the Resident Registration Act: date of
//! birth, century and sex, and a check digit modulo 11. Numbers given since October 2020 have random
//! digits instead, so that one without the check digit counts after a telling name.

use super::super::super::category::Category;
use super::super::number::{Gap, Number};
use super::super::{digit, is_date, number_of, weighted};

const WEIGHTS: [u32; 12] = [2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5];

pub(in super::super) fn is_rrn(number: &Number<'_>) -> bool {
    let digits = number.digits;
    let is_written_so = number.is_grouped(&[6, 7], &[Gap::Hyphen]) || number.is_bare();
    if digits.len() != 13 || !is_written_so {
        return false;
    }
    let part = |from: usize, to: usize| number_of(digits.get(from..to).unwrap_or_default());
    let century = match part(6, 7) {
        1 | 2 | 5 | 6 => 1900,
        3 | 4 | 7 | 8 => 2000,
        _ => return false,
    };
    if !is_date(century + part(0, 2), part(2, 4), part(4, 6)) {
        return false;
    }
    // Foreigners' numbers have two more.
    let offset = if part(6, 7) > 4 { 13 } else { 11 };
    let check = (offset - weighted(digits, &WEIGHTS) % 11) % 10;
    let has_check_digit = digits.last().is_some_and(|byte| digit(*byte) == check);
    has_check_digit && !number.is_bare() || number.is_named(Category::KrRrn)
}
