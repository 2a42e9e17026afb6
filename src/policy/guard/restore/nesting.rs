//! Follows, through text that arrives in pieces, how many strings of JSON are open at a place: a value
//! that is put there needs as many escapes.
//!
//! Text is JSON if it begins with a brace or bracket, and so is what stands in a string of it. A quote
//! opens or closes a string at the level that the backslashes before it tell.

/// How deep JSON in strings is followed.
const MAX_LEVELS: usize = 5;

/// What a text, or a string in it, contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Nothing but blanks so far.
    Unknown,
    Json,
    Other,
}

/// The text and the strings of JSON that are open, the outermost first.
#[derive(Debug)]
pub(super) struct Nesting {
    levels: [Content; MAX_LEVELS],
    open: usize,
    /// The backslashes with which the text so far ends.
    backslashes: usize,
}

impl Default for Nesting {
    fn default() -> Self {
        Self { levels: [Content::Unknown; MAX_LEVELS], open: 1, backslashes: 0 }
    }
}

impl Nesting {
    /// The number of strings that are open.
    pub(super) fn depth(&self) -> usize {
        self.open - 1
    }

    /// Whether what is read next would stand in JSON outside of its strings, as numbers do.
    pub(super) fn is_bare(&self) -> bool {
        self.levels.get(self.open - 1) == Some(&Content::Json)
    }

    /// Reads on.
    pub(super) fn read(&mut self, text: &[u8]) {
        // Most texts are prose.
        if self.levels.first() == Some(&Content::Other) {
            return;
        }
        for byte in text {
            match byte {
                b'\\' => {
                    self.backslashes += 1;
                    continue;
                }
                b'"' => self.quote(),
                b' ' | b'\t' | b'\n' | b'\r' => {}
                b'n' | b'r' | b't' if self.backslashes > 0 => {}
                _ => self.content(matches!(byte, b'{' | b'[')),
            }
            self.backslashes = 0;
        }
    }

    /// Something that is no quote and no blank.
    fn content(&mut self, begins_json: bool) {
        if let Some(level @ Content::Unknown) = self.levels.get_mut(self.open - 1) {
            *level = if begins_json { Content::Json } else { Content::Other };
        }
    }

    fn quote(&mut self) {
        let mut backslashes = self.backslashes;
        for level in 1..self.open {
            // An even number are escaped backslashes, and the quote is the string's end.
            if backslashes.is_multiple_of(2) {
                self.open = level;
                return;
            }
            backslashes /= 2;
        }
        match self.levels.get(self.open - 1) {
            Some(Content::Json) => {
                if let Some(level) = self.levels.get_mut(self.open) {
                    *level = Content::Unknown;
                    self.open += 1;
                }
            }
            _ => self.content(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn depth(text: &str) -> usize {
        let mut nesting = Nesting::default();
        nesting.read(text.as_bytes());
        nesting.depth()
    }

    #[test]
    fn strings_in_strings() {
        for (text, expected) in [
            ("say \"x", 0),
            ("{", 0),
            (" {\"x", 1),
            ("{\"x\": ", 0),
            ("{\"x\": \"", 1),
            ("{\"x\": \"a \\\"quoted", 1),
            ("{\"x\": \"{\\\"y\\\": ", 1),
            ("{\"x\": \"{\\\"y\\\": \\\"", 2),
            ("{\"x\": \"{\\\"y\\\": \\\"\\\"}\"", 0),
            ("{\"x\": \"\\n [\\\"[\\\\\\\"", 3),
            ("{\"x\": \"C:\\\\\", \"", 1),
            ("[\"a\"](b) \"", 1),
        ] {
            assert_eq!(depth(text), expected, "{text}");
        }
    }

    proptest! {
        /// `@` stands in so many strings as the text was put in.
        #[test]
        fn the_depth_is_that_of_the_strings(
            prefix in "[a\"\\\\{}\\[\\]:, é\n]{0,12}",
            levels in 0..4_usize,
            cut in any::<prop::sample::Index>(),
        ) {
            let mut text = format!("x{prefix}@");
            for _ in 0..levels {
                text = serde_json::json!({"k": [text]}).to_string();
            }
            let at = text.find('@').unwrap();
            let (first, second) = text.as_bytes()[..at].split_at(cut.index(at + 1));
            let mut nesting = Nesting::default();
            nesting.read(first);
            nesting.read(second);
            prop_assert_eq!(nesting.depth(), levels);
        }
    }
}
