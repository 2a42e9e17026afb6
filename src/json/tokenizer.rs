//! A tokenizer of JSON (RFC 8259): it checks every byte, builds nothing, and limits depth, so that
//! callers may recurse.
//!
//! It accepts exactly the values that serde_json can skip. That includes half a surrogate pair
//! (`\ud800`), which is grammatical; [`RawString::text`] refuses it.

use std::borrow::Cow;

use super::case_fold::{self, FoldBuffer};
use super::escapes;
use super::string_end::{StringEnd, string_end};

/// Maximum depth of arrays and objects, the outermost included. Deeper ones overflow the stack of
/// recursive parsers upstream.
pub const MAX_LEVELS: usize = 128;

/// Why the text was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyntaxError {
    /// It is not JSON.
    Invalid,
    /// It nests deeper than [`MAX_LEVELS`].
    TooDeep,
}

/// A part of JSON text. Commas and colons are checked and left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// `{`
    BeginObject,
    /// `}`
    EndObject,
    /// `[`
    BeginArray,
    /// `]`
    EndArray,
    /// The key of an object's member; its value follows.
    Key(RawString<'a>),
    /// A string value.
    String(RawString<'a>),
    /// A number, `true`, `false` or `null`.
    Literal(&'a [u8]),
}

impl Token<'_> {
    /// Whether this is the value `null`.
    pub fn is_null(self) -> bool {
        self == Token::Literal(b"null")
    }
}

/// The bytes of a string between its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawString<'a> {
    raw: &'a [u8],
    has_escapes: bool,
}

impl<'a> RawString<'a> {
    /// The bytes between the quotes, escapes included.
    pub fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// The text, unescaped; `None` if it is not UTF-8 or has half a surrogate pair.
    pub fn text(self) -> Option<Cow<'a, str>> {
        if self.has_escapes {
            escapes::unescape_strict(self.raw).map(Cow::Owned)
        } else {
            std::str::from_utf8(self.raw).ok().map(Cow::Borrowed)
        }
    }

    /// The text, unescaped, whatever is in it: half a surrogate pair becomes a character that
    /// `escapes::half_surrogate` turns back, and what is not UTF-8 becomes U+FFFD.
    pub fn lenient_text(self) -> Cow<'a, str> {
        self.text().unwrap_or_else(|| escapes::unescape_leniently(self.raw).into())
    }

    /// The text under case folding; `None` if the result is longer than the buffer or not ASCII, and so
    /// equals no key that we know.
    pub fn folded(self, buffer: &mut FoldBuffer) -> Option<&[u8]> {
        if !self.has_escapes && self.raw.is_ascii() {
            return case_fold::fold_ascii(self.raw, buffer);
        }
        case_fold::fold(&self.text()?, buffer)
    }
}

/// Reads the tokens of one JSON value.
#[derive(Debug)]
pub struct Tokenizer<'a> {
    length: usize,
    rest: &'a [u8],
    token_start: usize,
    open: OpenContainers,
    expected: Expected,
}

#[derive(Debug, Clone, Copy)]
enum Expected {
    Value,
    /// An array's first element, or its end.
    FirstElement,
    /// An object's first key, or its end.
    FirstKey,
    /// A comma, or the end of the container.
    Separator,
    /// Nothing: the value is complete.
    End,
}

/// The arrays and objects that are open.
#[derive(Debug, Default)]
struct OpenContainers {
    levels: usize,
    /// A bit for each, the innermost lowest: whether it is an object.
    objects: u128,
}

const _: () = assert!(MAX_LEVELS <= u128::BITS as usize);

impl<'a> Tokenizer<'a> {
    /// A tokenizer of the value that `text` begins with.
    pub fn new(text: &'a [u8]) -> Self {
        Self {
            length: text.len(),
            rest: text,
            token_start: 0,
            open: OpenContainers::default(),
            expected: Expected::Value,
        }
    }

