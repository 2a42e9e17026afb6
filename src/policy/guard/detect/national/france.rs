//! NIR (numéro de sécurité sociale). Source: INSEE: sex, year and month of birth, place, sequence, and a
//! key modulo 97. Corsica's departments 2A and 2B, which have letters, are not recognized.

use super::super::number::{Gap, Number};
use super::super::number_of;

pub(in super::super) fn is_nir(number: &Number<'_>) -> bool {
    let digits = number.digits;
    let is_written_so = number.is_bare()
        || number.is_grouped(&[1, 2, 2, 2, 3, 3, 2], &[Gap::Blank, Gap::Hyphen, Gap::Dot]);
    if digits.len() != 15 || !is_written_so {
        return false;
    }
    let part = |from: usize, to: usize| number_of(digits.get(from..to).unwrap_or_default());
    // Months above 12 stand for documents without one.
    let is_month = matches!(part(3, 5), 1..=12 | 20..=42 | 50..=99);
    let rest =
        digits.iter().take(13).fold(0, |rest, byte| (rest * 10 + u32::from(byte - b'0')) % 97);
    matches!(digits.first(), Some(b'1' | b'2' | b'3' | b'4' | b'7' | b'8'))
        && is_month
        && part(5, 7) != 0
        && part(13, 15) == 97 - rest
}
