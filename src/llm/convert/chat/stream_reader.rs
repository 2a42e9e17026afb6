//! A provider's stream of chunks.
//!
//! Providers differ in what they add to OpenAI's chunks and in what they leave out; each way that is
//! read here is that of a known one. A plain answer is read as a stream of one chunk.

use super::super::answer::{
    Annotation, AnswerEvent, BlockKind, Failure, ReadEvents, Stop, StopReason,
};
use super::super::fields::{Fields, Path, parse_array, parse_object, parse_text};
use super::super::opaque::Opaque;
use super::reasoning::{Detail, read_details, read_extra_content};
use super::tool_calls::{CallPiece, ToolCalls};
use super::usage::read_usage;
use crate::llm::answer::event::{is_error, mentions_error};

/// The data of the event that ends a stream.
pub(super) const DONE: &str = "[DONE]";

#[derive(Debug, Default)]
pub(in super::super) struct StreamReader {
    has_started: bool,
    has_ended: bool,
    next_block: u32,
    /// The block of text, of a refusal or of reasoning that is open.
    open: Option<Open>,
    calls: ToolCalls,
    /// What the provider said of its stop.
    stop: Option<Stop>,
}

/// An open block. Only calls can be open at the same time.
#[derive(Debug)]
struct Open {
    block: u32,
    kind: BlockKind,
    /// The index of the reasoning.
    index: Option<u64>,
}

impl ReadEvents for StreamReader {
    fn read(&mut self, name: Option<&str>, data: &str, out: &mut Vec<AnswerEvent>) {
        if self.has_ended {
            return;
        }
        let data = data.trim_ascii();
        let read = match data {
            DONE => self.read_done(out),
            data => self.read_chunk(name, data, out),
        };
        if let Err(failure) = read {
            self.has_ended = true;
            out.push(AnswerEvent::Failed(failure));
        }
    }

    /// The bytes ended: the answer is whole if the provider said why it stopped.
    fn finish(&mut self, out: &mut Vec<AnswerEvent>) {
        if self.stop.is_some() {
            self.read(None, DONE, out);
        }
    }
}

impl StreamReader {
    /// Whether anything of an answer was read.
    pub(super) fn has_started(&self) -> bool {
        self.has_started
    }

    /// Some providers end without a reason. That is the end if there is an answer that looks whole.
    fn read_done(&mut self, out: &mut Vec<AnswerEvent>) -> Result<(), Failure> {
        if self.stop.is_none() {
            if self.next_block == 0 || !self.calls.are_complete() {
                return Err(Failure::unusable(
                    "The provider's answer ended before it was complete.",
                ));
            }
            let native = String::new();
            self.stop = Some(Stop { reason: StopReason::End, native, sequence: None });
        }
        self.close_open(out);
        self.calls.close_all(out).map_err(Failure::unusable)?;
        self.has_ended = true;
        out.extend(self.stop.take().map(AnswerEvent::Stop));
        out.push(AnswerEvent::End);
        Ok(())
    }

