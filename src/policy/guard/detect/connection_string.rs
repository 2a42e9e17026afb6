//! URLs with a password in them (RFC 3986, section 3.2.1), such as those of databases.

use super::super::category::Category;
use super::{Detection, Text};

/// What stands between scheme and authority.
pub(in super::super) const MARK: &str = "://";
/// The longest scheme, user information and rest, in bytes.
const MAX_SCHEME: usize = 24;
const MAX_USER: usize = 256;
const MAX_REST: usize = 1024;

/// A URL with a password; `mark` is the place of `://`.
pub(in super::super) fn find(text: Text<'_>, mark: usize) -> Option<Detection> {
    let authority = mark + MARK.len();
    let user = text.slice(authority..text.bytes.len().min(authority + MAX_USER));
    memchr::memchr(b'@', user)?;
    // Passwords are often not percent-encoded, so that only what ends a URL in text ends them.
    let user = user.get(..text.run_end(authority, MAX_USER, is_url) - authority)?;
    let until_path = memchr::memchr3(b'/', b'?', b'#', user).unwrap_or(user.len());
    let at = memchr::memrchr(b'@', user.get(..until_path).unwrap_or_default())
        .or_else(|| memchr::memchr(b'@', user))?;
    let user = user.get(..at).unwrap_or_default();
    let colon = memchr::memchr(b':', user)?;
    let password = user.get(colon + 1..).unwrap_or_default();
    let is_address = text
        .at(authority + at + 1)
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'[');
    // `https://example.com:8080/@x` has a port, not a password.
    let is_port = memchr::memchr(b'/', password).is_some_and(|slash| {
        password.get(..slash).unwrap_or_default().iter().all(u8::is_ascii_digit)
    });
    if password.is_empty() || !is_address || is_port || is_template(password) {
        return None;
    }
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let run_start = text.run_start(mark, MAX_SCHEME, is_scheme);
    let scheme = text.slice(run_start..mark);
    let start = run_start + scheme.iter().position(u8::is_ascii_alphabetic)?;
    let mut end = text.run_end(authority + at, MAX_REST, is_url);
    while matches!(text.before(end), Some(b'.' | b',' | b';' | b':' | b'!' | b')' | b'*')) {
        end -= 1;
    }
    Some(Detection { range: start..end, category: Category::ConnectionString })
}

fn is_url(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\' | b'|')
}

/// Whether it is a variable that is filled in later, or is left out.
fn is_template(password: &[u8]) -> bool {
    password.starts_with(b"$")
        || password.starts_with(b"{")
        || password.starts_with(b"%(")
        || password.starts_with(b"[")
        || password.iter().all(|byte| matches!(byte, b'*' | b'x' | b'X' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(text: &str) -> Option<&str> {
        let found = find(Text::new(text.as_bytes()), text.find(MARK)?)?;
        Some(&text[found.range])
    }

    #[test]
    fn urls_with_passwords() {
        for url in [
            "postgres://app:hunter2@db.example.com:5432/prod?sslmode=require",
            "mongodb+srv://user:p%40ss@cluster0.example.net/test",
            "redis://:secret@10.0.0.1:6379",
            "https://name:p/w@example.com/",
            "amqps://a:b@[::1]:5671",
        ] {
            assert_eq!(find_in(&format!("url=\"{url}\"")), Some(url));
            assert_eq!(find_in(&format!("See {url}.")), Some(url));
        }
    }

    #[test]
    fn urls_without() {
        for url in [
            "https://example.com:8080/@scope/package",
            "https://example.com/a:b/c",
            "https://user@example.com/",
            "postgres://app:$PASSWORD@db/prod",
            "postgres://app:{password}@db/prod",
            "postgres://app:****@db/prod",
            "://a:b@c",
        ] {
            assert_eq!(find_in(url), None, "{url}");
        }
    }
}
