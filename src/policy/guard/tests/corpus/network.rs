//! Addresses of people and of machines.

use sha2::{Digest, Sha256};

use super::{Kind, Random};
use crate::policy::guard::category::Category;

pub(super) fn kinds() -> Vec<Kind> {
    let kind = |category, value, near_miss| Kind { category, name: "", value, near_miss };
    vec![
        kind(Category::Email, email, |random| match random.below(5) {
            0 => format!("@{}", random.text("abcxyz_", 8)),
            1 => format!("{}@{}", random.text("abcxyz", 5), random.text("abcxyz", 8)),
            2 => format!("icon-{}@2x.png", random.text("abc", 3)),
            3 => format!(
                "pkg-{}@{}.{}.{}",
                random.text("abc", 3),
                random.below(9),
                random.below(9),
                random.below(9)
            ),
            _ => format!("{}@-{}.com", random.text("abcxyz", 5), random.text("abcxyz", 8)),
        }),
        kind(Category::IpAddress, ip_address, |random| match random.below(5) {
            0 => format!(
                "{}.{}.{}.{}",
                random.below(200),
                256 + random.below(99),
                random.below(9),
                random.below(9)
            ),
            1 => format!("{}.{}.{}", random.below(99), random.below(99), random.below(99)),
            2 => format!(
                "{}.{}.{}.{}.{}",
                random.below(9),
                random.below(9),
                random.below(9),
                random.below(9),
                random.below(9)
            ),
            3 => format!("{:02}:{:02}:{:02}", random.below(24), random.below(60), random.below(60)),
            _ => format!("std::{}", random.text("abcdef", 4)),
        }),
        kind(
            Category::MacAddress,
            |random| {
                let separator = random.pick(&[":", "-"]);
                let pairs: Vec<String> =
                    (0..6).map(|_| format!("{}{}", random.digits(1), random.hex(1))).collect();
                pairs.join(separator)
            },
            |random| {
                let separator = random.pick(&[":", "-"]);
                let count = random.pick(&[5_usize, 7]);
                let pairs: Vec<String> = (0..count).map(|_| random.hex(2)).collect();
                pairs.join(separator)
            },
        ),
        kind(
            Category::CryptoAddress,
            |random| match random.below(4) {
                0 => bech32(random, 0),
                1 => format!("0x{}a", random.hex(39)),
                2 => random.pick(&ETHEREUM).to_owned(),
                _ => bitcoin(random, 0),
            },
            |random| match random.below(4) {
                0 => bech32(random, 1),
                1 => {
                    let length = random.pick(&[38, 39, 41, 42]);
                    format!("0x{}", random.hex(length))
                }
                2 => {
                    // One letter in the other case.
                    let address = random.pick(&ETHEREUM);
                    let letters: Vec<usize> = (2..42)
                        .filter(|at| address.as_bytes()[*at].is_ascii_alphabetic())
                        .collect();
                    let at = random.pick(&letters);
                    let mut bytes = address.as_bytes().to_vec();
                    bytes[at] ^= 0x20;
                    String::from_utf8(bytes).unwrap()
                }
                _ => bitcoin(random, 1),
            },
        ),
    ]
}

fn email(random: &mut Random) -> String {
    let local = format!("{}{}", random.text("abcxyz", 1), random.text("abcxyz0123456789._+-", 8));
    let local = format!("{}{}", local.replace("..", "x"), random.text("abc", 1)).replace("..", "x");
    let top = random.pick(&["com", "org", "de", "co.uk", "io", "museum"]);
    format!("{local}@{}.{top}", random.text("abcxyz", 8))
}

fn ip_address(random: &mut Random) -> String {
    let mut octet = || random.below(256);
    match octet() % 3 {
        0 => {
            let groups: Vec<String> = (0..6).map(|_| format!("{:x}", 16 + octet() * 200)).collect();
            format!("2001:db8:{}", groups.join(":"))
        }
        1 => format!("2001:db8::{:x}:{:x}", 16 + octet(), 16 + octet()),
        _ => format!("{}.{}.{}.{}", 1 + octet() % 120, octet(), octet(), octet()),
    }
}

/// The addresses that EIP-55 gives as examples.
const ETHEREUM: [&str; 4] = [
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
];

/// BIP 173: version 0, 20 bytes in base 32, and six digits of a checksum; with an error added to the last.
fn bech32(random: &mut Random, error: u64) -> String {
    let mut values = vec![0];
    values.extend((0..32).map(|_| random.below(32)));
    let polymod = |values: &[u64]| {
        let generators = [0x3b6a57b2_u64, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
        values.iter().fold(1, |checksum, value| {
            let top = checksum >> 25;
            let checksum = (checksum & 0x1ffffff) << 5 ^ value;
            (0..5)
                .filter(|bit| top >> bit & 1 == 1)
                .fold(checksum, |all, bit| all ^ generators[bit])
        })
    };
    // The expanded prefix `bc`.
    let prefixed = [&[3, 3, 0, 2, 3], values.as_slice(), &[0; 6]].concat();
    let checksum = polymod(&prefixed) ^ 1;
    values.extend((0..6).map(|place| checksum >> (5 * (5 - place)) & 31));
    if let Some(last) = values.last_mut() {
        *last = (*last + error) % 32;
    }
    let digits = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let text: String = values.iter().map(|value| char::from(digits[*value as usize])).collect();
    if random.below(4) == 0 { format!("BC1{}", text.to_uppercase()) } else { format!("bc1{text}") }
}

/// Base58Check: a version, 20 bytes, and the first four bytes of a double SHA-256; with an error added.
fn bitcoin(random: &mut Random, error: u8) -> String {
    let mut bytes = vec![random.pick(&[0_u8, 5])];
    bytes.extend((0..20).map(|_| 1 + random.below(255) as u8));
    let digest = Sha256::digest(Sha256::digest(&bytes));
    bytes.extend_from_slice(&digest[..4]);
    bytes[24] = bytes[24].wrapping_add(error);
    let mut text = Vec::new();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    while bytes.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u32;
        for byte in &mut bytes {
            let value = rest * 256 + u32::from(*byte);
            *byte = (value / 58) as u8;
            rest = value % 58;
        }
        text.push(b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[rest as usize]);
    }
    text.extend(std::iter::repeat_n(b'1', zeros));
    text.reverse();
    String::from_utf8(text).unwrap()
}
