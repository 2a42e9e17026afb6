//! Reads answers of Anthropic's API, plain and streamed. A plain answer is read as the events of a stream
//! whose blocks begin with all that is in them.

use super::STOP_REASONS;
use super::usage::{read_usage, without_lost_counts};
use crate::llm::convert::answer::{
    Annotation, AnswerEvent, AnswerUsage, BlockKind, Failure, ReadEvents, Stop, StopReason,
};
use crate::llm::convert::fields::{Fields, parse_array, parse_object};
use crate::llm::convert::opaque::{Family, Opaque, OpaqueKind};

/// Reads a plain answer.
pub(in crate::llm::convert) fn read_answer(json: &str) -> Result<Vec<AnswerEvent>, Failure> {
    let message = parse_object(json).ok_or_else(|| Failure::unreadable("it is not an object"))?;
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
        let block = parse_object(block);
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
        let Some(event) = parse_object(data) else {
            let message = "The provider sent an event that is not a JSON object.";
            return self.fail(Failure::unusable(message), out);
        };
        let own_name = event.find_text("type");
        match own_name.as_deref().or(name).unwrap_or_default() {
            "message_start" => {
                if let Some(message) = event.find_object("message") {
                    self.start_message(&message, out);
                }
            }
            "content_block_start" => {
                if let Some(block) = event.find_object("content_block") {
                    self.open(block_index(&event), &block, out);
                }
            }
            "content_block_delta" => self.read_delta(&event, out),
            "content_block_stop" => {
                let index = block_index(&event);
                if self.open.as_ref().is_some_and(|open| open.index == index) {
                    self.close(out);
                }
            }
            "message_delta" => {
                self.close(out);
                self.read_usage(&event, out);
                if let Some(delta) = event.find_object("delta") {
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
    fn start_message(&mut self, message: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        if !self.has_started {
            return self.start(message, out);
        }
        let id = message.find_text("id");
        if id.is_some() && self.id.is_some() && id.as_deref() != self.id.as_deref() {
            let message = "The provider began another answer in the middle of one.";
            self.fail(Failure::unusable(message), out);
        }
    }

    fn start(&mut self, message: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        self.has_started = true;
        self.id = message.find_text("id").map(Into::into);
        let model = message.find_text("model").map(Into::into);
        out.push(AnswerEvent::Start { id: self.id.clone(), model });
        self.read_usage(message, out);
    }

    fn read_usage(&mut self, object: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        let Some(usage) = object.get("usage").and_then(read_usage) else { return };
        let usage = without_lost_counts(self.usage, usage);
        self.usage = self.usage.updated(usage);
        out.push(AnswerEvent::Usage(usage));
    }

    fn read_stop(&mut self, delta: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        let Some(native) = delta.find_text("stop_reason") else { return };
        let known = STOP_REASONS.iter().find(|(word, _)| *word == native);
        let reason = known.map_or(StopReason::Other, |(_, reason)| *reason);
        let sequence = delta.find_text("stop_sequence").map(Into::into);
        let details = delta.find_object("stop_details").filter(|_| reason == StopReason::Refusal);
        if let Some(explanation) = details.and_then(|details| details.find_text("explanation")) {
            let block = self.blocks;
            self.blocks = self.blocks.saturating_add(1);
            out.push(AnswerEvent::Open { block, kind: BlockKind::Refusal });
            self.write_text(block, explanation.into(), out);
            out.push(AnswerEvent::Close { block });
        }
        out.push(AnswerEvent::Stop(Stop { reason, native: native.into(), sequence }));
    }

    /// Begins a block, with what is in it already. Tools of the provider's own are left out.
    fn open(&mut self, index: u64, block: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        self.close(out);
        if !self.has_started {
            self.has_started = true;
            out.push(AnswerEvent::Start { id: None, model: None });
        }
        let text = |key| block.find_text(key).unwrap_or_default().into_owned();
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

    fn read_delta(&mut self, event: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        let index = block_index(event);
        let open = self.open.as_ref().filter(|open| open.index == index);
        let Some(block) = open.and_then(|open| open.number) else { return };
        let Some(delta) = event.find_object("delta") else { return };
        let text = |key| delta.find_text(key).unwrap_or_default().into_owned();
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

fn block_index(event: &Fields<'_>) -> u64 {
    event.get("index").and_then(|raw| raw.parse().ok()).unwrap_or(0)
}

/// An empty object, as which the arguments of a call begin.
fn is_empty(input: &str) -> bool {
    input.bytes().filter(|byte| !byte.is_ascii_whitespace()).eq(*b"{}")
}

/// A citation of a page of the web; those of the caller's documents have no address.
fn write_citation(block: u32, citation: &str, out: &mut Vec<AnswerEvent>) {
    let Some(citation) = parse_object(citation) else { return };
    if let Some(url) = citation.find_text("url") {
        let title = citation.find_text("title").map(Into::into);
        let annotation = Annotation { url: url.into(), title, span: None };
        out.push(AnswerEvent::Annotation { block, annotation });
    }
}

fn read_failure(error: &str) -> Failure {
    let error = parse_object(error);
    let text = |key| error.as_ref().and_then(|error| error.find_text(key));
    Failure {
        code: text("type").unwrap_or(Failure::UNUSABLE.into()).into(),
        message: text("message").unwrap_or("The provider reported an error.".into()).into(),
    }
}
