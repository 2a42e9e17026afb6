//! Addresses of Bitcoin (Base58Check; BIP 173 and BIP 350) and Ethereum (EIP-55).

use sha2::{Digest, Sha256};

use super::super::category::Category;
use super::keccak::keccak_256;
use super::{Detection, Text};

/// What a Bitcoin address in Bech32 begins with.
pub(in super::super) const BECH32_PREFIX: &str = "bc1";
/// BIP 173: the longest address, in characters.
const MAX_BECH32: usize = 90;
const BECH32_DIGITS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const BASE58_DIGITS: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// The address that a word beginning with a digit is, if it is one: `1...`, `3...` or `0x...`.
pub(in super::super) fn find_word(text: Text<'_>, start: usize, end: usize) -> Option<Detection> {
    let word = text.slice(start..end);
    let is_address = match word {
        [b'0', b'x', digits @ ..] => is_ethereum(digits),
        [b'1' | b'3', ..] => is_base58check(word),
        _ => false,
    };
    is_address.then_some(Detection { range: start..end, category: Category::CryptoAddress })
}

/// EIP-55: an address of mixed case has its checksum in the case of its letters.
fn is_ethereum(digits: &[u8]) -> bool {
    if digits.len() != 40 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return false;
    }
    let has = |is: fn(&u8) -> bool| digits.iter().any(is);
    // A number without letters, or zeros only, is not told from others.
    if !(has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase)) {
        return has(|byte| *byte != b'0');
    }
    let digest = keccak_256(&digits.to_ascii_lowercase());
    let halves = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.iter().zip(halves).all(|(digit, half)| {
        !digit.is_ascii_alphabetic() || digit.is_ascii_uppercase() == (half >= 8)
    })
}

/// 25 bytes: a version, the hash of a key or script, and four bytes of a double SHA-256.
fn is_base58check(word: &[u8]) -> bool {
    if !(26..=35).contains(&word.len()) {
        return false;
    }
    let mut bytes = [0_u8; 25];
    for character in word {
        let Some(value) = BASE58_DIGITS.iter().position(|digit| digit == character) else {
            return false;
        };
        let mut carry = value as u32;
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return false;
        }
    }
    let (payload, checksum) = bytes.split_at(21);
    let digest = Sha256::digest(Sha256::digest(payload));
    matches!(payload.first(), Some(0 | 5)) && digest.starts_with(checksum)
}

/// The address that begins at `start`, in one letter case.
pub(in super::super) fn find_bech32(text: Text<'_>, start: usize) -> Option<Detection> {
    if !text.starts_word(start) {
        return None;
    }
    let end = text.run_end(start, MAX_BECH32 + 1, |byte| byte.is_ascii_alphanumeric());
    let word = text.slice(start..end);
    let is_one_case =
        !word.iter().any(u8::is_ascii_uppercase) || !word.iter().any(u8::is_ascii_lowercase);
    let digits = word.get(BECH32_PREFIX.len()..)?;
    let is_address = is_one_case && (14..=87).contains(&digits.len()) && is_bech32(digits);
    is_address.then_some(Detection { range: start..end, category: Category::CryptoAddress })
}

/// Whether the digits after `bc1` have the checksum of BIP 173 (1) or BIP 350.
fn is_bech32(digits: &[u8]) -> bool {
    const GENERATORS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let step = |checksum: u32, value: u32| {
        let top = checksum >> 25;
        let bits = (0..).zip(GENERATORS).filter(|(bit, _)| top >> bit & 1 == 1);
        bits.fold((checksum & 0x01ff_ffff) << 5 ^ value, |checksum, (_, generator)| {
            checksum ^ generator
        })
    };
    let prefix = b"bc";
    let mut checksum = 1;
    checksum = prefix.iter().fold(checksum, |checksum, byte| step(checksum, u32::from(byte >> 5)));
    checksum = step(checksum, 0);
    checksum = prefix.iter().fold(checksum, |checksum, byte| step(checksum, u32::from(byte & 31)));
    for digit in digits {
        let digit = digit.to_ascii_lowercase();
        let Some(value) = BECH32_DIGITS.iter().position(|known| *known == digit) else {
            return false;
        };
        checksum = step(checksum, value as u32);
    }
    matches!(checksum, 1 | 0x2bc8_30a3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> bool {
        find_word(Text::new(text.as_bytes()), 0, text.len()).is_some()
    }

    fn bech32(text: &str) -> bool {
        find_bech32(Text::new(text.as_bytes()), 0).is_some()
    }

    /// Addresses of the proposals themselves.
    #[test]
    fn addresses() {
        assert!(word("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"));
        assert!(word("3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy"));
        assert!(word("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"));
        assert!(word("0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"));
        assert!(bech32("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"));
        assert!(bech32("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4"));
        assert!(bech32("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"));
    }

    #[test]
    fn wrong_checksums() {
        assert!(!word("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb"));
        assert!(!word("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD"));
        assert!(!word("0x0000000000000000000000000000000000000000"));
        assert!(!word("1111111111111111111111111111111111"));
        assert!(!bech32("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"));
        assert!(!bech32("bc1Qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"));
    }
}
