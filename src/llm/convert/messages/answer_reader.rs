//! Reads answers of Anthropic's API, plain and streamed. A plain answer is read as the events of a stream
//! whose blocks begin with all that is in them.

use super::STOP_REASONS;
use super::usage::{read_usage, without_lost_counts};
use crate::json::members::Members;
use crate::llm::convert::answer::{
    Annotation, AnswerEvent, AnswerUsage, BlockKind, Failure, ReadEvents, Stop, StopReason,
};
use crate::llm::convert::fields::{parse_array, parse_text};
use crate::llm::convert::opaque::{Family, Opaque, OpaqueKind};

/// Reads a plain answer.
pub(in crate::llm::convert) fn read_answer(json: &str) -> Result<Vec<AnswerEvent>, Failure> {
    let message = Object::parse(json).ok_or_else(|| Failure::unreadable("it is not an object"))?;
    let mut events = Vec::new();
    if let Some(error) = message.get("error") {
        events.push(AnswerEvent::Failed(read_failure(error)));
        return Ok(events);
    }
    let content = message.get("content").and_then(parse_array);
    let content = content.ok_or_else(|| Failure::unreadable("'content' is not an array"))?;
    let mut reader = StreamReader::default();
    reader.start(&message, &mut events);
    for block in content {
        let block = Object::parse(block);
        let block = block.ok_or_else(|| Failure::unreadable("a block is not an object"))?;
        reader.open(0, &block, &mut events);
        reader.close(&mut events);
    }
    reader.read_stop(&message, &mut events);
    events.push(AnswerEvent::End);
    Ok(events)
}

/// Reads the events of a stream.
#[derive(Debug, Default)]
pub(in crate::llm::convert) struct StreamReader {
    has_started: bool,
    has_ended: bool,
    /// The message's.
    id: Option<String>,
    /// How many blocks have been opened.
    blocks: u32,
    /// One at a time, as the API does it.
    open: Option<OpenBlock>,
    usage: AnswerUsage,
}

/// A block that has begun.
#[derive(Debug)]
struct OpenBlock {
    /// As the API counts, which counts blocks that are left out, too.
    index: u64,
    /// Its number here; `None` for a block that is left out.
    number: Option<u32>,
    /// A call of a tool of which no argument has come.
    lacks_arguments: bool,
}

impl ReadEvents for StreamReader {
    fn read(&mut self, name: Option<&str>, data: &str, out: &mut Vec<AnswerEvent>) {
        if self.has_ended {
            return;
        }
        let Some(event) = Object::parse(data) else {
            let message = "The provider sent an event that is not a JSON object.";
            return self.fail(Failure::unusable(message), out);
        };
        let own_name = event.text("type");
        match own_name.as_deref().or(name).unwrap_or_default() {
            "message_start" => {
                if let Some(message) = event.object("message") {
                    self.start_message(&message, out);
                }
            }
            "content_block_start" => {
                if let Some(block) = event.object("content_block") {
                    self.open(event.number("index").unwrap_or(0), &block, out);
                }
            }
            "content_block_delta" => self.read_delta(&event, out),
            "content_block_stop" => {
                let index = event.number("index").unwrap_or(0);
                if self.open.as_ref().is_some_and(|open| open.index == index) {
                    self.close(out);
                }
            }
            "message_delta" => {
                self.close(out);
                self.read_usage(&event, out);
                if let Some(delta) = event.object("delta") {
                    self.read_stop(&delta, out);
                }
            }
            "message_stop" => {
                self.close(out);
                self.has_ended = true;
                out.push(AnswerEvent::End);
            }
            "ping" => out.push(AnswerEvent::Ping),
            "error" => self.fail(read_failure(event.get("error").unwrap_or_default()), out),
            _ => {
                if let Some(error) = event.get("error") {
                    self.fail(read_failure(error), out);
                }
            }
        }
    }
}

impl StreamReader {
    fn fail(&mut self, failure: Failure, out: &mut Vec<AnswerEvent>) {
        self.has_ended = true;
        out.push(AnswerEvent::Failed(failure));
    }

    /// A second begin of the same message says nothing new. That of another one means that the first was
    /// given up, and what came of it, such as half a call of a tool, can't be taken back.
    fn start_message(&mut self, message: &Object<'_>, out: &mut Vec<AnswerEvent>) {
        if !self.has_started {
            return self.start(message, out);
        }
        let id = message.text("id");
        if id.is_some() && self.id.is_some() && id != self.id {
            let message = "The provider began another answer in the middle of one.";
            self.fail(Failure::unusable(message), out);
        }
    }

    fn start(&mut self, message: &Object<'_>, out: &mut Vec<AnswerEvent>) {
        self.has_started = true;
        self.id = message.text("id");
        out.push(AnswerEvent::Start { id: self.id.clone(), model: message.text("model") });
        self.read_usage(message, out);
    }

    fn read_usage(&mut self, object: &Object<'_>, out: &mut Vec<AnswerEvent>) {
        let Some(usage) = object.get("usage").and_then(read_usage) else { return };
        let usage = without_lost_counts(self.usage, usage);
        self.usage = self.usage.updated(usage);
        out.push(AnswerEvent::Usage(usage));
    }

    fn read_stop(&mut self, delta: &Object<'_>, out: &mut Vec<AnswerEvent>) {
        let Some(native) = delta.text("stop_reason") else { return };
        let known = STOP_REASONS.iter().find(|(word, _)| *word == native);
        let reason = known.map_or(StopReason::Other, |(_, reason)| *reason);
        let sequence = delta.text("stop_sequence");
        let details = delta.object("stop_details").filter(|_| reason == StopReason::Refusal);
        if let Some(explanation) = details.and_then(|details| details.text("explanation")) {
            let block = self.blocks;
            self.blocks = self.blocks.saturating_add(1);
            out.push(AnswerEvent::Open { block, kind: BlockKind::Refusal });
            self.write_text(block, explanation, out);
            out.push(AnswerEvent::Close { block });
        }
        out.push(AnswerEvent::Stop(Stop { reason, native, sequence }));
    }

