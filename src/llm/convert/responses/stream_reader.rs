//! A provider's stream.
//!
//! Items are known by their `output_index`, since some providers change the ids from event to event. What
//! the deltas did not bring is taken from the events that repeat the whole.

use super::super::answer::{Annotation, AnswerEvent, BlockKind, Failure, Stop, StopReason};
use super::super::fields::{Fields, Path, parse_array, parse_text};
use super::super::opaque::{Family, Opaque, OpaqueKind};
use super::PARAGRAPH;
use super::answer_reader::read_usage;

/// The most items that are open at a time. OpenAI writes one after another.
const MAX_OPEN_ITEMS: usize = 128;

/// Reads a provider's stream into events.
#[derive(Debug, Default)]
pub(in crate::llm::convert) struct StreamReader {
    has_started: bool,
    is_over: bool,
    /// How many blocks were opened.
    blocks: u32,
    has_call: bool,
    has_refusal: bool,
    items: Vec<OpenItem>,
}

/// An item that is being written.
#[derive(Debug)]
struct OpenItem {
    index: u64,
    kind: ItemKind,
}

#[derive(Debug)]
enum ItemKind {
    Message(Message),
    Reasoning(Reasoning),
    Call(Call),
    /// An item of a kind that the model between formats has not.
    Other,
}

#[derive(Debug, Default)]
struct Message {
    part: Option<Part>,
    /// The parts before this one are closed.
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

#[derive(Debug, Default)]
struct Reasoning {
    /// Opened by the first text, or by what is encrypted.
    block: Option<u32>,
    is_summary: bool,
    /// The last part that had text.
    last_part: Option<u64>,
}

#[derive(Debug, Default)]
struct Call {
    /// Opened as soon as the name is known.
    block: Option<u32>,
    has_arguments: bool,
}

impl StreamReader {
    pub(in crate::llm::convert) fn new() -> Self {
        Self::default()
    }

    /// Reads an event. The name of it is repeated in the data as a rule.
    pub(in crate::llm::convert) fn read(
        &mut self,
        name: Option<&str>,
        data: &str,
        out: &mut Vec<AnswerEvent>,
    ) {
        if self.is_over || data == "[DONE]" {
            return;
        }
        let Ok(event) = Fields::parse(data, &Path::ROOT) else {
            let message = "The provider sent an event that is no JSON object.";
            return self.fail(upstream_error(message), out);
        };
        let kind = event.get("type").and_then(parse_text);
        let kind = kind.as_deref().or(name).unwrap_or_default();
        match kind {
            "response.created" | "response.in_progress" | "response.queued" => {
                match event.object("response", &Path::ROOT) {
                    Ok(Some(response)) if !self.has_started => self.start(&response, out),
                    _ => out.push(AnswerEvent::Ping),
                }
            }
            "response.completed" | "response.incomplete" => {
                match event.object("response", &Path::ROOT) {
                    Ok(Some(response)) => self.end(&response, out),
                    _ => self.fail(upstream_error("The provider's last event is empty."), out),
                }
            }
            "response.failed" => {
                let response = event.object("response", &Path::ROOT).ok().flatten();
                self.fail(failure(response.and_then(|response| response.get("error"))), out);
            }
            "error" => self.fail(failure(Some(event.get("error").unwrap_or(data))), out),
            "" if event.get("error").is_some() => self.fail(failure(event.get("error")), out),
            _ if !self.read_item_event(kind, &event, out) => out.push(AnswerEvent::Ping),
            _ => {}
        }
    }

    /// The end of the bytes is no end of an answer.
    pub(in crate::llm::convert) fn finish(&mut self, _out: &mut Vec<AnswerEvent>) {
        self.is_over = true;
    }

