//! Finds a few members of a JSON object while it passes, in constant memory.
//!
//! No validator: from text that is not JSON it may take anything, so what it finds is parsed before
//! it is believed.

/// The longest key that is looked for is `choices`; of a longer one this much tells it apart.
const KEY_KEPT: usize = 8;

/// How much of each member's raw value is kept, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    pub(super) usage: usize,
    pub(super) model: usize,
    pub(super) choices: usize,
}

/// One member's raw value, as far as it is kept.
#[derive(Debug, Default)]
pub(super) struct Member {
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

    /// The value, when all of it has passed and was kept.
    pub(super) fn value(&self) -> Option<&str> {
        if !self.closed || self.cut {
            return None;
        }
        std::str::from_utf8(&self.text).ok().map(str::trim)
    }

    /// The value's first bytes that are not blank, as far as they have passed.
    pub(super) fn beginning(&self) -> impl Iterator<Item = u8> {
        self.text.iter().copied().filter(|byte| !byte.is_ascii_whitespace())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
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
enum Which {
    Usage,
    Model,
    Choices,
}

/// See the module.
#[derive(Debug)]
pub(super) struct TopLevelScanner {
    part: Part,
    /// Levels below the top level.
    depth: u64,
    in_text: bool,
    escaped: bool,
    key: Vec<u8>,
    current: Option<Which>,
    pub(super) usage: Member,
    pub(super) model: Member,
    pub(super) choices: Member,
}

impl TopLevelScanner {
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            part: Part::Start,
            depth: 0,
            in_text: false,
            escaped: false,
            key: Vec::new(),
            current: None,
            usage: Member::keeping(keep.usage),
            model: Member::keeping(keep.model),
            choices: Member::keeping(keep.choices),
        }
    }

    /// Whether the text is certainly no object.
    pub(super) fn is_other(&self) -> bool {
        self.part == Part::Other
    }

    /// Looks at the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !matches!(self.part, Part::End | Part::Other) {
            bytes = if self.in_text { self.feed_text(bytes) } else { self.feed_one(bytes) };
        }
    }

    /// The inside of a string, up to its next quote or escape.
    fn feed_text<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let plain = if self.escaped {
            0
        } else {
            memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len())
        };
        let (text, rest) = bytes.split_at(plain);
        self.take(text);
        let Some((byte, rest)) = rest.split_first() else {
            return rest;
        };
        if self.escaped {
            self.escaped = false;
        } else if *byte == b'"' {
            self.in_text = false;
        } else {
            self.escaped = true;
        }
        if self.in_text || self.part == Part::Value {
            self.take(&[*byte]);
        } else {
            self.part = Part::Colon;
        }
        rest
    }

    fn feed_one<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some((byte, rest)) = bytes.split_first() else {
            return bytes;
        };
        match (self.part, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') if self.part != Part::Value => {}
            (Part::Start, b'{') => self.part = Part::Key,
            (Part::Key, b'"') => {
                self.in_text = true;
                self.key.clear();
            }
            (Part::Key, b'}') => self.part = Part::End,
            (Part::Colon, b':') => self.begin_value(),
            (Part::Value, b',') if self.depth == 0 => self.end_value(Part::Key),
            (Part::Value, b'}') if self.depth == 0 => self.end_value(Part::End),
            (Part::Value, _) => {
                match byte {
                    b'"' => self.in_text = true,
                    b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                self.take(&[*byte]);
            }
            _ => self.part = Part::Other,
        }
        rest
    }

    fn begin_value(&mut self) {
        self.part = Part::Value;
        self.current = match self.key.as_slice() {
            b"usage" => Some(Which::Usage),
            b"model" => Some(Which::Model),
            b"choices" => Some(Which::Choices),
            _ => None,
        };
        if let Some(member) = self.member() {
            member.begin();
        }
    }

    fn end_value(&mut self, next: Part) {
        if let Some(member) = self.member() {
            member.closed = true;
        }
        self.current = None;
        self.part = next;
    }

    fn take(&mut self, part: &[u8]) {
        if self.part == Part::Key {
            let room = KEY_KEPT.saturating_sub(self.key.len());
            self.key.extend_from_slice(part.get(..room).unwrap_or(part));
        } else if let Some(member) = self.member() {
            member.take(part);
        }
    }

    fn member(&mut self) -> Option<&mut Member> {
        match self.current? {
            Which::Usage => Some(&mut self.usage),
            Which::Model => Some(&mut self.model),
            Which::Choices => Some(&mut self.choices),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep { usage: 64, model: 16, choices: 8 };

    fn scan(text: &str, size: usize) -> TopLevelScanner {
        let mut scanner = TopLevelScanner::new(KEEP);
        for chunk in text.as_bytes().chunks(size) {
            scanner.feed(chunk);
        }
        scanner
    }

    #[test]
    fn members_of_the_top_level_only() {
        let text = r#" {"id": "a\"}", "x": {"usage": 1, "y": ["model", {"model": "no"}]},
            "usage" : {"a": [1, "}"]} , "choices": [ {"usage": 2} ], "modeled": 1, "model":"m\\" }"#;
        for size in [1, 5, 1000] {
            let scanner = scan(text, size);
            assert_eq!(scanner.usage.value(), Some(r#"{"a": [1, "}"]}"#));
            assert_eq!(scanner.model.value(), Some(r#""m\\""#));
            assert_eq!(scanner.choices.value(), None, "longer than what is kept");
            assert_eq!(scanner.choices.beginning().take(2).collect::<Vec<_>>(), b"[{");
        }
    }

    #[test]
    fn unfinished_and_foreign_text() {
        assert_eq!(scan(r#"{"usage": {"a": 1}"#, 3).usage.value(), None);
        assert_eq!(scan(r#"{"usage": 1, "usage": 22}"#, 3).usage.value(), Some("22"));
        assert!(scan("[DONE]", 3).is_other());
        assert!(scan("{]", 3).is_other());
        assert!(!scan("  ", 3).is_other());
        for odd in ["{}", "{\"a\"", "{\"a\\", "{,", "{\"a\":}", "}{", "\"", "{\"usage\":]}"] {
            for size in [1, 10] {
                scan(odd, size);
            }
        }
    }
}