    /// Begins a block, with what is in it already. Tools of the provider's own are left out.
    fn open(&mut self, index: u64, block: &Object<'_>, out: &mut Vec<AnswerEvent>) {
        self.close(out);
        if !self.has_started {
            self.has_started = true;
            out.push(AnswerEvent::Start { id: None, model: None });
        }
        let text = |key| block.text(key).unwrap_or_default();
        let kind = match text("type").as_str() {
            "text" => BlockKind::Text,
            "thinking" | "redacted_thinking" => BlockKind::Reasoning { is_summary: false },
            "tool_use" => BlockKind::ToolCall { id: text("id"), name: text("name") },
            _ => {
                let open = OpenBlock { index, number: None, lacks_arguments: false };
                self.open = Some(open);
                return;
            }
        };
        let number = self.blocks;
        self.blocks = self.blocks.saturating_add(1);
        let is_call = matches!(kind, BlockKind::ToolCall { .. });
        self.open = Some(OpenBlock { index, number: Some(number), lacks_arguments: is_call });
        out.push(AnswerEvent::Open { block: number, kind });
        for key in ["text", "thinking"] {
            self.write_text(number, text(key), out);
        }
        self.write_opaque(number, text("signature"), OpaqueKind::Signature, out);
        self.write_opaque(number, text("data"), OpaqueKind::Redacted, out);
        for citation in block.get("citations").and_then(parse_array).into_iter().flatten() {
            write_citation(number, citation, out);
        }
        if let Some(input) = block.get("input").filter(|input| is_call && !is_empty(input)) {
            self.write_arguments(number, input.to_owned(), out);
        }
    }

    fn close(&mut self, out: &mut Vec<AnswerEvent>) {
        let Some(OpenBlock { number: Some(block), lacks_arguments, .. }) = self.open.take() else {
            return;
        };
        if lacks_arguments {
            out.push(AnswerEvent::Arguments { block, json: "{}".to_owned() });
        }
        out.push(AnswerEvent::Close { block });
    }

    fn read_delta(&mut self, event: &Object<'_>, out: &mut Vec<AnswerEvent>) {
        let index = event.number("index").unwrap_or(0);
        let open = self.open.as_ref().filter(|open| open.index == index);
        let Some(block) = open.and_then(|open| open.number) else { return };
        let Some(delta) = event.object("delta") else { return };
        let text = |key| delta.text(key).unwrap_or_default();
        match text("type").as_str() {
            "text_delta" => self.write_text(block, text("text"), out),
            "thinking_delta" => self.write_text(block, text("thinking"), out),
            "input_json_delta" => self.write_arguments(block, text("partial_json"), out),
            "signature_delta" => {
                self.write_opaque(block, text("signature"), OpaqueKind::Signature, out);
            }
            "citations_delta" => {
                write_citation(block, delta.get("citation").unwrap_or_default(), out);
            }
            _ => {}
        }
    }

    fn write_text(&self, block: u32, text: String, out: &mut Vec<AnswerEvent>) {
        if !text.is_empty() {
            out.push(AnswerEvent::Text { block, text });
        }
    }

    fn write_arguments(&mut self, block: u32, json: String, out: &mut Vec<AnswerEvent>) {
        let Some(open) = self.open.as_mut().filter(|_| !json.is_empty()) else { return };
        open.lacks_arguments = false;
        out.push(AnswerEvent::Arguments { block, json });
    }

    fn write_opaque(&self, block: u32, data: String, kind: OpaqueKind, out: &mut Vec<AnswerEvent>) {
        if let Some(opaque) = Opaque::from_field(data.into(), Family::Anthropic, kind) {
            out.push(AnswerEvent::Opaque { block, opaque });
        }
    }
}

/// An empty object, as which the arguments of a call begin.
fn is_empty(input: &str) -> bool {
    input.bytes().filter(|byte| !byte.is_ascii_whitespace()).eq(*b"{}")
}

/// A citation of a page of the web; those of the caller's documents have no address.
fn write_citation(block: u32, citation: &str, out: &mut Vec<AnswerEvent>) {
    let Some(citation) = Object::parse(citation) else { return };
    if let Some(url) = citation.text("url") {
        let annotation = Annotation { url, title: citation.text("title"), span: None };
        out.push(AnswerEvent::Annotation { block, annotation });
    }
}

fn read_failure(error: &str) -> Failure {
    let error = Object::parse(error);
    let text = |key| error.as_ref().and_then(|error| error.text(key));
    Failure {
        code: text("type").unwrap_or_else(|| Failure::UNUSABLE.to_owned()),
        message: text("message").unwrap_or_else(|| "The provider reported an error.".to_owned()),
    }
}

/// An object of the provider's. A member of another type than expected counts as absent.
#[derive(Debug)]
struct Object<'a>(Members<'a>);

impl<'a> Object<'a> {
    fn parse(json: &'a str) -> Option<Self> {
        Members::parse(json).map(Self)
    }

    /// The raw value of a member; `None` for `null`.
    fn get(&self, key: &str) -> Option<&'a str> {
        let Self(Members(members)) = self;
        let member = members.iter().find(|(own, raw)| own == key && raw.get() != "null");
        member.map(|(_, raw)| raw.get())
    }

    fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(parse_text).map(|text| text.into_owned())
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(|raw| raw.parse().ok())
    }

    fn object(&self, key: &str) -> Option<Object<'a>> {
        self.get(key).and_then(Object::parse)
    }
}
