//! Finds out whether a key has passed in JSON text that arrives in chunks, at any level.

#[derive(Debug)]
pub(crate) struct KeySearch {
    key: &'static [u8],
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Outside,
    /// After a quote and so many bytes of the key.
    Inside(usize),
    /// After the key and its quotes: a colon makes it one, since it may be a value.
    After,
    Found,
}

impl KeySearch {
    /// A search for a key without escapes. In a string its quotes would be escaped, so that it can't be
    /// taken for a part of one.
    pub(crate) fn new(key: &'static str) -> Self {
        Self { key: key.as_bytes(), state: State::Outside }
    }

    /// Whether the key has passed.
    pub(crate) fn is_found(&self) -> bool {
        self.state == State::Found
    }

    /// Looks at the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.state != State::Found {
            if self.state == State::Outside {
                let quote = memchr::memchr(b'"', rest);
                rest = quote.and_then(|quote| rest.get(quote + 1..)).unwrap_or_default();
                if quote.is_some() {
                    self.state = State::Inside(0);
                }
            }
            let Some((byte, after)) = rest.split_first() else { return };
            rest = after;
            self.state = match (self.state, byte) {
                (State::Inside(seen), byte) if self.key.get(seen) == Some(byte) => {
                    State::Inside(seen + 1)
                }
                (State::Inside(seen), b'"') if seen == self.key.len() => State::After,
                (State::After, b' ' | b'\t' | b'\n' | b'\r') => State::After,
                (State::After, b':') => State::Found,
                (_, b'"') => State::Inside(0),
                _ => State::Outside,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_however_the_text_is_split() {
        for (text, expected) in [
            (r#"{"a":[{"end":1}]}"#, true),
            (r#"{"a":"end","end" : 1}"#, true),
            (r#"{"a":"","end":1}"#, true),
            (r#"{"end"#, false),
            (r#"{"end""#, false),
            (r#"{"a":"end"}"#, false),
            (r#"{"a":["end","b"],"c":1}"#, false),
            (r#"{"a":"\"end\":1"}"#, false),
            (r#"{"ends":1,"bend":2,"END":3}"#, false),
        ] {
            for size in [1, 2, 3, 100] {
                let mut search = KeySearch::new("end");
                text.as_bytes().chunks(size).for_each(|chunk| search.feed(chunk));
                assert_eq!(search.is_found(), expected, "{text} by {size}");
            }
        }
    }
}
