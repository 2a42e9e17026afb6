//! CUIT and CUIL. Source: Administración Federal de Ingresos Públicos: two digits for men, women and
//! companies, the number of the identity document or company, and a check digit modulo 11. Numbers whose
//! check digit would be 10 are not given.

use super::super::super::category::Category;
use super::super::number::{Gap, Number};
use super::super::{number_of, weighted};

/// `20-12345678-6`, or eleven digits after the name.
pub(in super::super) fn is_cuit(number: &Number<'_>) -> bool {
    let digits = number.digits;
    let kind = number_of(digits.get(..2).unwrap_or_default());
    digits.len() == 11
        && (number.is_grouped(&[2, 8, 1], &[Gap::Hyphen]) || number.is_named(Category::ArCuit))
        && matches!(kind, 20 | 23..=27 | 30 | 33 | 34)
        && weighted(digits, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}
