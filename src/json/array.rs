//! Takes apart a JSON array of objects that arrives in chunks, without keeping any of it.
//!
//! It does not validate: what is between the objects is only looked at as far as it takes to find
//! them.

/// Finds the elements of one array.
#[derive(Debug, Default)]
pub(crate) struct ArrayElements {
    position: Position,
    /// Objects and arrays that are open within the element, itself included.
    depth: u64,
    in_text: bool,
    escaped: bool,
}

/// Where the text that has passed ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Position {
    /// Before the array.
    #[default]
    Start,
    /// Before its first element.
    First,
    Element,
    AfterElement,
    AfterComma,
    /// After the array.
    End,
    /// In something else than an array of objects.
    Other,
}

/// Consecutive bytes of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ElementPart<'a> {
    pub(crate) bytes: &'a [u8],
    /// Whether the element ends with them.
    pub(crate) is_last: bool,
}

impl ArrayElements {
    /// Where the text that has passed ends.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// The next part of an element in `chunk` at or after `at`, which moves behind it; `None` at the end
    /// of the chunk. Call it with the same chunk until then.
    pub(crate) fn next<'a>(&mut self, chunk: &'a [u8], at: &mut usize) -> Option<ElementPart<'a>> {
        while self.position != Position::Element {
            let byte = chunk.get(*at)?;
            self.position = match (self.position, byte) {
                (position, b' ' | b'\t' | b'\n' | b'\r') => position,
                // A byte order mark.
                (Position::Start, 0xEF | 0xBB | 0xBF) => Position::Start,
                (Position::Start, b'[') => Position::First,
                (Position::First | Position::AfterComma, b'{') => Position::Element,
                (Position::AfterElement, b',') => Position::AfterComma,
                (Position::First | Position::AfterElement, b']') => Position::End,
                (Position::End, _) => Position::End,
                _ => Position::Other,
            };
            if self.position != Position::Element {
                *at += 1;
            }
        }
        let rest = chunk.get(*at..).filter(|rest| !rest.is_empty())?;
        let length = self.element_length(rest);
        let bytes = rest.get(..length.unwrap_or(rest.len())).unwrap_or_default();
        *at += bytes.len();
        if length.is_some() {
            self.position = Position::AfterElement;
        }
        Some(ElementPart { bytes, is_last: length.is_some() })
    }

    /// The bytes of `rest` up to the element's end, if that is in it.
    fn element_length(&mut self, rest: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = rest.get(at) {
            at += 1;
            if std::mem::take(&mut self.escaped) {
                continue;
            }
            match byte {
                b'\\' => self.escaped = self.in_text,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {
                    let text = rest.get(at..).unwrap_or_default();
                    at += memchr::memchr2(b'"', b'\\', text).unwrap_or(text.len());
                }
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The elements, and where the text ends.
    fn elements(text: &str, size: usize) -> (Vec<String>, Position) {
        let mut array = ArrayElements::default();
        let (mut elements, mut element) = (Vec::new(), Vec::new());
        for chunk in text.as_bytes().chunks(size) {
            let mut at = 0;
            while let Some(part) = array.next(chunk, &mut at) {
                element.extend_from_slice(part.bytes);
                if part.is_last {
                    elements.push(String::from_utf8(std::mem::take(&mut element)).unwrap());
                }
            }
            assert_eq!(at, chunk.len());
        }
        (elements, array.position())
    }

    #[test]
    fn elements_are_objects() {
        for (text, expected, position) in [
            ("", vec![], Position::Start),
            (" [", vec![], Position::First),
            ("[]\n", vec![], Position::End),
            ("[{}\r\n", vec!["{}"], Position::AfterElement),
            ("[{},", vec!["{}"], Position::AfterComma),
            ("[{},{\"a\":[", vec!["{}"], Position::Element),
            (
                r#"[{"a":"}\"]"}, {"b":[{}]}]"#,
                vec![r#"{"a":"}\"]"}"#, r#"{"b":[{}]}"#],
                Position::End,
            ),
            ("{}", vec![], Position::Other),
            ("[1,{}]", vec![], Position::Other),
            ("[{}{}]", vec!["{}"], Position::Other),
            ("[{},]", vec!["{}"], Position::Other),
        ] {
            for size in [1, 2, 3, 100] {
                let (found, end) = elements(text, size);
                assert_eq!(found, expected, "{text} by {size}");
                assert_eq!(end, position, "{text} by {size}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_elements_that_a_parser_finds(
            texts in prop::collection::vec("[a\"\\\\{}\\[\\]:, é\n]{0,8}", 0..6),
            size in 1..20_usize,
        ) {
            let objects: Vec<_> =
                texts.iter().map(|text| serde_json::json!({"a": [text], "b": {"c": text}})).collect();
            let (found, end) = elements(&serde_json::json!(objects).to_string(), size);
            let expected: Vec<_> = objects.iter().map(ToString::to_string).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(end, Position::End);
        }
    }
}