    /// Reads an event of an item; says whether it is one that is known.
    fn read_item_event(
        &mut self,
        kind: &str,
        event: &Fields<'_>,
        out: &mut Vec<AnswerEvent>,
    ) -> bool {
        let index = number(event, "output_index");
        let texts = ["delta", "text", "refusal", "arguments"];
        let text = texts.iter().find_map(|key| event.get(key).and_then(parse_text));
        let text = text.as_deref().unwrap_or_default();
        let is_whole = kind.ends_with(".done");
        match kind {
            "response.output_item.added" => {
                if let Ok(Some(item)) = event.object("item", &Path::ROOT) {
                    self.add_item(index, &item, out);
                }
            }
            "response.output_item.done" => {
                if let Ok(Some(item)) = event.object("item", &Path::ROOT) {
                    self.finish_item(index, &item, out);
                }
            }
            "response.content_part.added" => {
                let part = event.object("part", &Path::ROOT).ok().flatten();
                if let Some(kind) = part.as_ref().and_then(part_kind) {
                    self.write_text(index, number(event, "content_index"), &kind, "", false, out);
                }
            }
            "response.output_text.delta" | "response.output_text.done" => {
                let part = number(event, "content_index");
                self.write_text(index, part, &BlockKind::Text, text, is_whole, out);
            }
            "response.refusal.delta" | "response.refusal.done" => {
                let part = number(event, "content_index");
                self.write_text(index, part, &BlockKind::Refusal, text, is_whole, out);
            }
            "response.output_text.annotation.added" => {
                if let Some(annotation) = event.get("annotation") {
                    self.annotate(index, number(event, "content_index"), annotation, out);
                }
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_summary_text.done" => {
                let part = number(event, "summary_index");
                self.write_thought(index, part, true, text, is_whole, out);
            }
            "response.reasoning_text.delta" | "response.reasoning_text.done" => {
                let part = number(event, "content_index");
                self.write_thought(index, part, false, text, is_whole, out);
            }
            "response.function_call_arguments.delta" | "response.function_call_arguments.done" => {
                if let Some(OpenItem { kind: ItemKind::Call(call), .. }) = self.item(index) {
                    call.write(text, is_whole, out);
                }
            }
            // What these say is in others as well.
            "response.content_part.done"
            | "response.reasoning_summary_part.added"
            | "response.reasoning_summary_part.done" => {}
            _ => return false,
        }
        true
    }

    /// Begins the answer, with the members of a response.
    pub(super) fn start(&mut self, response: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        self.has_started = true;
        let text = |key| response.get(key).and_then(parse_text).map(|text| text.into_owned());
        out.push(AnswerEvent::Start { id: text("id"), model: text("model") });
    }

    /// Ends the answer, with the whole response.
    pub(super) fn end(&mut self, response: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        if !self.has_started {
            self.start(response, out);
        }
        for item in std::mem::take(&mut self.items) {
            item.close(out);
        }
        if self.blocks == 0 {
            // Some servers send no events of items.
            let output = response.get("output").and_then(parse_array).unwrap_or_default();
            for (index, raw) in output.into_iter().enumerate() {
                if let Ok(item) = Fields::parse(raw, &Path::ROOT) {
                    self.finish_item(u64::try_from(index).unwrap_or(u64::MAX), &item, out);
                }
            }
        }
        if let Some(usage) = response.get("usage").and_then(read_usage) {
            out.push(AnswerEvent::Usage(usage));
        }
        out.push(AnswerEvent::Stop(self.stop(response)));
        out.push(AnswerEvent::End);
        self.is_over = true;
    }

    fn stop(&self, response: &Fields<'_>) -> Stop {
        let details = response.object("incomplete_details", &Path::ROOT).ok().flatten();
        let word = details.and_then(|details| details.get("reason")).and_then(parse_text);
        let is_incomplete = response
            .get("status")
            .and_then(parse_text)
            .is_some_and(|status| status == "incomplete");
        let native = match &word {
            Some(word) => word,
            None if is_incomplete => "incomplete",
            None => "completed",
        };
        let reason = match word.as_deref() {
            Some("max_output_tokens") => StopReason::MaxTokens,
            Some("content_filter") => StopReason::Refusal,
            Some(_) => StopReason::Other,
            None if is_incomplete => StopReason::Other,
            None if self.has_call => StopReason::ToolCall,
            None if self.has_refusal => StopReason::Refusal,
            None => StopReason::End,
        };
        Stop { reason, native: native.to_owned(), sequence: None }
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<AnswerEvent>) {
        self.is_over = true;
        out.push(AnswerEvent::Failed(failure));
    }

