//! CPF and CNPJ. Source: Receita Federal, the check digits of both registers (weights, modulo 11).

use super::super::super::category::Category;
use super::super::number::{Gap, Number};
use super::super::{digit, distinct, weighted};

/// `123.456.789-09`, or eleven digits after the name.
pub(in super::super) fn is_cpf(number: &Number<'_>) -> bool {
    let is_written_so = number.groups == [3, 3, 3, 2]
        && matches!(number.gaps, [Gap::Dot, Gap::Dot, Gap::Hyphen])
        || number.is_named(Category::BrCpf);
    let weights = [11, 10, 9, 8, 7, 6, 5, 4, 3, 2];
    number.digits.len() == 11
        && is_written_so
        && has_check_digits(number.digits, &weights)
        && distinct(number.digits) > 1
}

/// `12.345.678/0001-95`, or fourteen digits after the name.
pub(in super::super) fn is_cnpj(number: &Number<'_>) -> bool {
    let is_written_so = number.groups == [2, 3, 3, 4, 2]
        && matches!(number.gaps, [Gap::Dot, Gap::Dot, Gap::Slash, Gap::Hyphen])
        || number.is_named(Category::BrCnpj);
    let weights = [6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2];
    number.digits.len() == 14
        && is_written_so
        && has_check_digits(number.digits, &weights)
        && distinct(number.digits) > 1
}

/// Both check digits; the first one's weights are those of the second without the first of them.
fn has_check_digits(digits: &[u8], weights: &[u32]) -> bool {
    let check = |count: usize| {
        let weights = weights.get(weights.len().saturating_sub(count)..).unwrap_or_default();
        let rest = weighted(digits.get(..count).unwrap_or_default(), weights) % 11;
        let expected = if rest < 2 { 0 } else { 11 - rest };
        digits.get(count).is_some_and(|byte| digit(*byte) == expected)
    };
    check(weights.len() - 1) && check(weights.len())
}
