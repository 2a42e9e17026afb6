//! Private keys in PEM (RFC 7468), OpenSSH's and PuTTY-style blocks included.

use super::super::category::Category;
use super::{Found, Text};

/// What every block begins with.
pub(in super::super) const MARK: &str = "-----BEGIN ";
/// The longest label of a block, in bytes.
const MAX_LABEL: usize = 40;
/// The longest block, in bytes: an RSA key of 16,384 bits has 12.5 KB.
const MAX_BLOCK: usize = 32 * 1024;

/// A private key whose block begins at `start`, and where the block ends.
pub(in super::super) fn find(text: Text<'_>, start: usize) -> (Option<Found>, usize) {
    let Some(block) = block(text, start) else { return (None, start) };
    // Prose about the mark has no key after it.
    let is_key = |byte: &&u8| byte.is_ascii_alphanumeric();
    // The mark and the longest usual label have 29 such characters.
    let has_key = text.slice(block.clone()).iter().filter(is_key).count() >= 29 + 32;
    let range = start..block.end;
    (has_key.then_some(Found { range, category: Category::PrivateKey }), block.end)
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
    // Base64 in lines, real or as escapes, and headers such as `Proc-Type: 4,ENCRYPTED`.
    let is_body = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'+' | b'/'
                    | b'='
                    | b'\n'
                    | b'\r'
                    | b'\t'
                    | b' '
                    | b'\\'
                    | b':'
                    | b','
                    | b'-'
                    | b'.'
                    | b'"'
                    | b'\''
                    | b'>'
                    | b'|'
            )
    };
    let body_end = text.run_end(body, MAX_BLOCK, is_body);
    let block = text.slice(body..body_end);
    let end = match memchr::memmem::find(block, b"-----END ") {
        Some(at) => {
            let foot = body + at + "-----END ".len();
            text.run_end(
                foot,
                MAX_LABEL + 5,
                |byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'-'),
            )
        }
        None => body_end,
    };
    let trimmed = text.slice(start..end).trim_ascii_end().len();
    Some(start..start + trimmed)
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
