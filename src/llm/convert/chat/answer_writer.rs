//! The caller's stream of chunks.

use super::super::AnswerContext;
use super::super::answer::{
    Annotation, AnswerEvent, AnswerUsage, BlockKind, Failure, Stop, StopReason, WriteEvents,
    effective_stop,
};
use super::super::opaque::{Family, Opaque, OpaqueKind};
use super::message::{Places, arguments, call_entry, call_id, id, write_annotation, write_finish};
use super::reasoning::{Entry, write_extra_content};
use super::usage::{has_counts, write_usage};
use crate::json::writer::JsonWriter;

/// Writes the events of an answer as a stream of chunks. Its state is that of the open blocks.
#[derive(Debug)]
pub(in super::super) struct AnswerWriter {
    context: AnswerContext,
    /// How every chunk begins.
    head: String,
    has_begun: bool,
    has_ended: bool,
    open: Vec<Open>,
    places: Places,
    /// Calls so far.
    calls: u64,
    /// Characters of text that were written.
    characters: u64,
    /// Annotations that were written.
    annotations: u64,
    usage: AnswerUsage,
    /// Told at the end only: a reason to stop is a mark of success, and an error may still come.
    stop: Option<Stop>,
}

/// An open block.
#[derive(Debug)]
struct Open {
    block: u32,
    kind: OpenKind,
}

#[derive(Debug)]
enum OpenKind {
    /// `start`: the characters of text before it.
    Text {
        start: u64,
        annotations: Vec<Annotation>,
    },
    Refusal,
    Reasoning {
        place: u64,
        is_summary: bool,
        has_format: bool,
    },
    Call {
        place: u64,
        index: u64,
        id: String,
        has_arguments: bool,
    },
}

impl AnswerWriter {
    pub(in super::super) fn new(context: AnswerContext) -> Self {
        let mut json = JsonWriter::new();
        json.object(|json| {
            json.key("id").string(&id(&context));
            json.key("object").string("chat.completion.chunk");
            json.key("created").number(context.created);
            json.key("model").string(&context.model);
        });
        let mut head = json.finish();
        // The other members follow.
        head.pop();
        Self {
            context,
            head,
            has_begun: false,
            has_ended: false,
            open: Vec::new(),
            places: Places::default(),
            calls: 0,
            characters: 0,
            annotations: 0,
            usage: AnswerUsage::default(),
            stop: None,
        }
    }
}

impl WriteEvents for AnswerWriter {
    fn write(&mut self, event: AnswerEvent, out: &mut Vec<u8>) {
        if self.has_ended {
            return;
        }
        match event {
            // Nothing is said before there is something of the answer.
            AnswerEvent::Start { .. } | AnswerEvent::Ping => {}
            AnswerEvent::Open { block, kind } => self.open(block, kind, out),
            AnswerEvent::Text { block, text } => self.write_text(block, &text, out),
            AnswerEvent::Arguments { block, json } => self.write_arguments(block, &json, out),
            AnswerEvent::Opaque { block, opaque } => self.write_opaque(block, &opaque, out),
            AnswerEvent::Annotation { block, annotation } => {
                if let Some(OpenKind::Text { annotations, .. }) = self.find(block) {
                    annotations.push(annotation);
                }
            }
            AnswerEvent::Close { block } => self.close(block, out),
            AnswerEvent::Usage(usage) => self.usage = self.usage.updated(usage),
            AnswerEvent::Stop(stop) => self.stop = Some(stop),
            AnswerEvent::End => self.write_end(out),
            AnswerEvent::Failed(failure) => self.write_failure(&failure, out),
        }
    }
}

impl AnswerWriter {
    fn find(&mut self, block: u32) -> Option<&mut OpenKind> {
        self.open.iter_mut().find(|open| open.block == block).map(|open| &mut open.kind)
    }

    fn open(&mut self, block: u32, kind: BlockKind, out: &mut Vec<u8>) {
        self.begin(matches!(kind, BlockKind::Text), out);
        let place = self.places.next(&kind);
        let kind = match kind {
            BlockKind::Text => OpenKind::Text { start: self.characters, annotations: Vec::new() },
            BlockKind::Refusal => OpenKind::Refusal,
            BlockKind::Reasoning { is_summary } => {
                OpenKind::Reasoning { place, is_summary, has_format: false }
            }
            BlockKind::ToolCall { id, name } => {
                let index = self.calls;
                self.calls = index.saturating_add(1);
                let id = if id.is_empty() { call_id(&self.context, index) } else { id };
                self.write_delta(out, |json| {
                    write_call(json, index, |json| {
                        json.key("id").string(&id);
                        json.key("type").string("function");
                        json.key("function").object(|json| {
                            json.key("name").string(&name);
                            json.key("arguments").string("");
                        });
                    });
                });
                OpenKind::Call { place, index, id, has_arguments: false }
            }
        };
        self.open.push(Open { block, kind });
    }

    /// The first chunk, with the role. Its text is empty where a text follows, else `null`.
    fn begin(&mut self, has_text: bool, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        self.write_delta(out, |json| {
            json.key("role").string("assistant");
            match has_text {
                true => json.key("content").string(""),
                false => json.key("content").null(),
            }
        });
    }

