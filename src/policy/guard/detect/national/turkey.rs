//! T.C. Kimlik No. Source: Nüfus ve Vatandaşlık İşleri, the number of the register MERNİS: eleven digits,
//! not beginning with 0, of which the last two are check digits modulo 10.

use super::super::super::category::Category;
use super::super::number::Number;
use super::super::{digit, weighted};

pub(in super::super) fn is_kimlik(number: &Number<'_>) -> bool {
    let [digits @ .., first_check, second_check] = number.digits else { return false };
    // The digits at even places count minus one, which is 9 modulo 10.
    digits.len() == 9
        && digits.first() != Some(&b'0')
        && weighted(digits, &[7, 9, 7, 9, 7, 9, 7, 9, 7]) % 10 == digit(*first_check)
        && weighted(number.digits, &[1; 10]) % 10 == digit(*second_check)
        && number.is_named(Category::TrKimlik)
}
