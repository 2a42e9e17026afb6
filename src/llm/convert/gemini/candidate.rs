//! Reads what the model wrote: the parts of the candidate.

use std::borrow::Cow;

use super::super::answer::{AnswerEvent, BlockKind, Failure, Stop};
use super::super::opaque::{Family, Opaque, OpaqueKind};
use super::chunk::{Candidate, FunctionCall, Part};
use super::grounding::KeptText;
use super::partial_call::PartialCall;
use super::stop::{finish_reason, is_reason};
use crate::json::compact::compact;

/// What the next part may continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text(u32),
    Thoughts(u32),
}

/// Reads the candidate's parts into blocks. Texts in a row are one block up to a signature.
#[derive(Debug, Default)]
pub(super) struct CandidateReader {
    open: Option<Open>,
    /// The text of the open block.
    text: KeptText,
    /// Blocks so far.
    count: u32,
    /// A call that comes in pieces.
    partial: Option<PartialCall>,
}

impl CandidateReader {
    /// Reads what has come of the candidate; gives the reason for its end if it ended.
    pub(super) fn read(
        &mut self,
        candidate: Candidate<'_>,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<Option<Stop>, Failure> {
        for part in candidate.content.and_then(|content| content.parts).into_iter().flatten() {
            self.read_part(part, out)?;
        }
        if let Some(grounding) = candidate.grounding_metadata
            && let Some(Open::Text(block)) = self.open
        {
            let annotations = self.text.annotations(grounding).into_iter();
            out.extend(annotations.map(|annotation| AnswerEvent::Annotation { block, annotation }));
        }
        let reason = candidate.finish_reason.filter(|reason| is_reason(reason));
        let Some(reason) = reason else { return Ok(None) };
        let stop = finish_reason(reason, candidate.finish_message)?;
        self.complete_call(out);
        Ok(Some(stop))
    }

    /// Closes the open block.
    pub(super) fn close(&mut self, out: &mut Vec<AnswerEvent>) {
        if let Some(Open::Text(block) | Open::Thoughts(block)) = self.open.take() {
            out.push(AnswerEvent::Close { block });
        }
    }

    fn read_part(&mut self, part: Part<'_>, out: &mut Vec<AnswerEvent>) -> Result<(), Failure> {
        let signature = part.thought_signature.filter(|signature| !signature.is_empty());
        if let Some(call) = part.function_call {
            return self.read_call(call, signature, out);
        }
        match part.text.filter(|text| !text.is_empty()) {
            Some(text) => {
                self.complete_call(out);
                let is_thought = part.thought == Some(true);
                let block = self.open_text(is_thought, out);
                if !is_thought {
                    self.text.push(&text);
                }
                out.push(AnswerEvent::Text { block, text });
            }
            // It signs what has no part of its own: the thoughts before.
            None if signature.is_some() && !matches!(self.open, Some(Open::Thoughts(_))) => {
                self.open_text(true, out);
            }
            // The caller's format has no place for anything else that a model may write.
            None => {}
        }
        if let Some(signature) = signature
            && let Some(Open::Text(block) | Open::Thoughts(block)) = self.open
        {
            out.push(AnswerEvent::Opaque { block, opaque: signed(signature) });
            self.close(out);
        }
        Ok(())
    }

    /// The block of text or thoughts that is open, or a new one.
    fn open_text(&mut self, is_thought: bool, out: &mut Vec<AnswerEvent>) -> u32 {
        match self.open {
            Some(Open::Text(block)) if !is_thought => return block,
            Some(Open::Thoughts(block)) if is_thought => return block,
            _ => self.close(out),
        }
        self.text = KeptText::default();
        // What is shown of thoughts is a summary (Google, "Thought summaries").
        let kind =
            if is_thought { BlockKind::Reasoning { is_summary: true } } else { BlockKind::Text };
        let block = self.open_block(kind, out);
        self.open = Some(if is_thought { Open::Thoughts(block) } else { Open::Text(block) });
        block
    }

    fn open_block(&mut self, kind: BlockKind, out: &mut Vec<AnswerEvent>) -> u32 {
        let block = self.count;
        self.count = self.count.saturating_add(1);
        out.push(AnswerEvent::Open { block, kind });
        block
    }

    fn read_call(
        &mut self,
        call: FunctionCall<'_>,
        signature: Option<String>,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<(), Failure> {
        self.close(out);
        let continues = call.will_continue == Some(true);
        match call.name.filter(|name| !name.is_empty()) {
            Some(name) => {
                self.complete_call(out);
                let id = call.id.unwrap_or_default();
                if !continues && call.partial_args.is_none() {
                    let arguments = call.args.map_or("{}".into(), |args| compact(args.get()));
                    self.write_call(id, name, signature, arguments.into_owned(), out);
                    return Ok(());
                }
                self.partial = Some(PartialCall::new(id, name, signature));
            }
            None if self.partial.is_none() => return Err(Failure::malformed()),
            None => {}
        }
        if let Some(partial) = &mut self.partial {
            for piece in call.partial_args.into_iter().flatten() {
                partial.add(piece).ok_or_else(Failure::malformed)?;
            }
        }
        if !continues {
            self.complete_call(out);
        }
        Ok(())
    }

    /// Writes the call that came in pieces, if there is one.
    fn complete_call(&mut self, out: &mut Vec<AnswerEvent>) {
        if let Some(call) = self.partial.take() {
            let arguments = call.arguments();
            let PartialCall { id, name, signature, .. } = call;
            self.write_call(id, name, signature, arguments, out);
        }
    }

    fn write_call(
        &mut self,
        id: String,
        name: String,
        signature: Option<String>,
        arguments: String,
        out: &mut Vec<AnswerEvent>,
    ) {
        self.close(out);
        let block = self.open_block(BlockKind::ToolCall { id, name }, out);
        // The signature is first, for formats in which it comes before the call.
        let opaque = signature.map(signed);
        out.extend(opaque.map(|opaque| AnswerEvent::Opaque { block, opaque }));
        out.push(AnswerEvent::Arguments { block, json: arguments });
        out.push(AnswerEvent::Close { block });
    }
}

fn signed(signature: String) -> Opaque<'static> {
    let data = Cow::Owned(signature);
    Opaque { family: Family::Google, kind: OpaqueKind::Signature, id: None, data }
}
