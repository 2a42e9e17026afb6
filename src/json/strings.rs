//! Walks over the string values of JSON text without parsing it: text that was cut anywhere, or is
//! no JSON at all, gives what looks like strings up to there.

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

    /// What has not been walked over.
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

/// The text was not UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotText;

/// Appends the text that a string's inside stands for. What is cut off at the end, an escape or a
/// character, is left out; an escape that means nothing becomes U+FFFD.
pub(crate) fn unescape(raw: &[u8], text: &mut String) -> Result<(), NotText> {
    let mut rest = match std::str::from_utf8(raw) {
        Ok(all) => all,
        Err(error) if error.error_len().is_none() => {
            let whole = raw.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(whole).unwrap_or_default()
        }
        Err(_) => return Err(NotText),
    };
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut characters = escape.chars();
        let Some(letter) = characters.next() else {
            return Ok(());
        };
        rest = characters.as_str();
        match letter {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            '"' | '\\' | '/' => text.push(letter),
            'u' => {
                if rest.len() < 4 {
                    return Ok(());
                }
                let Some(first) = unit(rest) else {
                    text.push(char::REPLACEMENT_CHARACTER);
                    continue;
                };
                rest = rest.get(4..).unwrap_or_default();
                let second = rest.strip_prefix("\\u").and_then(unit);
                match char::decode_utf16([first].into_iter().chain(second)).next() {
                    Some(Ok(character)) => {
                        text.push(character);
                        if character.len_utf16() == 2 {
                            rest = rest.get(6..).unwrap_or_default();
                        }
                    }
                    _ => text.push(char::REPLACEMENT_CHARACTER),
                }
            }
            _ => text.push(char::REPLACEMENT_CHARACTER),
        }
    }
    text.push_str(rest);
    Ok(())
}

/// The UTF-16 unit that four hexadecimal digits stand for.
fn unit(text: &str) -> Option<u16> {
    let digits = text.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(json: &str) -> Vec<(&str, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        StringValues::new(json.as_bytes()).map(|value| (text(value.key), text(value.raw))).collect()
    }

    fn unescaped(raw: &str) -> String {
        let mut text = String::new();
        unescape(raw.as_bytes(), &mut text).unwrap();
        text
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

    #[test]
    fn escapes() {
        assert_eq!(unescaped(r#"a\n\t\"\\\/\u00e9\ud83d\ude00é"#), "a\n\t\"\\/é😀é");
        assert_eq!(unescaped(r"\ud83d x \ude00 \u12"), "\u{fffd} x \u{fffd} ");
        assert_eq!(unescaped(r"\uzzzz\q\"), "\u{fffd}zzzz\u{fffd}");
        let mut text = String::new();
        assert_eq!(unescape(b"a\xc3", &mut text), Ok(()));
        assert_eq!(unescape(b"a\xc3a", &mut text), Err(NotText));
        assert_eq!(text, "a");
    }

    proptest! {
        #[test]
        fn unescaping_undoes_escaping(text in any::<String>(), cut in any::<prop::sample::Index>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(unescaped(&json[1..json.len() - 1]), text);
            let inside = &json.as_bytes()[1..json.len() - 1];
            let mut start = String::new();
            let cut = cut.index(inside.len() + 1);
            prop_assert_eq!(unescape(&inside[..cut], &mut start), Ok(()));
        }

        #[test]
        fn the_same_strings_as_a_parser_finds(
            texts in prop::collection::vec("[a\"\\\\{}:, é\n]{0,6}", 0..6),
        ) {
            let json = serde_json::json!({"k": texts, "l": {"m": texts}}).to_string();
            let found: Vec<String> =
                StringValues::new(json.as_bytes()).map(|value| unescaped(std::str::from_utf8(value.raw).unwrap())).collect();
            prop_assert_eq!(found, [texts.clone(), texts].concat());
        }
    }
}
