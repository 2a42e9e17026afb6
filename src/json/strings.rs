//! String values of JSON text that may be cut anywhere, or hold what only some parsers take for JSON
//! (`NaN`): an upstream's answer. Nothing is checked; what looks like a string is one.

/// The subtree under this key says again, in parts, what `reasoning` beside it says.
const REPEATED: &[u8] = b"reasoning_details";

/// A string value, as it stands between its quotes, with the nearest key before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StringValue<'a> {
    pub(crate) key: &'a [u8],
    /// Escapes and all.
    pub(crate) raw: &'a [u8],
}

/// The string values of one JSON value; it ends where that value does.
#[derive(Debug)]
pub(crate) struct StringValues<'a> {
    rest: &'a [u8],
    key: &'a [u8],
    depth: u32,
    /// Nothing is given until another key comes at this depth, or a shallower one.
    silent: Option<u32>,
}

impl<'a> StringValues<'a> {
    /// The strings of the value that begins with the first bracket in `json`.
    pub(crate) fn new(json: &'a [u8]) -> Self {
        Self { rest: json, key: b"", depth: 0, silent: None }
    }

    /// What has not been read.
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
                        if self.silent.is_none_or(|depth| self.depth <= depth) {
                            self.silent = (raw == REPEATED).then_some(self.depth);
                        }
                    } else if self.silent.is_none() {
                        return Some(StringValue { key: self.key, raw });
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

/// A string whose opening quote is past, and what follows its closing quote.
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
