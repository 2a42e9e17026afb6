//! Writes a stream of Anthropic's form for the caller: one block at a time, each with its end, and the end
//! of the message only if the provider ended it.

use super::STOP_REASONS;
use super::detached_signatures::{self, SignatureOwner};
use super::usage::{Estimate, write_last_usage, write_usage};
use crate::json::writer::JsonWriter;
use crate::llm::convert::AnswerContext;
use crate::llm::convert::answer::{
    AnswerEvent, AnswerUsage, BlockKind, Failure, Stop, StopReason, WriteEvents, effective_stop,
};
use crate::llm::convert::opaque::{Family, Opaque, OpaqueKind, no_proof};

/// Writes the events of one answer.
#[derive(Debug)]
pub(in crate::llm::convert) struct AnswerWriter {
    context: AnswerContext,
    usage: AnswerUsage,
    stop: Option<Stop>,
    has_started: bool,
    has_ended: bool,
    has_call: bool,
    /// Bytes of text and arguments so far.
    written: usize,
    /// Blocks that have been begun.
    blocks: u32,
    /// Calls of tools that have been begun.
    calls: u32,
    open: Option<OpenBlock>,
}

/// The block that is being written.
#[derive(Debug)]
struct OpenBlock {
    kind: BlockKind,
    /// Its begin has been written: that waits for the first content, since signatures may have to come
    /// before it, and blocks without content are none.
    has_begun: bool,
    /// Signatures so far, one a kind.
    opaque: Vec<Opaque<'static>>,
}

impl AnswerWriter {
    pub(in crate::llm::convert) fn new(context: AnswerContext) -> Self {
        Self {
            context,
            usage: AnswerUsage::default(),
            stop: None,
            has_started: false,
            has_ended: false,
            has_call: false,
            written: 0,
            blocks: 0,
            calls: 0,
            open: None,
        }
    }
}

impl WriteEvents for AnswerWriter {
    fn write(&mut self, event: AnswerEvent, out: &mut Vec<u8>) {
        if self.has_ended {
            return;
        }
        match event {
            // The begin is written with the first content, so that it has the usage that comes with it.
            AnswerEvent::Start { .. } => {}
            AnswerEvent::Usage(usage) => self.usage = self.usage.updated(usage),
            AnswerEvent::Open { kind, .. } => {
                self.close(out);
                self.open = Some(OpenBlock { kind, has_begun: false, opaque: Vec::new() });
            }
            AnswerEvent::Text { text, .. } => self.write_text(&text, out),
            AnswerEvent::Arguments { json, .. } => self.write_text(&json, out),
            AnswerEvent::Opaque { opaque, .. } => self.add_opaque(opaque),
            // Anthropic's citations need more than an address.
            AnswerEvent::Annotation { .. } => {}
            AnswerEvent::Close { .. } => self.close(out),
            AnswerEvent::Stop(stop) => self.stop = Some(stop),
            AnswerEvent::Ping => self.ping(out),
            AnswerEvent::End => self.end(out),
            AnswerEvent::Failed(failure) => {
                self.has_ended = true;
                write_failure(&failure, out);
            }
        }
    }

    /// An event, which comes after the beginning: that is the first event of every stream of Anthropic's.
    fn ping(&mut self, out: &mut Vec<u8>) {
        self.start(out);
        write_event("ping", out, |_| {});
    }
}

impl AnswerWriter {
    fn start(&mut self, out: &mut Vec<u8>) {
        if self.has_started {
            return;
        }
        self.has_started = true;
        let usage = AnswerUsage { output: self.usage.output.or(Some(0)), ..self.usage };
        let estimate = Estimate { input: self.context.estimated_input, output_bytes: 0 };
        write_event("message_start", out, |json| {
            json.key("message").object(|json| {
                write_head(&self.context, json);
                json.key("content").array(|_| {});
                write_stop(None, json);
                json.key("usage");
                write_usage(&usage, estimate, json);
            });
        });
    }

    fn add_opaque(&mut self, opaque: Opaque<'static>) {
        if let Some(open) = &mut self.open {
            open.opaque.retain(|one| (one.family, one.kind) != (opaque.family, opaque.kind));
            open.opaque.push(opaque);
        }
    }

    fn write_text(&mut self, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() || self.open.is_none() {
            return;
        }
        self.begin(out);
        self.written = self.written.saturating_add(text.len());
        let (kind, key) = match self.open.as_ref().map(|open| &open.kind) {
            Some(BlockKind::Reasoning { .. }) => ("thinking_delta", "thinking"),
            Some(BlockKind::ToolCall { .. }) => ("input_json_delta", "partial_json"),
            _ => ("text_delta", "text"),
        };
        self.write_delta(kind, key, text, out);
    }

