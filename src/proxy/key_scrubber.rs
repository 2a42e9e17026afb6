//! Removes the provider's key from upstream error bodies, which may quote it.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;

use crate::json::escapes::UnescapedText;

/// Maximum length of an upstream's error body that is searched and relayed, in bytes. The limit may
/// fall inside a key: see [`scrubbed_length`].
pub const MAX_ERROR_BYTES: usize = 64 * 1024;

const REPLACEMENT: &[u8] = b"[redacted]";

/// Replaces every occurrence of a secret, also where JSON escapes some of its characters (`\/`,
/// `\u002B`, `\"`, a pair of surrogates). Empty secrets are ignored. Takes time in proportion to the
/// lengths of body and secrets, not to their product.
pub fn scrub<'a>(body: &'a [u8], secrets: &[&[u8]]) -> Cow<'a, [u8]> {
    let unescaped = UnescapedText::read(body);
    let mut matches: Vec<Range<usize>> = Vec::new();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let finder = memmem::Finder::new(secret);
        matches.extend(finder.find_iter(body).map(|at| at..at + secret.len()));
        if let Some(unescaped) = &unescaped {
            let escaped = finder.find_iter(&unescaped.text);
            matches.extend(escaped.map(|at| unescaped.source(at..at + secret.len())));
        }
    }
    if matches.is_empty() {
        return Cow::Borrowed(body);
    }
    matches.sort_unstable_by_key(|range| range.start);
    let mut out = Vec::with_capacity(body.len());
    let mut copied = 0;
    for range in matches {
        // Overlapping matches, such as of secrets that begin alike, leave one replacement.
        if range.start >= copied {
            out.extend_from_slice(body.get(copied..range.start).unwrap_or_default());
            out.extend_from_slice(REPLACEMENT);
        }
        copied = copied.max(range.end);
    }
    out.extend_from_slice(body.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// The length of the part of a truncated body that can be relayed: it ends before the first part of a
/// secret, escaped or not, that the body may end with.
pub fn scrubbed_length(body: &[u8], secrets: &[&[u8]]) -> usize {
    let unescaped = UnescapedText::read(body);
    let safe_length = |secret: &&[u8]| {
        let plain = body.len() - partial_secret_length(body, secret);
        let escaped = unescaped.as_ref().map_or(body.len(), |unescaped| {
            unescaped
                .source(
                    unescaped.text.len() - partial_secret_length(&unescaped.text, secret)
                        ..unescaped.text.len(),
                )
                .start
        });
        plain.min(escaped)
    };
    let before_partial_escape =
        unescaped.as_ref().map_or(body.len(), |unescaped| unescaped.unfinished);
    secrets.iter().map(safe_length).min().unwrap_or(body.len()).min(before_partial_escape)
}

/// How many bytes at the end of `text` are a proper prefix of `secret`, the longest possible: the
/// Knuth-Morris-Pratt automaton, run over the last bytes that can be one.
pub(super) fn partial_secret_length(text: &[u8], secret: &[u8]) -> usize {
    let byte = |at: usize| secret.get(at).copied();
    // For each prefix, the longest shorter prefix that it ends with.
    let mut failures = vec![0; secret.len()];
    let step = |failures: &[usize], mut state: usize, next: u8| {
        while state > 0 && byte(state) != Some(next) {
            state = failures.get(state - 1).copied().unwrap_or(0);
        }
        if byte(state) == Some(next) { state + 1 } else { 0 }
    };
    let mut state = 0;
    for at in 1..secret.len() {
        state = step(&failures, state, byte(at).unwrap_or_default());
        if let Some(failure) = failures.get_mut(at) {
            *failure = state;
        }
    }
    let from = text.len().saturating_sub(secret.len().saturating_sub(1));
    let end = text.get(from..).unwrap_or_default();
    end.iter().fold(0, |state, next| step(&failures, state, *next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str, secrets: &[&str]) -> String {
        let secrets: Vec<&[u8]> = secrets.iter().map(|secret| secret.as_bytes()).collect();
        String::from_utf8(scrub(body.as_bytes(), &secrets).into_owned()).unwrap()
    }

    #[test]
    fn every_spelling_of_a_key_is_replaced() {
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
    fn a_truncated_key_is_left_out() {
        let key = "sk-a/bé";
        for (body, expected) in [
            ("bad key sk-", "bad key "),
            ("bad key sk-a/b", "bad key "),
            (r"bad key sk\u002d", "bad key "),
            (r"bad key sk\u00", "bad key "),
            (r"bad key s\u006b-a\", "bad key "),
            ("bad key sk-b", "bad key sk-b"),
            ("bad key sk-a, sk-b", "bad key sk-a, sk-b"),
            ("", ""),
        ] {
            let length = scrubbed_length(body.as_bytes(), &[key.as_bytes(), b""]);
            assert_eq!(&body[..length], expected, "{body}");
        }
        let truncated = b"key sk-a/b\xc3";
        assert_eq!(scrubbed_length(truncated, &[key.as_bytes()]), 4);
    }

    #[test]
    fn other_text_is_kept() {
        let body = br#"{"message":"bad key sk-a\u00zz sk-"}"#;
        assert!(matches!(scrub(body, &[b"sk-abc", b"", b"\xff\xfe"]), Cow::Borrowed(_)));
        assert_eq!(scrub(b"a\xff\xfeb", &[b"\xff\xfe"]).as_ref(), b"a[redacted]b");
    }

    #[test]
    fn a_repetitive_secret_takes_no_longer_than_another() {
        let secret = [b"a".repeat(50_000), b"b".to_vec()].concat();
        let body = b"a".repeat(MAX_ERROR_BYTES);
        assert!(matches!(scrub(&body, &[&secret]), Cow::Borrowed(_)));
        assert_eq!(scrubbed_length(&body, &[&secret]), MAX_ERROR_BYTES - 50_000);
        let escaped = br"\u0061".repeat(MAX_ERROR_BYTES / 6);
        assert!(matches!(scrub(&escaped, &[&secret]), Cow::Borrowed(_)));
        assert_eq!(scrubbed_length(&escaped, &[&secret]), 0);
    }

    #[test]
    fn overlapping_keys_are_replaced_once() {
        assert_eq!(text("key-1-more key-1", &["key-1", "key-1-more"]), "[redacted] [redacted]");
    }
}
