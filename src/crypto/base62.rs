//! Base 62: letters and digits only, so that keys can be selected with a double click and need no escaping
//! in URLs and shells.

use zeroize::Zeroizing;

use super::random::{Random, RandomError};

/// Digits in the order of their values.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The number of characters of 256 bits: 62^43 is just above 2^256.
pub(super) const CHARS_256_BIT: usize = 43;

/// The number of characters of 32 bits: 62^6 is 5.7e10.
pub(super) const CHARS_32_BIT: usize = 6;

fn digit(value: u32) -> u8 {
    // `value % 62` is always in range; the fallback is never used.
    DIGITS.get((value % 62) as usize).copied().unwrap_or(b'0')
}

/// Writes a big-endian 256-bit number with a fixed number of digits.
pub(super) fn encode_256(mut number: Zeroizing<[u8; 32]>) -> Zeroizing<[u8; CHARS_256_BIT]> {
    let mut text = Zeroizing::new([b'0'; CHARS_256_BIT]);
    for place in text.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in number.iter_mut() {
            let dividend = (remainder << 8) | u32::from(*byte);
            *byte = (dividend / 62) as u8;
            remainder = dividend % 62;
        }
        *place = digit(remainder);
    }
    text
}

/// Writes a 32-bit number with a fixed number of digits.
pub(super) fn encode_32(mut number: u32) -> [u8; CHARS_32_BIT] {
    let mut text = [b'0'; CHARS_32_BIT];
    for place in text.iter_mut().rev() {
        *place = digit(number);
        number /= 62;
    }
    text
}

/// Random characters, each of the 62 equally likely.
pub(super) fn random_chars<const N: usize>(
    random: &mut Random<'_>,
) -> Result<[u8; N], RandomError> {
    // 248 is the largest multiple of 62 in a byte. Higher bytes are replaced by new ones, so that every
    // character is equally likely.
    const FAIR: u8 = 248;
    let mut text = [b'0'; N];
    for place in &mut text {
        let mut byte = [u8::MAX];
        while byte[0] >= FAIR {
            random(&mut byte)?;
        }
        *place = digit(u32::from(byte[0]));
    }
    Ok(text)
}

/// Whether every byte is a digit of base 62.
pub(super) fn is_base62(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_and_largest_numbers_have_the_fixed_width() {
        assert_eq!(&encode_256(Zeroizing::new([0; 32]))[..], "0".repeat(43).as_bytes());
        assert_eq!(encode_32(u32::MAX), *b"4gfFC3");
        assert_eq!(encode_32(61), *b"00000z");
        let mut one = [0; 32];
        one[31] = 62;
        assert_eq!(&encode_256(Zeroizing::new(one))[41..], b"10");
        // 2^256 - 1 still fits: its first digit is below the highest one.
        assert!(encode_256(Zeroizing::new([0xff; 32]))[0] <= b'z');
    }

    #[test]
    fn random_characters_are_unbiased() {
        let mut bytes = [255u8, 248, 247, 0].into_iter();
        let mut random = |buffer: &mut [u8]| {
            buffer[0] = bytes.next().unwrap();
            Ok(())
        };
        assert_eq!(random_chars::<2>(&mut random).unwrap(), *b"z0");
    }
}
