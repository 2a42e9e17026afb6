//! Reads what the model wrote: the parts of the candidate.

use std::borrow::Cow;

use super::super::answer::{Annotation, AnswerEvent, BlockKind, Failure, Stop};
use super::super::fields::{Fields, parse_array, parse_text};
use super::super::opaque::{Family, Opaque, OpaqueKind};
use super::answer::{malformed, parse_object};
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
    /// Blocks so far.
    count: u32,
    /// A call that comes in pieces.
    partial: Option<PartialCall>,
}

impl CandidateReader {
    /// Reads what has come of the candidate; gives the reason for its end if it ended.
    pub(super) fn read(
        &mut self,
        candidate: &Fields<'_>,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<Option<Stop>, Failure> {
        if let Some(content) = candidate.get("content")
            && let Some(parts) = parse_object(content)?.get("parts")
        {
            for part in parse_array(parts).ok_or_else(malformed)? {
                self.read_part(&parse_object(part)?, out)?;
            }
        }
        if let Some(grounding) = candidate.get("groundingMetadata") {
            self.read_grounding(&parse_object(grounding)?, out);
        }
        let reason = candidate.get("finishReason").and_then(parse_text);
        let Some(reason) = reason.filter(|reason| is_reason(reason)) else { return Ok(None) };
        let message = candidate.get("finishMessage").and_then(parse_text);
        let stop = finish_reason(&reason, message.map(Cow::into_owned))?;
        self.complete_call(out);
        Ok(Some(stop))
    }

    /// Closes the open block.
    pub(super) fn close(&mut self, out: &mut Vec<AnswerEvent>) {
        if let Some(Open::Text(block) | Open::Thoughts(block)) = self.open.take() {
            out.push(AnswerEvent::Close { block });
        }
    }

    fn read_part(&mut self, part: &Fields<'_>, out: &mut Vec<AnswerEvent>) -> Result<(), Failure> {
        let text = |key| part.get(key).map(|raw| parse_text(raw).ok_or_else(malformed)).transpose();
        let signature = text("thoughtSignature")?.filter(|signature| !signature.is_empty());
        if let Some(call) = part.get("functionCall") {
            return self.read_call(&parse_object(call)?, signature, out);
        }
        let is_thought = part.get("thought") == Some("true");
        match text("text")?.filter(|text| !text.is_empty()) {
            Some(text) => {
                self.complete_call(out);
                let block = self.open_text(is_thought, out);
                out.push(AnswerEvent::Text { block, text: text.into_owned() });
            }
            // It signs what has no part of its own: the thoughts before.
            None if signature.is_some() && !matches!(self.open, Some(Open::Thoughts(_))) => {
                self.open_text(true, out);
            }
            // Of what else a model may write, nothing has a place in the caller's format.
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
        call: &Fields<'_>,
        signature: Option<Cow<'_, str>>,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<(), Failure> {
        self.close(out);
        let text = |key| call.get(key).and_then(parse_text).unwrap_or_default().into_owned();
        let (id, name) = (text("id"), text("name"));
        let continues = call.get("willContinue") == Some("true");
        let pieces = call.get("partialArgs");
        if name.is_empty() && self.partial.is_none() {
            return Err(malformed());
        }
        if !name.is_empty() {
            self.complete_call(out);
            if !continues && pieces.is_none() {
                let arguments = call.get("args").map_or(Cow::Borrowed("{}"), compact);
                self.write_call(id, name, signature, arguments.into_owned(), out);
                return Ok(());
            }
            self.partial = Some(PartialCall::new(id, name));
        }
        if let Some(partial) = &mut self.partial {
            if let Some(signature) = signature {
                partial.signature = Some(signature.into_owned());
            }
            for piece in pieces.map_or(Some(Vec::new()), parse_array).ok_or_else(malformed)? {
                partial.add(&parse_object(piece)?)?;
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
            self.write_call(id, name, signature.map(Cow::Owned), arguments, out);
        }
    }

    fn write_call(
        &mut self,
        id: String,
        name: String,
        signature: Option<Cow<'_, str>>,
        arguments: String,
        out: &mut Vec<AnswerEvent>,
    ) {
        self.close(out);
        let block = self.open_block(BlockKind::ToolCall { id, name }, out);
        // The signature is first, for formats in which it stands before the call.
        let opaque = signature.map(signed);
        out.extend(opaque.map(|opaque| AnswerEvent::Opaque { block, opaque }));
        out.push(AnswerEvent::Arguments { block, json: arguments });
        out.push(AnswerEvent::Close { block });
    }

    /// The sources of the text, if it is still open. Google says in bytes of the whole text what each
    /// supports; the text is not kept, so the place is left open.
    fn read_grounding(&mut self, grounding: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        let Some(Open::Text(block)) = self.open else { return };
        let chunks = grounding.get("groundingChunks").and_then(parse_array).unwrap_or_default();
        for chunk in chunks {
            let Ok(chunk) = parse_object(chunk) else { continue };
            let Some(Ok(web)) = chunk.get("web").map(parse_object) else { continue };
            let text = |key| web.get(key).and_then(parse_text).map(Cow::into_owned);
            let Some(url) = text("uri") else { continue };
            let annotation = Annotation { url, title: text("title"), span: None };
            out.push(AnswerEvent::Annotation { block, annotation });
        }
    }
}

fn signed(signature: Cow<'_, str>) -> Opaque<'static> {
    let data = Cow::Owned(signature.into_owned());
    Opaque { family: Family::Google, kind: OpaqueKind::Signature, id: None, data }
}