    fn write_delta(&self, kind: &str, key: &str, text: &str, out: &mut Vec<u8>) {
        write_event("content_block_delta", out, |json| {
            json.key("index").number(u64::from(self.blocks.saturating_sub(1)));
            json.key("delta").object(|json| {
                json.key("type").string(kind);
                json.key(key).string(text);
            });
        });
    }

    /// Writes the begin of the open block, if it is not written yet.
    fn begin(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open.as_mut().filter(|open| !open.has_begun) else { return };
        open.has_begun = true;
        match open.kind.clone() {
            BlockKind::Text | BlockKind::Refusal => {
                self.write_begin(out, |json| write_text_block(json, ""))
            }
            BlockKind::Reasoning { .. } => {
                self.write_begin(out, |json| write_thinking(json, "", ""))
            }
            BlockKind::ToolCall { id, name } => {
                let id = call_id(&id, &self.context, self.calls);
                self.calls = self.calls.saturating_add(1);
                self.has_call = true;
                let signatures = std::mem::take(&mut open.opaque);
                for opaque in signatures {
                    self.write_signature(
                        &detached_signatures::to_signature(&opaque, SignatureOwner::Call(&id)),
                        out,
                    );
                }
                self.write_begin(out, |json| write_call(&id, &name, "{}", json));
            }
        }
    }

    fn write_begin(&mut self, out: &mut Vec<u8>, block: impl FnOnce(&mut JsonWriter)) {
        self.start(out);
        let index = self.blocks;
        self.blocks = self.blocks.saturating_add(1);
        write_event("content_block_start", out, |json| {
            json.key("index").number(u64::from(index));
            json.key("content_block");
            block(json);
        });
    }

    fn write_end(&self, out: &mut Vec<u8>) {
        write_event("content_block_stop", out, |json| {
            json.key("index").number(u64::from(self.blocks.saturating_sub(1)));
        });
    }