    fn item(&mut self, index: u64) -> Option<&mut OpenItem> {
        self.items.iter_mut().find(|item| item.index == index)
    }

    /// Opens an item that is begun.
    fn add_item(&mut self, index: u64, item: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        if self.item(index).is_some() {
            return;
        }
        let kind = match item.get("type").and_then(parse_text).as_deref() {
            Some("message") => ItemKind::Message(Message::default()),
            Some("reasoning") => ItemKind::Reasoning(Reasoning::default()),
            Some("function_call") => {
                let block = self.open_call(item, out);
                ItemKind::Call(Call { block, has_arguments: false })
            }
            _ => ItemKind::Other,
        };
        self.push_item(OpenItem { index, kind }, out);
    }

    fn push_item(&mut self, item: OpenItem, out: &mut Vec<AnswerEvent>) {
        self.begin(out);
        if self.items.len() == MAX_OPEN_ITEMS {
            return self.fail(upstream_error("The provider writes too many items at once."), out);
        }
        self.items.push(item);
    }

    /// Takes what the deltas did not bring from the whole item, and closes it.
    pub(super) fn finish_item(
        &mut self,
        index: u64,
        item: &Fields<'_>,
        out: &mut Vec<AnswerEvent>,
    ) {
        self.add_item(index, item, out);
        let parts = |key| item.get(key).and_then(parse_array).unwrap_or_default().into_iter();
        let whole = |raw| Fields::parse(raw, &Path::ROOT).ok();
        match self.item(index).map(|item| &item.kind) {
            Some(ItemKind::Message(_)) => {
                for (part, fields) in (0..).zip(parts("content").map(whole)) {
                    let Some((fields, kind)) =
                        fields.and_then(|fields| part_kind(&fields).map(|kind| (fields, kind)))
                    else {
                        continue;
                    };
                    let key = if kind == BlockKind::Refusal { "refusal" } else { "text" };
                    let text = fields.get(key).and_then(parse_text).unwrap_or_default();
                    self.write_text(index, part, &kind, &text, true, out);
                    let known = self.annotations(index, part);
                    let all = fields.get("annotations").and_then(parse_array).unwrap_or_default();
                    for annotation in all.into_iter().skip(known) {
                        self.annotate(index, part, annotation, out);
                    }
                }
            }
            Some(ItemKind::Reasoning(_)) => {
                for (key, is_summary) in [("summary", true), ("content", false)] {
                    for (part, fields) in (0..).zip(parts(key).map(whole)) {
                        let text =
                            fields.and_then(|fields| fields.get("text")).and_then(parse_text);
                        let text = text.unwrap_or_default();
                        self.write_thought(index, part, is_summary, &text, true, out);
                    }
                }
                self.write_encrypted(index, item, out);
            }
            Some(ItemKind::Call(Call { block, .. })) => {
                let block = block.or_else(|| self.open_call(item, out));
                let arguments = item.get("arguments").and_then(parse_text).unwrap_or_default();
                if let Some(OpenItem { kind: ItemKind::Call(call), .. }) = self.item(index) {
                    call.block = block;
                    call.write(&arguments, true, out);
                }
            }
            Some(ItemKind::Other) | None => {}
        }
        if let Some(at) = self.items.iter().position(|item| item.index == index) {
            self.items.remove(at).close(out);
        }
    }

    fn begin(&mut self, out: &mut Vec<AnswerEvent>) {
        if !self.has_started {
            self.has_started = true;
            out.push(AnswerEvent::Start { id: None, model: None });
        }
    }

