//! Reads an answer, or an event of a stream, and finds the values that may have to be edited.

use std::ops::Range;

use super::super::answer_names::AnswerTexts;
use super::super::reasoning::{DETAILS, ReasoningEntries};
use super::block::{AnswerEdits, BlockText};
use super::keys::Keys;
use super::quoted;
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};
use crate::llm::format::Format;

/// The shortest number that is scanned, in digits.
const MIN_NUMBER: usize = 7;

/// A value of an answer that may have to be edited.
#[derive(Debug)]
pub(super) struct AnswerValue {
    /// A string with its quotes.
    pub(super) range: Range<usize>,
    pub(super) content: Content,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Content {
    /// A string, and the key of its member, if the model has written it.
    Text { text: String, name: Option<Vec<u8>> },
    /// The text of a message as far as it came: another event has it with more.
    Growing(String),
    /// A number that the model has written, and the key of its member.
    Number { digits: String, name: Vec<u8> },
    /// Log probabilities, and what stands for none.
    Probabilities(&'static str),
}

/// Reads the tokens of an answer.
pub(super) struct AnswerReader<'t> {
    format: Format,
    is_scanned: bool,
    tokens: Tokenizer<'t>,
    pub(super) keys: Keys<'t>,
    /// The values so far. Those of `reasoning_details` come at the end of the array, after what is in it and
    /// needs no signature.
    pub(super) values: Vec<AnswerValue>,
    reasoning: Option<Reasoning>,
}

/// `reasoning_details` that are being read: what is signed in them is known at their end.
struct Reasoning {
    /// Of the array.
    depth: usize,
    entries: ReasoningEntries,
    /// The values in them, with the numbers of their entries.
    values: Vec<(usize, AnswerValue)>,
    number: usize,
}

impl<'t> AnswerReader<'t> {
    pub(super) fn new(format: Format, json: &'t [u8], is_scanned: bool) -> Self {
        Self {
            format,
            is_scanned,
            tokens: Tokenizer::new(json),
            keys: Keys::default(),
            values: Vec::new(),
            reasoning: None,
        }
    }

    pub(super) fn read_all(mut self) -> Result<Vec<AnswerValue>, SyntaxError> {
        loop {
            let token = self.next()?;
            self.read(token);
            self.enter(token);
            if self.keys.is_at_end() {
                self.values.sort_by_key(|value| value.range.start);
                return Ok(self.values);
            }
        }
    }

    /// The next token that is none of log probabilities, which are taken as a whole.
    pub(super) fn next(&mut self) -> Result<Token<'t>, SyntaxError> {
        loop {
            let token = self.tokens.next()?;
            let none = self.keys.no_probabilities(self.format, token).filter(|_| self.is_scanned);
            let Some(none) = none else { return Ok(token) };
            let start = self.tokens.token_start();
            self.tokens.skip(token)?;
            let range = start..self.tokens.position();
            if range.len() > none.len() {
                self.values.push(AnswerValue { range, content: Content::Probabilities(none) });
            }
        }
    }

    /// How many values there are so far.
    pub(super) fn count(&self) -> usize {
        self.values.len() + self.reasoning.as_ref().map_or(0, |reasoning| reasoning.values.len())
    }

    /// Where the token begins that was read last.
    pub(super) fn start(&self) -> usize {
        self.tokens.token_start()
    }

    /// Checks that nothing follows.
    pub(super) fn finish(&mut self) -> Result<(), SyntaxError> {
        self.tokens.finish()
    }

    /// Takes the value of the token that was read last, if it may have to be edited.
    pub(super) fn read(&mut self, token: Token<'t>) {
        let value = self.value_of(token);
        match &mut self.reasoning {
            Some(reasoning) => {
                reasoning.values.extend(value.map(|value| (reasoning.number, value)));
            }
            None => self.values.extend(value),
        }
    }

