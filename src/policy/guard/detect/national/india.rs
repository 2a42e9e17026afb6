//! Aadhaar numbers. Source: UIDAI: twelve digits, the first 2 to 9, with Verhoeff's check digit.

use super::super::super::category::Category;
use super::super::number::{Gap, Number};
use super::super::{digit, distinct};

/// Verhoeff's permutations, by place from the right.
const PERMUTATIONS: [[u8; 10]; 8] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
    [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
    [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
    [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
    [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
    [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
    [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
];

/// `2345 6789 0124`, or twelve digits after the name.
pub(in super::super) fn is_aadhaar(number: &Number<'_>) -> bool {
    let digits = number.digits;
    digits.len() == 12
        && matches!(digits, [b'2'..=b'9', ..])
        && (number.is_grouped(&[4, 4, 4], &[Gap::Blank, Gap::Hyphen])
            || number.is_named(Category::InAadhaar))
        && verhoeff(digits)
        && distinct(digits) > 2
}

/// Verhoeff's check: the product in the dihedral group D5 of the permuted digits, from the right, is 0. The
/// digits 0 to 4 are rotations, 5 to 9 the same after a reflection, which turns what follows around.
fn verhoeff(digits: &[u8]) -> bool {
    let mut rotation = 0;
    let mut is_reflected = false;
    for (permutation, byte) in PERMUTATIONS.iter().cycle().zip(digits.iter().rev()) {
        let value = permutation.get(digit(*byte) as usize).copied().unwrap_or_default();
        let turn = i32::from(value % 5);
        rotation += if is_reflected { -turn } else { turn };
        is_reflected ^= value >= 5;
    }
    !is_reflected && rotation % 5 == 0
}
