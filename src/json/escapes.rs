//! Unescapes JSON strings, with a map from the text back to the source.

use std::ops::Range;

/// The text was not UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotText;

/// A part of the bytes between a string's quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    /// Bytes without escapes.
    Plain(&'a [u8]),
    /// The character of a valid escape.
    Character(char),
    /// An invalid escape: a backslash alone, or half a surrogate pair.
    Invalid(&'a [u8]),
}

/// Iterates over the pieces of a string. An escape that is cut off by the end of the string is no
/// piece; [`unfinished`](Self::unfinished) is its offset.
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

    /// The offset of an escape that is cut off by the end; without one, the length.
    fn unfinished(&self) -> usize {
        self.unfinished
    }
}

impl<'a> Iterator for Pieces<'a> {
    /// The offset of the piece, and the piece.
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

/// Parses what follows a backslash.
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

/// Parses what follows `\u`.
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

/// The value of four hexadecimal digits. The error says whether the end cuts them off.
fn hex4(text: &[u8]) -> Result<u32, bool> {
    let digits = text.get(..4).unwrap_or(text);
    let mut value = 0;
    for digit in digits {
        value = value * 16 + char::from(*digit).to_digit(16).ok_or(false)?;
    }
    if digits.len() == 4 { Ok(value) } else { Err(true) }
}

/// The text of a string without its quotes; `None` if it is not UTF-8 or an escape is invalid.
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

/// The first of 2,048 characters of private use that stand for half a surrogate pair, far from those
/// that fonts use.
const FIRST_HALF: u32 = 0x10_F000;

/// The text of a valid string without its quotes, whatever is in it. Half a surrogate pair becomes a
/// character that [`half_surrogate`] turns back; what is not UTF-8 becomes U+FFFD.
pub(super) fn unescape_leniently(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut pieces = Pieces::new(raw);
    for (_, piece) in &mut pieces {
        match piece {
            Piece::Plain(plain) => text.push_str(&String::from_utf8_lossy(plain)),
            Piece::Character(character) => text.push(character),
            Piece::Invalid(half) => text.push(character_of_half(half)),
        }
    }
    // The first half of a pair at the end.
    if let Some(half) = raw.get(pieces.unfinished()..).filter(|half| !half.is_empty()) {
        text.push(character_of_half(half));
    }
    text
}

/// The character that stands for half a surrogate pair, `\ud800` to `\udfff`.
fn character_of_half(escape: &[u8]) -> char {
    let unit = escape.strip_prefix(b"\\u").and_then(|digits| hex4(digits).ok());
    let half = unit.and_then(|unit| unit.checked_sub(0xD800)).filter(|half| *half < 0x800);
    half.and_then(|half| char::from_u32(FIRST_HALF + half)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Half of the surrogate pair that a character stands for in a text that may have such.
pub(crate) fn half_surrogate(character: char) -> Option<u32> {
    let half = u32::from(character).checked_sub(FIRST_HALF).filter(|half| *half < 0x800)?;
    Some(0xD800 + half)
}

/// Appends the text of a string without its quotes. An escape or a character that is cut off at the
/// end is left out; an invalid escape becomes U+FFFD.
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

/// Text in which all JSON escapes are resolved, also outside strings. Invalid escapes stay as they are;
/// one that is cut off by the end is left out. `None` for a source without escapes.
pub(crate) fn unescape_bytes(source: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'\\', source)?;
    let mut text = Vec::with_capacity(source.len());
    for (_, piece) in Pieces::new(source) {
        match piece {
            Piece::Plain(plain) | Piece::Invalid(plain) => text.extend_from_slice(plain),
            Piece::Character(character) => {
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }
    Some(text)
}

/// Turns ranges of the text that [`unescape_bytes`] made into those of its source. They must be in
/// ascending order and must not overlap. Reads the source once and keeps no map.
pub(crate) fn move_to_source<'r>(
    source: &[u8],
    ranges: impl Iterator<Item = &'r mut Range<usize>>,
) {
    let mut places = ranges.flat_map(|range| [&mut range.start, &mut range.end]).peekable();
    let mut length = 0;
    let mut pieces = Pieces::new(source);
    for (at, piece) in &mut pieces {
        let (end, is_escape) = match piece {
            Piece::Plain(plain) | Piece::Invalid(plain) => (length + plain.len(), false),
            Piece::Character(character) => (length + character.len_utf8(), true),
        };
        while let Some(place) = places.next_if(|place| **place < end) {
            *place = if is_escape { at } else { at + (*place - length) };
        }
        length = end;
    }
    let end = pieces.unfinished();
    places.for_each(|place| *place = end);
}

/// Text in which all JSON escapes are resolved, also outside strings, with a map to the source.
pub(crate) struct UnescapedText {
    pub(crate) text: Vec<u8>,
    /// The offset of each piece in `text` and in the source, in ascending order.
    pieces: Vec<SourcePiece>,
    /// The offset in the source of an escape that is cut off by the end; without one, the length.
    pub(crate) unfinished: usize,
}

struct SourcePiece {
    text: usize,
    source: usize,
    is_escape: bool,
}

impl UnescapedText {
    /// `None` for a source without escapes.
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

    /// The range of the source that a part of the text came from.
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

    fn unescaped(raw: &str) -> String {
        let mut text = String::new();
        unescape(raw.as_bytes(), &mut text).unwrap();
        text
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

    #[test]
    fn halves_of_pairs_are_kept() {
        let read = |raw: &str| {
            let text = unescape_leniently(raw.as_bytes());
            let halves: Vec<u32> = text.chars().filter_map(half_surrogate).collect();
            (
                text.chars().filter(|char| half_surrogate(*char).is_none()).collect::<String>(),
                halves,
            )
        };
        assert_eq!(read(r"a\ud83d b\ude00"), ("a b".to_owned(), vec![0xd83d, 0xde00]));
        assert_eq!(read(r"\ud83d\ud83d"), (String::new(), vec![0xd83d, 0xd83d]));
        assert_eq!(read(r"\ud83d\ude00\udfff\n"), ("😀\n".to_owned(), vec![0xdfff]));
        assert_eq!(unescape_leniently(b"a\xff\\u00e9"), "a\u{fffd}é");
        assert_eq!(half_surrogate('\u{10f800}'), None);
    }

    #[test]
    fn positions_lead_back_to_the_source() {
        let source = br"a\u00e9\n\ud83d\ude00b\q\ud83dc\u00";
        let unescaped = UnescapedText::read(source).unwrap();
        let text = &unescaped.text;
        assert_eq!(text, "a\u{e9}\n\u{1f600}b\\q\\ud83dc".as_bytes());
        let sources = [(0..1, 0..1), (1..3, 1..7), (3..4, 7..9), (4..8, 9..21), (8..9, 21..22)];
        for (part, expected) in sources.clone() {
            assert_eq!(unescaped.source(part.clone()), expected, "{part:?}");
        }
        assert_eq!(unescaped.source(0..text.len()), 0..source.len() - 4);
        assert_eq!(unescaped.unfinished, source.len() - 4);
        assert!(UnescapedText::read(b"plain").is_none());

        assert_eq!(unescape_bytes(source).as_ref(), Some(text));
        let mut ranges = sources.clone().map(|(part, _)| part);
        move_to_source(source, ranges.iter_mut());
        assert_eq!(ranges, sources.map(|(_, source)| source));
        let mut all = [0..1, 8..text.len()];
        move_to_source(source, all.iter_mut());
        assert_eq!(all, [0..1, 21..source.len() - 4]);
        assert_eq!(unescape_bytes(b"plain"), None);
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
    }
}
