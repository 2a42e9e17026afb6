//! The plain answer, and what it shares with the stream.

use super::super::AnswerContext;
use super::super::answer::{Annotation, Answer, AnswerBlock, BlockKind, StopReason};
use super::super::opaque::Opaque;
use super::reasoning::{Entry, find_google, write_details, write_extra_content};
use super::usage::{has_counts, write_usage};
use crate::json::writer::JsonWriter;

pub(in super::super) fn write_answer(context: &AnswerContext, answer: &Answer) -> String {
    let mut json = JsonWriter::new();
    json.object(|json| {
        json.key("id").string(&id(context));
        json.key("object").string("chat.completion");
        json.key("created").number(context.created);
        json.key("model").string(&context.model);
        json.key("choices").array(|json| {
            json.object(|json| {
                json.key("index").number(0);
                json.key("message").object(|json| write_message(json, context, &answer.blocks));
                json.key("logprobs").null();
                let native = answer.stop.as_ref().map_or("", |stop| &*stop.native);
                write_finish(json, answer.stop_reason(), native);
            });
        });
        if has_counts(&answer.usage) {
            json.key("usage");
            write_usage(json, &answer.usage, context.estimated_input);
        }
    });
    json.finish()
}

/// The id of the answer.
pub(super) fn id(context: &AnswerContext) -> String {
    format!("chatcmpl-{}", context.seed)
}

/// The id of a call for which the provider gave none: at most 40 characters.
pub(super) fn call_id(context: &AnswerContext, index: u64) -> String {
    format!("call_{}{index}", context.seed)
}

/// Writes the members that say why the model stopped.
pub(super) fn write_finish(json: &mut JsonWriter, reason: StopReason, native: &str) {
    json.key("finish_reason").string(match reason {
        StopReason::End | StopReason::StopSequence | StopReason::Pause | StopReason::Other => {
            "stop"
        }
        StopReason::ToolCall => "tool_calls",
        StopReason::MaxTokens | StopReason::ContextFull => "length",
        StopReason::Refusal => "content_filter",
    });
    if !native.is_empty() {
        json.key("native_finish_reason").string(native);
    }
}

/// Writes an annotation's members. `offset`: the characters of the message's text before the block's,
/// `length`: those of the block, which are what it is about if the provider says no more.
pub(super) fn write_annotation(
    json: &mut JsonWriter,
    annotation: &Annotation,
    offset: u64,
    length: u64,
) {
    let (start, end) = annotation.span.unwrap_or((0, length));
    json.key("type").string("url_citation");
    json.key("url_citation").object(|json| {
        json.key("url").string(&annotation.url);
        json.key("title").string(annotation.title.as_deref().unwrap_or_default());
        json.key("start_index").number(offset.saturating_add(start));
        json.key("end_index").number(offset.saturating_add(end));
    });
}

/// The places of an answer's blocks among the parts of a message, which are the indexes of
/// `reasoning_details`: all texts are one part, and all refusals.
#[derive(Debug, Default)]
pub(super) struct Places {
    next: u64,
    has_text: bool,
    has_refusal: bool,
}

impl Places {
    /// The place of the next block.
    pub(super) fn next(&mut self, kind: &BlockKind) -> u64 {
        let place = self.next;
        let is_new = match kind {
            BlockKind::Text => !std::mem::replace(&mut self.has_text, true),
            BlockKind::Refusal => !std::mem::replace(&mut self.has_refusal, true),
            BlockKind::Reasoning { .. } | BlockKind::ToolCall { .. } => true,
        };
        self.next = self.next.saturating_add(u64::from(is_new));
        place
    }
}

fn write_message(json: &mut JsonWriter, context: &AnswerContext, blocks: &[AnswerBlock]) {
    let joined = |of: fn(&BlockKind) -> bool| {
        let mut texts = blocks.iter().filter(|block| of(&block.kind)).peekable();
        texts.peek()?;
        Some(texts.map(|block| &*block.text).collect::<String>())
    };
    json.key("role").string("assistant");
    for (key, text) in [
        ("content", joined(|kind| matches!(kind, BlockKind::Text))),
        ("refusal", joined(|kind| matches!(kind, BlockKind::Refusal))),
    ] {
        match text {
            Some(text) => json.key(key).string(&text),
            None => json.key(key).null(),
        }
    }
    let reasoning = joined(|kind| matches!(kind, BlockKind::Reasoning { .. }));
    json.optional_string("reasoning_content", reasoning.filter(|text| !text.is_empty()));
    let ids = write_calls(json, context, blocks);
    write_annotations(json, blocks);
    write_all_details(json, blocks, ids);
    let texts = blocks.iter().filter(|block| block.kind == BlockKind::Text);
    if let Some(signature) = texts.filter_map(|block| find_google(&block.opaque)).next_back() {
        write_extra_content(json, signature);
    }
}

