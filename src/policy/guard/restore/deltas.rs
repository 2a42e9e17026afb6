//! Where the events of a stream have pieces of text, which block each belongs to, and which blocks end.

use std::ops::Range;

use super::{AnswerString, Keys, NotEvent};
use crate::json::tokenizer::{Token, Tokenizer};
use crate::llm::format::Format;

/// The members of chat's events that pieces of text are in. A piece of arguments is a piece of JSON.
const CHAT: [&[&str]; 11] = [
    &["choices", "delta", "content"],
    // Mistral: parts of text and of reasoning.
    &["choices", "delta", "content", "text"],
    &["choices", "delta", "content", "thinking", "text"],
    &["choices", "delta", "reasoning_content"],
    &["choices", "delta", "reasoning"],
    &["choices", "delta", "refusal"],
    &["choices", "delta", "tool_calls", "function", "arguments"],
    &["choices", "delta", "tool_calls", "custom", "input"],
    &["choices", "delta", "function_call", "arguments"],
    &["choices", "delta", "audio", "transcript"],
    // The older completions.
    &["choices", "text"],
];
/// Those of responses, for events of these kinds. Other deltas are audio and images.
const RESPONSES: [&[&str]; 1] = [&["delta"]];
const RESPONSES_KINDS: [&[u8]; 6] = [
    b"text.delta",
    b"arguments.delta",
    b"input.delta",
    b"refusal.delta",
    b"transcript.delta",
    b"code.delta",
];
/// Those of messages. Reasoning is signed, and keeps its placeholders.
const MESSAGES: [&[&str]; 2] = [&["delta", "text"], &["delta", "partial_json"]];
/// Those of Gemini. Arguments of tools arrive whole.
const GEMINI: [&[&str]; 1] = [&["candidates", "content", "parts", "text"]];
/// Those of Converse.
const CONVERSE: [&[&str]; 2] = [&["delta", "text"], &["delta", "toolUse", "input"]];

/// A block of an answer: a text that arrives in pieces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BlockId {
    /// The candidate, or the item of the output.
    pub(super) item: u32,
    /// The part of it: a call of a tool, or a part of the content.
    part: u32,
    /// The place of its member in the format's table.
    field: usize,
    /// Of responses: the kind of the event.
    kind: Vec<u8>,
}

impl BlockId {
    /// Whether it is another text of the same candidate or item, and no other part of the same text.
    pub(super) fn follows(&self, other: &Self) -> bool {
        self.item == other.item && (self.field != other.field || self.kind != other.kind)
    }
}

/// A piece of text in an event.
#[derive(Debug)]
pub(super) struct Delta {
    pub(super) block: BlockId,
    /// The string, with its quotes.
    pub(super) range: Range<usize>,
    /// `None` if it is not text: half of a surrogate pair.
    pub(super) text: Option<String>,
}

/// What an event has.
#[derive(Debug, Default)]
pub(super) struct EventParts {
    pub(super) deltas: Vec<Delta>,
    /// Other strings, and numbers, that may have to be edited.
    pub(super) strings: Vec<AnswerString>,
    pub(super) ends: Ends,
}

/// Which blocks end with an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Ends {
    #[default]
    Nothing,
    /// The blocks of these candidates or items.
    Items(Vec<u32>),
    Everything,
}

impl Ends {
    pub(super) fn contain(&self, block: &BlockId) -> bool {
        match self {
            Self::Nothing => false,
            Self::Items(items) => items.contains(&block.item),
            Self::Everything => true,
        }
    }
}

/// What the members of an open object say of the deltas in it.
#[derive(Debug, Default)]
struct Frame {
    item: Option<u32>,
    part: Option<u32>,
    /// Of an array: the elements so far.
    elements: u32,
    /// The deltas before it.
    deltas: usize,
    is_finished: bool,
}