    /// Opens the block of a call, if its name is known.
    fn open_call(&mut self, item: &Fields<'_>, out: &mut Vec<AnswerEvent>) -> Option<u32> {
        let text = |key| item.get(key).and_then(parse_text).filter(|text| !text.is_empty());
        let name = text("name")?.into_owned();
        let id = text("call_id").or_else(|| text("id")).unwrap_or_default().into_owned();
        self.begin(out);
        self.has_call = true;
        Some(open(&mut self.blocks, BlockKind::ToolCall { id, name }, out))
    }

    /// Writes text of a part of a message. `is_whole`: it is all of the part's text, which counts if
    /// none came before.
    fn write_text(
        &mut self,
        index: u64,
        part: u64,
        kind: &BlockKind,
        text: &str,
        is_whole: bool,
        out: &mut Vec<AnswerEvent>,
    ) {
        if self.item(index).is_none() {
            let kind = ItemKind::Message(Message::default());
            self.push_item(OpenItem { index, kind }, out);
        }
        let Self { items, blocks, has_refusal, .. } = self;
        let item = items.iter_mut().find(|item| item.index == index);
        let Some(OpenItem { kind: ItemKind::Message(message), .. }) = item else { return };
        if message.part.as_ref().is_none_or(|open| open.index != part) {
            if part < message.next_part {
                return;
            }
            message.close_part(out);
            *has_refusal |= *kind == BlockKind::Refusal;
            let block = open(blocks, kind.clone(), out);
            message.part = Some(Part { index: part, block, has_text: false, annotations: 0 });
            message.next_part = part.saturating_add(1);
        }
        if let Some(part) = &mut message.part
            && !text.is_empty()
            && !(is_whole && part.has_text)
        {
            part.has_text = true;
            out.push(AnswerEvent::Text { block: part.block, text: text.to_owned() });
        }
    }

    /// How many annotations a part has already; all of them if it is closed.
    fn annotations(&mut self, index: u64, part: u64) -> usize {
        match self.item(index) {
            Some(OpenItem {
                kind: ItemKind::Message(Message { part: Some(open), .. }), ..
            }) if open.index == part => open.annotations,
            _ => usize::MAX,
        }
    }

    fn annotate(&mut self, index: u64, part: u64, raw: &str, out: &mut Vec<AnswerEvent>) {
        let Some(OpenItem { kind: ItemKind::Message(message), .. }) = self.item(index) else {
            return;
        };
        if let Some(open) = message.part.as_mut().filter(|open| open.index == part) {
            open.annotations += 1;
            if let Some(annotation) = read_annotation(raw) {
                out.push(AnswerEvent::Annotation { block: open.block, annotation });
            }
        }
    }

    /// Writes text of reasoning: of a summary, or of the thoughts. `is_whole` as for text.
    fn write_thought(
        &mut self,
        index: u64,
        part: u64,
        is_summary: bool,
        text: &str,
        is_whole: bool,
        out: &mut Vec<AnswerEvent>,
    ) {
        if self.item(index).is_none() {
            let kind = ItemKind::Reasoning(Reasoning::default());
            self.push_item(OpenItem { index, kind }, out);
        }
        let Self { items, blocks, .. } = self;
        let item = items.iter_mut().find(|item| item.index == index);
        let Some(OpenItem { kind: ItemKind::Reasoning(reasoning), .. }) = item else { return };
        let is_known = is_whole && reasoning.last_part.is_some_and(|last| part <= last);
        let is_other = reasoning.block.is_some() && reasoning.is_summary != is_summary;
        if text.is_empty() || is_known || is_other {
            return;
        }
        let block = match reasoning.block {
            Some(block) => block,
            None => open(blocks, BlockKind::Reasoning { is_summary }, out),
        };
        reasoning.block = Some(block);
        reasoning.is_summary = is_summary;
        let is_next = reasoning.last_part.is_some_and(|last| last != part);
        let before = if is_next { PARAGRAPH } else { "" };
        reasoning.last_part = Some(part);
        out.push(AnswerEvent::Text { block, text: format!("{before}{text}") });
    }

