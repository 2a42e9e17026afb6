//! Writes a plain answer in Anthropic's form: what a stream of the same events adds up to.

use super::answer_writer::{
    call_id, signatures, stop_reason_for, write_call, write_head, write_redacted, write_stop,
    write_text_block, write_thinking,
};
use super::detached_signatures::{self, SignatureOwner};
use super::usage::{Estimate, write_usage};
use crate::json::writer::JsonWriter;
use crate::llm::convert::AnswerContext;
use crate::llm::convert::answer::{Answer, AnswerBlock, BlockKind};
use crate::llm::convert::request::ToolCall;

pub(in crate::llm::convert) fn write_answer(context: &AnswerContext, answer: &Answer) -> String {
    let is_call = |block: &&AnswerBlock| matches!(block.kind, BlockKind::ToolCall { .. });
    let has_call = answer.blocks.iter().any(|block| is_call(&block));
    let output_bytes = answer.blocks.iter().map(|block| block.text.len()).sum();
    let mut json = JsonWriter::new();
    json.object(|json| {
        write_head(context, json);
        json.key("content").array(|json| {
            let mut calls = 0;
            for block in &answer.blocks {
                write_block(block, context, &mut calls, json);
            }
        });
        write_stop(Some(stop_reason_for(answer.stop.as_ref(), has_call)), json);
        json.key("usage");
        let estimate = Estimate { input: context.estimated_input, output_bytes };
        write_usage(&answer.usage, estimate, json);
    });
    json.finish()
}

fn write_block(
    block: &AnswerBlock,
    context: &AnswerContext,
    calls: &mut u32,
    json: &mut JsonWriter,
) {
    match &block.kind {
        BlockKind::Text | BlockKind::Refusal => {
            if !block.text.is_empty() {
                write_text_block(json, &block.text);
            }
            for opaque in &block.opaque {
                write_thinking(
                    json,
                    "",
                    &detached_signatures::to_signature(opaque, SignatureOwner::Text),
                );
            }
        }
        BlockKind::Reasoning { .. } => {
            let (first, others, redacted) = signatures(&block.opaque, !block.text.is_empty());
            if let Some(signature) = first {
                write_thinking(json, &block.text, &signature);
            }
            others.iter().for_each(|signature| write_thinking(json, "", signature));
            redacted.iter().for_each(|data| write_redacted(json, data));
        }
        BlockKind::ToolCall { id, name } => {
            let id = call_id(id, context, *calls);
            *calls = calls.saturating_add(1);
            for opaque in &block.opaque {
                write_thinking(
                    json,
                    "",
                    &detached_signatures::to_signature(opaque, SignatureOwner::Call(&id)),
                );
            }
            write_call(&id, name, &input(&block.text), json);
        }
    }
}

/// The arguments as an object.
fn input(arguments: &str) -> String {
    let call = ToolCall {
        id: "".into(),
        name: "".into(),
        arguments: arguments.into(),
        opaque: Vec::new(),
        cache: None,
    };
    call.object().into_owned()
}
