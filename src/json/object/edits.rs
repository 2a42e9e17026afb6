//! What one attempt changes in the caller's body.

use std::borrow::Cow;

use bytes::Bytes;

use super::{BodyError, BodyPieces, JsonBody};
use crate::json::tokenizer::{Token, Tokenizer};

/// Fields of a body that are replaced, removed or added. The body itself does not change.
#[derive(Debug, Clone)]
pub struct BodyEdits<'b> {
    body: &'b JsonBody,
    /// By the field's place in the body.
    replaced: Vec<(usize, Cow<'b, str>)>,
    /// The same of those that are left out.
    removed: Vec<usize>,
    added: Vec<(Cow<'b, str>, Cow<'b, str>)>,
}

impl<'b> BodyEdits<'b> {
    pub(super) fn new(body: &'b JsonBody) -> Self {
        Self { body, replaced: Vec::new(), removed: Vec::new(), added: Vec::new() }
    }

    /// The raw value of a field as it is sent.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self.body.position(key) {
            Some(at) if self.removed.contains(&at) => None,
            Some(at) => match self.replaced.iter().find(|(place, _)| *place == at) {
                Some((_, raw)) => Some(raw),
                None => self.body.value(at),
            },
            None => self.added.iter().find(|(added, _)| added == key).map(|(_, raw)| &**raw),
        }
    }

    /// Replaces or adds a field. `raw` has to be JSON.
    pub fn set(&mut self, key: impl Into<Cow<'b, str>>, raw: impl Into<Cow<'b, str>>) {
        let (key, raw) = (key.into(), raw.into());
        if self.get(&key) == Some(&*raw) {
            return;
        }
        if let Some(at) = self.body.position(&key) {
            self.removed.retain(|removed| *removed != at);
            match self.replaced.iter_mut().find(|(place, _)| *place == at) {
                Some((_, replaced)) => *replaced = raw,
                None => self.replaced.push((at, raw)),
            }
        } else if let Some((_, added)) = self.added.iter_mut().find(|(added, _)| *added == key) {
            *added = raw;
        } else {
            self.added.push((key, raw));
        }
    }

    /// Leaves a field out, if there is one.
    pub fn remove(&mut self, key: &str) {
        if let Some(at) = self.body.position(key)
            && !self.removed.contains(&at)
        {
            self.removed.push(at);
        }
        self.added.retain(|(added, _)| added != key);
    }

    /// Replaces or adds a field of text.
    pub fn set_str(&mut self, key: impl Into<Cow<'b, str>>, value: &str) {
        self.set(key, quoted(value));
    }

    /// Adds a field if the caller sent none. A field that differs in letter case only is an error,
    /// since the upstream might take either.
    pub fn set_if_absent(
        &mut self,
        key: impl Into<Cow<'b, str>>,
        raw: impl Into<Cow<'b, str>>,
    ) -> Result<(), BodyError> {
        let key = key.into();
        if self.get(&key).is_none() {
            self.body.check_spelling(&key)?;
            self.set(key, raw);
        }
        Ok(())
    }

    /// Asks for usage in a chat stream (`stream_options.include_usage`), keeping the other options.
    /// Returns whether the caller had not asked, so that the usage event must be withheld.
    pub fn ask_for_usage(&mut self) -> Result<bool, BodyError> {
        let Some(options) = with_include_usage(self.get("stream_options"))? else {
            return Ok(false);
        };
        self.set("stream_options", options);
        Ok(true)
    }

    /// The fields that the caller did not send.
    pub fn added(&self) -> impl Iterator<Item = (&str, &str)> {
        self.added.iter().map(|(key, raw)| (&**key, &**raw))
    }

    /// The body as it is sent. What is not edited is not copied.
    pub fn to_pieces(&self) -> BodyPieces {
        let text = &self.body.text;
        let mut pieces = BodyPieces::default();
        let mut sent = 0;
        // Where the last field has ended, if one before the next is sent.
        let mut kept_end = None;
        for (at, field) in self.body.fields.iter().enumerate() {
            if self.removed.contains(&at) {
                // The comma before it is removed, too, or, if no field is sent before it, the one after it.
                let start = kept_end.unwrap_or_else(|| text.find('{').map_or(0, |brace| brace + 1));
                pieces.push(text.as_bytes().slice(sent..start.max(sent)));
                sent = match kept_end {
                    Some(_) => field.value.end,
                    None => self.after_comma(at, field.value.end),
                };
                kept_end = kept_end.map(|_| field.value.end);
                continue;
            }
            kept_end = Some(field.value.end);
            if let Some((_, raw)) = self.replaced.iter().find(|(place, _)| *place == at) {
                pieces.push(text.as_bytes().slice(sent..field.value.start));
                pieces.push(Bytes::copy_from_slice(raw.as_bytes()));
                sent = field.value.end;
            }
        }
        if self.added.is_empty() {
            pieces.push(text.as_bytes().slice(sent..));
            return pieces;
        }
        pieces.push(text.as_bytes().slice(sent..self.body.end));
        let mut added = String::new();
        let mut needs_comma = kept_end.is_some();
        for (key, raw) in &self.added {
            if std::mem::replace(&mut needs_comma, true) {
                added.push(',');
            }
            added.push_str(&quoted(key));
            added.push(':');
            added.push_str(raw);
        }
        pieces.push(added.into());
        pieces.push(text.as_bytes().slice(self.body.end..));
        pieces
    }

    /// The place after the comma that follows the value of a field, which ends at `end`.
    fn after_comma(&self, at: usize, end: usize) -> usize {
        let is_last = at + 1 == self.body.fields.len();
        let rest = self.body.text.get(end..).unwrap_or_default();
        let comma = rest.find(',').filter(|_| !is_last);
        comma.map_or(end, |comma| end + comma + 1)
    }

    /// The number of bytes that [`to_pieces`](Self::to_pieces) gives.
    pub fn length(&self) -> usize {
        if !self.removed.is_empty() {
            return self.to_pieces().length();
        }
        let replaced = self.replaced.iter().filter_map(|(at, raw)| {
            self.body.fields.get(*at).map(|field| (raw.len(), field.value.len()))
        });
        let kept = replaced.fold(self.body.text.len(), |length, (new, old)| length + new - old);
        let added = self.added.iter().map(|(key, raw)| quoted(key).len() + raw.len() + 2);
        let no_comma = usize::from(self.body.fields.is_empty() && !self.added.is_empty());
        kept + added.sum::<usize>() - no_comma
    }
}

/// The `stream_options` that ask for usage as well; `None` if the caller's own already do.
fn with_include_usage(raw: Option<&str>) -> Result<Option<String>, BodyError> {
    const MEMBER: &str = "include_usage";
    let Some(raw) = raw.filter(|raw| *raw != "null") else {
        return Ok(Some(format!("{{\"{MEMBER}\":true}}")));
    };
    if !matches!(Tokenizer::new(raw.as_bytes()).next(), Ok(Token::BeginObject)) {
        return Err(BodyError::StreamOptions);
    }
    let options = JsonBody::parse(Bytes::copy_from_slice(raw.as_bytes()))?;
    // Whatever the caller says here, an upstream may go by the other spelling.
    options.check_spelling(MEMBER)?;
    if options.get(MEMBER) == Some("true") {
        return Ok(None);
    }
    // Some upstreams take other values for a no, and then do not report usage.
    let mut edits = options.edit();
    edits.set(MEMBER, "true");
    Ok(String::from_utf8(edits.to_pieces().to_bytes().into()).ok())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