    fn write_encrypted(&mut self, index: u64, fields: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        let text = |key| fields.get(key).and_then(parse_text);
        let opaque = text("encrypted_content")
            .and_then(|field| Opaque::from_field(field, Family::OpenAi, OpaqueKind::Encrypted));
        let Self { items, blocks, .. } = self;
        let item = items.iter_mut().find(|item| item.index == index);
        let (Some(mut opaque), Some(OpenItem { kind: ItemKind::Reasoning(reasoning), .. })) =
            (opaque, item)
        else {
            return;
        };
        if opaque.is_of(Family::OpenAi) && opaque.id.is_none() {
            opaque.id = text("id");
        }
        let block = match reasoning.block {
            Some(block) => block,
            None => open(blocks, BlockKind::Reasoning { is_summary: true }, out),
        };
        reasoning.block = Some(block);
        out.push(AnswerEvent::Opaque { block, opaque: opaque.into_owned() });
    }
}

impl OpenItem {
    fn close(self, out: &mut Vec<AnswerEvent>) {
        let block = match self.kind {
            ItemKind::Message(mut message) => return message.close_part(out),
            ItemKind::Reasoning(reasoning) => reasoning.block,
            ItemKind::Call(call) => call.block,
            ItemKind::Other => None,
        };
        if let Some(block) = block {
            out.push(AnswerEvent::Close { block });
        }
    }
}

impl Message {
    fn close_part(&mut self, out: &mut Vec<AnswerEvent>) {
        if let Some(part) = self.part.take() {
            out.push(AnswerEvent::Close { block: part.block });
        }
    }
}

impl Call {
    fn write(&mut self, json: &str, is_whole: bool, out: &mut Vec<AnswerEvent>) {
        if let Some(block) = self.block
            && !json.is_empty()
            && !(is_whole && self.has_arguments)
        {
            self.has_arguments = true;
            out.push(AnswerEvent::Arguments { block, json: json.to_owned() });
        }
    }
}

fn open(blocks: &mut u32, kind: BlockKind, out: &mut Vec<AnswerEvent>) -> u32 {
    let block = *blocks;
    *blocks = blocks.saturating_add(1);
    out.push(AnswerEvent::Open { block, kind });
    block
}

/// What kind of block a part of a message is.
fn part_kind(part: &Fields<'_>) -> Option<BlockKind> {
    match part.get("type").and_then(parse_text).as_deref() {
        Some("output_text") => Some(BlockKind::Text),
        Some("refusal") => Some(BlockKind::Refusal),
        _ => None,
    }
}

/// Reads the citation of a page; others name what only OpenAI has.
fn read_annotation(raw: &str) -> Option<Annotation> {
    let fields = Fields::parse(raw, &Path::ROOT).ok()?;
    let text = |key| fields.get(key).and_then(parse_text);
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

/// The error that a provider reports, from its object.
pub(super) fn failure(raw: Option<&str>) -> Failure {
    let fields = raw.and_then(|raw| Fields::parse(raw, &Path::ROOT).ok());
    let text = |key| {
        let text = fields.as_ref()?.get(key).and_then(parse_text)?;
        (!text.is_empty()).then(|| text.into_owned())
    };
    // The event of an error has `type: "error"`, which says nothing.
    let kind = text("type").filter(|kind| kind != "error");
    let code = text("code").or(kind).unwrap_or_else(|| UPSTREAM_ERROR.to_owned());
    let message = text("message")
        .unwrap_or_else(|| "The provider reports an error, and does not say which.".to_owned());
    Failure { code, message }
}

const UPSTREAM_ERROR: &str = "upstream_error";

fn upstream_error(message: &str) -> Failure {
    Failure { code: UPSTREAM_ERROR.to_owned(), message: message.to_owned() }
}

/// A whole number; 0 where there is none.
fn number(event: &Fields<'_>, key: &str) -> u64 {
    event.get(key).and_then(|raw| raw.parse().ok()).unwrap_or(0)
}
