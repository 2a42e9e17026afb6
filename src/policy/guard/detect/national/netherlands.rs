//! BSN. Source: Logisch Ontwerp BSN, "elfproef": nine digits with weights, the last negative, a multiple
//! of 11.

use super::super::super::category::Category;
use super::super::number::Number;
use super::super::{digit, weighted};

pub(in super::super) fn is_bsn(number: &Number<'_>) -> bool {
    let [digits @ .., check] = number.digits else { return false };
    digits.len() == 8
        && digits.iter().any(|byte| *byte != b'0')
        && weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11 == digit(*check)
        && number.is_named(Category::NlBsn)
}
