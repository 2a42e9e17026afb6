//! International bank account numbers: ISO 13616, with the lengths of SWIFT's IBAN registry.

use super::super::category::Category;
use super::{Detection, Text};

/// The country and the length of its numbers.
const LENGTHS: [(&[u8; 2], usize); 88] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
];

/// The length of a country's numbers by its two letters; 0 for what is no country.
const BY_COUNTRY: [u8; 26 * 26] = {
    let mut table = [0; 26 * 26];
    let mut place = 0;
    while place < LENGTHS.len() {
        let ([first, second], length) = LENGTHS[place];
        table[(*first - b'A') as usize * 26 + (*second - b'A') as usize] = length as u8;
        place += 1;
    }
    table
};

/// The length of the numbers of the country with this code, in any case.
fn length_of(first: u8, second: u8) -> Option<usize> {
    let [first, second] = [first, second].map(|byte| usize::from((byte | 0x20).wrapping_sub(b'a')));
    let length =
        BY_COUNTRY.get(first * 26 + second).filter(|length| second < 26 && **length > 0)?;
    Some(usize::from(*length))
}

/// A number whose country begins at `start`, in one piece or in groups of four, in any case.
pub(in super::super) fn find(text: Text<'_>, start: usize) -> Option<Detection> {
    let length = length_of(text.at(start)?, text.at(start + 1)?)?;
    let mut characters = [0_u8; 34];
    let mut count = 0;
    let mut at = start;
    let mut is_grouped = None;
    while count < length {
        // A blank or hyphen after each four characters, or nowhere.
        if count > 0 && count % 4 == 0 {
            let is_gap = matches!(text.at(at), Some(b' ' | b'-'));
            if *is_grouped.get_or_insert(is_gap) != is_gap {
                return None;
            }
            at += usize::from(is_gap);
        }
        let byte = text.at(at).filter(u8::is_ascii_alphanumeric)?;
        *characters.get_mut(count)? = byte.to_ascii_uppercase();
        count += 1;
        at += 1;
    }
    let is_iban = text.ends_word(at) && mod_97(characters.get(..count)?) == Some(1);
    is_iban.then_some(Detection { range: start..at, category: Category::Iban })
}

/// ISO 7064, MOD 97-10: letters count as 10 to 35, and the first four characters as the last.
fn mod_97(characters: &[u8]) -> Option<u32> {
    let (head, tail) = characters.split_at_checked(4)?;
    tail.iter().chain(head).try_fold(0, |rest, byte| {
        let value = char::from(*byte).to_digit(36)?;
        Some((rest * if value > 9 { 100 } else { 10 } + value) % 97)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(text: &str) -> Option<&str> {
        Some(&text[find(Text::new(text.as_bytes()), 0)?.range])
    }

    #[test]
    fn numbers_of_the_registry() {
        for number in [
            "GB29 NWBK 6016 1331 9268 19",
            "DE89 3704 0044 0532 0130 00",
            "FR14 2004 1010 0505 0001 3M02 606",
            "NO93 8601 1117 947",
            "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
        ] {
            let bare = number.replace(' ', "");
            for written in
                [number.to_owned(), bare.clone(), bare.to_lowercase(), number.replace(' ', "-")]
            {
                assert_eq!(find_in(&format!("{written}, x")), Some(written.as_str()));
            }
            let wrong = bare.replacen('1', "2", 1);
            assert_eq!(find_in(&wrong), None);
            assert_eq!(find_in(&format!("{bare}1")), None);
        }
        assert_eq!(find_in("ZZ29NWBK60161331926819"), None);
    }

    #[test]
    fn countries() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let country = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
                let known = LENGTHS.iter().find(|(code, _)| **code == country);
                assert_eq!(length_of(first, second), known.map(|(_, length)| *length));
            }
        }
    }
}
