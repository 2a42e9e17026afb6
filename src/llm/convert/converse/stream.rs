//! Reads the events of a stream. The usage comes after the message's end, in `metadata`.

use super::super::answer::{Annotation, AnswerEvent, AnswerUsage, BlockKind, Failure, ReadEvents};
use super::super::fields::Fields;
use super::super::opaque::{Family, Opaque, OpaqueKind};
use super::stop::read_stop;
use super::values::{parse_object, string};
use crate::llm::converse::parse_usage;

/// The most calls that may be open at a time; AWS closes each before the next.
const MAX_OPEN: usize = 64;

#[derive(Debug, Default)]
pub(in crate::llm::convert) struct StreamReader {
    has_started: bool,
    open: Vec<OpenBlock>,
    /// Blocks so far.
    count: u32,
    has_stopped: bool,
    has_usage: bool,
    /// Nothing is read any more.
    is_over: bool,
}

#[derive(Debug)]
struct OpenBlock {
    /// The upstream's number, raw.
    index: String,
    /// Its number among the events; `None` for a block that is left out.
    block: Option<u32>,
    kind: OpenKind,
    /// Something of it was written.
    is_filled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenKind {
    Text,
    Reasoning,
    Call,
    /// Nothing that callers' formats have.
    Other,
}

impl ReadEvents for StreamReader {
    fn read(&mut self, name: Option<&str>, data: &str, out: &mut Vec<AnswerEvent>) {
        if self.is_over {
            return;
        }
        if let Err(failure) = self.read_event(name.unwrap_or_default(), data, out) {
            self.is_over = true;
            out.push(AnswerEvent::Failed(failure));
        }
    }

    /// The bytes ended, which is a proper end if the message did.
    fn finish(&mut self, out: &mut Vec<AnswerEvent>) {
        if !self.is_over && self.has_stopped {
            self.end(out);
        }
    }
}

impl StreamReader {
    fn end(&mut self, out: &mut Vec<AnswerEvent>) {
        self.is_over = true;
        out.push(AnswerEvent::End);
    }