/// Reads the data of an event. `name` is the event's own name, if it has one; `is_scanned` says whether the
/// answer is scanned.
pub(super) fn read_event(
    format: Format,
    name: &str,
    data: &[u8],
    is_scanned: bool,
) -> Result<EventParts, NotEvent> {
    let paths: &[&[&str]] = match format {
        Format::Chat => &CHAT,
        Format::Responses => &RESPONSES,
        Format::Messages => &MESSAGES,
        Format::Gemini => &GEMINI,
        Format::Converse => &CONVERSE,
        Format::Embeddings | Format::GeminiEmbeddings | Format::Invoke => &[],
    };
    let mut parts = EventParts::default();
    let mut tokens = Tokenizer::new(data);
    let mut keys = Keys::default();
    let mut frames: Vec<Frame> = Vec::new();
    let mut kind: &[u8] = name.as_bytes();
    let mut finished = Vec::new();
    let mut item = None;
    loop {
        let token = tokens.next()?;
        if frames.is_empty() && token != Token::BeginObject {
            return Err(NotEvent);
        }
        match token {
            Token::BeginObject | Token::BeginArray => {
                if let Some(outer) = frames.last_mut() {
                    outer.elements += 1;
                }
                frames.push(Frame { deltas: parts.deltas.len(), ..Frame::default() });
            }
            Token::EndObject | Token::EndArray => {
                let position = frames.len().checked_sub(2).and_then(|outer| frames.get(outer));
                let position = position.map_or(0, |outer| outer.elements.saturating_sub(1));
                if let (Some(frame), Some((key, is_array))) = (frames.pop(), keys.open.last()) {
                    let is_numbered =
                        !is_array && matches!(*key, b"choices" | b"candidates" | b"tool_calls");
                    let number = frame.item.or(is_numbered.then_some(position));
                    frame.close(number, &mut parts.deltas);
                    let is_silent = format == Format::Gemini && parts.deltas.len() == frame.deltas;
                    if !is_array
                        && matches!(*key, b"choices" | b"candidates")
                        && (frame.is_finished || is_silent)
                    {
                        finished.extend(number);
                    }
                    if frames.is_empty() {
                        item = frame.item;
                    }
                }
            }
            Token::String(string) => {
                let start = tokens.token_start();
                let range = start..start + string.raw().len() + 2;
                let key = keys.next();
                if frames.len() == 1 && key == b"type" {
                    kind = string.raw();
                }
                if let Some(frame) = frames.last_mut() {
                    let is_reason = matches!(key, b"finish_reason" | b"finishReason");
                    frame.is_finished |= is_reason && !string.raw().is_empty();
                }
                if let Some(field) = paths.iter().position(|path| keys.is(path)) {
                    let block = BlockId { item: 0, part: 0, field, kind: Vec::new() };
                    let text = string.text().map(std::borrow::Cow::into_owned);
                    parts.deltas.push(Delta { block, range, text });
                } else {
                    parts.strings.extend(keys.string_of(format, token, start, is_scanned));
                }
            }
            Token::Key(_) => {
                let start = tokens.token_start();
                parts.strings.extend(keys.string_of(format, token, start, is_scanned));
            }
            Token::Literal(literal) => {
                let start = tokens.token_start();
                parts.strings.extend(keys.string_of(format, token, start, is_scanned));
                if let Some(frame) = frames.last_mut() {
                    frame.read(keys.next(), literal);
                }
            }
        }
        keys.read(token);
        if keys.is_at_end() {
            break;
        }
    }
    tokens.finish()?;
    if format == Format::Responses {
        name_blocks(&mut parts, kind, is_scanned);
    }
    parts.ends = ends(format, kind, item, finished);
    Ok(parts)
}

impl Frame {
    fn read(&mut self, key: &[u8], literal: &[u8]) {
        let number = || std::str::from_utf8(literal).ok()?.parse().ok();
        match key {
            b"index" | b"output_index" | b"contentBlockIndex" => self.item = number(),
            b"content_index" | b"summary_index" => self.part = number(),
            b"thought" if literal == b"true" => self.part = Some(1),
            _ => {}
        }
    }

    /// Tells the deltas within it their item and part: what is said further out is the item.
    fn close(&self, number: Option<u32>, deltas: &mut [Delta]) {
        for delta in deltas.iter_mut().skip(self.deltas) {
            for number in [self.part, number].into_iter().flatten() {
                delta.block.part = delta.block.item;
                delta.block.item = number;
            }
        }
    }
}

/// In responses, the kind of the event tells what a delta is.
fn name_blocks(parts: &mut EventParts, kind: &[u8], is_scanned: bool) {
    if RESPONSES_KINDS.iter().any(|end| kind.ends_with(end)) {
        parts.deltas.iter_mut().for_each(|delta| delta.block.kind = kind.to_vec());
        return;
    }
    // Pieces of audio and images are no text.
    let is_media =
        [&b"audio"[..], b"image"].iter().any(|word| memchr::memmem::find(kind, word).is_some());
    let name = (is_scanned && !is_media).then(|| b"delta".to_vec());
    let others = parts.deltas.drain(..).filter_map(|delta| {
        let (text, name) = (delta.text?, name.clone());
        Some(AnswerString { range: delta.range, text, name, is_number: false })
    });
    parts.strings.extend(others);
    parts.strings.sort_by_key(|string| string.range.start);
}

fn ends(format: Format, kind: &[u8], item: Option<u32>, finished: Vec<u32>) -> Ends {
    let of_item = || item.map_or(Ends::Everything, |item| Ends::Items(vec![item]));
    match format {
        Format::Messages => match kind {
            b"content_block_stop" => of_item(),
            b"message_delta" | b"message_stop" | b"error" => Ends::Everything,
            _ => Ends::Nothing,
        },
        Format::Responses => match kind {
            b"response.completed" | b"response.incomplete" | b"response.failed" | b"error" => {
                Ends::Everything
            }
            kind if kind.ends_with(b".done") => of_item(),
            _ => Ends::Nothing,
        },
        Format::Converse => match kind {
            b"contentBlockStop" => of_item(),
            b"messageStop" | b"metadata" => Ends::Everything,
            kind if kind.ends_with(b"Exception") => Ends::Everything,
            _ => Ends::Nothing,
        },
        Format::Chat
        | Format::Gemini
        | Format::Embeddings
        | Format::GeminiEmbeddings
        | Format::Invoke => {
            if finished.is_empty() {
                Ends::Nothing
            } else {
                Ends::Items(finished)
            }
        }
    }
}
