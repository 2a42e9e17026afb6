//! Takes the provider's key out of upstream error bodies, which like to quote it.

use std::borrow::Cow;

/// How much of an upstream's error body is worth reading, in bytes. What comes after it has not been
/// looked at, and a key may lie across the cut.
pub const MOST_BYTES: usize = 64 * 1024;

const MARK: &[u8] = b"[redacted]";

/// Replaces every occurrence of a secret, also where JSON escapes some of its characters (`\/`,
/// `\u002B`, `\"`, a pair of surrogates). Empty secrets are ignored.
pub fn redact<'a>(body: &'a [u8], secrets: &[&[u8]]) -> Cow<'a, [u8]> {
    let mut out: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut at = 0;
    while at < body.len() {
        let rest = body.get(at..).unwrap_or_default();
        // The longest wins: one secret may begin with another.
        let found = secrets.iter().filter_map(|secret| match_len(rest, secret)).max();
        if let Some(length) = found {
            let out = out.get_or_insert_with(|| Vec::with_capacity(body.len()));
            out.extend_from_slice(body.get(copied..at).unwrap_or_default());
            out.extend_from_slice(MARK);
            at += length;
            copied = at;
        } else {
            at += 1;
        }
    }
    match out {
        None => Cow::Borrowed(body),
        Some(mut out) => {
            out.extend_from_slice(body.get(copied..).unwrap_or_default());
            Cow::Owned(out)
        }
    }
}

/// How much of a body that was cut off can be shown: up to where a secret may have begun, in any of
/// its spellings, that the cut left unfinished.
pub fn without_begun_secret(body: &[u8], secrets: &[&[u8]]) -> usize {
    // JSON's longest spelling of a byte is `\u002d`.
    let longest = secrets.iter().map(|secret| secret.len()).max().unwrap_or(0) * 6;
    let from = body.len().saturating_sub(longest);
    let begun = |at: &usize| {
        let rest = body.get(*at..).unwrap_or_default();
        secrets.iter().any(|secret| begins(rest, secret))
    };
    (from..body.len()).find(begun).unwrap_or(body.len())
}

/// Whether a spelling of `secret` may begin with all of `text`.
fn begins(text: &[u8], secret: &[u8]) -> bool {
    /// Of an escape: a pair of surrogates.
    const LONGEST: usize = 12;
    if secret.starts_with(text) {
        return true;
    }
    let Ok(secret) = std::str::from_utf8(secret) else { return false };
    let mut rest = text;
    for wanted in secret.chars() {
        let spelled = wanted.encode_utf8(&mut [0; 4]).as_bytes().starts_with(rest);
        match after_char(rest, wanted) {
            _ if spelled => return true,
            Some(after) => rest = after,
            None => return rest.starts_with(b"\\") && rest.len() < LONGEST,
        }
    }
    false
}

/// How many bytes at the beginning of `text` spell `secret`.
fn match_len(text: &[u8], secret: &[u8]) -> Option<usize> {
    if secret.is_empty() {
        return None;
    }
    if text.starts_with(secret) {
        return Some(secret.len());
    }
    let mut rest = text;
    for wanted in std::str::from_utf8(secret).ok()?.chars() {
        rest = after_char(rest, wanted)?;
    }
    Some(text.len() - rest.len())
}

/// What follows one character, in any of its spellings.
fn after_char(text: &[u8], wanted: char) -> Option<&[u8]> {
    if let Some(escape) = text.strip_prefix(b"\\")
        && let Some((found, rest)) = unescape(escape)
        && found == wanted
    {
        return Some(rest);
    }
    text.strip_prefix(wanted.encode_utf8(&mut [0; 4]).as_bytes())
}

/// The character after a backslash, and what follows it.
fn unescape(escape: &[u8]) -> Option<(char, &[u8])> {
    let (kind, rest) = escape.split_first()?;
    let plain = match kind {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'"' | b'\\' | b'/' => char::from(*kind),
        b'u' => {
            let (first, rest) = hex4(rest)?;
            if let Some(found) = char::from_u32(first) {
                return Some((found, rest));
            }
            let (second, rest) = hex4(rest.strip_prefix(b"\\u")?)?;
            let low = second.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
            let high = first.checked_sub(0xD800).filter(|high| *high < 0x400)?;
            return Some((char::from_u32(0x10000 + (high << 10) + low)?, rest));
        }
        _ => return None,
    };
    Some((plain, rest))
}

fn hex4(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let mut value = 0;
    for digit in digits {
        value = value * 16 + char::from(*digit).to_digit(16)?;
    }
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str, secrets: &[&str]) -> String {
        let secrets: Vec<&[u8]> = secrets.iter().map(|secret| secret.as_bytes()).collect();
        String::from_utf8(redact(body.as_bytes(), &secrets).into_owned()).unwrap()
    }

    #[test]
    fn every_spelling_of_a_key_goes() {
        let key = "sk-a/b+\"c\\é😀";
        for spelling in [
            key.to_owned(),
            serde_json::to_string(key).unwrap().trim_matches('"').to_owned(),
            r#"sk-a\/b\u002B\u0022c\u005cé\uD83D\uDE00"#.to_owned(),
            r#"\u0073k-a/b+\"c\\\u00e9\ud83d\ude00"#.to_owned(),
        ] {
            let body = format!("{{\"message\":\"bad key {spelling}, or {spelling}\"}}");
            assert_eq!(
                text(&body, &[key]),
                r#"{"message":"bad key [redacted], or [redacted]"}"#,
                "{spelling}"
            );
        }
    }

    #[test]
    fn a_key_that_was_cut_off_is_left_out() {
        let key = "sk-a/bé";
        for (body, shown) in [
            ("bad key sk-", "bad key "),
            ("bad key sk-a/b", "bad key "),
            (r"bad key sk\u002d", "bad key "),
            (r"bad key sk\u00", "bad key "),
            (r"bad key s\u006b-a\", "bad key "),
            ("bad key sk-b", "bad key sk-b"),
            ("bad key sk-a, sk-b", "bad key sk-a, sk-b"),
            ("", ""),
        ] {
            let length = without_begun_secret(body.as_bytes(), &[key.as_bytes(), b""]);
            assert_eq!(&body[..length], shown, "{body}");
        }
        let cut = b"key sk-a/b\xc3";
        assert_eq!(without_begun_secret(cut, &[key.as_bytes()]), 4);
    }

    #[test]
    fn other_text_stays() {
        let body = br#"{"message":"bad key sk-a\u00zz sk-"}"#;
        assert!(matches!(redact(body, &[b"sk-abc", b"", b"\xff\xfe"]), Cow::Borrowed(_)));
        assert_eq!(redact(b"a\xff\xfeb", &[b"\xff\xfe"]).as_ref(), b"a[redacted]b");
    }

    #[test]
    fn the_longest_of_several_goes_first() {
        assert_eq!(text("key-1-more key-1", &["key-1", "key-1-more"]), "[redacted] [redacted]");
    }
}