    /// The next token. An error when the value is already complete.
    #[expect(clippy::should_implement_trait, reason = "it is fallible, and ends with its value")]
    pub fn next(&mut self) -> Result<Token<'a>, SyntaxError> {
        self.skip_blanks();
        match (self.expected, self.rest) {
            (Expected::FirstKey, [b'}', ..])
            | (Expected::FirstElement, [b']', ..])
            | (Expected::Separator, [b'}' | b']', ..]) => self.close(),
            (Expected::FirstKey, _) => self.key(),
            (Expected::FirstElement | Expected::Value, _) => self.value(),
            (Expected::Separator, [b',', rest @ ..]) => {
                self.rest = rest;
                self.skip_blanks();
                if self.open.in_object() { self.key() } else { self.value() }
            }
            (Expected::Separator | Expected::End, _) => Err(SyntaxError::Invalid),
        }
    }

    /// Skips the rest of the value whose first token was just read.
    pub fn skip(&mut self, first: Token<'a>) -> Result<(), SyntaxError> {
        let mut open = usize::from(matches!(first, Token::BeginObject | Token::BeginArray));
        while open > 0 {
            match self.next()? {
                Token::BeginObject | Token::BeginArray => open += 1,
                Token::EndObject | Token::EndArray => open -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// Hands over the first token of each element of the array whose beginning was just read. `read` has to
    /// read the element to its end.
    pub fn elements(
        &mut self,
        mut read: impl FnMut(Token<'a>, &mut Self) -> Result<(), SyntaxError>,
    ) -> Result<(), SyntaxError> {
        loop {
            match self.next()? {
                Token::EndArray => return Ok(()),
                element => read(element, self)?,
            }
        }
    }

    /// Checks that nothing but blanks follows.
    pub fn finish(&mut self) -> Result<(), SyntaxError> {
        self.skip_blanks();
        if self.rest.is_empty() { Ok(()) } else { Err(SyntaxError::Invalid) }
    }

    /// The offset at which the last token begins.
    pub fn token_start(&self) -> usize {
        self.token_start
    }

    /// The offset at which the last token ends.
    pub fn position(&self) -> usize {
        self.length.saturating_sub(self.rest.len())
    }

    fn close(&mut self) -> Result<Token<'a>, SyntaxError> {
        let (byte, rest) = self.rest.split_first().ok_or(SyntaxError::Invalid)?;
        if self.open.in_object() != (*byte == b'}') {
            return Err(SyntaxError::Invalid);
        }
        self.token_start = self.position();
        self.rest = rest;
        self.open.pop();
        self.value_ended();
        Ok(if *byte == b'}' { Token::EndObject } else { Token::EndArray })
    }

    fn key(&mut self) -> Result<Token<'a>, SyntaxError> {
        let [b'"', rest @ ..] = self.rest else { return Err(SyntaxError::Invalid) };
        self.token_start = self.position();
        self.rest = rest;
        let key = self.string()?;
        self.skip_blanks();
        self.rest = self.rest.strip_prefix(b":").ok_or(SyntaxError::Invalid)?;
        self.expected = Expected::Value;
        Ok(Token::Key(key))
    }

    fn value(&mut self) -> Result<Token<'a>, SyntaxError> {
        let (first, after) = self.rest.split_first().ok_or(SyntaxError::Invalid)?;
        self.token_start = self.position();
        let text = std::mem::replace(&mut self.rest, after);
        match first {
            b'"' => {
                let string = self.string()?;
                self.value_ended();
                return Ok(Token::String(string));
            }
            b'{' => {
                self.open.push(true)?;
                self.expected = Expected::FirstKey;
                return Ok(Token::BeginObject);
            }
            b'[' => {
                self.open.push(false)?;
                self.expected = Expected::FirstElement;
                return Ok(Token::BeginArray);
            }
            b'-' | b'0'..=b'9' => self.number(*first)?,
            b't' => self.word(b"rue")?,
            b'f' => self.word(b"alse")?,
            b'n' => self.word(b"ull")?,
            _ => return Err(SyntaxError::Invalid),
        }
        self.value_ended();
        let length = text.len().saturating_sub(self.rest.len());
        Ok(Token::Literal(text.get(..length).unwrap_or_default()))
    }

    fn value_ended(&mut self) {
        self.expected = if self.open.levels == 0 { Expected::End } else { Expected::Separator };
    }

    fn skip_blanks(&mut self) {
        while let [b' ' | b'\n' | b'\t' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// The rest of a string whose opening quote was read.
    fn string(&mut self) -> Result<RawString<'a>, SyntaxError> {
        let text = self.rest;
        let StringEnd { at, has_escapes } = string_end(text).ok_or(SyntaxError::Invalid)?;
        self.rest = text.get(at + 1..).unwrap_or_default();
        Ok(RawString { raw: text.get(..at).unwrap_or_default(), has_escapes })
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), SyntaxError> {
        self.rest = self.rest.strip_prefix(rest).ok_or(SyntaxError::Invalid)?;
        Ok(())
    }

    fn number(&mut self, first: u8) -> Result<(), SyntaxError> {
        let mut digit = first;
        if first == b'-' {
            let (after_sign, rest) = self.rest.split_first().ok_or(SyntaxError::Invalid)?;
            self.rest = rest;
            digit = *after_sign;
        }
        match digit {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return Err(SyntaxError::Invalid),
        }
        if let [b'.', rest @ ..] = self.rest {
            self.rest = rest;
            self.at_least_one_digit()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = match rest {
                [b'+' | b'-', rest @ ..] => rest,
                rest => rest,
            };
            self.at_least_one_digit()?;
        }
        Ok(())
    }

    fn at_least_one_digit(&mut self) -> Result<(), SyntaxError> {
        match self.rest {
            [b'0'..=b'9', rest @ ..] => self.rest = rest,
            _ => return Err(SyntaxError::Invalid),
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while let [b'0'..=b'9', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

impl OpenContainers {
    fn push(&mut self, is_object: bool) -> Result<(), SyntaxError> {
        if self.levels == MAX_LEVELS {
            return Err(SyntaxError::TooDeep);
        }
        self.levels += 1;
        self.objects = self.objects << 1 | u128::from(is_object);
        Ok(())
    }

    fn pop(&mut self) {
        self.levels = self.levels.saturating_sub(1);
        self.objects >>= 1;
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

#[cfg(test)]
mod tests;
