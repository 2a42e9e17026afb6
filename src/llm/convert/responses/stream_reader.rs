//! A provider's stream.
//!
//! Items are known by their `output_index`, since some providers change the ids from event to event. What
//! the deltas did not bring is taken from the events that repeat the whole.

use super::super::answer::{
    AnswerEvent, AnswerUsage, BlockKind, Failure, ReadEvents, Stop, StopReason,
};
use super::super::fields::{Fields, Path, parse_array, parse_object};
use super::upstream_item::{Blocks, Message, OpenItem, Reasoning, part_kind};
use crate::llm::format::Format;

/// The most items that are open at a time. OpenAI writes one after another.
const MAX_OPEN_ITEMS: usize = 128;

/// Reads a provider's stream into events.
#[derive(Debug, Default)]
pub(in crate::llm::convert) struct StreamReader {
    has_started: bool,
    is_over: bool,
    blocks: Blocks,
    /// The open items, each with its `output_index`.
    items: Vec<(u64, OpenItem)>,
}

impl ReadEvents for StreamReader {
    fn read(&mut self, name: Option<&str>, data: &str, out: &mut Vec<AnswerEvent>) {
        if self.is_over || data == "[DONE]" {
            return;
        }
        let Ok(event) = Fields::parse(data, &Path::ROOT) else {
            let message = "The provider sent an event that is no JSON object.";
            return self.fail(Failure::unusable(message), out);
        };
        let kind = event.find_text("type");
        let kind = kind.as_deref().or(name).unwrap_or_default();
        let response = || event.find_object("response");
        match kind {
            "response.created" | "response.in_progress" | "response.queued" => match response() {
                Some(response) if !self.has_started => self.start(&response, out),
                _ => out.push(AnswerEvent::Ping),
            },
            "response.completed" | "response.incomplete" => match response() {
                Some(response) => self.end(&response, out),
                None => self.fail(Failure::unusable("The provider's last event is empty."), out),
            },
            "response.failed" => {
                let error = response().and_then(|response| response.get("error"));
                self.fail(failure(error), out);
            }
            "error" => self.fail(failure(Some(event.get("error").unwrap_or(data))), out),
            "" if event.get("error").is_some() => self.fail(failure(event.get("error")), out),
            _ if !self.read_item_event(kind, &event, out) => out.push(AnswerEvent::Ping),
            _ => {}
        }
    }

    /// The end of the bytes is no end of an answer.
    fn finish(&mut self, _out: &mut Vec<AnswerEvent>) {
        self.is_over = true;
    }
}

