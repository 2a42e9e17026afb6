//! Identity numbers. Source: Department of Home Affairs, and the Identification Act 68 of 1997: date of
//! birth, four digits of sex and sequence, 0 for citizens and 1 for permanent residents, 8 or 9, and the
//! Luhn check.

use super::super::super::category::Category;
use super::super::number::{Gap, Number};
use super::super::{is_date, luhn, number_of};

/// `8001015009087`, `800101 5009 087`.
pub(in super::super) fn is_id(number: &Number<'_>) -> bool {
    let digits = number.digits;
    let [.., b'0' | b'1', b'8' | b'9', _] = digits else { return false };
    let is_written_so = (number.is_bare() && !can_be_timestamp(digits))
        || number.is_grouped(&[6, 4, 3], &[Gap::Blank])
        || number.is_grouped(&[6, 4, 2, 1], &[Gap::Blank])
        || number.is_named(Category::ZaId);
    let part = |from: usize, to: usize| number_of(digits.get(from..to).unwrap_or_default());
    // Of the years without a century only 00 could be a leap year in one of them, and it was.
    digits.len() == 13
        && is_written_so
        && is_date(2000 + part(0, 2), part(2, 4), part(4, 6))
        && luhn(digits)
}

/// Whether the digits can be milliseconds since 1970: those of 2017 to 2033 begin so.
fn can_be_timestamp(digits: &[u8]) -> bool {
    matches!(digits, [b'1', b'5'..=b'9', ..])
}
