//! The caller's body: a top-level JSON object whose values stay as they were sent.
//!
//! Only the top level is taken apart. Edits are spliced into the caller's text, so what nobody
//! touches, order and white space included, goes up byte for byte.

mod error;
pub(crate) mod parse;

use std::ops::Range;

use bytes::Bytes;

pub use error::BodyError;
use parse::TopLevel;

use super::case_fold as fold;
use super::long_texts::LongTexts;

/// Most levels of arrays and objects, the top-level object being the first. Deeper ones make
/// recursive parsers at the upstream's side overflow.
pub const MOST_LEVELS: usize = 128;

/// Most top-level fields; the APIs that we pass on know some fifty. Keeps the index of a large body
/// of tiny fields from outgrowing the body.
pub const MOST_FIELDS: usize = 1024;

/// Keys that the gateway reads or sets, or that policies judge a request by. None of them may occur
/// in another letter case, which some upstreams would take for the same key.
pub const RESERVED_KEYS: &[&str] = &[
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "best_of",
    "prediction",
    "messages",
    "input",
    "instructions",
    "prompt",
    "tools",
    "tool_choice",
    "functions",
    "modalities",
    "service_tier",
    "background",
    "store",
    "metadata",
    "user",
];

/// A top-level field of a body.
#[derive(Clone, Copy, Debug)]
pub struct RawField<'a> {
    /// Its key, unescaped.
    pub key: &'a str,
    /// Its value, which has to be JSON.
    pub raw: &'a str,
    /// The long texts in its value, as far as they are known.
    pub texts: LongTexts<'a>,
}

impl<'a> RawField<'a> {
    /// Of whose value nothing more is known.
    pub fn new(key: &'a str, raw: &'a str) -> Self {
        Self { key, raw, texts: LongTexts::default() }
    }
}

/// A JSON object, taken apart at its top level only.
#[derive(Debug, Clone)]
pub struct JsonBody {
    /// Checked to be UTF-8 and JSON.
    text: Bytes,
    fields: Vec<Field>,
    /// Where the closing brace stands in `text`.
    end: usize,
    /// Where long texts stand in `text`, between their quotes.
    long_texts: Vec<Range<usize>>,
    added: Vec<(String, String)>,
    edited: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) key: Key,
    pub(crate) value: Range<usize>,
    /// The raw value that stands in for the caller's.
    edit: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Key {
    /// As it stands in the text, between its quotes.
    Plain(Range<usize>),
    /// It had escapes.
    Unescaped(String),
}

impl JsonBody {
    /// Takes a body apart, once.
    pub fn parse(text: Bytes) -> Result<Self, BodyError> {
        let TopLevel { fields, end, long_texts } = parse::top_level(&text)?;
        let body = Self { text, fields, end, long_texts, added: Vec::new(), edited: false };
        body.check_keys()?;
        Ok(body)
    }

