//! Tax identification numbers. Source: Bundeszentralamt für Steuern: eleven digits, of the first ten one
//! occurs two or three times and all others at most once, and a check digit by ISO 7064, MOD 11,10.

use super::super::super::category::Category;
use super::super::digit;
use super::super::number::{Gap, Number};

/// `12 345 678 903`, or eleven digits after the name.
pub(in super::super) fn is_tax_id(number: &Number<'_>) -> bool {
    let digits = number.digits;
    digits.len() == 11
        && digits.first() != Some(&b'0')
        && (number.is_grouped(&[2, 3, 3, 3], &[Gap::Blank]) || number.is_named(Category::DeTaxId))
        && has_one_repetition(digits)
        && has_check_digit(digits)
}

fn has_one_repetition(digits: &[u8]) -> bool {
    let mut counts = [0_u8; 10];
    for byte in digits.iter().take(10) {
        if let Some(count) = counts.get_mut(digit(*byte) as usize) {
            *count += 1;
        }
    }
    counts.iter().filter(|count| **count > 1).count() == 1 && counts.iter().all(|count| *count <= 3)
}

fn has_check_digit(digits: &[u8]) -> bool {
    let product = digits.iter().take(10).fold(10, |product, byte| {
        let sum = (digit(*byte) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    let check = (11 - product) % 10;
    digits.last().is_some_and(|byte| digit(*byte) == check)
}
