//! Looks through the parts of a prompt for what its bytes do not bound.
//!
//! One pass over the raw text, which steps over texts and numbers without reading them, and builds
//! nothing. Kinds of parts are told by a list of those known to be text, so that one that comes up
//! tomorrow counts as unbounded. What is not JSON counts as unbounded, too.

use std::borrow::Cow;

use super::fold;
use crate::json::bytes;
use crate::json::long_texts::LongTexts;

/// What a prompt holds, the worst of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    /// Text, of which a token is at least a byte.
    Text,
    /// Something that the body only names, or whose tokens have nothing to do with its bytes.
    Stored,
    /// A tool that runs at the provider's and may read anything, several times.
    Hosted,
}

/// Deeper is refused before anybody asks here.
const MOST_LEVELS: usize = 200;

/// Kinds of items and parts that are nothing but the text in them, and of what stands beside it.
const TEXT_KINDS: &[&str] = &[
    "text",
    "input_text",
    "output_text",
    "refusal",
    "message",
    "function",
    "function_call",
    "function_call_output",
    "custom",
    "custom_tool_call",
    "custom_tool_call_output",
    "tool_use",
    "tool_result",
    "content",
    "reasoning",
    "reasoning_text",
    "summary_text",
    "reasoning.text",
    "reasoning.summary",
    "reasoning.encrypted",
    "thinking",
    "redacted_thinking",
    "input_audio",
    "url_citation",
    "ephemeral",
];

/// A walk over one raw JSON value.
pub(super) struct Walk<'a> {
    text: &'a str,
    at: usize,
    texts: LongTexts<'a>,
}

/// What an object says of itself.
#[derive(Default)]
struct Marks {
    worst: Option<Seen>,
    is_reasoning: bool,
    has_id: bool,
    /// Whether what it is about stands in it, too.
    is_whole: bool,
    is_sealed: bool,
}

/// The text is not JSON.
struct Broken;

type Outcome = Result<Seen, Broken>;

impl<'a> Walk<'a> {
    pub(super) fn new(text: &'a str, texts: LongTexts<'a>) -> Self {
        Self { text, at: 0, texts }
    }

    /// Messages, or a part of them.
    pub(super) fn content(mut self) -> Seen {
        told(self.value(0))
    }

    /// The items of a response's input, which may be nothing but references.
    pub(super) fn items(mut self) -> Seen {
        told(self.elements(|walk| match walk.peek() {
            Some(b'{') => walk.item(),
            _ => walk.value(1),
        }))
    }

    /// Tools: those that the caller runs are text, all others are hosted.
    pub(super) fn tools(mut self) -> Seen {
        told(self.elements(Self::tool))
    }

    /// The worst of an array's elements; a value that is no array is looked through as it is.
    fn elements(&mut self, mut element: impl FnMut(&mut Self) -> Outcome) -> Outcome {
        if self.peek() != Some(b'[') {
            return self.value(0);
        }
        self.at += 1;
        let mut worst = Seen::Text;
        if self.close(b']') {
            return Ok(worst);
        }
        loop {
            worst = worst.max(element(self)?);
            if worst == Seen::Hosted {
                return Ok(worst);
            }
            if self.close(b']') {
                return Ok(worst);
            }
            self.expect(b',')?;
        }
    }

    fn item(&mut self) -> Outcome {
        let marks = self.object(1)?;
        let worst = marks.worst.unwrap_or(Seen::Text);
        // What does not stand in the item is looked up by its id. Of reasoning, only the sealed form
        // is what the model reads.
        let is_reference =
            if marks.is_reasoning { marks.has_id && !marks.is_sealed } else { !marks.is_whole };
        Ok(if is_reference { worst.max(Seen::Stored) } else { worst })
    }

    fn tool(&mut self) -> Outcome {
        if self.peek() != Some(b'{') {
            self.skip(1)?;
            return Ok(Seen::Hosted);
        }
        self.at += 1;
        let (mut seen, mut typed) = (Seen::Text, false);
        if self.close(b'}') {
            return Ok(Seen::Hosted);
        }
        loop {
            let key = self.key()?;
            let mut buffer = [0; fold::LONGEST];
            if fold::folded(&key, &mut buffer) == Some(b"type".as_slice()) {
                typed = true;
                let own = self.peek() == Some(b'"')
                    && matches!(self.string()?.as_ref(), "function" | "custom");
                if !own {
                    return Ok(Seen::Hosted);
                }
            } else {
                self.skip(1)?;
            }
            if self.close(b'}') {
                break;
            }
            self.expect(b',')?;
        }
        if !typed {
            seen = Seen::Hosted;
        }
        Ok(seen)
    }

    fn value(&mut self, level: usize) -> Outcome {
        if level > MOST_LEVELS {
            return Err(Broken);
        }
        match self.peek().ok_or(Broken)? {
            b'{' => Ok(self.object(level)?.worst.unwrap_or(Seen::Text)),
            b'[' => self.elements(|walk| walk.value(level + 1)),
            _ => self.scalar().map(|()| Seen::Text),
        }
    }

