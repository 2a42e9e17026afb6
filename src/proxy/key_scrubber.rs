//! Removes the provider's key from upstream error bodies, which may quote it.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;

use crate::json::escapes::UnescapedText;

/// Maximum length of an upstream's error body that is searched and relayed, in bytes. A key may lie
/// across the cut.
pub const MOST_BYTES: usize = 64 * 1024;

const MARK: &[u8] = b"[redacted]";

/// Replaces every occurrence of a secret, also where JSON escapes some of its characters (`\/`,
/// `\u002B`, `\"`, a pair of surrogates). Empty secrets are ignored. Takes time in proportion to the
/// lengths of body and secrets, not to their product.
pub fn redact<'a>(body: &'a [u8], secrets: &[&[u8]]) -> Cow<'a, [u8]> {
    let unescaped = UnescapedText::read(body);
    let mut found: Vec<Range<usize>> = Vec::new();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let finder = memmem::Finder::new(secret);
        found.extend(finder.find_iter(body).map(|at| at..at + secret.len()));
        if let Some(unescaped) = &unescaped {
            let spellings = finder.find_iter(&unescaped.text);
            found.extend(spellings.map(|at| unescaped.source(at..at + secret.len())));
        }
    }
    if found.is_empty() {
        return Cow::Borrowed(body);
    }
    found.sort_unstable_by_key(|range| range.start);
    let mut out = Vec::with_capacity(body.len());
    let mut copied = 0;
    for range in found {
        // Overlapping matches, such as of secrets that begin alike, leave one mark.
        if range.start >= copied {
            out.extend_from_slice(body.get(copied..range.start).unwrap_or_default());
            out.extend_from_slice(MARK);
        }
        copied = copied.max(range.end);
    }
    out.extend_from_slice(body.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// How much of a body that was cut off can be relayed: up to where a secret may begin, escaped or
/// not, whose end was cut off.
pub fn without_begun_secret(body: &[u8], secrets: &[&[u8]]) -> usize {
    let unescaped = UnescapedText::read(body);
    let shown = |secret: &&[u8]| {
        let plain = body.len() - length_of_start(body, secret);
        let escaped = unescaped.as_ref().map_or(body.len(), |unescaped| {
            unescaped
                .source(
                    unescaped.text.len() - length_of_start(&unescaped.text, secret)
                        ..unescaped.text.len(),
                )
                .start
        });
        plain.min(escaped)
    };
    let whole = unescaped.as_ref().map_or(body.len(), |unescaped| unescaped.unfinished);
    secrets.iter().map(shown).min().unwrap_or(body.len()).min(whole)
}

/// How many bytes at the end of `text` are the beginning of `secret`, without being all of it: the
/// Knuth-Morris-Pratt automaton, run over as much of the end as can matter.
fn length_of_start(text: &[u8], secret: &[u8]) -> usize {
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
