//! Codice fiscale. Source: Decreto ministeriale 23 dicembre 1976: six letters of the name, year, month
//! and day of birth, place, and a check letter.

use super::super::super::category::Category;
use super::super::{Detection, Text};

/// The values of digits and letters at odd places: 0 to 9, and A to Z with the same beginning.
const ODD: [u32; 26] =
    [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
/// The letters that stand for digits where two people would have the same code.
const DIGIT_LETTERS: &[u8; 10] = b"LMNPQRSTUV";
const MONTHS: &[u8; 12] = b"ABCDEHLMPRST";

/// A code of sixteen characters that begins at `start`, in any case.
pub(in super::super::super) fn find(text: Text<'_>, start: usize) -> Option<Detection> {
    let end = start + 16;
    let code: [u8; 16] = text.slice(start..end).try_into().ok()?;
    let is_code = text.ends_word(end)
        && text.starts_word(start)
        && is_valid(&code.map(|byte| byte.to_ascii_uppercase()));
    is_code.then_some(Detection { range: start..end, category: Category::ItCodiceFiscale })
}

fn is_valid(code: &[u8; 16]) -> bool {
    let is_letter = |places: std::ops::Range<usize>| {
        code.get(places).is_some_and(|part| part.iter().all(u8::is_ascii_uppercase))
    };
    let is_number = |places: &[usize]| {
        places.iter().all(|place| code.get(*place).is_some_and(|byte| is_digit(*byte)))
    };
    let sum: u32 = code
        .iter()
        .take(15)
        .enumerate()
        .filter_map(|(place, byte)| {
            let value = match byte {
                b'0'..=b'9' => byte - b'0',
                _ => byte.checked_sub(b'A')?,
            };
            if place % 2 == 0 {
                ODD.get(usize::from(value)).copied()
            } else {
                Some(u32::from(value))
            }
        })
        .sum();
    let day = code.get(9..11).map_or(0, |day| {
        day.iter().fold(0, |number, byte| number * 10 + u32::from(digit_value(*byte)))
    });
    is_letter(0..6)
        && is_letter(11..12)
        && is_number(&[6, 7, 9, 10, 12, 13, 14])
        && MONTHS.contains(&code[8])
        && matches!(day, 1..=31 | 41..=71)
        && u32::from(code[15]) == sum % 26 + u32::from(b'A')
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || DIGIT_LETTERS.contains(&byte)
}

fn digit_value(byte: u8) -> u8 {
    let letter = DIGIT_LETTERS.iter().position(|letter| *letter == byte);
    letter.map_or(byte.wrapping_sub(b'0'), |value| value as u8)
}
