//! JSON Web Tokens (RFC 7519) in compact form: RFC 7515 with three parts, RFC 7516 with five.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::category::Category;
use super::{Detection, Text};

/// `{"` in base64: what every header begins with.
pub(in super::super) const PREFIX: &str = "eyJ";
/// The longest token, in bytes.
const MAX_LENGTH: usize = 16 * 1024;
/// The longest header, in bytes of base64.
const MAX_HEADER: usize = 4 * 1024;

/// A token whose header begins at `start`.
pub(in super::super) fn find(text: Text<'_>, start: usize) -> Option<Detection> {
    let is_character = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !text.starts_word(start) || matches!(text.before(start), Some(b'.' | b'_' | b'-')) {
        return None;
    }
    let header_end = text.run_end(start, MAX_HEADER, is_character);
    if text.at(header_end) != Some(b'.') {
        return None;
    }
    let header = URL_SAFE_NO_PAD.decode(text.slice(start..header_end)).ok()?;
    memchr::memmem::find(&header, b"\"alg\"")?;
    let mut end = header_end;
    let mut parts = 1;
    while parts < 5 && text.at(end) == Some(b'.') {
        let part_end = text.run_end(end + 1, MAX_LENGTH, is_character);
        // Parts may be empty: the signature of `none`, the key of `dir`.
        if part_end == end + 1 && parts != 2 && text.at(part_end) != Some(b'.') {
            break;
        }
        end = part_end;
        parts += 1;
    }
    (parts >= 3).then_some(Detection { range: start..end, category: Category::Jwt })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(text: &str) -> Option<&str> {
        let found = find(Text::new(text.as_bytes()), text.find(PREFIX)?)?;
        Some(&text[found.range])
    }

    #[test]
    fn three_and_five_parts() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"1"}"#);
        let token = format!("{header}.{claims}.c2lnbmF0dXJl");
        assert_eq!(find_in(&format!("Bearer {token}.")), Some(token.as_str()));
        let unsigned = format!("{header}.{claims}.");
        assert_eq!(find_in(&format!("{unsigned} x")), Some(unsigned.as_str()));
        let encrypted = format!("{header}..aXY.Y2lwaGVy.dGFn");
        assert_eq!(find_in(&encrypted), Some(encrypted.as_str()));
        assert_eq!(find_in(&header), None);
        assert_eq!(find_in(&format!("{header}.{claims}")), None);
        let other = URL_SAFE_NO_PAD.encode(r#"{"sub":"1"}"#);
        assert_eq!(find_in(&format!("{other}.{claims}.c2ln")), None);
    }
}