    fn read_chunk(
        &mut self,
        name: Option<&str>,
        data: &str,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<(), Failure> {
        let malformed = || Failure::unusable("The provider sent an event that can't be read.");
        let chunk = Fields::parse(data, &Path::ROOT).map_err(|_| malformed())?;
        let may_be_error = name == Some("error") || mentions_error(data.as_bytes());
        if may_be_error && let Some(failure) = find_error(name, &chunk) {
            return Err(failure);
        }
        let choices = match chunk.get("choices") {
            Some(raw) => parse_array(raw).ok_or_else(malformed)?,
            None => Vec::new(),
        };
        let mut usage = chunk.get("usage");
        if usage.is_none()
            && let Ok(Some(groq)) = chunk.object("x_groq", &Path::ROOT)
        {
            usage = groq.get("usage");
        }
        let choices = choices.into_iter().map(|raw| Fields::parse(raw, &Path::ROOT));
        let choices = choices.collect::<Result<Vec<_>, _>>().map_err(|_| malformed())?;
        let is_first = |choice: &&Fields<'_>| choice.get("index").is_none_or(|raw| raw == "0");
        let choice = choices.iter().find(is_first);
        // Azure's first event has no choice, and neither the id nor the model.
        if !self.has_started && (choice.is_some() || usage.is_some()) {
            self.has_started = true;
            let text = |key| chunk.find_text(key).filter(|text| !text.is_empty());
            let id = text("id").map(Into::into);
            out.push(AnswerEvent::Start { id, model: text("model").map(Into::into) });
        }
        if let Some(choice) = choice {
            self.read_choice(choice, out)?;
            usage = usage.or_else(|| choice.get("usage"));
        }
        out.extend(usage.and_then(read_usage).map(AnswerEvent::Usage));
        Ok(())
    }

    fn read_choice(
        &mut self,
        choice: &Fields<'_>,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<(), Failure> {
        let malformed = || Failure::unusable("The provider sent an event that can't be read.");
        let delta = choice.get("delta").map(|raw| (raw, false));
        // A whole message, in a plain answer or in a stream of one.
        if let Some((raw, is_whole)) =
            delta.or_else(|| choice.get("message").map(|raw| (raw, true)))
        {
            let delta = Fields::parse(raw, &Path::ROOT).map_err(|_| malformed())?;
            self.read_delta(&delta, is_whole, out)?;
        }
        let text = |key| choice.find_text(key).filter(|text| !text.is_empty());
        let Some(word) = text("finish_reason") else { return Ok(()) };
        let reason = read_reason(&word)?;
        // vLLM says at which sequence it stopped.
        let sequence = text("stop_reason").filter(|_| reason == StopReason::End);
        let stop = Stop {
            reason: if sequence.is_some() { StopReason::StopSequence } else { reason },
            native: word.into_owned(),
            sequence: sequence.map(Into::into),
        };
        self.close_open(out);
        self.calls.close_all(out).map_err(Failure::unusable)?;
        // The first word counts, unless it was a plain stop that a later one refines.
        if self.stop.as_ref().is_none_or(|before| before.reason == StopReason::End) {
            self.stop = Some(stop);
        }
        Ok(())
    }

    fn read_delta(
        &mut self,
        delta: &Fields<'_>,
        is_whole: bool,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<(), Failure> {
        let malformed = || Failure::unusable("The provider sent an event that can't be read.");
        let text = |key| delta.find_text(key).filter(|text| !text.is_empty());
        let details = delta.get("reasoning_details").map(read_details).unwrap_or_default();
        let (of_calls, details): (Vec<_>, Vec<_>) =
            details.into_iter().partition(|detail| detail.call.is_some());
        // Many providers say the same under two names.
        if details.iter().all(|detail| detail.text.is_empty())
            && let Some(text) = text("reasoning_content").or_else(|| text("reasoning"))
        {
            self.push_reasoning(Detail { text, ..Detail::default() }, out);
        }
        for detail in details {
            self.push_reasoning(detail, out);
        }
        match delta.get("content") {
            Some(raw) if raw.starts_with('"') => {
                self.push(BlockKind::Text, &text("content").unwrap_or_default(), out);
            }
            Some(raw) => {
                for part in parse_array(raw).ok_or_else(malformed)? {
                    self.read_part(part, out).ok_or_else(malformed)?;
                }
            }
            None => {}
        }
        self.read_annotations(delta, out);
        // Of the text, if there is one, else of the first call.
        let mut signature = read_extra_content(delta).map(Opaque::into_owned);
        if let Some(Open { block, kind: BlockKind::Text, .. }) = self.open {
            out.extend(signature.take().map(|opaque| AnswerEvent::Opaque { block, opaque }));
        }
        if let Some(refusal) = text("refusal") {
            self.push(BlockKind::Refusal, &refusal, out);
        }
        self.read_calls(delta, is_whole, &mut signature, out)?;
        if let Some(opaque) = signature {
            let block = match self.calls.block(None) {
                Some(block) => block,
                None => self.open(BlockKind::Text, None, out),
            };
            out.push(AnswerEvent::Opaque { block, opaque });
        }
        for Detail { call, opaque, .. } in of_calls {
            if let Some(block) = self.calls.block(call.as_deref()) {
                let owned = opaque.into_iter().map(Opaque::into_owned);
                out.extend(owned.map(|opaque| AnswerEvent::Opaque { block, opaque }));
            }
        }
        Ok(())
    }

    /// Mistral's parts of a content: texts and thoughts.
    fn read_part(&mut self, raw: &str, out: &mut Vec<AnswerEvent>) -> Option<()> {
        let part = parse_object(raw)?;
        match &*part.find_text("type")? {
            "text" => {
                let text = part.find_text("text")?;
                self.push(BlockKind::Text, &text, out);
            }
            "refusal" => {
                let text = part.find_text("refusal")?;
                self.push(BlockKind::Refusal, &text, out);
            }
            "thinking" => {
                for raw in parse_array(part.get("thinking")?)? {
                    let thought = parse_object(raw)?;
                    if let Some(text) = thought.find_text("text") {
                        self.push_reasoning(Detail { text, ..Detail::default() }, out);
                    }
                }
            }
            // References and media, for which answers have nothing.
            _ => {}
        }
        Some(())
    }

    fn read_calls(
        &mut self,
        delta: &Fields<'_>,
        is_whole: bool,
        signature: &mut Option<Opaque<'static>>,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<(), Failure> {
        let malformed = || Failure::unusable("The provider sent a tool call that can't be read.");
        let mut pieces = Vec::new();
        if let Some(raw) = delta.get("tool_calls") {
            for raw in parse_array(raw).ok_or_else(malformed)? {
                pieces.push(CallPiece::read(raw).ok_or_else(malformed)?);
            }
        }
        // The deprecated form, of one call.
        if let Some(raw) = delta.get("function_call") {
            pieces.push(CallPiece::default().with_function(raw).ok_or_else(malformed)?);
        }
        if let Some(first) = pieces.first_mut() {
            first.sign(signature.take());
        }
        for piece in pieces {
            self.close_open(out);
            self.calls
                .take(piece, is_whole, &mut self.next_block, out)
                .map_err(Failure::unusable)?;
        }
        Ok(())
    }

    fn read_annotations(&mut self, delta: &Fields<'_>, out: &mut Vec<AnswerEvent>) {
        let Some(Open { block, kind: BlockKind::Text, .. }) = &self.open else { return };
        let list = delta.get("annotations").and_then(parse_array).unwrap_or_default();
        let annotations = list.into_iter().filter_map(read_annotation);
        out.extend(
            annotations.map(|annotation| AnswerEvent::Annotation { block: *block, annotation }),
        );
    }

    /// Appends to the open block of this kind, or opens one.
    fn push(&mut self, kind: BlockKind, text: &str, out: &mut Vec<AnswerEvent>) {
        if !text.is_empty() {
            let block = self.open(kind, None, out);
            out.push(AnswerEvent::Text { block, text: text.to_owned() });
        }
    }

    fn push_reasoning(&mut self, detail: Detail<'_>, out: &mut Vec<AnswerEvent>) {
        let Detail { index, text, mut is_summary, opaque, .. } = detail;
        if text.is_empty() && opaque.is_empty() {
            return;
        }
        // What is encrypted belongs to the summary before it.
        if let Some(Open { kind: BlockKind::Reasoning { is_summary: before }, index: own, .. }) =
            &self.open
            && (text.is_empty() && *own == index)
        {
            is_summary = *before;
        }
        let block = self.open(BlockKind::Reasoning { is_summary }, index, out);
        if !text.is_empty() {
            out.push(AnswerEvent::Text { block, text: text.into_owned() });
        }
        let owned = opaque.into_iter().map(Opaque::into_owned);
        out.extend(owned.map(|opaque| AnswerEvent::Opaque { block, opaque }));
    }

    fn open(&mut self, kind: BlockKind, index: Option<u64>, out: &mut Vec<AnswerEvent>) -> u32 {
        match &self.open {
            Some(open) if open.kind == kind && open.index == index => return open.block,
            _ => {}
        }
        self.close_open(out);
        self.calls.close_complete(out);
        let block = self.next_block;
        self.next_block = block.saturating_add(1);
        out.push(AnswerEvent::Open { block, kind: kind.clone() });
        self.open = Some(Open { block, kind, index });
        block
    }

    fn close_open(&mut self, out: &mut Vec<AnswerEvent>) {
        out.extend(self.open.take().map(|Open { block, .. }| AnswerEvent::Close { block }));
    }
}

/// The meaning of a `finish_reason`. Words for an answer that was broken off are errors.
fn read_reason(word: &str) -> Result<StopReason, Failure> {
    Ok(match word {
        "stop" => StopReason::End,
        "length" | "max_tokens" => StopReason::MaxTokens,
        // Mistral
        "model_length" => StopReason::ContextFull,
        "tool_calls" | "function_call" => StopReason::ToolCall,
        "content_filter" => StopReason::Refusal,
        // OpenRouter; DeepSeek; vLLM and SGLang
        "error" | "insufficient_system_resource" | "abort" => {
            let message = "The provider broke off its answer.".to_owned();
            return Err(Failure { code: word.to_owned(), message });
        }
        _ => StopReason::Other,
    })
}

/// An error in a member of its own, in a choice, or as all that the event is.
fn find_error(name: Option<&str>, chunk: &Fields<'_>) -> Option<Failure> {
    if let Some(raw) = chunk.get("error").filter(|raw| is_error(raw.bytes())) {
        return Some(read_error(raw));
    }
    if name == Some("error") || chunk.get("object") == Some(r#""error""#) {
        return Some(read_error_object(chunk));
    }
    let choices = chunk.get("choices").and_then(parse_array)?;
    choices.into_iter().find_map(|raw| {
        let choice = parse_object(raw)?;
        choice.get("error").filter(|raw| is_error(raw.bytes())).map(read_error)
    })
}

fn read_error(raw: &str) -> Failure {
    match Fields::parse(raw, &Path::ROOT) {
        Ok(error) => read_error_object(&error),
        Err(_) => match parse_text(raw) {
            Some(message) => Failure::unusable(message),
            None => Failure::unusable("The provider reports an error."),
        },
    }
}

fn read_error_object(error: &Fields<'_>) -> Failure {
    let text = |key| error.find_text(key).filter(|text| !text.is_empty());
    let number = || error.get("code").filter(|raw| raw.bytes().all(|byte| byte.is_ascii_digit()));
    let code = text("code").or_else(|| text("type")).or_else(|| number().map(Into::into));
    let message = text("message").unwrap_or_else(|| "The provider reports an error.".into());
    Failure {
        code: code.unwrap_or_else(|| Failure::UNUSABLE.into()).into_owned(),
        message: message.into_owned(),
    }
}

fn read_annotation(raw: &str) -> Option<Annotation> {
    let annotation = parse_object(raw)?;
    let citation = annotation.find_object("url_citation")?;
    let place = |key| citation.get(key).and_then(|raw| raw.parse().ok());
    Some(Annotation {
        url: citation.find_text("url")?.into_owned(),
        title: citation.find_text("title").map(Into::into),
        span: place("start_index").zip(place("end_index")),
    })
}

#[cfg(test)]
mod tests;
