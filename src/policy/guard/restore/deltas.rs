//! Where the events of a stream have pieces of text, which block each belongs to, and which blocks end.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;

use super::super::reasoning::is_signed_form;
use super::NotEvent;
use super::keys::unescaped;
use super::reader::{AnswerReader, AnswerValue, Content};
use crate::json::tokenizer::Token;
use crate::llm::format::Format;

/// The members of chat's events that pieces of text are in. A piece of arguments is a piece of JSON.
const CHAT: [&[&str]; 13] = [
    &["choices", "delta", "content"],
    // Mistral: parts of text and of reasoning.
    &["choices", "delta", "content", "text"],
    &["choices", "delta", "content", "thinking", "text"],
    &["choices", "delta", "reasoning_content"],
    &["choices", "delta", "reasoning"],
    // OpenRouter: entries of reasoning, some of them signed.
    &["choices", "delta", "reasoning_details", "text"],
    &["choices", "delta", "reasoning_details", "summary"],
    &["choices", "delta", "refusal"],
    &["choices", "delta", "tool_calls", "function", "arguments"],
    &["choices", "delta", "tool_calls", "custom", "input"],
    &["choices", "delta", "function_call", "arguments"],
    &["choices", "delta", "audio", "transcript"],
    // The older completions.
    &["choices", "text"],
];
/// Perplexity: the text so far, in each event beside its delta.
const CHAT_SO_FAR: &[&str] = &["choices", "message", "content"];
/// Those of responses, in events whose kind ends with [`DELTA`].
const RESPONSES: [&[&str]; 1] = [&["delta"]];
const DELTA: &[u8] = b".delta";
/// Those of messages. Reasoning is signed, and keeps its placeholders.
const MESSAGES: [&[&str]; 3] =
    [&["delta", "text"], &["delta", "partial_json"], &["content_block", "text"]];
/// In the table of messages: text, and the text that a block begins with.
const MESSAGES_TEXT: usize = 0;
const MESSAGES_START: usize = 2;
/// Those of Gemini. Arguments of tools arrive whole, unless the caller has asked for pieces.
const GEMINI: [&[&str]; 3] = [
    &["candidates", "content", "parts", "text"],
    &["candidates", "content", "parts", "functionCall", "partialArgs", "stringValue"],
    &["candidates", "content", "parts", "function_call", "partial_args", "string_value"],
];
/// Those of Converse.
const CONVERSE: [&[&str]; 3] =
    [&["delta", "text"], &["delta", "toolUse", "input"], &["delta", "toolResult", "text"]];
/// Other members that say which block a piece belongs to.
const PLACES: [&str; 6] =
    ["type", "index", "output_index", "content_index", "summary_index", "contentBlockIndex"];

/// The most pieces of text, and the most other values, that one event may have. Real ones have some; each takes
/// a hundred bytes here and may take two in the event.
const MAX_PIECES: usize = 4096;
const MAX_VALUES: usize = 65_536;

/// Names and ids that are only compared, and may be long.
type Digest = u64;

fn digest(text: &[u8]) -> Digest {
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    hasher.finish()
}

/// A block of an answer: a text that arrives in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BlockId {
    /// The candidate, or the item of the output.
    pub(super) item: u32,
    /// The part of it: a call of a tool, or a part of the content.
    part: u32,
    /// The place of its member in the format's table.
    field: usize,
    /// Of responses: the kind of the event. Of Gemini's arguments: the path of one.
    kind: Option<Digest>,
}

/// What a text is within its candidate or item: the place of its member, and the kind of its event.
pub(super) type TextKind = (usize, Option<Digest>);

impl BlockId {
    /// Tells it from another text of the same candidate or item, but not from another part of the same
    /// text.
    pub(super) fn kind(&self) -> TextKind {
        (self.field, self.kind)
    }
}

/// A piece of text in an event.
#[derive(Debug)]
pub(super) struct Delta {
    pub(super) block: BlockId,
    /// The string, with its quotes.
    pub(super) range: Range<usize>,
    pub(super) text: String,
    /// Whether it is the beginning of its block, and no event of the kind that goes on with it.
    pub(super) is_start: bool,
    /// Whether it is the last piece of its block.
    pub(super) is_last: bool,
    /// Whether its provider signs it.
    pub(super) is_signed: bool,
    /// Whether it stands in `reasoning_details`.
    pub(super) is_detail: bool,
    /// The id of the call of a tool, where the event has it with the tool's name: some providers give every
    /// piece of a call another id.
    pub(super) call: Option<Digest>,
}

