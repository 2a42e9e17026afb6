//! A provider's stream of chunks.
//!
//! Providers differ in what they add to OpenAI's chunks and in what they leave out; each way that is
//! read here is that of a known one. A plain answer is read as a stream of one chunk.

use super::super::answer::{Annotation, AnswerEvent, BlockKind, Failure, Stop, StopReason};
use super::super::fields::{Fields, Path, parse_array, parse_text};
use super::super::opaque::Opaque;
use super::reasoning::{Detail, read_details, read_extra_content};
use super::tool_calls::{CallPiece, ToolCalls};
use super::usage::read_usage;
use crate::llm::answer::event::is_error;

/// The data of the event that ends a stream.
pub(super) const DONE: &str = "[DONE]";

/// Reads the frames of a stream.
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

/// An open block. Only calls can be open beside it.
#[derive(Debug)]
struct Open {
    block: u32,
    kind: BlockKind,
    /// The index of the reasoning.
    index: Option<u64>,
}

impl StreamReader {
    pub(in super::super) fn new() -> Self {
        Self::default()
    }

    /// Reads a frame.
    pub(in super::super) fn read(
        &mut self,
        name: Option<&str>,
        data: &str,
        out: &mut Vec<AnswerEvent>,
    ) {
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
    pub(in super::super) fn finish(&mut self, out: &mut Vec<AnswerEvent>) {
        if self.stop.is_some() {
            self.read(None, DONE, out);
        }
    }

    /// Whether anything of an answer was read.
    pub(super) fn has_started(&self) -> bool {
        self.has_started
    }

    /// Some providers end without a reason. That is the end if there is an answer that looks whole.
    fn read_done(&mut self, out: &mut Vec<AnswerEvent>) -> Result<(), Failure> {
        if self.stop.is_none() {
            if self.next_block == 0 || !self.calls.are_complete() {
                return Err(failure("The provider's answer ended before it was complete."));
            }
            let native = String::new();
            self.stop = Some(Stop { reason: StopReason::End, native, sequence: None });
        }
        self.close_open(out);
        self.calls.close_all(out).map_err(failure)?;
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
        let malformed = || failure("The provider sent an event that can't be read.");
        let chunk = Fields::parse(data, &Path::ROOT).map_err(|_| malformed())?;
        if let Some(failure) = find_error(name, &chunk) {
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
            let text = |key| chunk.get(key).and_then(parse_text).filter(|text| !text.is_empty());
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
        let malformed = || failure("The provider sent an event that can't be read.");
        let delta = choice.get("delta").map(|raw| (raw, false));
        // A whole message, in a plain answer or in a stream of one.
        if let Some((raw, is_whole)) =
            delta.or_else(|| choice.get("message").map(|raw| (raw, true)))
        {
            let delta = Fields::parse(raw, &Path::ROOT).map_err(|_| malformed())?;
            self.read_delta(&delta, is_whole, out)?;
        }
        let text = |key| choice.get(key).and_then(parse_text).filter(|text| !text.is_empty());
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
        self.calls.close_all(out).map_err(failure)?;
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
        let malformed = || failure("The provider sent an event that can't be read.");
        let text = |key| delta.get(key).and_then(parse_text).filter(|text| !text.is_empty());
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
        let part = Fields::parse(raw, &Path::ROOT).ok()?;
        match &*part.get("type").and_then(parse_text)? {
            "text" => {
                let text = part.get("text").and_then(parse_text)?;
                self.push(BlockKind::Text, &text, out);
            }
            "refusal" => {
                let text = part.get("refusal").and_then(parse_text)?;
                self.push(BlockKind::Refusal, &text, out);
            }
            "thinking" => {
                for raw in parse_array(part.get("thinking")?)? {
                    let thought = Fields::parse(raw, &Path::ROOT).ok()?;
                    if let Some(text) = thought.get("text").and_then(parse_text) {
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
        let malformed = || failure("The provider sent a tool call that can't be read.");
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
            self.calls.take(piece, is_whole, &mut self.next_block, out).map_err(failure)?;
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

fn failure(message: &str) -> Failure {
    Failure { code: "upstream_error".to_owned(), message: message.to_owned() }
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
        let choice = Fields::parse(raw, &Path::ROOT).ok()?;
        choice.get("error").filter(|raw| is_error(raw.bytes())).map(read_error)
    })
}

fn read_error(raw: &str) -> Failure {
    match Fields::parse(raw, &Path::ROOT) {
        Ok(error) => read_error_object(&error),
        Err(_) => match parse_text(raw) {
            Some(message) => failure(&message),
            None => failure("The provider reports an error."),
        },
    }
}

fn read_error_object(error: &Fields<'_>) -> Failure {
    let text = |key| error.get(key).and_then(parse_text).filter(|text| !text.is_empty());
    let number = || error.get("code").filter(|raw| raw.bytes().all(|byte| byte.is_ascii_digit()));
    let code = text("code").or_else(|| text("type")).or_else(|| number().map(Into::into));
    let message = text("message").unwrap_or_else(|| "The provider reports an error.".into());
    Failure {
        code: code.unwrap_or_else(|| "upstream_error".into()).into_owned(),
        message: message.into_owned(),
    }
}

fn read_annotation(raw: &str) -> Option<Annotation> {
    let annotation = Fields::parse(raw, &Path::ROOT).ok()?;
    let citation = annotation.object("url_citation", &Path::ROOT).ok()??;
    let place = |key| citation.get(key).and_then(|raw| raw.parse().ok());
    Some(Annotation {
        url: citation.get("url").and_then(parse_text)?.into_owned(),
        title: citation.get("title").and_then(parse_text).map(Into::into),
        span: place("start_index").zip(place("end_index")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(frames: &[&str]) -> Vec<AnswerEvent> {
        let (mut reader, mut out) = (StreamReader::new(), Vec::new());
        for frame in frames {
            reader.read(None, frame, &mut out);
        }
        reader.finish(&mut out);
        out
    }

    /// The events in short, without the start.
    fn shown(frames: &[&str]) -> String {
        let shown = events(frames).into_iter().filter_map(|event| {
            Some(match event {
                AnswerEvent::Start { .. } => return None,
                AnswerEvent::Open { block, kind } => match kind {
                    BlockKind::Text => format!("{block}:text"),
                    BlockKind::Refusal => format!("{block}:refusal"),
                    BlockKind::Reasoning { is_summary: false } => format!("{block}:why"),
                    BlockKind::Reasoning { is_summary: true } => format!("{block}:sum"),
                    BlockKind::ToolCall { id, name } => format!("{block}:{id}={name}"),
                },
                AnswerEvent::Text { block, text } => format!("{block}'{text}"),
                AnswerEvent::Arguments { block, json } => format!("{block}{json}"),
                AnswerEvent::Opaque { block, opaque } => {
                    format!("{block}+{:?}:{}", opaque.family, opaque.data)
                }
                AnswerEvent::Annotation { block, annotation } => {
                    format!("{block}@{}{:?}", annotation.url, annotation.span)
                }
                AnswerEvent::Close { block } => format!("{block}."),
                AnswerEvent::Usage(usage) => format!("usage:{:?}", usage.output.unwrap_or(0)),
                AnswerEvent::Stop(stop) => match stop.sequence {
                    Some(sequence) => format!("{:?}({},{sequence})", stop.reason, stop.native),
                    None => format!("{:?}({})", stop.reason, stop.native),
                },
                AnswerEvent::Ping => "ping".to_owned(),
                AnswerEvent::End => "end".to_owned(),
                AnswerEvent::Failed(failure) => {
                    format!("failed:{}:{}", failure.code, failure.message)
                }
            })
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// The events of deltas, with a proper end after them.
    fn of_deltas(deltas: &[&str]) -> String {
        let mut frames: Vec<String> = deltas
            .iter()
            .map(|delta| format!(r#"{{"id":"1","choices":[{{"index":0,"delta":{delta}}}]}}"#))
            .collect();
        frames.push(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#.to_owned());
        frames.push(DONE.to_owned());
        let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
        let shown = shown(&frames);
        let end = shown.strip_suffix("End(stop) end").unwrap_or_else(|| panic!("{shown}"));
        end.trim_end().to_owned()
    }

    #[test]
    fn deltas_become_blocks() {
        for (deltas, expected) in [
            (vec![r#"{"role":"assistant","content":""}"#, r#"{"content":null}"#, "{}", "null"], ""),
            (
                vec![
                    r#"{"role":"assistant","content":"a"}"#,
                    r#"{"role":"assistant","content":"b"}"#,
                ],
                "0:text 0'a 0'b 0.",
            ),
            (
                vec![
                    r#"{"reasoning_content":"w"}"#,
                    r#"{"content":"","reasoning":"v"}"#,
                    r#"{"content":"a"}"#,
                ],
                "0:why 0'w 0'v 0. 1:text 1'a 1.",
            ),
            (
                vec![r#"{"reasoning_content":"w","reasoning":"w","content":"a"}"#],
                "0:why 0'w 0. 1:text 1'a 1.",
            ),
            (vec![r#"{"content":"<think>w</think>a"}"#], "0:text 0'<think>w</think>a 0."),
            // OpenRouter
            (
                vec![
                    r#"{"reasoning":"w","reasoning_details":[{"type":"reasoning.text","text":"w","index":0}]}"#,
                    r#"{"reasoning":"v","reasoning_details":[{"type":"reasoning.text","text":"v","index":0}]}"#,
                    r#"{"content":"","reasoning_details":[{"type":"reasoning.text","signature":"s","format":"anthropic-claude-v1","index":0}]}"#,
                    r#"{"reasoning_details":[{"type":"reasoning.encrypted","data":"r","format":"anthropic-claude-v1","index":1}]}"#,
                    r#"{"content":"a"}"#,
                ],
                "0:why 0'w 0'v 0+Anthropic:s 0. 1:why 1+Anthropic:r 1. 2:text 2'a 2.",
            ),
            (
                vec![
                    r#"{"reasoning_details":[{"type":"reasoning.summary","summary":"w","index":0}]}"#,
                    r#"{"reasoning_details":[{"type":"reasoning.encrypted","data":"e","format":"openai-responses-v1","index":0}]}"#,
                ],
                "0:sum 0'w 0+OpenAi:e 0.",
            ),
            (
                vec![
                    r#"{"reasoning_details":[{"type":"reasoning.encrypted","data":"s","id":"c","format":"google-gemini-v1","index":0}],"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]}"#,
                ],
                "0:c=f 0{} 0+Google:s 0.",
            ),
            // Mistral
            (
                vec![
                    r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"w"}]}]}"#,
                    r#"{"content":[{"type":"text","text":"a"},{"type":"reference","reference_ids":[1]}]}"#,
                    r#"{"content":"b"}"#,
                ],
                "0:why 0'w 0. 1:text 1'a 1'b 1.",
            ),
            (vec![r#"{"refusal":"no"}"#, r#"{"refusal":null}"#], "0:refusal 0'no 0."),
            (
                vec![
                    r#"{"content":"a"}"#,
                    r#"{"annotations":[{"type":"url_citation","url_citation":{"url":"u","title":"t","start_index":0,"end_index":1}},{"type":"file_citation"}]}"#,
                ],
                "0:text 0'a 0@uSome((0, 1)) 0.",
            ),
            // Google's compatible API
            (
                vec![r#"{"content":"a","extra_content":{"google":{"thought_signature":"s"}}}"#],
                "0:text 0'a 0+Google:s 0.",
            ),
            (
                vec![
                    r#"{"extra_content":{"google":{"thought_signature":"s"}},"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}},{"index":1,"function":{"name":"g","arguments":"{}"}}]}"#,
                ],
                "0:=f 0{} 0+Google:s 0. 1:=g 1{} 1.",
            ),
            (
                vec![
                    r#"{"function_call":{"name":"f","arguments":"{"}}"#,
                    r#"{"function_call":{"arguments":"}"}}"#,
                ],
                "0:=f 0{ 0} 0.",
            ),
            // A text between calls, and one while a call is not complete.
            (
                vec![
                    r#"{"content":"a","tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]}"#,
                    r#"{"content":"b"}"#,
                    r#"{"tool_calls":[{"index":1,"id":"d","function":{"name":"g","arguments":"{"}}]}"#,
                    r#"{"content":"c"}"#,
                    r#"{"tool_calls":[{"index":1,"function":{"arguments":"}"}}]}"#,
                ],
                "0:text 0'a 0. 1:c=f 1{} 1. 2:text 2'b 2. 3:d=g 3{ 4:text 4'c 4. 3} 3.",
            ),
        ] {
            assert_eq!(of_deltas(&deltas), expected, "{deltas:?}");
        }
    }

    const TEXT: &str = r#"{"choices":[{"delta":{"content":"a"}}]}"#;
    const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;

    #[test]
    fn the_end_is_known() {
        for (frames, expected) in [
            (vec![TEXT, STOP, USAGE, DONE], "0:text 0'a 0. usage:2 End(stop) end"),
            (vec![TEXT, STOP, USAGE], "0:text 0'a 0. usage:2 End(stop) end"),
            (vec![TEXT, STOP, DONE, USAGE, DONE], "0:text 0'a 0. End(stop) end"),
            (vec![TEXT, DONE], "0:text 0'a 0. End() end"),
            (vec![TEXT], "0:text 0'a"),
            (vec![], ""),
            (
                vec![DONE],
                "failed:upstream_error:The provider's answer ended before it was complete.",
            ),
            (
                vec![
                    r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{"}}]}}]}"#,
                    DONE,
                ],
                "0:c=f 0{ failed:upstream_error:The provider's answer ended before it was complete.",
            ),
            // Usage with the stop, in every chunk, in a choice, and Groq's.
            (
                vec![
                    r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"length"}],"usage":{"completion_tokens":3}}"#,
                ],
                "0:text 0'a 0. usage:3 MaxTokens(length) end",
            ),
            (
                vec![
                    r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"completion_tokens":1}}"#,
                    r#"{"choices":[{"delta":{"content":"b"},"finish_reason":"stop","usage":{"completion_tokens":2}}],"usage":null}"#,
                    r#"{"choices":[],"x_groq":{"usage":{"completion_tokens":4}}}"#,
                ],
                "0:text 0'a usage:1 0'b 0. usage:2 usage:4 End(stop) end",
            ),
            // An empty reason is none; a second one may refine a plain stop.
            (
                vec![
                    r#"{"choices":[{"delta":{"content":"a"},"finish_reason":""}]}"#,
                    STOP,
                    r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#,
                    r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#,
                ],
                "0:text 0'a 0. Refusal(content_filter) end",
            ),
            (
                vec![
                    r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop","stop_reason":"END"}]}"#,
                ],
                "0:text 0'a 0. StopSequence(stop,END) end",
            ),
            (
                vec![
                    r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"eos","stop_reason":2}]}"#,
                ],
                "0:text 0'a 0. Other(eos) end",
            ),
            (
                vec![
                    r#"{"choices":[{"delta":{"function_call":{"name":"f"}},"finish_reason":"function_call"}]}"#,
                ],
                "0:=f 0. ToolCall(function_call) end",
            ),
            // Only the first choice counts; a whole message is as good as deltas.
            (
                vec![
                    r#"{"choices":[{"index":1,"delta":{"content":"z"},"finish_reason":"stop"}]}"#,
                    TEXT,
                ],
                "0:text 0'a",
            ),
            (
                vec![
                    r#"{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}"#,
                ],
                "0:text 0'a 0. End(stop) end",
            ),
        ] {
            assert_eq!(shown(&frames), expected, "{frames:?}");
        }
    }

    #[test]
    fn the_start_has_the_first_id_that_is_there() {
        let frames = [
            r#"{"id":"","model":"","choices":[],"prompt_filter_results":[{}]}"#,
            r#"{"id":"1","model":"m","choices":[{"delta":{"content":"a"}}]}"#,
            r#"{"id":"2","model":"n","choices":[{"delta":{"content":"a"}}]}"#,
        ];
        let events = events(&frames);
        let start = AnswerEvent::Start { id: Some("1".to_owned()), model: Some("m".to_owned()) };
        assert_eq!(events.first(), Some(&start));
        let starts = events.iter().filter(|event| matches!(event, AnswerEvent::Start { .. }));
        assert_eq!(starts.count(), 1);
    }

    #[test]
    fn errors_end_the_stream() {
        for (frame, expected) in [
            (r#"{"error":{"message":"Busy","type":"overloaded","code":null}}"#, "overloaded:Busy"),
            (r#"{"error":{"message":"Busy","type":"t","code":"c"},"choices":[]}"#, "c:Busy"),
            (r#"{"error":{"message":"Busy","code":502}}"#, "502:Busy"),
            (r#"{"error":"Busy"}"#, "upstream_error:Busy"),
            (r#"{"error":[1]}"#, "upstream_error:The provider reports an error."),
            (r#"{"object":"error","message":"Busy","type":"t"}"#, "t:Busy"),
            (
                r#"{"choices":[{"error":{"message":"Busy","code":"c"},"finish_reason":"error"}]}"#,
                "c:Busy",
            ),
            (
                r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#,
                "error:The provider broke off its answer.",
            ),
            (
                r#"{"choices":[{"delta":{},"finish_reason":"insufficient_system_resource"}]}"#,
                "insufficient_system_resource:The provider broke off its answer.",
            ),
            ("<html>", "upstream_error:The provider sent an event that can't be read."),
            ("[]", "upstream_error:The provider sent an event that can't be read."),
            (r#"{"choices":3}"#, "upstream_error:The provider sent an event that can't be read."),
            (r#"{"choices":[3]}"#, "upstream_error:The provider sent an event that can't be read."),
            (
                r#"{"choices":[{"delta":3}]}"#,
                "upstream_error:The provider sent an event that can't be read.",
            ),
            (
                r#"{"choices":[{"delta":{"content":3}}]}"#,
                "upstream_error:The provider sent an event that can't be read.",
            ),
            (
                r#"{"choices":[{"delta":{"tool_calls":[3]}}]}"#,
                "upstream_error:The provider sent a tool call that can't be read.",
            ),
        ] {
            let shown = shown(&[TEXT, frame, TEXT, STOP, DONE]);
            assert_eq!(shown, format!("0:text 0'a failed:{expected}"), "{frame}");
        }
        let (mut reader, mut out) = (StreamReader::new(), Vec::new());
        reader.read(Some("error"), r#"{"message":"Busy"}"#, &mut out);
        assert!(matches!(&out[..], [AnswerEvent::Failed(failure)] if failure.message == "Busy"));
    }
}
