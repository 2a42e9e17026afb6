//! My Number. Source: Ordinance of the Ministry of Internal Affairs and Communications No. 85 of 2014,
//! article 5: twelve digits, the last a check digit modulo 11.

use super::super::super::category::Category;
use super::super::number::Number;
use super::super::{digit, weighted};

pub(in super::super) fn is_my_number(number: &Number<'_>) -> bool {
    let [digits @ .., check] = number.digits else { return false };
    if digits.len() != 11 {
        return false;
    }
    let rest = weighted(digits, &[6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
    let expected = if rest < 2 { 0 } else { 11 - rest };
    digit(*check) == expected && number.is_named(Category::JpMyNumber)
}
