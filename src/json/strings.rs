//! Walks over the string values of JSON text without parsing it: text that was cut anywhere, or is
//! no JSON at all, gives what looks like strings up to there.

use std::ops::Range;

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

/// A piece of a string's inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    /// Bytes without escapes.
    Plain(&'a [u8]),
    /// The character that an escape stands for.
    Character(char),
    /// A backslash, or an escape of half a surrogate pair, that stands for nothing.
    Invalid(&'a [u8]),
}

/// Reads escapes. An escape that the end cuts off is given by [`unfinished`](Self::unfinished), not
/// as a piece.
struct Pieces<'a> {
    raw: &'a [u8],
    at: usize,
    unfinished: usize,
}

enum Escape {
    Character(char, usize),
    Invalid(usize),
    Unfinished,
}

impl<'a> Pieces<'a> {
    fn new(raw: &'a [u8]) -> Self {
        Self { raw, at: 0, unfinished: raw.len() }
    }

    /// Where an escape begins that the end cuts off; else the length.
    fn unfinished(&self) -> usize {
        self.unfinished
    }
}

impl<'a> Iterator for Pieces<'a> {
    /// With where it begins.
    type Item = (usize, Piece<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.raw.get(at..self.unfinished).filter(|rest| !rest.is_empty())?;
        let plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        if plain > 0 {
            self.at += plain;
            return Some((at, Piece::Plain(rest.get(..plain)?)));
        }
        let piece = match escape(rest.get(1..)?) {
            Escape::Character(character, length) => {
                self.at += 1 + length;
                Piece::Character(character)
            }
            Escape::Invalid(length) => {
                self.at += 1 + length;
                Piece::Invalid(rest.get(..1 + length)?)
            }
            Escape::Unfinished => {
                self.unfinished = at;
                return None;
            }
        };
        Some((at, piece))
    }
}

/// What follows a backslash, and its length.
fn escape(rest: &[u8]) -> Escape {
    let Some(kind) = rest.first() else { return Escape::Unfinished };
    let character = match kind {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'"' | b'\\' | b'/' => char::from(*kind),
        b'u' => return unicode_escape(rest.get(1..).unwrap_or_default()),
        _ => return Escape::Invalid(0),
    };
    Escape::Character(character, 1)
}

/// What follows `\u`.
fn unicode_escape(rest: &[u8]) -> Escape {
    let first = match hex4(rest) {
        Ok(first) => first,
        Err(is_cut) if is_cut => return Escape::Unfinished,
        Err(_) => return Escape::Invalid(0),
    };
    if let Some(character) = char::from_u32(first) {
        return Escape::Character(character, 5);
    }
    let rest = rest.get(4..).unwrap_or_default();
    let low = match rest.strip_prefix(b"\\u").map(hex4) {
        Some(Ok(low)) => low.checked_sub(0xDC00).filter(|low| *low < 0x400),
        Some(Err(true)) => return Escape::Unfinished,
        None if matches!(rest, [] | [b'\\']) => return Escape::Unfinished,
        _ => None,
    };
    let high = first.checked_sub(0xD800).filter(|high| *high < 0x400);
    let pair = high.zip(low).and_then(|(high, low)| char::from_u32(0x10000 + (high << 10) + low));
    pair.map_or(Escape::Invalid(5), |character| Escape::Character(character, 11))
}

/// The number that four hexadecimal digits stand for; else whether the end cuts them off.
fn hex4(text: &[u8]) -> Result<u32, bool> {
    let digits = text.get(..4).unwrap_or(text);
    let mut value = 0;
    for digit in digits {
        value = value * 16 + char::from(*digit).to_digit(16).ok_or(false)?;
    }
    if digits.len() == 4 { Ok(value) } else { Err(true) }
}

/// The text that a string's inside stands for; `None` if it is not UTF-8 or an escape is invalid.
pub(super) fn unescape_strict(raw: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut pieces = Pieces::new(raw);
    for (_, piece) in &mut pieces {
        match piece {
            Piece::Plain(plain) => text.push_str(std::str::from_utf8(plain).ok()?),
            Piece::Character(character) => text.push(character),
            Piece::Invalid(_) => return None,
        }
    }
    (pieces.unfinished() == raw.len()).then_some(text)
}

/// Appends the text that a string's inside stands for. What is cut off at the end, an escape or a
/// character, is left out; an escape that means nothing becomes U+FFFD.
pub(crate) fn unescape(raw: &[u8], text: &mut String) -> Result<(), NotText> {
    let raw = match std::str::from_utf8(raw) {
        Ok(_) => raw,
        Err(error) if error.error_len().is_none() => {
            raw.get(..error.valid_up_to()).unwrap_or_default()
        }
        Err(_) => return Err(NotText),
    };
    for (_, piece) in Pieces::new(raw) {
        match piece {
            Piece::Plain(plain) => text.push_str(std::str::from_utf8(plain).map_err(|_| NotText)?),
            Piece::Character(character) => text.push(character),
            Piece::Invalid(_) => text.push(char::REPLACEMENT_CHARACTER),
        }
    }
    Ok(())
}

/// Text with the JSON escapes in it read, wherever they stand, and the positions that it came from.
pub(crate) struct UnescapedText {
    pub(crate) text: Vec<u8>,
    /// Where each piece begins in `text` and in the source; in order.
    pieces: Vec<SourcePiece>,
    /// Where an escape begins in the source that its end cuts off; else the source's length.
    pub(crate) unfinished: usize,
}

struct SourcePiece {
    text: usize,
    source: usize,
    is_escape: bool,
}

impl UnescapedText {
    /// `None` for a source without escapes, which is its own text.
    pub(crate) fn read(source: &[u8]) -> Option<Self> {
        memchr::memchr(b'\\', source)?;
        let mut text = Vec::with_capacity(source.len());
        let mut pieces = Vec::new();
        let mut read = Pieces::new(source);
        for (at, piece) in &mut read {
            let is_escape = matches!(piece, Piece::Character(_));
            pieces.push(SourcePiece { text: text.len(), source: at, is_escape });
            match piece {
                Piece::Plain(plain) | Piece::Invalid(plain) => text.extend_from_slice(plain),
                Piece::Character(character) => {
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
        Some(Self { text, pieces, unfinished: read.unfinished() })
    }

    /// Where a part of the text stands in the source.
    pub(crate) fn source(&self, part: Range<usize>) -> Range<usize> {
        self.source_of(part.start)..self.source_of(part.end)
    }

    fn source_of(&self, at: usize) -> usize {
        if at >= self.text.len() {
            return self.unfinished;
        }
        let after = self.pieces.partition_point(|piece| piece.text <= at);
        let piece = after.checked_sub(1).and_then(|last| self.pieces.get(last));
        piece.map_or(at, |piece| match piece.is_escape {
            true => piece.source,
            false => piece.source + (at - piece.text),
        })
    }
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
        assert_eq!(unescaped(r"\uzzzz\q\"), "\u{fffd}uzzzz\u{fffd}q");
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
