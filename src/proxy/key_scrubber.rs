//! Takes the provider's key out of upstream error bodies, which like to quote it.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;

/// How much of an upstream's error body is worth reading, in bytes. What comes after it has not been
/// looked at, and a key may lie across the cut.
pub const MOST_BYTES: usize = 64 * 1024;

const MARK: &[u8] = b"[redacted]";

/// Replaces every occurrence of a secret, also where JSON escapes some of its characters (`\/`,
/// `\u002B`, `\"`, a pair of surrogates). Empty secrets are ignored. Takes time in proportion to
/// the body and the secrets, not to their product: both are somebody else's choice.
pub fn redact<'a>(body: &'a [u8], secrets: &[&[u8]]) -> Cow<'a, [u8]> {
    let spelled = Spelled::read(body);
    let mut found: Vec<Range<usize>> = Vec::new();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let finder = memmem::Finder::new(secret);
        found.extend(finder.find_iter(body).map(|at| at..at + secret.len()));
        if let Some(spelled) = &spelled {
            let spellings = finder.find_iter(&spelled.text);
            found.extend(spellings.map(|at| spelled.source(at..at + secret.len())));
        }
    }
    if found.is_empty() {
        return Cow::Borrowed(body);
    }
    found.sort_unstable_by_key(|range| range.start);
    let mut out = Vec::with_capacity(body.len());
    let mut copied = 0;
    for range in found {
        // Finds that overlap, such as of secrets that begin alike, leave one mark.
        if range.start >= copied {
            out.extend_from_slice(body.get(copied..range.start).unwrap_or_default());
            out.extend_from_slice(MARK);
        }
        copied = copied.max(range.end);
    }
    out.extend_from_slice(body.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// How much of a body that was cut off can be shown: up to where a secret may have begun, in any of
/// its spellings, that the cut left unfinished.
pub fn without_begun_secret(body: &[u8], secrets: &[&[u8]]) -> usize {
    let spelled = Spelled::read(body);
    let shown = |secret: &&[u8]| {
        let plain = body.len() - begun(body, secret);
        let escaped = spelled.as_ref().map_or(body.len(), |spelled| {
            spelled
                .source(spelled.text.len() - begun(&spelled.text, secret)..spelled.text.len())
                .start
        });
        plain.min(escaped)
    };
    let whole = spelled.as_ref().map_or(body.len(), |spelled| spelled.unfinished);
    secrets.iter().map(shown).min().unwrap_or(body.len()).min(whole)
}

/// How many bytes at the end of `text` are the beginning of `secret`, without being all of it: the
/// Knuth-Morris-Pratt automaton, run over as much of the end as can matter.
fn begun(text: &[u8], secret: &[u8]) -> usize {
    let byte = |at: usize| secret.get(at).copied();
    let mut shorter = vec![0; secret.len()];
    let step = |shorter: &[usize], mut state: usize, next: u8| {
        while state > 0 && byte(state) != Some(next) {
            state = shorter.get(state - 1).copied().unwrap_or(0);
        }
        if byte(state) == Some(next) { state + 1 } else { 0 }
    };
    let mut state = 0;
    for at in 1..secret.len() {
        state = step(&shorter, state, byte(at).unwrap_or_default());
        if let Some(place) = shorter.get_mut(at) {
            *place = state;
        }
    }
    let from = text.len().saturating_sub(secret.len().saturating_sub(1));
    let end = text.get(from..).unwrap_or_default();
    end.iter().fold(0, |state, next| step(&shorter, state, *next))
}

/// A body with its JSON escapes read, wherever they stand.
struct Spelled {
    text: Vec<u8>,
    /// Where in the body each byte of the text began; one more for the end.
    starts: Vec<usize>,
    /// Where an escape begins that the end of the body leaves unfinished; else the body's length.
    unfinished: usize,
}

impl Spelled {
    /// `None` for a body without escapes, which spells only itself.
    fn read(body: &[u8]) -> Option<Self> {
        memchr::memchr(b'\\', body)?;
        let mut this = Self {
            text: Vec::with_capacity(body.len()),
            starts: Vec::with_capacity(body.len() + 1),
            unfinished: body.len(),
        };
        let mut rest = body;
        while let Some((first, after)) = rest.split_first() {
            let start = body.len() - rest.len();
            let escaped = (*first == b'\\').then(|| unescape(after));
            match escaped {
                Some(Some((found, behind))) => {
                    let mut utf8 = [0; 4];
                    let utf8 = found.encode_utf8(&mut utf8).as_bytes();
                    this.text.extend_from_slice(utf8);
                    this.starts.extend(std::iter::repeat_n(start, utf8.len()));
                    rest = behind;
                }
                Some(None) if may_go_on(after) => {
                    this.unfinished = start;
                    break;
                }
                _ => {
                    this.text.push(*first);
                    this.starts.push(start);
                    rest = after;
                }
            }
        }
        this.starts.push(this.unfinished);
        Some(this)
    }

    /// Where a part of the text stands in the body.
    fn source(&self, part: Range<usize>) -> Range<usize> {
        let at = |index: usize| self.starts.get(index).copied().unwrap_or(self.unfinished);
        at(part.start)..at(part.end)
    }
}

/// Whether what stands behind a backslash, up to the end, is the beginning of an escape.
fn may_go_on(behind: &[u8]) -> bool {
    /// Of a pair of surrogates, without its first backslash.
    const LONGEST: usize = 11;
    let may_stand = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'\\' | b'u');
    behind.len() < LONGEST
        && behind.first().is_none_or(|kind| *kind == b'u')
        && behind.iter().skip(1).all(may_stand)
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
    fn a_secret_that_is_all_repetition_costs_no_more_than_another() {
        let secret = [b"a".repeat(50_000), b"b".to_vec()].concat();
        let body = b"a".repeat(MOST_BYTES);
        assert!(matches!(redact(&body, &[&secret]), Cow::Borrowed(_)));
        assert_eq!(without_begun_secret(&body, &[&secret]), MOST_BYTES - 50_000);
        let escaped = br"\u0061".repeat(MOST_BYTES / 6);
        assert!(matches!(redact(&escaped, &[&secret]), Cow::Borrowed(_)));
        assert_eq!(without_begun_secret(&escaped, &[&secret]), 0);
    }

    #[test]
    fn the_longest_of_several_goes_first() {
        assert_eq!(text("key-1-more key-1", &["key-1", "key-1-more"]), "[redacted] [redacted]");
    }
}
