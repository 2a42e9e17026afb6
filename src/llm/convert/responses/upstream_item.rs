//! The items of a provider's answer while they are read.
//!
//! Text is given as it comes. An event that repeats the whole of it (`is_whole` below) counts only where
//! nothing came before.

use super::super::answer::{Annotation, AnswerEvent, BlockKind};
use super::super::fields::{Fields, parse_array, parse_object};
use super::super::opaque::{Family, Opaque, OpaqueKind};
use super::PARAGRAPH;

/// The blocks that were opened.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub(super) opened: u32,
    pub(super) has_call: bool,
    pub(super) has_refusal: bool,
}

impl Blocks {
    fn open(&mut self, kind: BlockKind, out: &mut Vec<AnswerEvent>) -> u32 {
        let block = self.opened;
        self.opened = block.saturating_add(1);
        self.has_call |= matches!(kind, BlockKind::ToolCall { .. });
        self.has_refusal |= kind == BlockKind::Refusal;
        out.push(AnswerEvent::Open { block, kind });
        block
    }
}

/// An item that is being written.
#[derive(Debug)]
pub(super) enum OpenItem {
    Message(Message),
    Reasoning(Reasoning),
    Call(Call),
    /// An item of a kind that the model between formats has not.
    Other,
}

impl OpenItem {
    /// Begins an item with what is known of it.
    pub(super) fn begin(
        fields: &Fields<'_>,
        blocks: &mut Blocks,
        out: &mut Vec<AnswerEvent>,
    ) -> Self {
        match fields.find_text("type").as_deref() {
            Some("message") => Self::Message(Message::default()),
            Some("reasoning") => Self::Reasoning(Reasoning::default()),
            Some("function_call") => {
                let mut call = Call::default();
                call.open(fields, blocks, out);
                Self::Call(call)
            }
            _ => Self::Other,
        }
    }

    /// Takes what the deltas did not bring from the whole item, and closes it.
    pub(super) fn finish(
        mut self,
        fields: &Fields<'_>,
        blocks: &mut Blocks,
        out: &mut Vec<AnswerEvent>,
    ) {
        match &mut self {
            Self::Message(message) => message.write_rest(fields, blocks, out),
            Self::Reasoning(reasoning) => reasoning.write_rest(fields, blocks, out),
            Self::Call(call) => {
                call.open(fields, blocks, out);
                let arguments = fields.find_text("arguments").unwrap_or_default();
                call.write(&arguments, true, out);
            }
            Self::Other => {}
        }
        self.close(out);
    }

    /// Closes what is open of it.
    pub(super) fn close(self, out: &mut Vec<AnswerEvent>) {
        let block = match self {
            Self::Message(message) => message.part.map(|part| part.block),
            Self::Reasoning(reasoning) => reasoning.block,
            Self::Call(call) => call.block,
            Self::Other => None,
        };
        out.extend(block.map(|block| AnswerEvent::Close { block }));
    }
}

/// A message: a block for each part.
#[derive(Debug, Default)]
pub(super) struct Message {
    part: Option<Part>,
    /// The parts before this one are closed, or open.
    next_part: u64,
}

/// A part of a message that is being written.
#[derive(Debug)]
struct Part {
    index: u64,
    block: u32,
    has_text: bool,
    /// How many annotations came.
    annotations: usize,
}

impl Message {
    pub(super) fn write(
        &mut self,
        part: u64,
        kind: &BlockKind,
        (text, is_whole): (&str, bool),
        blocks: &mut Blocks,
        out: &mut Vec<AnswerEvent>,
    ) {
        if self.part.as_ref().is_none_or(|open| open.index != part) {
            if part < self.next_part {
                return;
            }
            let closed = self.part.take();
            out.extend(closed.map(|closed| AnswerEvent::Close { block: closed.block }));
            let block = blocks.open(kind.clone(), out);
            self.part = Some(Part { index: part, block, has_text: false, annotations: 0 });
            self.next_part = part.saturating_add(1);
        }
        if let Some(part) = &mut self.part
            && !text.is_empty()
            && !(is_whole && part.has_text)
        {
            part.has_text = true;
            out.push(AnswerEvent::Text { block: part.block, text: text.to_owned() });
        }
    }

    pub(super) fn annotate(&mut self, part: u64, raw: &str, out: &mut Vec<AnswerEvent>) {
        if let Some(open) = self.part.as_mut().filter(|open| open.index == part) {
            open.annotations += 1;
            if let Some(annotation) = read_annotation(raw) {
                out.push(AnswerEvent::Annotation { block: open.block, annotation });
            }
        }
    }

    fn write_rest(&mut self, fields: &Fields<'_>, blocks: &mut Blocks, out: &mut Vec<AnswerEvent>) {
        for (index, part) in parts(fields, "content") {
            let Some(kind) = part_kind(&part) else { continue };
            let key = if kind == BlockKind::Refusal { "refusal" } else { "text" };
            let text = part.find_text(key).unwrap_or_default();
            self.write(index, &kind, (&text, true), blocks, out);
            let open = self.part.as_ref().filter(|open| open.index == index);
            let known = open.map_or(usize::MAX, |open| open.annotations);
            let all = part.get("annotations").and_then(parse_array).unwrap_or_default();
            for annotation in all.into_iter().skip(known) {
                self.annotate(index, annotation, out);
            }
        }
    }
}

