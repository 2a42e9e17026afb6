//! The items of an answer while they are written, each with its events.

use super::super::answer::Annotation;
use super::super::opaque::{Family, Opaque, no_proof};
use super::OF_TEXT;
use crate::json::writer::JsonWriter;

/// Writes events with their numbers, or none for a plain answer.
#[derive(Debug)]
pub(super) struct Events {
    sequence: u64,
    is_silent: bool,
}

impl Events {
    pub(super) fn new(is_silent: bool) -> Self {
        Self { sequence: 0, is_silent }
    }

    pub(super) fn is_silent(&self) -> bool {
        self.is_silent
    }

    pub(super) fn write(
        &mut self,
        kind: &str,
        out: &mut Vec<u8>,
        members: impl FnOnce(&mut JsonWriter),
    ) {
        if self.is_silent {
            return;
        }
        let mut json = JsonWriter::new();
        json.object(|json| {
            json.key("type").string(kind);
            json.key("sequence_number").number(self.sequence);
            members(json);
        });
        self.sequence += 1;
        for piece in ["event: ", kind, "\ndata: ", &json.finish(), "\n\n"] {
            out.extend_from_slice(piece.as_bytes());
        }
    }
}

/// Which item it is, and its place in the output.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) index: u64,
}

impl Place {
    /// The members of an event that name the item and the part of it.
    fn write(&self, part: Option<(&str, u64)>, json: &mut JsonWriter) {
        json.key("item_id").string(&self.id);
        json.key("output_index").number(self.index);
        if let Some((key, index)) = part {
            json.key(key).number(index);
        }
    }

    /// The event that begins or completes the item.
    fn write_item(&self, kind: &str, item: &str, events: &mut Events, out: &mut Vec<u8>) {
        events.write(kind, out, |json| {
            json.key("output_index").number(self.index);
            json.key("item").raw(item);
        });
    }
}

const ADDED: &str = "response.output_item.added";
const DONE: &str = "response.output_item.done";

#[derive(Debug)]
pub(super) enum OpenItem {
    Message(Message),
    Reasoning(Reasoning),
    Call(Call),
}

impl OpenItem {
    /// Completes the item: its JSON, and what has to be written in items of its own after it.
    pub(super) fn finish(
        self,
        is_complete: bool,
        events: &mut Events,
        out: &mut Vec<u8>,
    ) -> (String, Vec<Opaque<'static>>) {
        match self {
            Self::Message(message) => message.finish(is_complete, events, out),
            Self::Reasoning(reasoning) => reasoning.finish(events, out),
            Self::Call(call) => call.finish(is_complete, events, out),
        }
    }
}

/// A message, with a part for each block.
#[derive(Debug)]
pub(super) struct Message {
    place: Place,
    /// The parts that are complete.
    parts: Vec<String>,
    part: Option<Part>,
    signatures: Vec<Opaque<'static>>,
}

#[derive(Debug)]
struct Part {
    is_refusal: bool,
    text: String,
    annotations: Vec<Annotation>,
}

impl Message {
    pub(super) fn begin(place: Place, events: &mut Events, out: &mut Vec<u8>) -> Self {
        place.write_item(ADDED, &message(&place.id, "in_progress", &[]), events, out);
        Self { place, parts: Vec::new(), part: None, signatures: Vec::new() }
    }

    fn part_index(&self) -> Option<(&'static str, u64)> {
        Some(("content_index", self.parts.len() as u64))
    }

    pub(super) fn begin_part(&mut self, is_refusal: bool, events: &mut Events, out: &mut Vec<u8>) {
        self.finish_part(events, out);
        let part = Part { is_refusal, text: String::new(), annotations: Vec::new() };
        events.write("response.content_part.added", out, |json| {
            self.place.write(self.part_index(), json);
            json.key("part").raw(&part.to_json(""));
        });
        self.part = Some(part);
    }

    pub(super) fn write(&mut self, text: &str, events: &mut Events, out: &mut Vec<u8>) {
        let at = self.part_index();
        let Some(part) = &mut self.part else { return };
        part.text.push_str(text);
        let kind = match part.is_refusal {
            true => "response.refusal.delta",
            false => "response.output_text.delta",
        };
        events.write(kind, out, |json| {
            self.place.write(at, json);
            json.key("delta").string(text);
            if !part.is_refusal {
                json.key("logprobs").array(|_| {});
            }
        });
    }

    pub(super) fn annotate(&mut self, annotation: Annotation) {
        if let Some(part) = &mut self.part {
            part.annotations.push(annotation);
        }
    }

    /// Keeps a signature of the text.
    pub(super) fn keep_signature(&mut self, signature: Opaque<'static>) {
        keep(&mut self.signatures, owned_by(signature, OF_TEXT));
    }

