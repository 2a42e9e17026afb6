//! Reads objects of a caller's body with the path of what is wrong. `null` is the same as nothing.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use super::error::ConvertError;
use crate::json::members::Members;

/// Where a value is in the body, such as `messages[2].content`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Root,
    Key(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    /// The body itself.
    pub(super) const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// A member of the value at this place.
    pub(super) fn key(&'p self, key: &'p str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }

    /// An element of the value at this place.
    pub(super) fn index(&'p self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    /// The value at this place breaks the format's rules.
    pub(super) fn invalid(&self, problem: impl Into<Cow<'static, str>>) -> ConvertError {
        ConvertError::invalid(self, problem)
    }

    /// The value at this place can't be expressed in other formats.
    pub(super) fn unsupported(&self, problem: impl Into<Cow<'static, str>>) -> ConvertError {
        ConvertError::unsupported(self, problem)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(formatter)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) if self.parent.is_some_and(|one| !matches!(one.step, Step::Root)) => {
                write!(formatter, ".{key}")
            }
            Step::Key(key) => formatter.write_str(key),
            Step::Index(index) => write!(formatter, "[{index}]"),
        }
    }
}

/// The members of an object.
#[derive(Debug)]
pub(super) struct Fields<'a>(Members<'a>);

impl<'a> Fields<'a> {
    /// Reads an object.
    pub(super) fn parse(raw: &'a str, path: &Path<'_>) -> Result<Self, ConvertError> {
        parse_object(raw).ok_or_else(|| path.invalid("must be an object"))
    }

    /// The keys and raw values, without those that are `null`.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        let Self(Members(members)) = self;
        members.iter().map(|(key, raw)| (&**key, raw.get())).filter(|(_, raw)| *raw != "null")
    }

    /// The raw value of a member.
    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.iter().find(|(own, _)| *own == key).map(|(_, raw)| raw)
    }

    /// A string.
    pub(super) fn text(
        &self,
        key: &str,
        path: &Path<'_>,
    ) -> Result<Option<Cow<'a, str>>, ConvertError> {
        self.get(key).map(|raw| text(raw, &path.key(key))).transpose()
    }

    /// A string that has to be there.
    pub(super) fn required_text(
        &self,
        key: &str,
        path: &Path<'_>,
    ) -> Result<Cow<'a, str>, ConvertError> {
        self.text(key, path)?.ok_or_else(|| path.key(key).invalid("is required"))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &str, path: &Path<'_>) -> Result<Option<bool>, ConvertError> {
        match self.get(key) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(path.key(key).invalid("must be true or false")),
        }
    }

    /// A number as it was written.
    pub(super) fn number(
        &self,
        key: &str,
        path: &Path<'_>,
    ) -> Result<Option<Cow<'a, str>>, ConvertError> {
        match self.get(key) {
            None => Ok(None),
            Some(raw) if raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                Ok(Some(Cow::Borrowed(raw)))
            }
            Some(_) => Err(path.key(key).invalid("must be a number")),
        }
    }

    /// A limit as it was written: a whole number above 0.
    pub(super) fn limit(
        &self,
        key: &str,
        path: &Path<'_>,
    ) -> Result<Option<Cow<'a, str>>, ConvertError> {
        match self.get(key) {
            None => Ok(None),
            Some(raw) if raw.parse::<u64>().is_ok_and(|limit| limit > 0) => {
                Ok(Some(Cow::Borrowed(raw)))
            }
            Some(_) => Err(path.key(key).invalid("must be a whole number above 0")),
        }
    }

    /// A string; a value of another kind counts as absent.
    pub(super) fn find_text(&self, key: &str) -> Option<Cow<'a, str>> {
        self.get(key).and_then(parse_text)
    }

    /// The members of an object; a value of another kind counts as absent.
    pub(super) fn find_object(&self, key: &str) -> Option<Fields<'a>> {
        self.get(key).and_then(parse_object)
    }

    /// The members of an object.
    pub(super) fn object(
        &self,
        key: &str,
        path: &Path<'_>,
    ) -> Result<Option<Fields<'a>>, ConvertError> {
        self.get(key).map(|raw| Fields::parse(raw, &path.key(key))).transpose()
    }

    /// The raw elements of an array; none if there is no such member.
    pub(super) fn array(&self, key: &str, path: &Path<'_>) -> Result<Vec<&'a str>, ConvertError> {
        self.get(key).map_or(Ok(Vec::new()), |raw| array(raw, &path.key(key)))
    }
}

/// Reads a string.
pub(super) fn text<'a>(raw: &'a str, path: &Path<'_>) -> Result<Cow<'a, str>, ConvertError> {
    parse_text(raw).ok_or_else(|| path.invalid("must be a string"))
}

/// Reads a string; `None` if it is none.
pub(super) fn parse_text(raw: &str) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw).ok().map(|Text(text)| text)
}

/// Reads an object; `None` if it is none.
pub(super) fn parse_object(raw: &str) -> Option<Fields<'_>> {
    Members::parse(raw).map(Fields)
}

/// Reads an array.
pub(super) fn array<'a>(raw: &'a str, path: &Path<'_>) -> Result<Vec<&'a str>, ConvertError> {
    parse_array(raw).ok_or_else(|| path.invalid("must be an array"))
}

/// Reads an array; `None` if it is none.
pub(super) fn parse_array(raw: &str) -> Option<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
    Some(elements.into_iter().map(RawValue::get).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_place() {
        let root = Path::ROOT;
        let fields = Fields::parse(r#"{"a": [{"b": 1, "c": null}]}"#, &root).unwrap();
        let list = root.key("a");
        let elements = fields.array("a", &root).unwrap();
        let place = list.index(0);
        let element = Fields::parse(elements[0], &place).unwrap();
        assert_eq!(element.text("b", &place).unwrap_err().to_string(), "'a[0].b' must be a string");
        assert_eq!(element.text("c", &place).unwrap(), None);
        assert_eq!(element.number("b", &place).unwrap().unwrap(), "1");
        let missing = element.required_text("d", &place).unwrap_err();
        assert_eq!(missing.to_string(), "'a[0].d' is required");
        assert!(element.object("b", &place).is_err() && element.array("b", &place).is_err());
        assert!(Fields::parse("[]", &root).is_err());
    }
}
