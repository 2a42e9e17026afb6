//! Masks the provider's key in answers with a success status, which may hold a provider's error, too. A mask
//! is as long as the key, so that declared lengths stay right.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memmem};

use super::key_scrubber::partial_secret_length;
use crate::crypto::SecretBytes;

/// A shorter key may be a word that the model writes.
const MIN_BYTES: usize = 16;

/// Masks keys in an answer that comes in pieces. Only keys as they are: not those that JSON escapes.
pub struct KeyMask {
    keys: Vec<SecretBytes>,
    /// The end of what came, which may be the beginning of a key. Of an answer that breaks off it is dropped.
    held: BytesMut,
}

impl KeyMask {
    /// For an answer to a request with these secrets.
    pub fn new(mut secrets: Vec<SecretBytes>) -> Self {
        secrets.retain(|secret| secret.expose().len() >= MIN_BYTES);
        Self { keys: secrets, held: BytesMut::new() }
    }

    /// Takes the next piece. Gives what can pass now.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        if self.keys.is_empty() {
            return piece;
        }
        let mut passing = if self.held.is_empty() {
            piece
        } else {
            self.held.extend_from_slice(&piece);
            self.held.split().freeze()
        };
        passing = self.mask(passing);
        let begun = self.keys.iter().map(|key| beginning_at_end(&passing, key.expose())).max();
        let held = passing.split_off(passing.len() - begun.unwrap_or(0));
        self.held.extend_from_slice(&held);
        passing
    }

    /// The answer has ended. Gives what was held back, if there is something.
    pub fn finish(&mut self) -> Option<Bytes> {
        (!self.held.is_empty()).then(|| self.held.split().freeze())
    }

    /// The text with asterisks for every key in it.
    pub fn mask(&self, text: Bytes) -> Bytes {
        self.keys.iter().fold(text, |text, key| {
            let key = key.expose();
            if memmem::find(&text, key).is_none() {
                return text;
            }
            let mut masked = BytesMut::from(&text[..]);
            for at in memmem::find_iter(&text, key) {
                if let Some(found) = masked.get_mut(at..at + key.len()) {
                    found.fill(b'*');
                }
            }
            masked.freeze()
        })
    }
}

/// How many bytes at the end of `text` a key may begin with. Most pieces end with a byte that no key has.
fn beginning_at_end(text: &[u8], key: &[u8]) -> usize {
    match text.last() {
        Some(last) if memchr(*last, key).is_some() => partial_secret_length(text, key),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-0123456789abcdef";

    fn masked(pieces: &[&str], keys: &[&str]) -> String {
        let keys = keys.iter().map(|key| SecretBytes::from(key.as_bytes().to_vec()));
        let mut mask = KeyMask::new(keys.collect());
        let mut passed = Vec::new();
        for piece in pieces {
            passed.extend_from_slice(&mask.push(Bytes::copy_from_slice(piece.as_bytes())));
        }
        passed.extend(mask.finish().into_iter().flatten());
        String::from_utf8(passed).unwrap()
    }

    #[test]
    fn a_key_is_masked_wherever_it_is_cut() {
        let text = format!("{{\"a\":\"{KEY}\",\"b\":\"sk-0123\",\"c\":\"{KEY}{KEY}\"}}");
        let expected = text.replace(KEY, &"*".repeat(KEY.len()));
        assert_eq!(masked(&[&text], &[KEY]), expected);
        for cut in 0..text.len() {
            let (before, after) = text.split_at(cut);
            assert_eq!(masked(&[before, after], &[KEY, "another-key-of-16"]), expected, "{cut}");
        }
        let bytes: Vec<&str> = text.split_inclusive(|_| true).collect();
        assert_eq!(masked(&bytes, &[KEY]), expected);
    }

    #[test]
    fn other_text_passes_at_once() {
        let mut mask = KeyMask::new(vec![SecretBytes::from(KEY.as_bytes().to_vec())]);
        for piece in ["data: {\"a\":\"sk\"}\n\n", "sk-x", ""] {
            assert_eq!(mask.push(Bytes::from_static(piece.as_bytes())), piece);
        }
        assert_eq!(mask.push(Bytes::from_static(b"sk-")), "");
        assert_eq!(mask.push(Bytes::from_static(b"y")), "sk-y");
        assert_eq!(mask.finish(), None);
        assert_eq!(
            masked(&["an ollama, and a test"], &["ollama", "test", ""]),
            "an ollama, and a test"
        );
        assert_eq!(masked(&["a sk-01"], &[KEY]), "a sk-01");
    }
}
