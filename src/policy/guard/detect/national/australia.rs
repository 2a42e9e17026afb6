//! Tax file numbers. Source: Australian Taxation Office, "TFN validation": nine digits with weights,
//! a multiple of 11.

use super::super::super::category::Category;
use super::super::number::Number;
use super::super::weighted;

pub(in super::super) fn is_tfn(number: &Number<'_>) -> bool {
    number.digits.len() == 9
        && weighted(number.digits, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
        && number.is_named(Category::AuTfn)
}
