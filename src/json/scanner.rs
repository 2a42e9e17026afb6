//! Finds a few members of a JSON object that arrives in chunks, in constant memory.
//!
//! It does not validate: from text that is not JSON it may return anything, so callers parse the
//! values.

use crate::json::bytes;
use crate::json::key_search::KeySearch;

/// How much of a key is buffered: one byte more than the longest key that matters, which may be any of
/// [`MemberNames`].
const MAX_KEY_LENGTH: usize = 33;

/// The names of the members that differ between formats; none has more than 32 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemberNames {
    pub(crate) usage: &'static str,
    pub(crate) model: &'static str,
    /// The array of answers.
    pub(crate) choices: &'static str,
    /// Another form of it.
    pub(crate) output: &'static str,
    /// A key that marks the end of an answer, at whatever level.
    pub(crate) end_key: Option<&'static str>,
}

impl MemberNames {
    /// Those of OpenAI's chat completions, which most formats share.
    pub(crate) const USUAL: Self = Self {
        usage: "usage",
        model: "model",
        choices: "choices",
        output: "output",
        end_key: None,
    };
}

/// The maximum length of each member's raw value that is kept, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    pub(crate) names: &'static MemberNames,
    pub(crate) usage: usize,
    pub(crate) model: usize,
    pub(crate) id: usize,
    pub(crate) choices: usize,
    pub(crate) kind: usize,
    /// For each of `error`, `output` and `status`.
    pub(crate) state: usize,
    /// Whether to find the members of `response`, too.
    pub(crate) response: bool,
}

/// The raw value of a member, as far as it is kept.
#[derive(Debug, Default)]
pub(crate) struct Member {
    keep: usize,
    text: Vec<u8>,
    cut: bool,
    closed: bool,
}

impl Member {
    fn keeping(keep: usize) -> Self {
        Self { keep, ..Self::default() }
    }

    fn begin(&mut self) {
        self.text.clear();
        self.cut = false;
        self.closed = false;
    }

    fn take(&mut self, part: &[u8]) {
        let room = self.keep.saturating_sub(self.text.len());
        self.cut |= part.len() > room;
        self.text.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    /// The value, if it is complete and all of it was kept.
    pub(crate) fn value(&self) -> Option<&str> {
        if !self.closed || self.cut {
            return None;
        }
        std::str::from_utf8(&self.text).ok().map(str::trim)
    }

    /// The first bytes of the value that have arrived, without blanks.
    pub(crate) fn beginning(&self) -> impl Iterator<Item = u8> {
        self.text.iter().copied().filter(|byte| !byte.is_ascii_whitespace())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Nothing but blanks so far.
    Start,
    /// At the top level, before or in a key.
    Key,
    /// At the top level, after a key.
    Colon,
    /// In a member's value.
    Value,
    /// Past the object's end.
    End,
    /// Not an object.
    Other,
}

#[derive(Debug, Clone, Copy)]
enum MemberName {
    Usage,
    Model,
    Id,
    Choices,
    Kind,
    Error,
    Output,
    Status,
    Response,
}

/// Scans one JSON object.
#[derive(Debug)]
pub(crate) struct TopLevelScanner {
    position: Position,
    /// Levels below the top level.
    depth: u64,
    in_text: bool,
    escaped: bool,
    key: Vec<u8>,
    current: Option<MemberName>,
    pub(crate) usage: Member,
    pub(crate) model: Member,
    pub(crate) id: Member,
    pub(crate) choices: Member,
    /// The member `type`.
    pub(crate) kind: Member,
    pub(crate) error: Member,
    pub(crate) output: Member,
    pub(crate) status: Member,
    keep: Keep,
    response: Option<Box<Self>>,
    end_key: Option<KeySearch>,
}

impl TopLevelScanner {
    pub(crate) fn new(keep: Keep) -> Self {
        Self {
            position: Position::Start,
            depth: 0,
            in_text: false,
            escaped: false,
            key: Vec::new(),
            current: None,
            usage: Member::keeping(keep.usage),
            model: Member::keeping(keep.model),
            id: Member::keeping(keep.id),
            choices: Member::keeping(keep.choices),
            kind: Member::keeping(keep.kind),
            error: Member::keeping(keep.state),
            output: Member::keeping(keep.state),
            status: Member::keeping(keep.state),
            keep,
            response: None,
            end_key: keep.names.end_key.map(KeySearch::new),
        }
    }

    /// The members of the object under `response`, if it has begun and [`Keep::response`] is set.
    pub(crate) fn response(&self) -> Option<&Self> {
        self.response.as_deref()
    }

    /// Whether a key has passed that marks the end of an answer.
    pub(crate) fn has_end_key(&self) -> bool {
        self.end_key.as_ref().is_some_and(KeySearch::is_found)
    }

    /// Whether the text is certainly no object.
    pub(crate) fn is_other(&self) -> bool {
        self.position == Position::Other
    }

    /// Looks at the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.feed_with(bytes, &mut |_| {});
    }

    /// The same; the parts of the value under [`MemberNames::output`] go to `output` as they pass.
    pub(crate) fn feed_with(&mut self, mut bytes: &[u8], output: &mut dyn FnMut(&[u8])) {
        if let Some(end_key) = &mut self.end_key {
            end_key.feed(bytes);
        }
        while !bytes.is_empty() && !matches!(self.position, Position::End | Position::Other) {
            bytes = match (self.position, self.in_text) {
                (Position::Value, _) => self.feed_value(bytes, output),
                (_, true) => self.feed_key(bytes),
                (_, false) => self.feed_between(bytes),
            };
        }
    }

    /// Between the top level's keys and values.
    fn feed_between<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some((byte, rest)) = bytes.split_first() else {
            return bytes;
        };
        match (self.position, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => {}
            // A byte order mark.
            (Position::Start, 0xEF | 0xBB | 0xBF) => {}
            (Position::Start, b'{') => self.position = Position::Key,
            (Position::Key, b'"') => {
                self.in_text = true;
                self.key.clear();
            }
            (Position::Key, b'}') => self.position = Position::End,
            (Position::Colon, b':') => self.begin_value(),
            _ => self.position = Position::Other,
        }
        rest
    }

