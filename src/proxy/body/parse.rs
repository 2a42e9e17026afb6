//! One look over the text: levels counted here, grammar checked by serde_json, values only located.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{BodyError, Field, Key, MOST_FIELDS, MOST_LEVELS};

/// The fields of a top-level object, and where its closing brace stands.
pub(super) fn top_level(bytes: &[u8]) -> Result<(Vec<Field>, usize), BodyError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| BodyError::NotUtf8 { at: error.valid_up_to() })?;
    let blank = [' ', '\t', '\n', '\r'];
    let trimmed = text.trim_end_matches(blank);
    let Some(first) = trimmed.trim_start_matches(blank).chars().next() else {
        return Err(BodyError::Empty);
    };
    if first != '{' {
        return Err(BodyError::NotAnObject);
    }
    check_levels(bytes)?;

    let mut too_many = false;
    let visitor = TopLevel { text, too_many: &mut too_many };
    let mut parser = serde_json::Deserializer::from_str(text);
    let fields = parser.deserialize_map(visitor).and_then(|fields| parser.end().map(|()| fields));
    match fields {
        Ok(fields) => Ok((fields, trimmed.len().saturating_sub(1))),
        Err(_) if too_many => Err(BodyError::TooManyFields),
        Err(error) => Err(BodyError::NotJson { problem: error.to_string() }),
    }
}

struct TopLevel<'de, 'a> {
    text: &'de str,
    too_many: &'a mut bool,
}

impl<'de> Visitor<'de> for TopLevel<'de, '_> {
    type Value = Vec<Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        #[derive(serde::Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        let outside = || A::Error::custom("a value that is not part of the text");
        let mut fields = Vec::with_capacity(16);
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            if fields.len() == MOST_FIELDS {
                *self.too_many = true;
                return Err(A::Error::custom("too many fields"));
            }
            let key = match name {
                Cow::Borrowed(name) => Key::Plain(place(self.text, name).ok_or_else(outside)?),
                Cow::Owned(name) => Key::Unescaped(name),
            };
            let raw: &'de RawValue = map.next_value()?;
            let value = place(self.text, raw.get()).ok_or_else(outside)?;
            fields.push(Field { key, value, edit: None });
        }
        Ok(fields)
    }
}

/// Where `part`, borrowed from `text`, stands in it.
fn place(text: &str, part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= text.len()).then_some(start..end)
}

/// Counts levels without caring for grammar: brackets outside strings. In text that turns out not to
/// be JSON the count may be off, which only decides between two errors.
fn check_levels(bytes: &[u8]) -> Result<(), BodyError> {
    let mut levels = 0usize;
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'{' | b'[' => {
                levels += 1;
                if levels > MOST_LEVELS {
                    return Err(BodyError::TooDeep);
                }
            }
            b'}' | b']' => levels = levels.saturating_sub(1),
            b'"' => {
                let mut inside = rest.as_slice();
                loop {
                    match memchr::memchr2(b'"', b'\\', inside) {
                        Some(at) if inside.get(at) == Some(&b'"') => {
                            inside = inside.get(at + 1..).unwrap_or_default();
                            break;
                        }
                        Some(at) => inside = inside.get(at + 2..).unwrap_or_default(),
                        None => return Ok(()),
                    }
                }
                rest = inside.iter();
            }
            _ => {}
        }
    }
    Ok(())
}
