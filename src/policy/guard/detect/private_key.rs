//! Private keys in PEM (RFC 7468), OpenSSH's and PuTTY-style blocks included.

use super::super::category::Category;
use super::{Detection, Text};

/// What every block begins with.
pub(in super::super) const MARK: &str = "-----BEGIN ";
/// The word of it that is searched for: hyphens are frequent.
pub(in super::super) const WORD: &str = "BEGIN ";
/// The longest label of a block, in bytes.
const MAX_LABEL: usize = 40;
/// The longest block, in bytes: an RSA key of 16,384 bits has 12.5 KB.
const MAX_BLOCK: usize = 32 * 1024;

/// Where the block begins whose word stands at a place.
pub(in super::super) fn start(text: Text<'_>, word: usize) -> Option<usize> {
    let start = word.checked_sub(MARK.len() - WORD.len())?;
    text.slice(start..word).iter().all(|byte| *byte == b'-').then_some(start)
}

/// A private key whose block begins at `start`, and where the block ends.
pub(in super::super) fn find(text: Text<'_>, start: usize) -> (Option<Detection>, usize) {
    let Some(block) = block(text, start) else { return (None, start) };
    // Prose about the mark has no key after it.
    let is_key = |byte: &&u8| byte.is_ascii_alphanumeric();
    // The mark and the longest usual label have 29 such characters.
    let has_key = text.slice(block.clone()).iter().filter(is_key).count() >= 29 + 32;
    let range = start..block.end;
    (has_key.then_some(Detection { range, category: Category::PrivateKey }), block.end)
}

/// The block that begins at `start`. One without an end reaches as far as its characters do, so that a
/// part of a key is found as well.
fn block(text: Text<'_>, start: usize) -> Option<std::ops::Range<usize>> {
    let label = start + MARK.len();
    let label_end =
        text.run_end(label, MAX_LABEL, |byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' '));
    let name = text.slice(label..label_end);
    if !(name.ends_with(b"PRIVATE KEY") || name.ends_with(b"PRIVATE KEY BLOCK")) {
        return None;
    }
    let body = label_end + 5;
    if text.slice(label_end..body) != b"-----" {
        return None;
    }
    let body_end = text.run_end(body, MAX_BLOCK, is_body);
    let block = text.slice(body..body_end);
    let end = match memchr::memmem::find(block, b"-----END ") {
        Some(at) => {
            let foot = body + at + "-----END ".len();
            text.run_end(foot, MAX_LABEL + 5, is_foot)
        }
        None => body_end,
    };
    let trimmed = text.slice(start..end).trim_ascii_end().len();
    Some(start..start + trimmed)
}

/// Base64 in lines, real or as escapes, and headers such as `Proc-Type: 4,ENCRYPTED`.
fn is_body(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=\n\r\t \\:,-.\"'>|".contains(&byte)
}

fn is_foot(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'-')
}

/// Whether a block begins at `start` that may go on behind the end of the text.
pub(in super::super) fn is_open(text: Text<'_>, start: usize) -> bool {
    let end = text.bytes.len();
    let label = start + MARK.len();
    let is_label = |byte: u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' ');
    let label_end = text.run_end(label, MAX_LABEL, is_label);
    let body = label_end + 5;
    if text.slice(label_end..body.min(end)).iter().any(|byte| *byte != b'-') {
        return false;
    }
    if body >= end {
        return true;
    }
    let name = text.slice(label..label_end);
    if !(name.ends_with(b"PRIVATE KEY") || name.ends_with(b"PRIVATE KEY BLOCK")) {
        return false;
    }
    let body_end = text.run_end(body, MAX_BLOCK, is_body);
    match memchr::memmem::find(text.slice(body..body_end), b"-----END ") {
        Some(at) => {
            let foot = body + at + "-----END ".len();
            text.run_end(foot, MAX_LABEL + 5, is_foot) == end
        }
        None => body_end == end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(text: &str) -> Option<&str> {
        let found = find(Text::new(text.as_bytes()), text.find(MARK)?).0?;
        Some(&text[found.range])
    }

    #[test]
    fn blocks() {
        let body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7";
        for label in ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "] {
            for line in ["\n", "\r\n", "\\n", " "] {
                let key = format!(
                    "-----BEGIN {label}PRIVATE KEY-----{line}{body}{line}{body}=={line}-----END {label}PRIVATE KEY-----"
                );
                assert_eq!(find_in(&format!("a {key}{line}b")), Some(key.as_str()));
            }
        }
        let cut = format!("-----BEGIN PRIVATE KEY-----\n{body}");
        assert_eq!(find_in(&format!("{cut}\n")), Some(cut.as_str()));
    }

    #[test]
    fn a_block_is_open_until_its_end_has_passed() {
        let key = "-----BEGIN EC PRIVATE KEY-----\nMIIEvQIBADAN\n-----END EC PRIVATE KEY-----";
        for end in MARK.len()..=key.len() {
            assert!(is_open(Text::new(&key.as_bytes()[..end]), 0), "{end}");
        }
        for text in [format!("{key}\n"), key.replace("EC PRIVATE", "PUBLIC"), key.replace('Q', "(")]
        {
            assert!(!is_open(Text::new(text.as_bytes()), 0), "{text}");
        }
    }

    #[test]
    fn other_blocks() {
        for text in [
            "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEA\n-----END CERTIFICATE-----",
            "-----BEGIN PUBLIC KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEA",
            "A file begins with -----BEGIN PRIVATE KEY-----.",
        ] {
            assert_eq!(find_in(text), None, "{text}");
        }
    }
}