    fn object(&mut self, level: usize) -> Result<Marks, Broken> {
        let mut marks = Marks::default();
        self.expect(b'{')?;
        if self.close(b'}') {
            return Ok(marks);
        }
        loop {
            let key = self.key()?;
            let mut buffer = [0; fold::LONGEST];
            let first = self.peek().ok_or(Broken)?;
            let given = first != b'n';
            let seen = match fold::folded(&key, &mut buffer).unwrap_or_default() {
                b"type" if first == b'"' => {
                    let kind = self.string()?;
                    marks.is_reasoning |= kind == "reasoning";
                    if TEXT_KINDS.contains(&kind.as_ref()) { Seen::Text } else { Seen::Stored }
                }
                b"type" if given => {
                    self.skip(level + 1)?;
                    Seen::Stored
                }
                b"file_id" | b"file_ids" | b"file_url" | b"file_data" | b"file" | b"image"
                | b"images" | b"image_url" | b"image_file" | b"video" | b"video_url" | b"audio"
                | b"audio_url" | b"vector_store_ids" | b"cached_content"
                    if given =>
                {
                    self.skip(level + 1)?;
                    Seen::Stored
                }
                b"data" if first == b'"' => {
                    if is_inline(self.raw_string()?) {
                        Seen::Text
                    } else {
                        Seen::Stored
                    }
                }
                b"content" | b"text" | b"arguments" | b"output" | b"input" => {
                    marks.is_whole |= given;
                    self.value(level + 1)?
                }
                b"id" => {
                    marks.has_id |= given;
                    self.value(level + 1)?
                }
                b"encrypted_content" => {
                    marks.is_sealed |= given;
                    self.value(level + 1)?
                }
                _ => self.value(level + 1)?,
            };
            marks.worst = marks.worst.max(Some(seen));
            if self.close(b'}') {
                return Ok(marks);
            }
            self.expect(b',')?;
        }
    }

    /// Steps over a value of any kind.
    fn skip(&mut self, level: usize) -> Result<(), Broken> {
        let mut open = 0_usize;
        loop {
            match self.peek().ok_or(Broken)? {
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open = open.checked_sub(1).ok_or(Broken)?;
                    self.at += 1;
                }
                b',' | b':' if open > 0 => self.at += 1,
                _ => self.scalar()?,
            }
            if open == 0 {
                return Ok(());
            }
            if open + level > MOST_LEVELS {
                return Err(Broken);
            }
        }
    }

    fn scalar(&mut self) -> Result<(), Broken> {
        if self.peek() == Some(b'"') {
            return self.raw_string().map(|_| ());
        }
        let rest = self.rest();
        let length = rest
            .iter()
            .position(|byte| !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'+' | b'.' | b'E'))
            .unwrap_or(rest.len());
        if length == 0 {
            return Err(Broken);
        }
        self.at += length;
        Ok(())
    }

    fn key(&mut self) -> Result<Cow<'a, str>, Broken> {
        let key = self.string()?;
        self.expect(b':')?;
        Ok(key)
    }

    /// A text, unescaped. One that does not unescape (half a surrogate pair) is none that anybody
    /// looks for.
    fn string(&mut self) -> Result<Cow<'a, str>, Broken> {
        self.blanks();
        let start = self.at;
        let raw = self.raw_string()?;
        if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
            return Ok(Cow::Borrowed(raw));
        }
        let quoted = self.text.get(start..self.at).ok_or(Broken)?;
        Ok(Cow::Owned(serde_json::from_str(quoted).unwrap_or_else(|_| "\u{fffd}".to_owned())))
    }

    /// A text between its quotes, as it stands there.
    fn raw_string(&mut self) -> Result<&'a str, Broken> {
        self.expect(b'"')?;
        let start = self.at;
        if let Some(end) = self.texts.end_of(start) {
            self.at = end + 1;
            return self.text.get(start..end).ok_or(Broken);
        }
        loop {
            let rest = self.rest();
            let quote_or_escape = |word| bytes::equal(word, b'"') | bytes::equal(word, b'\\');
            let found = bytes::first(rest, quote_or_escape).ok_or(Broken)?;
            self.at += found + 1;
            if rest.get(found) == Some(&b'"') {
                return self.text.get(start..self.at - 1).ok_or(Broken);
            }
            self.at += 1;
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        self.at += blanks.count();
    }

    /// The next byte that is not blank.
    fn peek(&mut self) -> Option<u8> {
        self.blanks();
        self.rest().first().copied()
    }

    fn expect(&mut self, byte: u8) -> Result<(), Broken> {
        if self.close(byte) { Ok(()) } else { Err(Broken) }
    }

    /// Takes the byte if it comes next.
    fn close(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }
}

fn told(outcome: Outcome) -> Seen {
    outcome.unwrap_or(Seen::Stored)
}

/// Whether `data` is the data itself, in base64 perhaps with a media type before it, and no address
/// where to fetch it.
fn is_inline(raw: &str) -> bool {
    let head = raw.as_bytes();
    let head = head.get(..head.len().min(64)).unwrap_or_default();
    let head = head.strip_prefix(b"data:").unwrap_or(head);
    let mut bytes = head.iter().peekable();
    while let Some(byte) = bytes.next() {
        let escaped = *byte == b'\\' && bytes.peek().is_some_and(|next| **next != b'/');
        if *byte == b':' || escaped {
            return false;
        }
    }
    true
}