    /// Follows the token that was read last, after it was taken.
    pub(super) fn enter(&mut self, token: Token<'t>) {
        match token {
            Token::BeginArray => {
                if self.reasoning.is_none()
                    && self.keys.next() == DETAILS
                    && self.format == Format::Chat
                    && !self.keys.is_argument()
                {
                    self.reasoning = Some(Reasoning {
                        depth: self.keys.depth(),
                        entries: ReasoningEntries::default(),
                        values: Vec::new(),
                        number: 0,
                    });
                }
            }
            Token::EndArray => {
                if let Some(reasoning) =
                    self.reasoning.take_if(|reasoning| self.keys.depth() == reasoning.depth + 1)
                {
                    let Reasoning { entries, values, .. } = reasoning;
                    let unsigned =
                        values.into_iter().filter(|(number, _)| !entries.is_signed(*number));
                    self.values.extend(unsigned.map(|(_, value)| value));
                }
            }
            _ => self.note(token),
        }
        self.keys.read(token);
    }

    /// Notes what is said of an entry of `reasoning_details`.
    fn note(&mut self, token: Token<'t>) {
        let Some(reasoning) = &mut self.reasoning else { return };
        let depth = self.keys.depth().saturating_sub(reasoning.depth);
        match token {
            Token::BeginObject if depth == 1 => reasoning.number = reasoning.entries.begin(),
            Token::EndObject if depth == 2 => reasoning.entries.end(),
            Token::String(value) if depth == 2 => {
                reasoning.entries.read_string(self.keys.next(), value.raw());
            }
            Token::Literal(literal) if depth == 2 => {
                reasoning.entries.read_literal(self.keys.next(), literal);
            }
            _ => {}
        }
    }

    /// The string or number of a token, if it may have to be edited.
    fn value_of(&self, token: Token<'t>) -> Option<AnswerValue> {
        let Self { keys, is_scanned, .. } = self;
        let is_argument = keys.is_argument();
        let (raw, is_number) = match token {
            Token::Key(string) | Token::String(string) => (string.raw(), false),
            Token::Literal(literal) => (literal, true),
            _ => return None,
        };
        let is_text = || match token {
            Token::String(string) => is_argument || keys.is_text(string.raw()),
            Token::Key(_) => is_argument,
            _ => is_argument && raw.len() >= MIN_NUMBER && raw.iter().all(u8::is_ascii_digit),
        };
        let is_written = *is_scanned && is_text();
        let is_read = is_written || (!is_number && may_hold(raw));
        if !is_read || keys.is_opaque(self.format) {
            return None;
        }
        let name: &[u8] = if matches!(token, Token::Key(_)) { b"" } else { keys.next() };
        let start = self.tokens.token_start();
        Some(match token {
            Token::Key(string) | Token::String(string) => AnswerValue {
                range: start..start + raw.len() + 2,
                content: Content::Text {
                    text: string.lenient_text().into_owned(),
                    name: is_written.then(|| name.to_vec()),
                },
            },
            _ => {
                let digits = String::from_utf8_lossy(raw).into_owned();
                let content = Content::Number { digits, name: name.to_vec() };
                AnswerValue { range: start..start + raw.len(), content }
            }
        })
    }
}

impl AnswerValue {
    /// Adds it to the texts, if the model has written it.
    pub(super) fn collect(&self, texts: &mut AnswerTexts) {
        if let Content::Text { text, name: Some(name) } = &self.content {
            texts.add(text.as_bytes(), name);
        }
    }

    /// No event has more of it.
    pub(super) fn finish(&mut self, is_scanned: bool) {
        if let Content::Growing(text) = &mut self.content {
            let name = is_scanned.then(|| b"content".to_vec());
            self.content = Content::Text { text: std::mem::take(text), name };
        }
    }

    /// Its place, and the JSON to put there; `None` if it stays the same.
    pub(super) fn edited(self, edits: &mut AnswerEdits) -> Option<(Range<usize>, String)> {
        let new = match &self.content {
            Content::Text { text, name } => {
                edits.edited(text, name.as_deref()).map(|new| quoted(&new))
            }
            Content::Growing(text) => {
                let (mut block, mut new) = (BlockText::default(), String::new());
                block.push(edits, text, &mut new);
                (new != *text).then(|| quoted(&new))
            }
            Content::Number { digits, name } => {
                edits.edited_number(digits, name).map(|new| quoted(&new))
            }
            Content::Probabilities(none) => edits.has_masks().then(|| (*none).to_owned()),
        };
        new.map(|new| (self.range, new))
    }
}

/// Whether the source of a string may have a placeholder. An escape may hide any of its letters.
pub(super) fn may_hold(raw: &[u8]) -> bool {
    memchr::memmem::find(raw, b"_").is_some() || memchr::memmem::find(raw, b"\\u").is_some()
}