/// Reasoning: one block, opened by the first text or by what is encrypted.
#[derive(Debug, Default)]
pub(super) struct Reasoning {
    block: Option<u32>,
    is_summary: bool,
    /// The last part that had text.
    last_part: Option<u64>,
}

impl Reasoning {
    /// Writes text of a summary, or of the thoughts where there is no summary.
    pub(super) fn write(
        &mut self,
        part: u64,
        is_summary: bool,
        (text, is_whole): (&str, bool),
        blocks: &mut Blocks,
        out: &mut Vec<AnswerEvent>,
    ) {
        let is_known = is_whole && self.last_part.is_some_and(|last| part <= last);
        let is_other = self.block.is_some() && self.is_summary != is_summary;
        if text.is_empty() || is_known || is_other {
            return;
        }
        let block = self.open(is_summary, blocks, out);
        let is_next = self.last_part.is_some_and(|last| last != part);
        let before = if is_next { PARAGRAPH } else { "" };
        self.last_part = Some(part);
        out.push(AnswerEvent::Text { block, text: format!("{before}{text}") });
    }

    fn open(&mut self, is_summary: bool, blocks: &mut Blocks, out: &mut Vec<AnswerEvent>) -> u32 {
        if self.block.is_none() {
            self.is_summary = is_summary;
        }
        *self.block.get_or_insert_with(|| blocks.open(BlockKind::Reasoning { is_summary }, out))
    }

    fn write_rest(&mut self, fields: &Fields<'_>, blocks: &mut Blocks, out: &mut Vec<AnswerEvent>) {
        for (key, is_summary) in [("summary", true), ("content", false)] {
            for (index, part) in parts(fields, key) {
                let text = part.find_text("text").unwrap_or_default();
                self.write(index, is_summary, (&text, true), blocks, out);
            }
        }
        let text = |key| fields.find_text(key);
        let encrypted = text("encrypted_content")
            .and_then(|field| Opaque::from_field(field, Family::OpenAi, OpaqueKind::Encrypted));
        if let Some(mut opaque) = encrypted {
            if opaque.is_of(Family::OpenAi) && opaque.id.is_none() {
                opaque.id = text("id");
            }
            let block = self.open(true, blocks, out);
            out.push(AnswerEvent::Opaque { block, opaque: opaque.into_owned() });
        }
    }
}

/// A call of a function: one block, opened as soon as the name is known.
#[derive(Debug, Default)]
pub(super) struct Call {
    block: Option<u32>,
    has_arguments: bool,
}

impl Call {
    fn open(&mut self, fields: &Fields<'_>, blocks: &mut Blocks, out: &mut Vec<AnswerEvent>) {
        let text = |key| fields.find_text(key).filter(|text| !text.is_empty());
        if let Some(name) = text("name")
            && self.block.is_none()
        {
            let id = text("call_id").or_else(|| text("id")).unwrap_or_default().into_owned();
            let kind = BlockKind::ToolCall { id, name: name.into_owned() };
            self.block = Some(blocks.open(kind, out));
        }
    }

    pub(super) fn write(&mut self, json: &str, is_whole: bool, out: &mut Vec<AnswerEvent>) {
        if let Some(block) = self.block
            && !json.is_empty()
            && !(is_whole && self.has_arguments)
        {
            self.has_arguments = true;
            out.push(AnswerEvent::Arguments { block, json: json.to_owned() });
        }
    }
}

/// The parts in a list that are objects, each with its index.
fn parts<'a>(fields: &Fields<'a>, key: &str) -> impl Iterator<Item = (u64, Fields<'a>)> {
    let list = fields.get(key).and_then(parse_array).unwrap_or_default();
    (0..).zip(list).filter_map(|(index, raw)| Some((index, parse_object(raw)?)))
}

/// What kind of block a part of a message is.
pub(super) fn part_kind(part: &Fields<'_>) -> Option<BlockKind> {
    match part.find_text("type").as_deref() {
        Some("output_text") => Some(BlockKind::Text),
        Some("refusal") => Some(BlockKind::Refusal),
        _ => None,
    }
}

/// Reads the citation of a page; others name what only OpenAI has.
fn read_annotation(raw: &str) -> Option<Annotation> {
    let fields = parse_object(raw)?;
    let text = |key| fields.find_text(key);
    if text("type")? != "url_citation" {
        return None;
    }
    let place = |key| fields.get(key).and_then(|raw| raw.parse::<u64>().ok());
    Some(Annotation {
        url: text("url")?.into_owned(),
        title: text("title").filter(|title| !title.is_empty()).map(|title| title.into_owned()),
        span: place("start_index").zip(place("end_index")),
    })
}
