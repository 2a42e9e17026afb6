//! INN and SNILS.

use super::super::super::category::Category;
use super::super::number::{Gap, Number};
use super::super::{digit, distinct, number_of, weighted};

const INN_WEIGHTS: [u32; 11] = [3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8];
/// SNILS up to this number were given without a check.
const LAST_UNCHECKED: u32 = 1_001_998;

/// Taxpayers. Source: Federal Tax Service, order MMV-7-6/435 of 29 June 2012: ten digits of companies with
/// one check digit, twelve of people with two, modulo 11.
pub(in super::super) fn is_inn(number: &Number<'_>) -> bool {
    let digits = number.digits;
    // All checks have the same weights, of which those of shorter beginnings lack the first ones.
    let has_check = |place: usize| {
        let weights = INN_WEIGHTS.get(INN_WEIGHTS.len() - place..).unwrap_or_default();
        let rest = weighted(digits, weights) % 11 % 10;
        digits.get(place).is_some_and(|check| digit(*check) == rest)
    };
    let has_checks = match digits.len() {
        10 => has_check(9),
        12 => has_check(10) && has_check(11),
        _ => false,
    };
    has_checks && number.is_named(Category::RuInn) && distinct(digits) > 1
}

/// Pension accounts. Source: Pension Fund, formats of employers' reports, section 8: nine digits and their
/// weighted sum modulo 101. `112-233-445 95`, or eleven digits after the name.
pub(in super::super) fn is_snils(number: &Number<'_>) -> bool {
    let is_written_so = number.groups == [3, 3, 3, 2]
        && matches!(number.gaps, [Gap::Hyphen, Gap::Hyphen, Gap::Blank | Gap::Hyphen])
        || number.is_named(Category::RuSnils);
    let Some((account, check)) = number.digits.split_at_checked(9) else { return false };
    check.len() == 2
        && is_written_so
        && number_of(account) > LAST_UNCHECKED
        && weighted(account, &[9, 8, 7, 6, 5, 4, 3, 2, 1]) % 101 % 100 == number_of(check)
}
