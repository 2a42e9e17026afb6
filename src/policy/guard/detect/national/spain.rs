//! DNI and NIE. Source: Ministerio del Interior: eight digits (of an NIE the first is X, Y or Z) and a
//! letter, which is the number modulo 23.

use super::super::super::category::Category;
use super::super::{Detection, Text, number_of};

const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";

/// A number whose digits begin at `digits`: `12345678Z`, `12345678-Z`, `X1234567L`.
pub(in super::super::super) fn find(text: Text<'_>, digits: usize) -> Option<Detection> {
    let end = text.run_end(digits, 9, |byte| byte.is_ascii_digit());
    let letter = match text.before(digits).map(|byte| byte.to_ascii_uppercase()) {
        Some(byte @ b'X'..=b'Z') if end - digits == 7 => Some(byte),
        // `X-1234567-L`
        Some(b'-') if end - digits == 7 => {
            let letter = text.at(digits.checked_sub(2)?)?.to_ascii_uppercase();
            Some(letter).filter(|letter| matches!(letter, b'X'..=b'Z'))
        }
        _ => None,
    };
    let (start, number) = match letter {
        Some(letter) => {
            let number = u32::from(letter - b'X') * 10_000_000 + number_of(text.slice(digits..end));
            let width = if text.before(digits) == Some(b'-') { 2 } else { 1 };
            (digits.checked_sub(width)?, number)
        }
        None if end - digits == 8 => (digits, number_of(text.slice(digits..end))),
        None => return None,
    };
    let check = end + usize::from(matches!(text.at(end), Some(b'-' | b' ')));
    let expected = LETTERS.get((number % 23) as usize)?;
    let is_number = text.at(check) == Some(*expected)
        || (text.at(check)?.to_ascii_uppercase() == *expected && check == end);
    (is_number && text.starts_word(start) && text.ends_word(check + 1))
        .then_some(Detection { range: start..check + 1, category: Category::EsDni })
}