/// Writes the calls and gives their ids.
fn write_calls(
    json: &mut JsonWriter,
    context: &AnswerContext,
    blocks: &[AnswerBlock],
) -> Vec<String> {
    let mut ids = Vec::new();
    let has_calls = blocks.iter().any(|block| matches!(block.kind, BlockKind::ToolCall { .. }));
    if !has_calls {
        return ids;
    }
    json.key("tool_calls").array(|json| {
        for block in blocks {
            let BlockKind::ToolCall { id, name } = &block.kind else { continue };
            let id = match id.is_empty() {
                true => call_id(context, ids.len() as u64),
                false => id.clone(),
            };
            json.object(|json| {
                json.key("id").string(&id);
                json.key("type").string("function");
                json.key("function").object(|json| {
                    json.key("name").string(name);
                    json.key("arguments").string(arguments(&block.text));
                });
                if let Some(signature) = find_google(&block.opaque) {
                    write_extra_content(json, signature);
                }
            });
            ids.push(id);
        }
    });
    ids
}

/// A call without arguments has an empty object.
pub(super) fn arguments(written: &str) -> &str {
    if written.is_empty() { "{}" } else { written }
}

fn write_annotations(json: &mut JsonWriter, blocks: &[AnswerBlock]) {
    if blocks.iter().all(|block| block.annotations.is_empty()) {
        return;
    }
    json.key("annotations").array(|json| {
        let mut offset = 0_u64;
        for block in blocks.iter().filter(|block| block.kind == BlockKind::Text) {
            let length = block.text.chars().count() as u64;
            for annotation in &block.annotations {
                json.object(|json| write_annotation(json, annotation, offset, length));
            }
            offset = offset.saturating_add(length);
        }
    });
}

fn write_all_details(json: &mut JsonWriter, blocks: &[AnswerBlock], ids: Vec<String>) {
    let has_details = blocks.iter().any(|block| match block.kind {
        BlockKind::Reasoning { .. } => true,
        BlockKind::ToolCall { .. } => find_google(&block.opaque).is_some(),
        _ => false,
    });
    if !has_details {
        return;
    }
    let mut ids = ids.into_iter();
    json.key("reasoning_details").array(|json| {
        let mut places = Places::default();
        for block in blocks {
            let place = places.next(&block.kind);
            match block.kind {
                BlockKind::Reasoning { is_summary } => {
                    write_details(json, place, (&block.text, is_summary), &block.opaque);
                }
                BlockKind::ToolCall { .. } => {
                    let id = ids.next().unwrap_or_default();
                    if let Some(signature) = find_google(&block.opaque) {
                        call_entry(place, &id, signature).write(json);
                    }
                }
                _ => {}
            }
        }
    });
}

/// The signature of a call among the details.
pub(super) fn call_entry<'e>(index: u64, id: &'e str, signature: &'e Opaque<'e>) -> Entry<'e> {
    Entry {
        index,
        text: "",
        is_summary: false,
        opaque: Some(signature),
        has_format: true,
        call: Some(id),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::answer::AnswerUsage;
    use super::*;

    fn context() -> AnswerContext {
        AnswerContext {
            model: "m".to_owned(),
            created: 7,
            seed: "abc".to_owned(),
            ..AnswerContext::default()
        }
    }

    fn block(kind: BlockKind, text: &str) -> AnswerBlock {
        AnswerBlock { kind, text: text.to_owned(), opaque: Vec::new(), annotations: Vec::new() }
    }

    #[test]
    fn an_answer_has_every_required_member() {
        let answer = Answer {
            blocks: vec![block(BlockKind::Text, "a"), block(BlockKind::Text, "b")],
            usage: AnswerUsage { input: Some(1), output: Some(2), ..AnswerUsage::default() },
            ..Answer::default()
        };
        let expected = concat!(
            r#"{"id":"chatcmpl-abc","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"#,
            r#""message":{"role":"assistant","content":"ab","refusal":null},"logprobs":null,"finish_reason":"stop"}],"#,
            r#""usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"#,
            r#""prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"#,
            r#""completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}}"#
        );
        assert_eq!(write_answer(&context(), &answer), expected);
        let empty = write_answer(&context(), &Answer::default());
        assert!(empty.contains(r#""content":null"#) && !empty.contains("usage"), "{empty}");
    }

    #[test]
    fn calls_have_ids_and_arguments() {
        let call = |id: &str| BlockKind::ToolCall { id: id.to_owned(), name: "f".to_owned() };
        let blocks = vec![block(call(""), ""), block(call("c"), "[")];
        let json = write_answer(&context(), &Answer { blocks, ..Answer::default() });
        let calls = concat!(
            r#""message":{"role":"assistant","content":null,"refusal":null,"tool_calls":["#,
            r#"{"id":"call_abc0","type":"function","function":{"name":"f","arguments":"{}"}},"#,
            r#"{"id":"c","type":"function","function":{"name":"f","arguments":"["}}]}"#
        );
        assert!(json.contains(calls), "{json}");
        assert!(json.contains(r#""finish_reason":"tool_calls""#), "{json}");
        let longest = AnswerContext { seed: "x".repeat(32), ..context() };
        assert!(call_id(&longest, 999).len() <= 40);
    }
}
