//! The keys that lead to a value in an answer, and what they say of it.

use std::borrow::Cow;

use super::super::media::Encoded;
use super::super::reasoning::DETAILS;
use super::super::texts::{Place, Treatment, is_link, treatment_of};
use crate::json::tokenizer::{RawString, Token};
use crate::llm::format::Format;

/// The keys that lead to a value in JSON that is being read. Those of arrays' elements are the arrays'.
#[derive(Debug, Default)]
pub(super) struct Keys<'t> {
    /// Of the open objects and arrays, and whether each is an array.
    open: Vec<(Cow<'t, [u8]>, bool)>,
    /// Of the member that is being read.
    member: Cow<'t, [u8]>,
    has_ended: bool,
}

impl<'t> Keys<'t> {
    /// The key of the value that is read next.
    pub(super) fn next(&self) -> &[u8] {
        match self.open.last() {
            Some((key, true)) => key,
            _ => &self.member,
        }
    }

    /// The key of the innermost object or array, and whether it is an array.
    pub(super) fn innermost(&self) -> Option<(&[u8], bool)> {
        self.open.last().map(|(key, is_array)| (&**key, *is_array))
    }

    /// The number of open objects and arrays.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    pub(super) fn read(&mut self, token: Token<'t>) {
        match token {
            Token::BeginObject | Token::BeginArray => {
                let key = match self.open.last() {
                    Some((key, true)) => key.clone(),
                    _ => self.member.clone(),
                };
                self.open.push((key, token == Token::BeginArray));
            }
            Token::EndObject | Token::EndArray => drop(self.open.pop()),
            Token::Key(key) => self.member = unescaped(key),
            Token::String(_) | Token::Literal(_) => {}
        }
        self.has_ended = self.open.is_empty();
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.has_ended
    }

    /// The keys of the objects and arrays around the value, without those of nested arrays, and its own.
    pub(super) fn is(&self, path: &[&str]) -> bool {
        let objects =
            self.open.iter().skip(1).filter(|(_, is_array)| !is_array).map(|(key, _)| &**key);
        // A string in an array stands under the array's key.
        objects.chain([self.next()]).eq(path.iter().map(|key| key.as_bytes()))
    }

    /// Whether the value in the format's own fields is text, and no id, constant, or media.
    pub(super) fn is_text(&self, raw: &[u8]) -> bool {
        let mut open = self.open.iter().rev();
        let mut place = Place { key: &self.member, container: b"" };
        match open.next() {
            Some((key, true)) => {
                place.key = key;
                place.container = open.next().map_or(b"", |(outer, _)| outer);
            }
            Some((object, false)) => place.container = object,
            None => {}
        }
        // A link is an identifier in a request only.
        (is_link(place.key) || treatment_of(place, raw) == Treatment::Text)
            && !Encoded::read(place.key, raw).is_some_and(Encoded::is_media_file)
    }

    /// Whether the value stands in the arguments of a tool, which have whatever keys it likes.
    pub(super) fn is_argument(&self) -> bool {
        let is_argument = |key: &[u8]| {
            matches!(key, b"input" | b"arguments" | b"args" | b"partialArgs" | b"partial_args")
        };
        self.open.iter().any(|(key, _)| is_argument(key))
    }

    /// Whether the value stands in `reasoning_details` of a chat.
    pub(super) fn is_reasoning_detail(&self, format: Format) -> bool {
        format == Format::Chat
            && !self.is_argument()
            && self.open.iter().any(|(key, _)| **key == *DETAILS)
    }

    /// Whether the value is signed reasoning, or the signature.
    pub(super) fn is_opaque(&self, format: Format) -> bool {
        let is_signed = |key: &[u8]| match format {
            Format::Messages => matches!(key, b"thinking" | b"signature"),
            Format::Converse => matches!(key, b"reasoningContent"),
            // LiteLLM's name for blocks of Anthropic's.
            Format::Chat => matches!(key, b"thinking_blocks"),
            Format::Gemini => matches!(key, b"thoughtSignature" | b"thought_signature"),
            Format::Responses => matches!(key, b"encrypted_content"),
            Format::Embeddings | Format::GeminiEmbeddings | Format::Invoke => false,
        };
        (is_signed(self.next()) || self.open.iter().any(|(key, _)| is_signed(key)))
            && !self.is_argument()
    }

    /// What stands for no log probabilities, if the object or array that the token begins has some. Their
    /// tokens are the text once more, in pieces.
    pub(super) fn no_probabilities(
        &self,
        format: Format,
        token: Token<'_>,
    ) -> Option<&'static str> {
        let is_array = match token {
            Token::BeginArray => true,
            Token::BeginObject => false,
            _ => return None,
        };
        let none = match (format, self.next()) {
            (Format::Chat | Format::Responses, b"logprobs") if is_array => "[]",
            (Format::Chat | Format::Responses, b"logprobs") => "null",
            (Format::Gemini, b"logprobsResult" | b"logprobs_result") => "{}",
            _ => return None,
        };
        (!self.is_argument()).then_some(none)
    }
}

/// The text of a key.
pub(super) fn unescaped(key: RawString<'_>) -> Cow<'_, [u8]> {
    match key.text() {
        Some(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
        _ => Cow::Borrowed(key.raw()),
    }
}