#[derive(Debug, Default)]
pub(super) struct EventParts {
    pub(super) deltas: Vec<Delta>,
    /// Other values that may have to be edited.
    pub(super) values: Vec<AnswerValue>,
    pub(super) ends: Ends,
}

/// Which blocks end with an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Ends {
    #[default]
    Nothing,
    /// The blocks of these candidates or items.
    Items(BTreeSet<u32>),
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
    /// The deltas before it, and the other values.
    deltas: usize,
    values: usize,
    is_finished: bool,
    has_delta: bool,
    /// Whether more pieces of the same argument follow.
    goes_on: bool,
    /// The path of an argument.
    path: Option<Digest>,
    is_signed: bool,
    /// The id of the call of a tool.
    call: Option<Digest>,
    /// Whether it names a tool, itself or in what it holds.
    names_tool: bool,
    /// A bit for each key of the format that was read.
    seen: u64,
    /// Whether it is not clear which block its deltas belong to.
    is_unclear: bool,
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
    let mut reader = AnswerReader::new(format, data, is_scanned);
    let mut frames: Vec<Frame> = Vec::new();
    let mut kind: Cow<'_, [u8]> = name.as_bytes().into();
    let mut finished = BTreeSet::new();
    let mut item = None;
    loop {
        let token = reader.next()?;
        if frames.is_empty() && token != Token::BeginObject {
            return Err(NotEvent);
        }
        let key = reader.keys.next();
        match token {
            Token::BeginObject | Token::BeginArray => {
                if let Some(outer) = frames.last_mut() {
                    outer.elements += 1;
                    outer.has_delta |= key == b"delta";
                }
                frames.push(Frame {
                    deltas: parts.deltas.len(),
                    values: reader.values.len(),
                    ..Frame::default()
                });
            }
            Token::EndObject | Token::EndArray => {
                let position = frames.len().checked_sub(2).and_then(|outer| frames.get(outer));
                let position = position.map_or(0, |outer| outer.elements.saturating_sub(1));
                if let (Some(frame), Some((key, is_array))) =
                    (frames.pop(), reader.keys.innermost())
                {
                    let is_numbered =
                        !is_array && matches!(key, b"choices" | b"candidates" | b"tool_calls");
                    let number = frame.item.or(is_numbered.then_some(position));
                    let has_deltas = parts.deltas.len() > frame.deltas;
                    if has_deltas && frame.is_unclear && is_scanned {
                        return Err(NotEvent);
                    }
                    let is_silent = format == Format::Gemini && !has_deltas;
                    if !is_array
                        && matches!(key, b"choices" | b"candidates")
                        && (frame.is_finished || is_silent)
                    {
                        finished.extend(number);
                    }
                    if frames.is_empty() {
                        item = frame.item;
                    }
                    if !is_array && key == b"choices" && (frame.is_finished || !frame.has_delta) {
                        let values = reader.values.iter_mut().skip(frame.values);
                        values.for_each(|value| value.finish(is_scanned));
                    }
                    let names_tool = frame.names_tool && matches!(key, b"function" | b"custom");
                    frame.close(number, &mut parts.deltas);
                    if let Some(outer) = frames.last_mut() {
                        outer.names_tool |= names_tool;
                    }
                }
            }
            Token::String(string) => {
                if frames.len() == 1 && key == b"type" {
                    kind = unescaped(string);
                }
                let is_detail = reader.keys.is_reasoning_detail(format);
                let innermost = reader.keys.innermost();
                let is_call = innermost == Some((&b"tool_calls"[..], false));
                let is_tool = matches!(innermost, Some((b"function" | b"custom", false)));
                if let Some(frame) = frames.last_mut() {
                    frame.read_string(key, string.raw(), is_detail);
                    if is_call && key == b"id" && !string.raw().is_empty() {
                        frame.call = Some(digest(string.raw()));
                    }
                    frame.names_tool |= is_tool && key == b"name" && !string.raw().is_empty();
                }
                if let Some(field) = paths.iter().position(|path| reader.keys.is(path)) {
                    let start = reader.start();
                    let is_start = format == Format::Messages && field == MESSAGES_START;
                    let field = if is_start { MESSAGES_TEXT } else { field };
                    parts.deltas.push(Delta {
                        block: BlockId { item: 0, part: 0, field, kind: None },
                        range: start..start + string.raw().len() + 2,
                        text: string.lenient_text().into_owned(),
                        is_start,
                        is_last: false,
                        is_signed: false,
                        is_detail,
                        call: None,
                    });
                } else if format == Format::Chat && reader.keys.is(CHAT_SO_FAR) {
                    let start = reader.start();
                    reader.values.push(AnswerValue {
                        range: start..start + string.raw().len() + 2,
                        content: Content::Growing(string.lenient_text().into_owned()),
                    });
                } else {
                    reader.read(token);
                }
            }
            Token::Key(name) => {
                if let Some(frame) = frames.last_mut()
                    && !reader.keys.is_argument()
                {
                    frame.read_key(paths, &unescaped(name));
                }
                reader.read(token);
            }
            Token::Literal(literal) => {
                if let Some(frame) = frames.last_mut() {
                    frame.read_literal(key, literal);
                }
                reader.read(token);
            }
        }
        reader.enter(token);
        if parts.deltas.len() > MAX_PIECES || reader.count() > MAX_VALUES {
            return Err(NotEvent);
        }
        if reader.keys.is_at_end() {
            break;
        }
    }
    reader.finish()?;
    parts.values = reader.values;
    if format == Format::Responses {
        name_blocks(&mut parts, &kind, is_scanned);
    }
    parts.values.sort_by_key(|value| value.range.start);
    parts.ends = ends(format, &kind, item, finished);
    Ok(parts)
}