    fn write_text(&mut self, block: u32, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        match self.find(block) {
            Some(OpenKind::Text { .. }) => {
                self.characters = self.characters.saturating_add(text.chars().count() as u64);
                self.write_delta(out, |json| json.key("content").string(text));
            }
            Some(OpenKind::Refusal) => {
                self.write_delta(out, |json| json.key("refusal").string(text));
            }
            Some(OpenKind::Reasoning { place, is_summary, .. }) => {
                let entry = Entry {
                    index: *place,
                    text,
                    is_summary: *is_summary,
                    opaque: None,
                    has_format: false,
                    call: None,
                };
                self.write_delta(out, |json| {
                    json.key("reasoning_content").string(text);
                    json.key("reasoning_details").array(|json| entry.write(json));
                });
            }
            Some(OpenKind::Call { .. }) | None => {}
        }
    }

    fn write_arguments(&mut self, block: u32, piece: &str, out: &mut Vec<u8>) {
        if let Some(OpenKind::Call { index, has_arguments, .. }) = self.find(block)
            && !piece.is_empty()
        {
            *has_arguments = true;
            let index = *index;
            self.write_call_arguments(index, piece, out);
        }
    }

    fn write_call_arguments(&mut self, index: u64, piece: &str, out: &mut Vec<u8>) {
        self.write_delta(out, |json| {
            write_call(json, index, |json| {
                json.key("function").object(|json| json.key("arguments").string(piece));
            });
        });
    }

    fn write_opaque(&mut self, block: u32, opaque: &Opaque<'_>, out: &mut Vec<u8>) {
        let is_google = opaque.is_of(Family::Google) && opaque.kind == OpaqueKind::Signature;
        match self.find(block) {
            Some(OpenKind::Reasoning { place, is_summary, has_format }) => {
                let entry = Entry {
                    index: *place,
                    text: "",
                    is_summary: *is_summary,
                    opaque: Some(opaque),
                    has_format: !std::mem::replace(has_format, true),
                    call: None,
                };
                self.write_delta(out, |json| {
                    json.key("reasoning_details").array(|json| entry.write(json));
                });
            }
            Some(OpenKind::Call { place, index, id, .. }) if is_google => {
                let (place, index, id) = (*place, *index, id.clone());
                self.write_delta(out, |json| {
                    write_call(json, index, |json| {
                        // OpenAI's client for Python wants a function in each.
                        json.key("function").object(|json| json.key("arguments").string(""));
                        write_extra_content(json, opaque);
                    });
                    json.key("reasoning_details")
                        .array(|json| call_entry(place, &id, opaque).write(json));
                });
            }
            Some(OpenKind::Text { .. }) if is_google => {
                self.write_delta(out, |json| write_extra_content(json, opaque));
            }
            _ => {}
        }
    }

    fn close(&mut self, block: u32, out: &mut Vec<u8>) {
        let Some(at) = self.open.iter().position(|open| open.block == block) else { return };
        match self.open.remove(at).kind {
            OpenKind::Call { index, has_arguments: false, .. } => {
                self.write_call_arguments(index, arguments(""), out);
            }
            OpenKind::Text { start, annotations } if !annotations.is_empty() => {
                let length = self.characters.saturating_sub(start);
                let first = self.annotations;
                self.annotations = first.saturating_add(annotations.len() as u64);
                self.write_delta(out, |json| {
                    json.key("annotations").array(|json| {
                        for (annotation, index) in annotations.iter().zip(first..) {
                            json.object(|json| {
                                // OpenAI's client for Python refuses list items in deltas without it.
                                json.key("index").number(index);
                                write_annotation(json, annotation, start, length);
                            });
                        }
                    });
                });
            }
            _ => {}
        }
    }

    fn write_end(&mut self, out: &mut Vec<u8>) {
        self.has_ended = true;
        self.begin(true, out);
        let stop = self.stop.take();
        let (reason, native) =
            stop.as_ref().map_or((StopReason::End, ""), |stop| (stop.reason, &*stop.native));
        let reason = effective_stop(reason, self.calls > 0);
        self.write_chunk(out, |json| {
            json.key("delta").object(|_| {});
            json.key("logprobs").null();
            write_finish(json, reason, native);
        });
        if self.context.include_usage && has_counts(&self.usage) {
            let mut json = JsonWriter::new();
            write_usage(&mut json, &self.usage, self.context.estimated_input);
            let usage = json.finish();
            write_data(out, &[&self.head, ",\"choices\":[],\"usage\":", &usage, "}"]);
        }
        write_data(out, &["[DONE]"]);
    }

    fn write_failure(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        self.has_ended = true;
        let mut json = JsonWriter::new();
        json.object(|json| {
            json.key("error").object(|json| {
                json.key("message").string(&failure.message);
                json.key("type").string("upstream_error");
                json.key("param").null();
                json.key("code").string(&failure.code);
            });
        });
        write_data(out, &[&json.finish()]);
    }

    /// A chunk whose delta has these members.
    fn write_delta(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut JsonWriter)) {
        self.write_chunk(out, |json| {
            json.key("delta").object(write);
            json.key("logprobs").null();
            json.key("finish_reason").null();
        });
    }

    /// A chunk whose choice has these members.
    fn write_chunk(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut JsonWriter)) {
        let mut json = JsonWriter::new();
        json.object(|json| {
            json.key("index").number(0);
            write(json);
        });
        let end = if self.context.include_usage { "],\"usage\":null}" } else { "]}" };
        write_data(out, &[&self.head, ",\"choices\":[", &json.finish(), end]);
    }
}

fn write_call(json: &mut JsonWriter, index: u64, write: impl FnOnce(&mut JsonWriter)) {
    json.key("tool_calls").array(|json| {
        json.object(|json| {
            json.key("index").number(index);
            write(json);
        });
    });
}

/// An event whose data are these pieces.
fn write_data(out: &mut Vec<u8>, pieces: &[&str]) {
    out.extend_from_slice(b"data: ");
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests;