    fn feed_key<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let quote = self.closing_quote(bytes);
        let (key, rest) = bytes.split_at(quote.unwrap_or(bytes.len()));
        let room = MAX_KEY_LENGTH.saturating_sub(self.key.len());
        self.key.extend_from_slice(key.get(..room).unwrap_or(key));
        if quote.is_some() {
            self.position = Position::Colon;
        }
        rest.get(1..).unwrap_or_default()
    }

    /// The inside of a value, up to the comma or brace that ends it.
    fn feed_value<'a>(&mut self, bytes: &'a [u8], output: &mut dyn FnMut(&[u8])) -> &'a [u8] {
        let mut unseen = bytes;
        let mut depth = self.depth;
        let end = loop {
            if self.in_text {
                let Some(quote) = self.closing_quote(unseen) else {
                    break None;
                };
                unseen = unseen.get(quote + 1..).unwrap_or_default();
            }
            let mark = next_mark(unseen, depth == 0).and_then(|mark| unseen.get(mark..));
            let Some((byte, after)) = mark.and_then(<[u8]>::split_first) else {
                break None;
            };
            match byte {
                b'"' => self.in_text = true,
                b'{' | b'[' => depth = depth.saturating_add(1),
                b',' | b'}' if depth == 0 => break Some((*byte, after)),
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            unseen = after;
        };
        self.depth = depth;
        let Some((byte, after)) = end else {
            self.take(bytes, output);
            return &[];
        };
        let value = bytes.len().saturating_sub(after.len() + 1);
        self.take(bytes.get(..value).unwrap_or_default(), output);
        self.end_value(if byte == b',' { Position::Key } else { Position::End });
        after
    }

    /// The position of the closing quote of the string that continues in `bytes`. Searches for quotes
    /// only, since text has more of other escapes; a quote is escaped after an odd number of
    /// backslashes.
    fn closing_quote(&mut self, bytes: &[u8]) -> Option<usize> {
        let skipped = usize::from(std::mem::take(&mut self.escaped));
        let text = bytes.get(skipped..)?;
        let quote = memchr::memchr_iter(b'"', text)
            .find(|quote| !ends_in_escape(text.get(..*quote).unwrap_or_default()));
        self.in_text = quote.is_none();
        self.escaped = self.in_text && ends_in_escape(text);
        quote.map(|quote| skipped + quote)
    }

    fn begin_value(&mut self) {
        self.position = Position::Value;
        let names = self.keep.names;
        self.current = match self.key.as_slice() {
            key if key == names.usage.as_bytes() => Some(MemberName::Usage),
            key if key == names.model.as_bytes() => Some(MemberName::Model),
            key if key == names.choices.as_bytes() => Some(MemberName::Choices),
            b"id" => Some(MemberName::Id),
            b"type" => Some(MemberName::Kind),
            b"error" => Some(MemberName::Error),
            key if key == names.output.as_bytes() => Some(MemberName::Output),
            b"status" => Some(MemberName::Status),
            b"response" if self.keep.response => Some(MemberName::Response),
            _ => None,
        };
        if matches!(self.current, Some(MemberName::Response)) {
            let keep = Keep { choices: 0, kind: 0, response: false, ..self.keep };
            self.response = Some(Box::new(Self::new(keep)));
        }
        if let Some(member) = self.member() {
            member.begin();
        }
    }

    fn end_value(&mut self, next: Position) {
        if let Some(member) = self.member() {
            member.closed = true;
        }
        self.current = None;
        self.position = next;
    }

    fn take(&mut self, part: &[u8], output: &mut dyn FnMut(&[u8])) {
        if matches!(self.current, Some(MemberName::Output)) {
            output(part);
        }
        if let (Some(MemberName::Response), Some(response)) = (self.current, &mut self.response) {
            response.feed(part);
        } else if let Some(member) = self.member() {
            member.take(part);
        }
    }

    fn member(&mut self) -> Option<&mut Member> {
        match self.current? {
            MemberName::Usage => Some(&mut self.usage),
            MemberName::Model => Some(&mut self.model),
            MemberName::Id => Some(&mut self.id),
            MemberName::Choices => Some(&mut self.choices),
            MemberName::Kind => Some(&mut self.kind),
            MemberName::Error => Some(&mut self.error),
            MemberName::Output => Some(&mut self.output),
            MemberName::Status => Some(&mut self.status),
            MemberName::Response => None,
        }
    }
}

/// Whether the byte after this part of a string, which begins outside an escape, is escaped.
fn ends_in_escape(mut text: &[u8]) -> bool {
    let mut escaped = false;
    while let [before @ .., b'\\'] = text {
        escaped = !escaped;
        text = before;
    }
    escaped
}

/// The next quote or bracket, or, at the top level, comma.
fn next_mark(bytes: &[u8], top: bool) -> Option<usize> {
    let comma = if top { b',' } else { b'"' };
    bytes::first(bytes, |word| {
        // Bracket and brace differ in this bit only.
        let brackets = bytes::with_bits(word, b'{' ^ b'[');
        bytes::equal(word, b'"')
            | bytes::equal(word, comma)
            | bytes::equal(brackets, b'{')
            | bytes::equal(brackets, b'}')
    })
}

#[cfg(test)]
mod tests;