    pub(super) fn has_signatures(&self) -> bool {
        !self.signatures.is_empty()
    }

    pub(super) fn finish_part(&mut self, events: &mut Events, out: &mut Vec<u8>) {
        let at = self.part_index();
        let Some(part) = self.part.take() else { return };
        for (index, annotation) in (0..).zip(&part.annotations) {
            events.write("response.output_text.annotation.added", out, |json| {
                self.place.write(at, json);
                json.key("annotation_index").number(index);
                write_annotation(annotation, &part.text, json.key("annotation"));
            });
        }
        let (kind, key) = match part.is_refusal {
            true => ("response.refusal.done", "refusal"),
            false => ("response.output_text.done", "text"),
        };
        events.write(kind, out, |json| {
            self.place.write(at, json);
            json.key(key).string(&part.text);
            if !part.is_refusal {
                json.key("logprobs").array(|_| {});
            }
        });
        let whole = part.to_json(&part.text);
        events.write("response.content_part.done", out, |json| {
            self.place.write(at, json);
            json.key("part").raw(&whole);
        });
        self.parts.push(whole);
    }

    fn finish(
        mut self,
        is_complete: bool,
        events: &mut Events,
        out: &mut Vec<u8>,
    ) -> (String, Vec<Opaque<'static>>) {
        self.finish_part(events, out);
        let item = message(&self.place.id, status(is_complete), &self.parts);
        self.place.write_item(DONE, &item, events, out);
        (item, self.signatures)
    }
}

impl Part {
    /// The part with this text.
    fn to_json(&self, text: &str) -> String {
        let mut json = JsonWriter::new();
        json.object(|json| {
            if self.is_refusal {
                json.key("type").string("refusal");
                return json.key("refusal").string(text);
            }
            json.key("type").string("output_text");
            json.key("annotations").array(|json| {
                for annotation in &self.annotations {
                    write_annotation(annotation, text, json);
                }
            });
            json.key("logprobs").array(|_| {});
            json.key("text").string(text);
        });
        json.finish()
    }
}

/// Reasoning, whose text is one part of the summary, whatever it was at the provider: the models of OpenAI's
/// own API give nothing else, so clients may neither show other text nor bring it back (LangChain does not).
#[derive(Debug)]
pub(super) struct Reasoning {
    place: Place,
    /// Empty until the part has begun.
    text: String,
    opaque: Vec<Opaque<'static>>,
}

impl Reasoning {
    pub(super) fn begin(place: Place, events: &mut Events, out: &mut Vec<u8>) -> Self {
        let reasoning = Self { place, text: String::new(), opaque: Vec::new() };
        reasoning.place.write_item(ADDED, &reasoning.to_json(false), events, out);
        reasoning
    }

    pub(super) fn keep_opaque(&mut self, opaque: Opaque<'static>) {
        keep(&mut self.opaque, opaque);
    }

    pub(super) fn write(&mut self, text: &str, events: &mut Events, out: &mut Vec<u8>) {
        if self.text.is_empty() {
            events.write("response.reasoning_summary_part.added", out, |json| {
                self.place.write(Some(SUMMARY), json);
                write_summary("", json.key("part"));
            });
        }
        self.text.push_str(text);
        events.write("response.reasoning_summary_text.delta", out, |json| {
            self.place.write(Some(SUMMARY), json);
            json.key("delta").string(text);
        });
    }

    fn finish(mut self, events: &mut Events, out: &mut Vec<u8>) -> (String, Vec<Opaque<'static>>) {
        if !self.text.is_empty() {
            events.write("response.reasoning_summary_text.done", out, |json| {
                self.place.write(Some(SUMMARY), json);
                json.key("text").string(&self.text);
            });
            events.write("response.reasoning_summary_part.done", out, |json| {
                self.place.write(Some(SUMMARY), json);
                write_summary(&self.text, json.key("part"));
            });
        }
        let item = self.to_json(true);
        self.place.write_item(DONE, &item, events, out);
        // An item has room for one; the others get items of their own.
        let others = self.opaque.split_off(self.opaque.len().min(1));
        (item, others)
    }

    fn to_json(&self, is_done: bool) -> String {
        let mut json = JsonWriter::new();
        json.object(|json| {
            json.key("id").string(&self.place.id);
            json.key("type").string("reasoning");
            json.key("summary").array(|json| {
                if !self.text.is_empty() {
                    write_summary(&self.text, json);
                }
            });
            // OpenAI refuses reasoning that is not its own, so that it has to be known on the way back.
            let none = || is_done.then(no_proof);
            let proof = self.opaque.first().map(Opaque::to_container).or_else(none);
            json.optional_string("encrypted_content", proof);
        });
        json.finish()
    }
}

