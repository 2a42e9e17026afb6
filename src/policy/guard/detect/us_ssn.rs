//! US social security numbers. Source: Social Security Administration, POMS RM 10201.035, on numbers
//! that are not assigned.

use super::super::category::Category;
use super::number::{Gap, Number};
use super::number_of;

/// Numbers of advertisements, which nobody has.
const ADVERTISED: [&[u8]; 2] = [b"078051120", b"219099999"];

/// Whether it is grouped like a number, or named, and can be assigned.
pub(super) fn is_ssn(number: &Number<'_>) -> bool {
    let digits = number.digits;
    if digits.len() != 9 || !is_assignable(digits) {
        return false;
    }
    number.is_grouped(&[3, 2, 4], &[Gap::Hyphen, Gap::Blank])
        || (number.is_bare() && number.is_named(Category::UsSsn))
}

fn is_assignable(digits: &[u8]) -> bool {
    let part = |from: usize, to: usize| number_of(digits.get(from..to).unwrap_or_default());
    let (area, group, serial) = (part(0, 3), part(3, 5), part(5, 9));
    area != 0
        && area != 666
        && area < 900
        && group != 0
        && serial != 0
        && !ADVERTISED.contains(&digits)
}