impl Frame {
    /// Clients differ in which of two members with the same key they read.
    fn read_key(&mut self, paths: &[&[&str]], key: &[u8]) {
        let mut known = paths.iter().copied().flatten().chain(&PLACES);
        if let Some(place) = known.position(|known| known.as_bytes() == key) {
            let bit = 1 << place;
            self.is_unclear |= self.seen & bit != 0;
            self.seen |= bit;
        }
    }

    fn read_string(&mut self, key: &[u8], value: &[u8], is_detail: bool) {
        match key {
            b"finish_reason" | b"finishReason" => self.is_finished |= !value.is_empty(),
            b"jsonPath" | b"json_path" => self.path = Some(digest(value)),
            b"signature" if is_detail => self.is_signed |= !value.is_empty(),
            b"format" if is_detail => self.is_signed |= is_signed_form(value),
            _ => {}
        }
    }

    fn read_literal(&mut self, key: &[u8], literal: &[u8]) {
        let number = || {
            let number: i64 = std::str::from_utf8(literal).ok()?.parse().ok()?;
            // Some send -1.
            u32::try_from(number).or(u32::try_from(number.saturating_add(1 << 32))).ok()
        };
        let is_index = matches!(
            key,
            b"index" | b"output_index" | b"contentBlockIndex" | b"content_index" | b"summary_index"
        );
        match key {
            _ if is_index && literal != b"null" && number().is_none() => self.is_unclear = true,
            b"index" | b"output_index" | b"contentBlockIndex" => self.item = number(),
            b"content_index" | b"summary_index" => self.part = number(),
            b"thought" if literal == b"true" => self.part = Some(1),
            b"willContinue" | b"will_continue" => self.goes_on = literal == b"true",
            _ => {}
        }
    }

    /// Tells the deltas within it their item and part: what is said further out is the item.
    fn close(self, number: Option<u32>, deltas: &mut [Delta]) {
        for delta in deltas.iter_mut().skip(self.deltas) {
            for number in [self.part, number].into_iter().flatten() {
                delta.block.part = delta.block.item;
                delta.block.item = number;
            }
            delta.is_signed |= self.is_signed;
            if self.names_tool {
                delta.call = self.call.or(delta.call);
            }
            if let Some(path) = self.path {
                delta.block.kind = Some(path);
                delta.is_last = !self.goes_on;
            }
        }
    }
}

/// In responses, the kind of the event tells what a delta is.
fn name_blocks(parts: &mut EventParts, kind: &[u8], is_scanned: bool) {
    // Pieces of audio and images are no text.
    let is_transcript = memchr::memmem::find(kind, b"transcript").is_some();
    let is_media = !is_transcript
        && [&b"audio"[..], b"image"].iter().any(|word| memchr::memmem::find(kind, word).is_some());
    if kind.ends_with(DELTA) && !is_media {
        let kind = Some(digest(kind));
        parts.deltas.iter_mut().for_each(|delta| delta.block.kind = kind);
        return;
    }
    let name = (is_scanned && !is_media).then(|| b"delta".to_vec());
    let others = parts.deltas.drain(..).map(|delta| {
        let content = Content::Text { text: delta.text, name: name.clone() };
        AnswerValue { range: delta.range, content }
    });
    parts.values.extend(others);
}

fn ends(format: Format, kind: &[u8], item: Option<u32>, finished: BTreeSet<u32>) -> Ends {
    let of_item = || item.map_or(Ends::Everything, |item| Ends::Items(BTreeSet::from([item])));
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