/// A call of a function. The item begins with the second piece of the arguments or with the end of the
/// block, since signatures that come before that are written before it.
#[derive(Debug)]
pub(super) struct Call {
    id: String,
    name: String,
    /// Of the item, once it has begun.
    place: Option<Place>,
    arguments: String,
    signatures: Vec<Opaque<'static>>,
}

impl Call {
    pub(super) fn new(id: String, name: String) -> Self {
        Self { id, name, place: None, arguments: String::new(), signatures: Vec::new() }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.place.is_some()
    }

    /// Keeps the first piece of the arguments; says whether it did.
    pub(super) fn hold(&mut self, json: &str) -> bool {
        let is_first = self.arguments.is_empty() && self.place.is_none();
        if is_first {
            self.arguments.push_str(json);
        }
        is_first
    }

    pub(super) fn keep_signature(&mut self, signature: Opaque<'static>) {
        keep(&mut self.signatures, owned_by(signature, &self.id));
    }

    pub(super) fn take_signatures(&mut self) -> Vec<Opaque<'static>> {
        std::mem::take(&mut self.signatures)
    }

    /// Begins the item, with the piece that was kept.
    pub(super) fn begin(&mut self, place: Place, events: &mut Events, out: &mut Vec<u8>) {
        place.write_item(ADDED, &self.to_json(&place.id, "in_progress", ""), events, out);
        self.place = Some(place);
        let held = std::mem::take(&mut self.arguments);
        if !held.is_empty() {
            self.write(&held, events, out);
        }
    }

    pub(super) fn write(&mut self, piece: &str, events: &mut Events, out: &mut Vec<u8>) {
        let Some(place) = &self.place else { return };
        self.arguments.push_str(piece);
        events.write("response.function_call_arguments.delta", out, |json| {
            place.write(None, json);
            json.key("delta").string(piece);
        });
    }

    fn finish(
        mut self,
        is_complete: bool,
        events: &mut Events,
        out: &mut Vec<u8>,
    ) -> (String, Vec<Opaque<'static>>) {
        if self.arguments.is_empty() {
            self.write("{}", events, out);
        }
        let Some(place) = &self.place else { return (String::new(), Vec::new()) };
        events.write("response.function_call_arguments.done", out, |json| {
            place.write(None, json);
            json.key("name").string(&self.name);
            json.key("arguments").string(&self.arguments);
        });
        let item = self.to_json(&place.id, status(is_complete), &self.arguments);
        place.write_item(DONE, &item, events, out);
        (item, self.signatures)
    }

    fn to_json(&self, id: &str, status: &str, arguments: &str) -> String {
        let mut json = JsonWriter::new();
        json.object(|json| {
            json.key("id").string(id);
            json.key("type").string("function_call");
            json.key("status").string(status);
            json.key("arguments").string(arguments);
            json.key("call_id").string(&self.id);
            json.key("name").string(&self.name);
        });
        json.finish()
    }
}

fn message(id: &str, status: &str, parts: &[String]) -> String {
    let mut json = JsonWriter::new();
    json.object(|json| {
        json.key("id").string(id);
        json.key("type").string("message");
        json.key("status").string(status);
        json.key("content").array(|json| parts.iter().for_each(|part| json.raw(part)));
        json.key("role").string("assistant");
    });
    json.finish()
}

fn status(is_complete: bool) -> &'static str {
    if is_complete { "completed" } else { "incomplete" }
}

/// A citation; without a span, it is of the whole text.
fn write_annotation(annotation: &Annotation, text: &str, json: &mut JsonWriter) {
    let (start, end) = annotation.span.unwrap_or_else(|| (0, text.chars().count() as u64));
    json.object(|json| {
        json.key("type").string("url_citation");
        json.key("start_index").number(start);
        json.key("end_index").number(end);
        json.key("url").string(&annotation.url);
        json.key("title").string(annotation.title.as_deref().unwrap_or_default());
    });
}

/// The last one of a kind counts.
fn keep(list: &mut Vec<Opaque<'static>>, opaque: Opaque<'static>) {
    list.retain(|one| (one.family, one.kind) != (opaque.family, opaque.kind));
    list.push(opaque);
}

/// Says in the place of an id what a signature belongs to.
fn owned_by(signature: Opaque<'static>, owner: &str) -> Opaque<'static> {
    match signature.family {
        // Its ids are its own, and it signs neither texts nor calls.
        Family::OpenAi => signature,
        _ => Opaque { id: Some(owner.to_owned().into()), ..signature },
    }
}

/// Where the text of reasoning is in its item.
const SUMMARY: (&str, u64) = ("summary_index", 0);

fn write_summary(text: &str, json: &mut JsonWriter) {
    json.object(|json| {
        json.key("type").string("summary_text");
        json.key("text").string(text);
    });
}
