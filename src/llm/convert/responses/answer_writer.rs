//! An answer to a caller: a stream of events, or the response as a whole, which is what the last event of
//! the stream holds.

use super::super::AnswerContext;
use super::super::answer::{
    Annotation, Answer, AnswerEvent, AnswerUsage, BlockKind, Failure, StopReason, WriteEvents,
};
use super::echo::write_echo;
use super::open_item::{Call, Events, Message, OpenItem, Place, Reasoning};
use crate::json::writer::JsonWriter;
use crate::llm::convert::opaque::Opaque;
use crate::llm::sse::PING;

/// Bytes of text for a token, where the provider does not report the output.
const BYTES_PER_TOKEN: u64 = 4;

/// The codes of OpenAI's schema for a response that failed which others' errors can have.
const ERROR_CODES: [&str; 3] = ["server_error", "rate_limit_exceeded", "invalid_prompt"];

/// Writes a plain answer.
pub(in crate::llm::convert) fn write_answer(context: &AnswerContext, answer: &Answer) -> String {
    let mut response = AnswerWriter::with_events(context.clone(), Events::new(true));
    let mut nothing = Vec::new();
    let mut write = |event| response.write(event, &mut nothing);
    for (block, content) in (0..).zip(&answer.blocks) {
        write(AnswerEvent::Open { block, kind: content.kind.clone() });
        for opaque in content.opaque.iter().cloned() {
            write(AnswerEvent::Opaque { block, opaque });
        }
        let text = content.text.clone();
        write(match content.kind {
            BlockKind::ToolCall { .. } => AnswerEvent::Arguments { block, json: text },
            _ => AnswerEvent::Text { block, text },
        });
        for annotation in content.annotations.iter().cloned() {
            write(AnswerEvent::Annotation { block, annotation });
        }
        write(AnswerEvent::Close { block });
    }
    write(AnswerEvent::Usage(answer.usage));
    if let Some(stop) = answer.stop.clone() {
        write(AnswerEvent::Stop(stop));
    }
    response.finish_item(&mut nothing);
    let mut json = JsonWriter::new();
    response.write_response(response.ending(), &mut json);
    json.finish()
}

/// How far a response is.
#[derive(Debug, Clone, Copy)]
enum Status<'f> {
    InProgress,
    Completed,
    /// With the reason.
    Incomplete(&'static str),
    Failed(&'f Failure),
}

impl Status<'_> {
    fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
            Self::Failed(_) => "failed",
        }
    }
}

/// Writes the events of one answer, whose blocks come one after another.
#[derive(Debug)]
pub(in crate::llm::convert) struct AnswerWriter {
    context: AnswerContext,
    events: Events,
    has_started: bool,
    is_over: bool,
    /// The items that are complete.
    output: Vec<String>,
    /// An item that is being written, or that is closed but may still turn out to be incomplete.
    open: Option<OpenItem>,
    usage: AnswerUsage,
    stop: Option<StopReason>,
    has_refusal: bool,
    /// Bytes of text and arguments.
    written: u64,
}

impl AnswerWriter {
    /// Of a stream.
    pub(in crate::llm::convert) fn new(context: AnswerContext) -> Self {
        Self::with_events(context, Events::new(false))
    }

    fn with_events(context: AnswerContext, events: Events) -> Self {
        Self {
            context,
            events,
            has_started: false,
            is_over: false,
            output: Vec::new(),
            open: None,
            usage: AnswerUsage::default(),
            stop: None,
            has_refusal: false,
            written: 0,
        }
    }
}

impl WriteEvents for AnswerWriter {
    fn write(&mut self, event: AnswerEvent, out: &mut Vec<u8>) {
        if self.is_over {
            return;
        }
        if event != AnswerEvent::Ping {
            self.start(out);
        }
        match event {
            AnswerEvent::Start { .. } => {}
            AnswerEvent::Open { kind, .. } => self.open(kind, out),
            AnswerEvent::Text { text, .. } => self.write_text(&text, out),
            AnswerEvent::Arguments { json, .. } => self.write_arguments(&json, out),
            AnswerEvent::Opaque { opaque, .. } => self.keep_opaque(opaque),
            AnswerEvent::Annotation { annotation, .. } => self.annotate(annotation),
            AnswerEvent::Close { .. } => self.close(out),
            AnswerEvent::Usage(usage) => self.usage = self.usage.updated(usage),
            AnswerEvent::Stop(stop) => {
                self.stop = Some(stop.reason);
                self.finish_item(out);
            }
            AnswerEvent::Ping => out.extend_from_slice(PING),
            AnswerEvent::End => {
                self.finish_item(out);
                let status = self.ending();
                let kind = match status {
                    Status::Incomplete(_) => "response.incomplete",
                    _ => "response.completed",
                };
                self.write_state(kind, status, out);
                self.is_over = true;
            }
            AnswerEvent::Failed(failure) => {
                self.write_state("response.failed", Status::Failed(&failure), out);
                self.is_over = true;
            }
        }
    }