    /// The raw value of a field.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self.position(key) {
            Some(field) => field.edit.as_deref().or_else(|| self.slice(&field.value)),
            None => self.added.iter().find(|(added, _)| added == key).map(|(_, raw)| raw.as_str()),
        }
    }

    /// The field's value, when it is `true` or `false`.
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.parse().ok()
    }

    /// The field's value, when it is text.
    pub fn get_str(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.get(key)?).ok()
    }

    /// The field's value, when it is a whole number that is not negative.
    pub fn get_u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }

    /// Replaces or adds a field. `raw` has to be JSON.
    pub fn set(&mut self, key: &str, raw: impl Into<String>) {
        let raw = raw.into();
        if self.get(key) == Some(raw.as_str()) {
            return;
        }
        self.edited = true;
        let text = &self.text;
        if let Some(field) = self.fields.iter_mut().find(|field| field.key.is(key, text)) {
            field.edit = Some(raw);
        } else if let Some((_, added)) = self.added.iter_mut().find(|(added, _)| added == key) {
            *added = raw;
        } else {
            self.added.push((key.to_owned(), raw));
        }
    }

    /// Replaces or adds a field of text.
    pub fn set_str(&mut self, key: &str, value: &str) {
        self.set(key, quoted(value));
    }

    /// Adds a field where the caller sent none; says whether it did. A field that differs in letter
    /// case only is an error, since the upstream might take either.
    pub fn set_if_absent(&mut self, key: &str, raw: impl Into<String>) -> Result<bool, BodyError> {
        if self.get(key).is_some() {
            return Ok(false);
        }
        self.check_spelling(key)?;
        self.set(key, raw);
        Ok(true)
    }

    /// Refuses a field that differs from `key` in letter case only.
    fn check_spelling(&self, key: &str) -> Result<(), BodyError> {
        match self.keys().find(|sent| *sent != key && fold::same(sent, key)) {
            Some(sent) => {
                Err(BodyError::AmbiguousKey { sent: sent.to_owned(), meant: key.to_owned() })
            }
            None => Ok(()),
        }
    }

    /// Asks for usage in a chat stream (`stream_options.include_usage`), keeping the other options.
    /// Says whether the caller had not asked, so that the event which comes of it is ours to
    /// withhold.
    pub fn ask_for_usage(&mut self) -> Result<bool, BodyError> {
        let Some(options) = with_include_usage(self.get("stream_options"))? else {
            return Ok(false);
        };
        self.set("stream_options", options);
        Ok(true)
    }

    /// The body as it goes up: the caller's own bytes when nothing was changed.
    pub fn into_bytes(self) -> Bytes {
        if !self.edited {
            return self.text;
        }
        let grown: usize =
            self.fields.iter().filter_map(|f| f.edit.as_ref()).map(String::len).sum();
        let added: usize = self.added.iter().map(|(key, raw)| key.len() + raw.len() + 8).sum();
        let mut out = Vec::with_capacity(self.text.len() + grown + added);
        let mut copied = 0;
        for field in &self.fields {
            if let Some(edit) = &field.edit {
                out.extend_from_slice(self.text.get(copied..field.value.start).unwrap_or_default());
                out.extend_from_slice(edit.as_bytes());
                copied = field.value.end;
            }
        }
        out.extend_from_slice(self.text.get(copied..self.end).unwrap_or_default());
        let mut comma = !self.fields.is_empty();
        for (key, raw) in &self.added {
            if comma {
                out.push(b',');
            }
            comma = true;
            out.extend_from_slice(quoted(key).as_bytes());
            out.push(b':');
            out.extend_from_slice(raw.as_bytes());
        }
        out.extend_from_slice(self.text.get(self.end..).unwrap_or_default());
        out.into()
    }

    /// The caller's keys, unescaped.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| match &field.key {
            Key::Plain(range) => self.slice(range).unwrap_or_default(),
            Key::Unescaped(key) => key,
        })
    }

    /// The fields as they go up.
    pub fn fields(&self) -> impl Iterator<Item = RawField<'_>> {
        let own = self.keys().zip(&self.fields).map(|(key, field)| match &field.edit {
            Some(raw) => RawField::new(key, raw),
            None => RawField {
                key,
                raw: self.slice(&field.value).unwrap_or_default(),
                texts: LongTexts::from(&self.long_texts, field.value.start),
            },
        });
        let added = self.added.iter().map(|(key, raw)| RawField::new(key, raw));
        own.chain(added)
    }

    /// Bytes that go up, as [`into_bytes`](Self::into_bytes) gives them.
    pub fn length(&self) -> usize {
        let edited = self
            .fields
            .iter()
            .filter_map(|field| field.edit.as_ref().map(|edit| (edit.len(), field.value.len())));
        let kept = edited.fold(self.text.len(), |length, (new, old)| length + new - old);
        let added = self.added.iter().map(|(key, raw)| quoted(key).len() + raw.len() + 2);
        let first = usize::from(self.fields.is_empty() && !self.added.is_empty());
        kept + added.sum::<usize>() - first
    }

    fn check_keys(&self) -> Result<(), BodyError> {
        let mut keys: Vec<&str> = self.keys().collect();
        for sent in &keys {
            if let Some(meant) = fold::only_folded(sent, RESERVED_KEYS) {
                return Err(BodyError::AmbiguousKey {
                    sent: (*sent).to_owned(),
                    meant: meant.to_owned(),
                });
            }
        }
        keys.sort_unstable();
        for pair in keys.windows(2) {
            if let [one, other] = pair
                && one == other
            {
                return Err(BodyError::DuplicateKey { key: (*one).to_owned() });
            }
        }
        Ok(())
    }

    fn position(&self, key: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.key.is(key, &self.text))
    }

    fn slice(&self, range: &Range<usize>) -> Option<&str> {
        std::str::from_utf8(self.text.get(range.clone())?).ok()
    }
}

impl Key {
    fn is(&self, key: &str, text: &[u8]) -> bool {
        match self {
            Self::Plain(range) => text.get(range.clone()) == Some(key.as_bytes()),
            Self::Unescaped(own) => own == key,
        }
    }
}

/// The `stream_options` that ask for usage as well: a new raw object, or nothing when the caller's
/// own already ask (or hold something there that only the upstream can judge).
pub fn with_include_usage(raw: Option<&str>) -> Result<Option<String>, BodyError> {
    const MEMBER: &str = "include_usage";
    let Some(raw) = raw.filter(|raw| *raw != "null") else {
        return Ok(Some(format!("{{\"{MEMBER}\":true}}")));
    };
    if !raw.starts_with('{') {
        return Err(BodyError::StreamOptions);
    }
    let mut options = JsonBody::parse(Bytes::copy_from_slice(raw.as_bytes()))?;
    // Whatever the caller says here, an upstream may go by the other spelling.
    options.check_spelling(MEMBER)?;
    if options.get(MEMBER) == Some("true") {
        return Ok(None);
    }
    // Some upstreams would take other values for a no, and then nobody knew what was used.
    options.set(MEMBER, "true");
    Ok(String::from_utf8(options.into_bytes().into()).ok())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
