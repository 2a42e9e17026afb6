//! PESEL. Source: Ustawa o ewidencji ludności, and its register: date of birth with the century in the
//! month, sequence, and a check digit modulo 10. Only people born from 1900 to 2099 have one.

use super::super::number::Number;
use super::super::{digit, is_date, number_of, weighted};

pub(in super::super) fn is_pesel(number: &Number<'_>) -> bool {
    let digits = number.digits;
    if digits.len() != 11 || !number.is_bare() {
        return false;
    }
    let part = |from: usize, to: usize| number_of(digits.get(from..to).unwrap_or_default());
    let (century, month) = match part(2, 4) {
        month @ 1..=12 => (1900, month),
        month @ 21..=32 => (2000, month - 20),
        _ => return false,
    };
    let check = (10 - weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]) % 10) % 10;
    is_date(century + part(0, 2), month, part(4, 6))
        && digits.last().is_some_and(|byte| digit(*byte) == check)
}