    /// The events that end an item repeat the whole of it.
    fn keeps(&self, event: &AnswerEvent) -> bool {
        use AnswerEvent::{Annotation, Arguments, Opaque, Open, Text};
        matches!(
            event,
            Open { .. } | Text { .. } | Arguments { .. } | Opaque { .. } | Annotation { .. }
        )
    }
}

impl AnswerWriter {
    fn start(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_started, true) {
            self.write_state("response.created", Status::InProgress, out);
            self.write_state("response.in_progress", Status::InProgress, out);
        }
    }

    /// An event with the whole response.
    fn write_state(&mut self, kind: &str, status: Status<'_>, out: &mut Vec<u8>) {
        if self.events.is_silent() {
            return;
        }
        let mut response = JsonWriter::new();
        self.write_response(status, &mut response);
        let response = response.finish();
        self.events.write(kind, out, |json| json.key("response").raw(&response));
    }

    /// How the response ends, if nothing failed.
    fn ending(&self) -> Status<'static> {
        match self.stop {
            Some(StopReason::MaxTokens | StopReason::ContextFull) => {
                Status::Incomplete("max_output_tokens")
            }
            // What the model says in refusing is a complete answer.
            Some(StopReason::Refusal) if !self.has_refusal => Status::Incomplete("content_filter"),
            _ => Status::Completed,
        }
    }

    fn write_response(&self, status: Status<'_>, json: &mut JsonWriter) {
        json.object(|json| {
            json.key("id").string(&format!("resp_{}", self.context.seed));
            json.key("object").string("response");
            json.key("created_at").number(self.context.created);
            json.key("status").string(status.as_str());
            json.key("background").boolean(false);
            match status {
                Status::Failed(failure) => {
                    json.key("error").object(|json| write_error(failure, json))
                }
                _ => json.key("error").null(),
            }
            match status {
                Status::Incomplete(reason) => {
                    json.key("incomplete_details").object(|json| json.key("reason").string(reason))
                }
                _ => json.key("incomplete_details").null(),
            }
            json.key("model").string(&self.context.model);
            // A response that failed has no output, as at OpenAI. The caller has the items' events already, as
            // far as the guard let them pass.
            let output = if matches!(status, Status::Failed(_)) { &[] } else { &*self.output };
            json.key("output").array(|json| output.iter().for_each(|item| json.raw(item)));
            write_echo(&self.context.echo, json);
            if matches!(status, Status::Completed | Status::Incomplete(_)) {
                json.key("usage").object(|json| self.write_usage(json));
            }
        });
    }

    fn write_usage(&self, json: &mut JsonWriter) {
        let usage = self.usage;
        let input = usage.total_input().unwrap_or(self.context.estimated_input);
        let output = usage.output.unwrap_or_else(|| self.written.div_ceil(BYTES_PER_TOKEN));
        json.key("input_tokens").number(input);
        json.key("input_tokens_details").object(|json| {
            json.key("cached_tokens").number(usage.cache_read.unwrap_or(0));
            json.key("cache_write_tokens").number(usage.cache_write.unwrap_or(0));
        });
        json.key("output_tokens").number(output);
        json.key("output_tokens_details").object(|json| {
            json.key("reasoning_tokens").number(usage.reasoning.unwrap_or(0));
        });
        json.key("total_tokens").number(input.saturating_add(output));
    }

    /// The place of the next item.
    fn place(&self, prefix: &str) -> Place {
        let index = self.output.len();
        Place { id: format!("{prefix}_{}_{index}", self.context.seed), index: index as u64 }
    }

    fn open(&mut self, kind: BlockKind, out: &mut Vec<u8>) {
        let is_text = matches!(kind, BlockKind::Text | BlockKind::Refusal);
        if !(is_text && matches!(self.open, Some(OpenItem::Message(_)))) {
            self.finish_item(out);
        }
        match kind {
            BlockKind::Text | BlockKind::Refusal => {
                let is_refusal = kind == BlockKind::Refusal;
                self.has_refusal |= is_refusal;
                if self.open.is_none() {
                    let message = Message::begin(self.place("msg"), &mut self.events, out);
                    self.open = Some(OpenItem::Message(message));
                }
                if let Some(OpenItem::Message(message)) = &mut self.open {
                    message.begin_part(is_refusal, &mut self.events, out);
                }
            }
            BlockKind::Reasoning { .. } => {
                let place = self.place("rs");
                let reasoning = Reasoning::begin(place, &mut self.events, out);
                self.open = Some(OpenItem::Reasoning(reasoning));
            }
            BlockKind::ToolCall { id, name } => {
                let id = match &*id {
                    "" => format!("call_{}_{}", self.context.seed, self.output.len()),
                    _ => id,
                };
                self.open = Some(OpenItem::Call(Call::new(id, name)));
            }
        }
    }

    fn write_text(&mut self, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        self.written = self.written.saturating_add(text.len() as u64);
        match &mut self.open {
            Some(OpenItem::Message(message)) => message.write(text, &mut self.events, out),
            Some(OpenItem::Reasoning(reasoning)) => reasoning.write(text, &mut self.events, out),
            _ => {}
        }
    }

    fn write_arguments(&mut self, json: &str, out: &mut Vec<u8>) {
        if json.is_empty() {
            return;
        }
        self.written = self.written.saturating_add(json.len() as u64);
        if let Some(OpenItem::Call(call)) = &mut self.open
            && !call.hold(json)
        {
            self.begin_call(out);
            if let Some(OpenItem::Call(call)) = &mut self.open {
                call.write(json, &mut self.events, out);
            }
        }
    }

    /// Begins the item of a call, after the signatures that are known.
    fn begin_call(&mut self, out: &mut Vec<u8>) {
        let signatures = match &mut self.open {
            Some(OpenItem::Call(call)) if !call.has_begun() => call.take_signatures(),
            _ => return,
        };
        for signature in signatures {
            self.write_opaque_item(&signature, out);
        }
        let place = self.place("fc");
        if let Some(OpenItem::Call(call)) = &mut self.open {
            call.begin(place, &mut self.events, out);
        }
    }

    fn keep_opaque(&mut self, opaque: Opaque<'static>) {
        match &mut self.open {
            Some(OpenItem::Message(message)) => message.keep_signature(opaque),
            Some(OpenItem::Reasoning(reasoning)) => reasoning.keep_opaque(opaque),
            Some(OpenItem::Call(call)) => call.keep_signature(opaque),
            None => {}
        }
    }

    fn annotate(&mut self, annotation: Annotation) {
        if let Some(OpenItem::Message(message)) = &mut self.open {
            message.annotate(annotation);
        }
    }

    /// Closes a block. The item stays until the next one, since the answer may end here for want of
    /// tokens, and a message may go on.
    fn close(&mut self, out: &mut Vec<u8>) {
        match &mut self.open {
            Some(OpenItem::Message(message)) => {
                message.finish_part(&mut self.events, out);
                if message.has_signatures() {
                    self.finish_item(out);
                }
            }
            Some(OpenItem::Call(_)) => self.begin_call(out),
            Some(OpenItem::Reasoning(_)) => self.finish_item(out),
            None => {}
        }
    }

    /// Completes the open item, and writes the signatures that belong to it.
    fn finish_item(&mut self, out: &mut Vec<u8>) {
        self.begin_call(out);
        let Some(item) = self.open.take() else { return };
        let is_complete = matches!(self.ending(), Status::Completed);
        let (json, signatures) = item.finish(is_complete, &mut self.events, out);
        self.output.push(json);
        for signature in signatures {
            self.write_opaque_item(&signature, out);
        }
    }

    /// An item of reasoning without text.
    fn write_opaque_item(&mut self, opaque: &Opaque<'static>, out: &mut Vec<u8>) {
        let mut item = Reasoning::begin(self.place("rs"), &mut self.events, out);
        item.keep_opaque(opaque.clone());
        let (json, _) = OpenItem::Reasoning(item).finish(true, &mut self.events, out);
        self.output.push(json);
    }
}

/// The error of a response, with a code that OpenAI's schema has; another one is put into the message.
fn write_error(failure: &Failure, json: &mut JsonWriter) {
    let Failure { code, message } = failure;
    let is_limit = ["rate_limit", "throttl", "resource_exhausted"]
        .iter()
        .any(|word| code.to_ascii_lowercase().contains(word));
    let known = ERROR_CODES.iter().find(|known| *known == code);
    let own = match known {
        Some(known) => known,
        None if is_limit => "rate_limit_exceeded",
        None => "server_error",
    };
    json.key("code").string(own);
    match known {
        Some(_) => json.key("message").string(message),
        None => json.key("message").string(&format!("{code}: {message}")),
    }
}