    /// A thinking block without thoughts.
    fn write_signature(&mut self, signature: &str, out: &mut Vec<u8>) {
        self.write_begin(out, |json| write_thinking(json, "", ""));
        self.write_delta("signature_delta", "signature", signature, out);
        self.write_end(out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let is_call = |open: &OpenBlock| matches!(open.kind, BlockKind::ToolCall { .. });
        if self.open.as_ref().is_some_and(is_call) {
            self.begin(out);
        }
        let Some(open) = self.open.take() else { return };
        match open.kind {
            BlockKind::Reasoning { .. } => self.close_reasoning(&open, out),
            BlockKind::ToolCall { id, .. } => {
                self.write_end(out);
                // Those that came with the arguments.
                let id = call_id(&id, &self.context, self.calls.saturating_sub(1));
                for opaque in open.opaque {
                    self.write_signature(
                        &detached_signatures::to_signature(&opaque, SignatureOwner::Call(&id)),
                        out,
                    );
                }
            }
            BlockKind::Text | BlockKind::Refusal => {
                if open.has_begun {
                    self.write_end(out);
                }
                for opaque in open.opaque {
                    self.write_signature(
                        &detached_signatures::to_signature(&opaque, SignatureOwner::Text),
                        out,
                    );
                }
            }
        }
    }

    fn close_reasoning(&mut self, open: &OpenBlock, out: &mut Vec<u8>) {
        let (first, others, redacted) = signatures(&open.opaque, open.has_begun);
        if let Some(signature) = first {
            if !open.has_begun {
                self.write_begin(out, |json| write_thinking(json, "", ""));
            }
            self.write_delta("signature_delta", "signature", &signature, out);
            self.write_end(out);
        }
        for signature in others {
            self.write_signature(&signature, out);
        }
        for data in redacted {
            self.write_begin(out, |json| write_redacted(json, &data));
            self.write_end(out);
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.close(out);
        self.start(out);
        self.has_ended = true;
        let estimate = Estimate { input: self.context.estimated_input, output_bytes: self.written };
        write_event("message_delta", out, |json| {
            json.key("delta").object(|json| {
                write_stop(Some(stop_reason_for(self.stop.as_ref(), self.has_call)), json);
            });
            json.key("usage");
            write_last_usage(&self.usage, estimate, json);
        });
        write_event("message_stop", out, |_| {});
    }
}

/// The members of a message before its content.
pub(super) fn write_head(context: &AnswerContext, json: &mut JsonWriter) {
    json.key("id").string(&format!("msg_{}", context.seed));
    json.key("type").string("message");
    json.key("role").string("assistant");
    json.key("model").string(&context.model);
    json.key("container").null();
}

/// The word to report, and the sequence at which the model stopped.
pub(super) fn stop_reason_for(stop: Option<&Stop>, has_call: bool) -> (&'static str, Option<&str>) {
    let reason = effective_stop(stop.map_or(StopReason::End, |stop| stop.reason), has_call);
    let word = STOP_REASONS.iter().find(|(_, own)| *own == reason);
    let sequence = stop.and_then(|stop| stop.sequence.as_deref());
    let sequence = sequence.filter(|_| reason == StopReason::StopSequence);
    (word.map_or("end_turn", |(word, _)| word), sequence)
}

/// `stop_reason` and what belongs to it.
pub(super) fn write_stop(stop: Option<(&str, Option<&str>)>, json: &mut JsonWriter) {
    let (reason, sequence) = stop.map_or((None, None), |(reason, at)| (Some(reason), at));
    for (key, value) in
        [("stop_reason", reason), ("stop_sequence", sequence), ("stop_details", None)]
    {
        match value {
            Some(value) => json.key(key).string(value),
            None => json.key(key).null(),
        }
    }
}

/// What is to be written of a block of reasoning: the signature of its thinking block, those of further
/// ones without text, and the data of redacted ones. Without a signature of the provider's, thoughts get
/// one that says so.
pub(super) fn signatures(
    opaque: &[Opaque<'_>],
    has_text: bool,
) -> (Option<String>, Vec<String>, Vec<String>) {
    let field = |opaque: &Opaque<'_>| match opaque.family {
        Family::Anthropic => opaque.data.to_string(),
        _ => opaque.to_container(),
    };
    let is_redacted = |opaque: &&Opaque<'_>| opaque.kind == OpaqueKind::Redacted;
    let mut signed = opaque.iter().filter(|opaque| !is_redacted(opaque)).map(field);
    let first = signed.next().or_else(|| has_text.then(no_proof));
    (first, signed.collect(), opaque.iter().filter(is_redacted).map(field).collect())
}

/// An id that Anthropic's API takes, too, should the conversation go on there.
pub(super) fn call_id(id: &str, context: &AnswerContext, number: u32) -> String {
    if id.is_empty() {
        return format!("toolu_{}_{number}", context.seed);
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    id.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect()
}

pub(super) fn write_text_block(json: &mut JsonWriter, text: &str) {
    json.object(|json| {
        json.key("type").string("text");
        json.key("text").string(text);
        json.key("citations").null();
    });
}

pub(super) fn write_thinking(json: &mut JsonWriter, text: &str, signature: &str) {
    json.object(|json| {
        json.key("type").string("thinking");
        json.key("thinking").string(text);
        json.key("signature").string(signature);
    });
}

pub(super) fn write_redacted(json: &mut JsonWriter, data: &str) {
    json.object(|json| {
        json.key("type").string("redacted_thinking");
        json.key("data").string(data);
    });
}

pub(super) fn write_call(id: &str, name: &str, input: &str, json: &mut JsonWriter) {
    json.object(|json| {
        json.key("type").string("tool_use");
        json.key("id").string(id);
        json.key("name").string(name);
        json.key("input").raw(input);
        json.key("caller").object(|json| json.key("type").string("direct"));
    });
}

fn write_event(name: &str, out: &mut Vec<u8>, members: impl FnOnce(&mut JsonWriter)) {
    let mut json = JsonWriter::new();
    json.object(|json| {
        json.key("type").string(name);
        members(json);
    });
    for part in ["event: ", name, "\ndata: ", &json.finish(), "\n\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn write_failure(failure: &Failure, out: &mut Vec<u8>) {
    write_event("error", out, |json| {
        json.key("error").object(|json| {
            json.key("type").string(error_type(&failure.code));
            json.key("message").string(&failure.message);
            json.key("code").string(&failure.code);
        });
        json.key("request_id").null();
    });
}

/// Anthropic's type of an error with this code of a provider's (Anthropic, "Errors").
fn error_type(code: &str) -> &'static str {
    let code = code.to_ascii_lowercase();
    for (words, kind) in [
        (&["rate_limit", "throttling", "resource_exhausted", "quota"][..], "rate_limit_error"),
        (&["overloaded", "unavailable"], "overloaded_error"),
        (&["timeout", "deadline"], "timeout_error"),
        (
            &["invalid_request", "validation", "context_length", "invalid_argument"],
            "invalid_request_error",
        ),
    ] {
        if words.iter().any(|word| code.contains(word)) {
            return kind;
        }
    }
    "api_error"
}