    fn read_event(
        &mut self,
        name: &str,
        data: &str,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<(), Failure> {
        match name {
            "messageStart" => self.start(out),
            "contentBlockStart" => self.read_start(&parse_object(data)?, out)?,
            "contentBlockDelta" => self.read_delta(&parse_object(data)?, out)?,
            "contentBlockStop" => {
                let event = parse_object(data)?;
                let index = event.get("contentBlockIndex").unwrap_or_default();
                self.close(|block| block.index == index, out);
            }
            "messageStop" => {
                self.start(out);
                self.close(|_| true, out);
                let stop = read_stop(&parse_object(data)?)?;
                self.has_stopped = true;
                out.extend(stop.map(AnswerEvent::Stop));
                if self.has_usage {
                    self.end(out);
                }
            }
            "metadata" => {
                self.start(out);
                let usage = parse_object(data)?.get("usage").and_then(read_usage);
                out.extend(usage.map(AnswerEvent::Usage));
                self.has_usage = true;
                if self.has_stopped {
                    self.end(out);
                }
            }
            _ if name.ends_with("Exception") || name == "error" => {
                return Err(reported(name, data));
            }
            // A kind of event that is new.
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, out: &mut Vec<AnswerEvent>) {
        if !self.has_started {
            self.has_started = true;
            // Converse names neither.
            out.push(AnswerEvent::Start { id: None, model: None });
        }
    }

    /// Only calls of tools begin with an event of their own.
    fn read_start(
        &mut self,
        event: &Fields<'_>,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<(), Failure> {
        self.start(out);
        let index = event.get("contentBlockIndex").unwrap_or_default();
        let start = event.get("start").map(parse_object).transpose()?;
        let Some(start) = start.filter(|start| start.iter().next().is_some()) else {
            return Ok(());
        };
        let call = start.get("toolUse").map(parse_object).transpose()?;
        // Tools with a type run at the provider's.
        match call.filter(|call| call.get("type").is_none()) {
            Some(call) => {
                let kind = call_kind(&call)?;
                self.open(index, OpenKind::Call, Some(kind), out)?;
            }
            None => {
                self.open(index, OpenKind::Other, None, out)?;
            }
        }
        Ok(())
    }

    fn read_delta(
        &mut self,
        event: &Fields<'_>,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<(), Failure> {
        self.start(out);
        let index = event.get("contentBlockIndex").unwrap_or_default();
        let Some(delta) = event.get("delta").map(parse_object).transpose()? else { return Ok(()) };
        if let Some(text) = delta.get("text") {
            let text = string(text)?;
            if !text.is_empty() {
                let block = self.block(index, OpenKind::Text, out)?;
                out.extend(block.map(|block| AnswerEvent::Text { block, text }));
            }
        } else if let Some(call) = delta.get("toolUse").map(parse_object).transpose()? {
            let json = call.get("input").map_or(Ok(String::new()), string)?;
            if !json.is_empty() {
                let block = self.block(index, OpenKind::Call, out)?;
                out.extend(block.map(|block| AnswerEvent::Arguments { block, json }));
            }
        } else if let Some(reasoning) =
            delta.get("reasoningContent").map(parse_object).transpose()?
        {
            for event in reasoning_events(&reasoning)? {
                let block = self.block(index, OpenKind::Reasoning, out)?;
                out.extend(block.map(|block| event.of(block)));
            }
        } else if let Some(annotation) = delta.get("citation").and_then(read_citation)
            && let Some(open) = self.find(index)
            && open.kind == OpenKind::Text
            && let Some(block) = open.block
        {
            out.push(AnswerEvent::Annotation { block, annotation });
        }
        Ok(())
    }

    fn find(&mut self, index: &str) -> Option<&mut OpenBlock> {
        self.open.iter_mut().find(|open| open.index == index)
    }

    /// The block that a piece of this kind belongs to; `None` if it is left out.
    fn block(
        &mut self,
        index: &str,
        kind: OpenKind,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<Option<u32>, Failure> {
        if let Some(open) = self.find(index) {
            if open.kind == kind {
                open.is_filled = true;
                return Ok(open.block);
            }
            if open.kind == OpenKind::Other {
                return Ok(None);
            }
        }
        let opened = match kind {
            OpenKind::Text => BlockKind::Text,
            OpenKind::Reasoning => BlockKind::Reasoning { is_summary: false },
            // A call has to be begun: its name is needed.
            OpenKind::Call | OpenKind::Other => return Err(Failure::malformed()),
        };
        self.open(index, kind, Some(opened), out)
    }

    /// Opens a block, in place of one with the same number. Only calls may go on at the same time: text that was
    /// not closed is, since nothing of it can follow.
    fn open(
        &mut self,
        index: &str,
        kind: OpenKind,
        opened: Option<BlockKind>,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<Option<u32>, Failure> {
        self.close(|block| block.index == index || block.kind != OpenKind::Call, out);
        if self.open.len() == MAX_OPEN {
            return Err(Failure::malformed());
        }
        let block = opened.map(|kind| {
            let block = self.count;
            self.count = self.count.saturating_add(1);
            out.push(AnswerEvent::Open { block, kind });
            block
        });
        let index = index.to_owned();
        self.open.push(OpenBlock { index, block, kind, is_filled: false });
        Ok(block)
    }

    /// Closes the blocks that are chosen. A call without arguments has an empty object of them.
    fn close(&mut self, chosen: impl Fn(&OpenBlock) -> bool, out: &mut Vec<AnswerEvent>) {
        for open in self.open.extract_if(.., |open| chosen(open)) {
            let Some(block) = open.block else { continue };
            if open.kind == OpenKind::Call && !open.is_filled {
                out.push(AnswerEvent::Arguments { block, json: "{}".to_owned() });
            }
            out.push(AnswerEvent::Close { block });
        }
    }
}

/// A piece of reasoning.
pub(super) enum ReasoningPiece {
    Text(String),
    Opaque(Opaque<'static>),
}

impl ReasoningPiece {
    /// The event for the block.
    pub(super) fn of(self, block: u32) -> AnswerEvent {
        match self {
            Self::Text(text) => AnswerEvent::Text { block, text },
            Self::Opaque(opaque) => AnswerEvent::Opaque { block, opaque },
        }
    }
}

/// The pieces in an object with `text`, `signature` or `redactedContent`.
pub(super) fn reasoning_events(object: &Fields<'_>) -> Result<Vec<ReasoningPiece>, Failure> {
    let mut pieces = Vec::new();
    for (key, raw) in object.iter() {
        let kind = match key {
            "text" => None,
            "signature" => Some(OpaqueKind::Signature),
            "redactedContent" => Some(OpaqueKind::Redacted),
            _ => continue,
        };
        let text = string(raw)?;
        if text.is_empty() {
            continue;
        }
        pieces.push(match kind {
            None => ReasoningPiece::Text(text),
            Some(kind) => {
                let (family, data) = (Family::Bedrock, text.into());
                ReasoningPiece::Opaque(Opaque { family, kind, id: None, data })
            }
        });
    }
    Ok(pieces)
}

/// A call of a tool of the caller's.
pub(super) fn call_kind(call: &Fields<'_>) -> Result<BlockKind, Failure> {
    let id = call.get("toolUseId").map_or(Ok(String::new()), string)?;
    let name = call.get("name").ok_or_else(Failure::malformed).and_then(string)?;
    Ok(BlockKind::ToolCall { id, name })
}

/// The page that a citation names; `None` for places in documents, which other formats can't name.
pub(super) fn read_citation(raw: &str) -> Option<Annotation> {
    let citation = parse_object(raw).ok()?;
    let location = parse_object(citation.get("location")?).ok()?;
    let web = parse_object(location.get("web")?).ok()?;
    let url = web.find_text("url")?.into_owned();
    let title = citation.find_text("title").map(|title| title.into_owned());
    Some(Annotation { url, title, span: None })
}

/// The counts; Converse's input is without what went through the cache.
pub(super) fn read_usage(raw: &str) -> Option<AnswerUsage> {
    parse_usage(raw).map(|usage| usage.counts.into())
}

/// An exception in place of what was to come.
fn reported(name: &str, data: &str) -> Failure {
    let object = parse_object(data).ok();
    let text = |key| object.as_ref()?.find_text(key);
    let message = ["message", "Message", "originalMessage"].into_iter().find_map(text);
    let message = message.map_or("The provider reports an error.".to_owned(), |m| m.into_owned());
    Failure { code: name.to_owned(), message }
}
