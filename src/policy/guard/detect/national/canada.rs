//! Social insurance numbers. Source: Government of Canada: nine digits with the Luhn check; none begins
//! with 8, and 0 is not issued.

use super::super::super::category::Category;
use super::super::luhn;
use super::super::number::Number;

pub(in super::super) fn is_sin(number: &Number<'_>) -> bool {
    number.digits.len() == 9
        && !matches!(number.digits, [b'0' | b'8', ..])
        && luhn(number.digits)
        && number.is_named(Category::CaSin)
}
