//! Aadhaar numbers. Source: UIDAI: twelve digits, the first 2 to 9, with Verhoeff's check digit.

use super::super::super::category::Category;
use super::super::number::{Gap, Number};
use super::super::{digit, distinct};

/// Verhoeff's multiplication table of the dihedral group D5.
const PRODUCTS: [[u8; 10]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
    [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
    [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
    [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
    [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
    [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
    [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
    [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
    [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
];
/// His permutations, by place from the right.
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

fn verhoeff(digits: &[u8]) -> bool {
    let lookup = |table: &[[u8; 10]], row: usize, column: usize| {
        table.get(row).and_then(|row| row.get(column)).copied().map(usize::from)
    };
    let check = digits.iter().rev().enumerate().try_fold(0, |check, (place, byte)| {
        let value = lookup(&PERMUTATIONS, place % 8, digit(*byte) as usize)?;
        lookup(&PRODUCTS, check, value)
    });
    check == Some(0)
}
