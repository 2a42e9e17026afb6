//! The grammar of JSON (RFC 8259): one pass, every byte accounted for, no recursion, nothing built.
//!
//! Accepts exactly what serde_json skips over as a value it does not look into; so `\ud800` without
//! its other half passes, being grammatical, and left to whoever reads the text.

use std::ops::Range;

use super::long_texts::LONG;
use super::object::MOST_LEVELS;
use crate::json::bytes;

/// Why the text was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not JSON.
    Grammar,
    /// It nests deeper than [`MOST_LEVELS`].
    TooDeep,
}

/// Reads a top-level object's text from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    length: usize,
    rest: &'a [u8],
    long_texts: Vec<Range<usize>>,
}

/// The arrays and objects that are open inside a top-level value.
#[derive(Debug, Default)]
struct Open {
    levels: usize,
    /// A bit for each, the innermost lowest: whether it is an object.
    objects: u128,
}

// The top-level object needs no bit.
const _: () = assert!(MOST_LEVELS - 1 <= u128::BITS as usize);

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { length: text.len(), rest: text, long_texts: Vec::new() }
    }

    /// Where the long texts stand that were read, between their quotes.
    pub(crate) fn into_long_texts(self) -> Vec<Range<usize>> {
        self.long_texts
    }

    /// The next byte that is not blank.
    pub(crate) fn token(&mut self) -> Result<u8, Fault> {
        self.blanks();
        self.byte()
    }

    /// Nothing but blanks may follow.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        self.blanks();
        if self.rest.is_empty() { Ok(()) } else { Err(Fault::Grammar) }
    }

    /// The rest of a key whose opening quote was read, and its colon. Tells where it stands, between
    /// its quotes, and whether it has escapes.
    pub(crate) fn key(&mut self) -> Result<(Range<usize>, bool), Fault> {
        let start = self.position();
        let escapes = self.string()?;
        let end = self.position().saturating_sub(1);
        match self.token()? {
            b':' => Ok((start..end, escapes)),
            _ => Err(Fault::Grammar),
        }
    }

    /// A value, and where it stands.
    pub(crate) fn value(&mut self) -> Result<Range<usize>, Fault> {
        self.blanks();
        let start = self.position();
        let mut open = Open::default();
        loop {
            let first = self.token()?;
            let mut ended = match first {
                b'"' => {
                    self.string()?;
                    true
                }
                b'{' | b'[' => {
                    open.push(first == b'{')?;
                    false
                }
                b'-' | b'0'..=b'9' => self.number(first)?,
                b't' => self.word(b"rue")?,
                b'f' => self.word(b"alse")?,
                b'n' => self.word(b"ull")?,
                _ => return Err(Fault::Grammar),
            };
            // Closes what ends here, up to where the next value begins.
            loop {
                if open.levels == 0 {
                    return Ok(start..self.position());
                }
                let object = open.in_object();
                self.blanks();
                let (byte, after) = self.rest.split_first().ok_or(Fault::Grammar)?;
                match (byte, object) {
                    (b'}', true) | (b']', false) => {
                        self.rest = after;
                        open.pop();
                        ended = true;
                        continue;
                    }
                    (b',', _) if ended => self.rest = after,
                    _ if ended => return Err(Fault::Grammar),
                    _ => {}
                }
                if object {
                    self.inner_key()?;
                }
                break;
            }
        }
    }

    fn inner_key(&mut self) -> Result<(), Fault> {
        match self.token()? {
            b'"' => self.key().map(|_| ()),
            _ => Err(Fault::Grammar),
        }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let (byte, rest) = self.rest.split_first().ok_or(Fault::Grammar)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn position(&self) -> usize {
        self.length.saturating_sub(self.rest.len())
    }

    fn blanks(&mut self) {
        while let [b' ' | b'\n' | b'\t' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// The rest of a string whose opening quote was read; says whether it has escapes.
    fn string(&mut self) -> Result<bool, Fault> {
        let mut escapes = false;
        let start = self.position();
        loop {
            let plain = bytes::first(self.rest, |word| {
                bytes::equal(word, b'"') | bytes::equal(word, b'\\') | bytes::below(word, b' ')
            });
            let rest = plain.and_then(|plain| self.rest.get(plain..)).ok_or(Fault::Grammar)?;
            self.rest = match rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    let end = self.position().saturating_sub(1);
                    if end.saturating_sub(start) >= LONG {
                        self.long_texts.push(start..end);
                    }
                    return Ok(escapes);
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => rest,
                [b'\\', b'u', a, b, c, d, rest @ ..]
                    if [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit) =>
                {
                    rest
                }
                _ => return Err(Fault::Grammar),
            };
            escapes = true;
        }
    }

    fn word(&mut self, rest: &[u8]) -> Result<bool, Fault> {
        self.rest = self.rest.strip_prefix(rest).ok_or(Fault::Grammar)?;
        Ok(true)
    }

    fn number(&mut self, first: u8) -> Result<bool, Fault> {
        match if first == b'-' { self.byte()? } else { first } {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return Err(Fault::Grammar),
        }
        if let [b'.', rest @ ..] = self.rest {
            self.rest = rest;
            self.some_digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = match rest {
                [b'+' | b'-', rest @ ..] => rest,
                rest => rest,
            };
            self.some_digits()?;
        }
        Ok(true)
    }

    fn some_digits(&mut self) -> Result<(), Fault> {
        match self.rest {
            [b'0'..=b'9', rest @ ..] => self.rest = rest,
            _ => return Err(Fault::Grammar),
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

impl Open {
    fn push(&mut self, object: bool) -> Result<(), Fault> {
        self.levels += 1;
        if self.levels >= MOST_LEVELS {
            return Err(Fault::TooDeep);
        }
        self.objects = self.objects << 1 | u128::from(object);
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