impl StreamReader {
    /// Reads an event of an item; says whether it is one that is known.
    fn read_item_event(
        &mut self,
        kind: &str,
        event: &Fields<'_>,
        out: &mut Vec<AnswerEvent>,
    ) -> bool {
        let number = |key| event.get(key).and_then(|raw| raw.parse().ok()).unwrap_or(0);
        let text = |key| event.find_text(key);
        let index: u64 = number("output_index");
        let piece = |key| match text("delta") {
            Some(delta) => (delta, false),
            None => (text(key).unwrap_or_default(), true),
        };
        match kind {
            "response.output_item.added" => {
                if let Some(fields) = event.find_object("item") {
                    self.begin_item(index, &fields, out);
                }
            }
            "response.output_item.done" => {
                if let Some(fields) = event.find_object("item") {
                    self.finish_item(index, &fields, out);
                }
            }
            "response.content_part.added" => {
                if let Some(kind) = event.find_object("part").as_ref().and_then(part_kind) {
                    self.write_text(index, number("content_index"), &kind, ("", false), out);
                }
            }
            "response.output_text.delta" | "response.output_text.done" => {
                let (text, is_whole) = piece("text");
                let part = number("content_index");
                self.write_text(index, part, &BlockKind::Text, (&text, is_whole), out);
            }
            "response.refusal.delta" | "response.refusal.done" => {
                let (text, is_whole) = piece("refusal");
                let part = number("content_index");
                self.write_text(index, part, &BlockKind::Refusal, (&text, is_whole), out);
            }
            "response.output_text.annotation.added" => {
                if let (Some((_, OpenItem::Message(message))), Some(annotation)) =
                    (self.item(index), event.get("annotation"))
                {
                    message.annotate(number("content_index"), annotation, out);
                }
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_summary_text.done" => {
                let (text, is_whole) = piece("text");
                self.write_thought(index, number("summary_index"), true, (&text, is_whole), out);
            }
            "response.reasoning_text.delta" | "response.reasoning_text.done" => {
                let (text, is_whole) = piece("text");
                self.write_thought(index, number("content_index"), false, (&text, is_whole), out);
            }
            "response.function_call_arguments.delta" | "response.function_call_arguments.done" => {
                let (json, is_whole) = piece("arguments");
                if let Some((_, OpenItem::Call(call))) = self.item(index) {
                    call.write(&json, is_whole, out);
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
        let text = |key| response.find_text(key).map(|text| text.into_owned());
        out.push(AnswerEvent::Start { id: text("id"), model: text("model") });
    }

    /// Ends the answer, with the whole response.
    pub(super) fn end(&mut self, response: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        if !self.has_started {
            self.start(response, out);
        }
        for (_, item) in std::mem::take(&mut self.items) {
            item.close(out);
        }
        if self.blocks.opened == 0 {
            // Some servers send no events of items.
            let output = response.get("output").and_then(parse_array).unwrap_or_default();
            for (index, raw) in (0..).zip(output) {
                if let Ok(fields) = Fields::parse(raw, &Path::ROOT) {
                    self.finish_item(index, &fields, out);
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
        let details = response.find_object("incomplete_details");
        let word = details.and_then(|details| details.find_text("reason"));
        let status = response.find_text("status");
        let is_incomplete = status.is_some_and(|status| status == "incomplete");
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
            None if self.blocks.has_call => StopReason::ToolCall,
            None if self.blocks.has_refusal => StopReason::Refusal,
            None => StopReason::End,
        };
        Stop { reason, native: native.to_owned(), sequence: None }
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<AnswerEvent>) {
        self.is_over = true;
        out.push(AnswerEvent::Failed(failure));
    }

    fn item(&mut self, index: u64) -> Option<&mut (u64, OpenItem)> {
        self.items.iter_mut().find(|(own, _)| *own == index)
    }

    fn begin_item(&mut self, index: u64, fields: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        if self.item(index).is_none() {
            self.begin(out);
            let item = OpenItem::begin(fields, &mut self.blocks, out);
            self.push_item(index, item, out);
        }
    }

    /// Takes what the deltas did not bring from the whole item, and closes it.
    pub(super) fn finish_item(
        &mut self,
        index: u64,
        fields: &Fields<'_>,
        out: &mut Vec<AnswerEvent>,
    ) {
        self.begin(out);
        let item = match self.items.iter().position(|(own, _)| *own == index) {
            Some(at) => self.items.remove(at).1,
            None => OpenItem::begin(fields, &mut self.blocks, out),
        };
        item.finish(fields, &mut self.blocks, out);
    }

    /// Begins the answer where nothing is known of it.
    fn begin(&mut self, out: &mut Vec<AnswerEvent>) {
        if !std::mem::replace(&mut self.has_started, true) {
            out.push(AnswerEvent::Start { id: None, model: None });
        }
    }

    fn push_item(&mut self, index: u64, item: OpenItem, out: &mut Vec<AnswerEvent>) {
        if self.items.len() == MAX_OPEN_ITEMS {
            return self
                .fail(Failure::unusable("The provider writes too many items at once."), out);
        }
        self.items.push((index, item));
    }

    /// Writes text of a part of a message, which may begin with it.
    fn write_text(
        &mut self,
        index: u64,
        part: u64,
        kind: &BlockKind,
        text: (&str, bool),
        out: &mut Vec<AnswerEvent>,
    ) {
        if self.item(index).is_none() {
            self.begin(out);
            self.push_item(index, OpenItem::Message(Message::default()), out);
        }
        let Self { items, blocks, .. } = self;
        if let Some((_, OpenItem::Message(message))) =
            items.iter_mut().find(|(own, _)| *own == index)
        {
            message.write(part, kind, text, blocks, out);
        }
    }

    /// Writes text of reasoning, which may begin with it.
    fn write_thought(
        &mut self,
        index: u64,
        part: u64,
        is_summary: bool,
        text: (&str, bool),
        out: &mut Vec<AnswerEvent>,
    ) {
        if self.item(index).is_none() {
            self.begin(out);
            self.push_item(index, OpenItem::Reasoning(Reasoning::default()), out);
        }
        let Self { items, blocks, .. } = self;
        if let Some((_, OpenItem::Reasoning(reasoning))) =
            items.iter_mut().find(|(own, _)| *own == index)
        {
            reasoning.write(part, is_summary, text, blocks, out);
        }
    }
}

/// The error that a provider reports, from its object.
pub(super) fn failure(raw: Option<&str>) -> Failure {
    let fields = raw.and_then(parse_object);
    let text = |key| {
        let text = fields.as_ref()?.find_text(key)?;
        (!text.is_empty()).then(|| text.into_owned())
    };
    // The event of an error has `type: "error"`, which says nothing.
    let kind = text("type").filter(|kind| kind != "error");
    let code = text("code").or(kind).unwrap_or_else(|| Failure::UNUSABLE.to_owned());
    let message = text("message")
        .unwrap_or_else(|| "The provider reports an error, and does not say which.".to_owned());
    Failure { code, message }
}

fn read_usage(raw: &str) -> Option<AnswerUsage> {
    let counts = Format::Responses.parse_usage(raw)?.counts;
    let through_cache =
        counts.cached_input.unwrap_or(0).saturating_add(counts.cache_write.unwrap_or(0));
    Some(AnswerUsage {
        input: counts.input.map(|input| input.saturating_sub(through_cache)),
        ..counts.into()
    })
}
