//! String values of an upstream's answer: JSON text that may be truncated, or contain what only some
//! parsers accept (`NaN`). Nothing is validated.

/// Whether the value of a key contains no text of the answer: an error, or `reasoning_details`, which
/// repeats the `reasoning` next to it.
fn is_skipped(key: &[u8]) -> bool {
    matches!(key, b"error" | b"reasoning_details")
}

/// A string value, with the nearest key before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StringValue<'a> {
    pub(crate) key: &'a [u8],
    /// The bytes between the quotes, escapes included.
    pub(crate) raw: &'a [u8],
    /// Whether it is inside of a tool's arguments: there the keys are values, too.
    pub(crate) is_argument: bool,
}

/// Whether the object under this key has the arguments of a call.
fn has_arguments(key: &[u8]) -> bool {
    matches!(key, b"args" | b"arguments" | b"input")
}

/// Iterates over the string values of one JSON value.
#[derive(Debug)]
pub(crate) struct StringValues<'a> {
    rest: &'a [u8],
    key: &'a [u8],
    depth: u32,
    /// Strings are skipped until the next key at this depth or above.
    skipped_at: Option<u32>,
    /// Strings are arguments until the next key at this depth or above.
    arguments_at: Option<u32>,
}

impl<'a> StringValues<'a> {
    /// The strings of the value that begins with the first bracket in `json`.
    pub(crate) fn new(json: &'a [u8]) -> Self {
        Self { rest: json, key: b"", depth: 0, skipped_at: None, arguments_at: None }
    }

    /// The text after what was read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for StringValues<'a> {
    type Item = StringValue<'a>;

    fn next(&mut self) -> Option<StringValue<'a>> {
        while let Some((byte, after)) = self.rest.split_first() {
            self.rest = after;
            match byte {
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return None;
                    }
                }
                b'"' => {
                    let raw;
                    (raw, self.rest) = split_string(after);
                    if let Some(after) = after_colon(self.rest) {
                        self.rest = after;
                        self.key = raw;
                        if self.skipped_at.is_none_or(|depth| self.depth <= depth) {
                            self.skipped_at = is_skipped(raw).then_some(self.depth);
                        }
                        if self.arguments_at.is_none_or(|depth| self.depth <= depth) {
                            let is_object = after.trim_ascii_start().starts_with(b"{");
                            let begins = is_object && has_arguments(raw);
                            self.arguments_at = begins.then_some(self.depth);
                        } else if self.skipped_at.is_none() {
                            return Some(StringValue { key: raw, raw, is_argument: true });
                        }
                    } else if self.skipped_at.is_none() {
                        let is_argument = self.arguments_at.is_some();
                        return Some(StringValue { key: self.key, raw, is_argument });
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// What follows the colon, if `rest` begins with one.
pub(crate) fn after_colon(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [b':', after @ ..] => Some(after),
        [b' ' | b'\t' | b'\n' | b'\r', ..] => rest.trim_ascii_start().strip_prefix(b":"),
        _ => None,
    }
}

/// Splits the text after an opening quote into the string and what follows its closing quote.
pub(crate) fn split_string(text: &[u8]) -> (&[u8], &[u8]) {
    for quote in memchr::memchr_iter(b'"', text) {
        let (string, rest) = text.split_at(quote);
        let escapes = string.iter().rev().take_while(|byte| **byte == b'\\').count();
        if escapes % 2 == 0 {
            return (string, rest.get(1..).unwrap_or_default());
        }
    }
    (text, &[])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::escapes::unescape_strict;

    fn strings(json: &str) -> Vec<(&str, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        StringValues::new(json.as_bytes()).map(|value| (text(value.key), text(value.raw))).collect()
    }

    #[test]
    fn values_with_their_keys() {
        let json = r#"{"a" : "x\"", "b": {"c": 1, "d": ["y\\", "z"]}, "e": null} "past": "end""#;
        assert_eq!(strings(json), [("a", "x\\\""), ("d", "y\\\\"), ("d", "z")]);
        assert_eq!(strings(r#"{"a": "cut o"#), [("a", "cut o")]);
        assert_eq!(strings(r#"["a", "b"#), [("", "a"), ("", "b")]);
        for odd in ["", "}", "]]", "{]", "\"", "{\"", "{\"a\"", "{\"a\":", "{\"a\\"] {
            let _ = strings(odd);
        }
    }

    #[test]
    fn what_is_said_twice_is_given_once() {
        let json =
            r#"{"reasoning":"a","reasoning_details":[{"type":"t","text":"a"}],"content":"b"}"#;
        assert_eq!(strings(json), [("reasoning", "a"), ("content", "b")]);
        let json = r#"[{"reasoning_details":[{"text":"a"}]},{"text":"b"}]"#;
        assert_eq!(strings(json), [("text", "b")]);
        assert_eq!(strings(r#"{"reasoning_details":null,"x":"y"}"#), [("x", "y")]);
        assert_eq!(strings(r#"{"error":{"name":"e"},"x":"y"}"#), [("x", "y")]);
    }

    proptest! {
        #[test]
        fn the_same_strings_as_a_parser_finds(
            texts in prop::collection::vec("[a\"\\\\{}:, é\n]{0,6}", 0..6),
        ) {
            let json = serde_json::json!({"k": texts, "l": {"m": texts}}).to_string();
            let found: Vec<String> =
                StringValues::new(json.as_bytes()).map(|value| unescape_strict(value.raw).unwrap()).collect();
            prop_assert_eq!(found, [texts.clone(), texts].concat());
        }
    }
}
