//! CURP. Source: Instructivo Normativo para la Asignación de la Clave Única de Registro de Población
//! (Diario Oficial de la Federación, 18 October 2021): four letters of the name, date of birth, sex, state
//! of birth, three consonants of the name, a character that is a letter for people born since 2000, and a
//! check digit modulo 10.

use super::super::super::category::Category;
use super::super::{Detection, Text, digit, is_date, number_of};

/// The states, and NE for people born abroad.
const STATES: [&[u8; 2]; 33] = [
    b"AS", b"BC", b"BS", b"CC", b"CH", b"CL", b"CM", b"CS", b"DF", b"DG", b"GR", b"GT", b"HG",
    b"JC", b"MC", b"MN", b"MS", b"NE", b"NL", b"NT", b"OC", b"PL", b"QR", b"QT", b"SL", b"SP",
    b"SR", b"TC", b"TL", b"TS", b"VZ", b"YN", b"ZS",
];

/// A code of eighteen characters that begins at `start`, in any case.
pub(in super::super::super) fn find(text: Text<'_>, start: usize) -> Option<Detection> {
    let end = start + 18;
    let code: [u8; 18] = text.slice(start..end).try_into().ok()?;
    let is_code = text.ends_word(end)
        && text.starts_word(start)
        && is_valid(&code.map(|byte| byte.to_ascii_uppercase()));
    is_code.then_some(Detection { range: start..end, category: Category::MxCurp })
}

fn is_valid(code: &[u8; 18]) -> bool {
    let part = |from: usize, to: usize| code.get(from..to).unwrap_or_default();
    let is_form = part(0, 4).iter().all(u8::is_ascii_uppercase)
        && part(4, 10).iter().all(u8::is_ascii_digit)
        && matches!(code[10], b'H' | b'M' | b'X')
        && STATES.iter().any(|state| part(11, 13) == *state)
        && part(13, 16).iter().all(u8::is_ascii_uppercase)
        && code[16].is_ascii_alphanumeric()
        && code[17].is_ascii_digit();
    let century = if code[16].is_ascii_digit() { 1900 } else { 2000 };
    let year = century + number_of(part(4, 6));
    is_form
        && is_date(year, number_of(part(6, 8)), number_of(part(8, 10)))
        && digit(code[17]) == (10 - weighted_sum(code) % 10) % 10
}

/// The sum of the first seventeen characters, with weights from 18 down to 2. Letters have the values 10
/// to 36, in the Spanish alphabet: Ñ stands between N and O.
fn weighted_sum(code: &[u8; 18]) -> u32 {
    let value = |byte: u8| match byte {
        b'A'..=b'N' => u32::from(byte - b'A') + 10,
        b'O'..=b'Z' => u32::from(byte - b'A') + 11,
        _ => digit(byte),
    };
    code.iter().zip((2..=18).rev()).map(|(byte, weight)| value(*byte) * weight).sum()
}
