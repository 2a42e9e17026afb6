//! Restores a stream, event by event.
//!
//! Each block of the answer has a text of its own. What may be the beginning of a placeholder is held
//! back, and sent with the block's next piece, or in an event of its own when the block ends: a
//! copy of the block's last event with other text.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::super::redact::ScanError;
use super::block::{AnswerEdits, BlockText};
use super::deltas::{BlockId, Delta, Ends, EventParts, TextKind, read_event};
use super::names::StreamTexts;
use super::template::{MAX_TEMPLATE, Template};
use super::{edited, quoted};
use crate::llm::format::Format;

/// The most blocks of an answer that are followed at once. In those beyond, placeholders are restored
/// where one piece has all of them; if the answer is scanned, it has failed.
const MAX_BLOCKS: usize = 1024;
/// The longest name of an event of which something is held back, in bytes: each block keeps it.
const MAX_NAME: usize = 256;
/// The most blocks of one event over [`MAX_TEMPLATE`] of which something is held back: for each of them the
/// event is read once more. Those beyond are treated likewise.
const MAX_LONG_COPIES: usize = 16;

/// Restores the stream of one answer.
#[derive(Debug)]
pub struct StreamRestorer {
    format: Format,
    edits: AnswerEdits,
    blocks: BTreeMap<BlockId, Block>,
    /// Reasoning that is signed: it passes as it is.
    signed: BTreeSet<BlockId>,
    /// Whether all of `reasoning_details` is signed at its end.
    signs_reasoning: bool,
    /// Instead of edits: the texts are collected.
    texts: Option<StreamTexts>,
}

#[derive(Debug, Default)]
struct Block {
    text: BlockText,
    /// While something is held back: the last event, with a gap for more of its text.
    last: Option<Template>,
    /// The call of a tool, by its id.
    call: Option<u64>,
}

/// An event that is being edited.
struct EventCopy<'e> {
    name: &'e str,
    source: &'e [u8],
    /// The edits of all that is no piece of a block.
    edits: &'e [(Range<usize>, String)],
    /// The data with those edits, once it is needed.
    data: Option<Arc<[u8]>>,
    /// The blocks so far for which it was read once more.
    long: usize,
}

/// An event that the upstream did not send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraEvent {
    /// The event's name: that of the event before it.
    pub name: String,
    pub data: Vec<u8>,
}

/// What becomes of an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RestoredEvent {
    /// Events to send before it.
    pub before: Vec<ExtraEvent>,
    /// Its data; `None` if they are the same.
    pub data: Option<Vec<u8>>,
}

impl StreamRestorer {
    /// A restorer of one answer's stream. Without edits there is nothing to do, so that the stream need not
    /// pass through one.
    pub fn new(format: Format, edits: AnswerEdits) -> Self {
        Self {
            format,
            edits,
            blocks: BTreeMap::new(),
            signed: BTreeSet::new(),
            signs_reasoning: false,
            texts: None,
        }
    }

    /// Before the first event: the provider signs its reasoning, and the signature comes at the end.
    pub fn keep_reasoning(&mut self) {
        self.signs_reasoning = true;
    }

    /// One that edits nothing, and collects the texts that the model has written.
    pub fn collecting(format: Format) -> Self {
        let texts = Some(StreamTexts::default());
        Self { texts, ..Self::new(format, AnswerEdits::default()) }
    }

    /// The texts that were collected, when the stream has ended.
    pub fn take_texts(&mut self) -> Result<Vec<Vec<u8>>, ScanError> {
        self.texts.take().map_or_else(|| Ok(Vec::new()), StreamTexts::finish)
    }

    /// What becomes of the answer.
    pub fn edits(&self) -> &AnswerEdits {
        &self.edits
    }

    /// The same, to be changed.
    pub fn edits_mut(&mut self) -> &mut AnswerEdits {
        &mut self.edits
    }

    /// The bytes that are kept of its blocks.
    pub fn kept(&self) -> usize {
        let blocks = self.blocks.values();
        blocks
            .map(|block| block.text.kept() + block.last.as_ref().map_or(0, Template::length))
            .sum()
    }

    /// Restores an event. `name` is empty for an event without one; `data` are those of a server-sent
    /// event, or the payload of a binary one.
    pub fn event(&mut self, name: &str, data: &[u8]) -> RestoredEvent {
        if let Some(texts) = &mut self.texts {
            texts.read(self.format, name, data);
            return RestoredEvent::default();
        }
        let is_scanned = self.edits.has_scan();
        let trimmed = data.trim_ascii();
        if trimmed.is_empty() {
            // A ping may come between two pieces of a text.
            return RestoredEvent::default();
        }
        let Ok(parts) = read_event(self.format, name, data, is_scanned) else {
            let before = self.finish();
            if trimmed != b"[DONE]" {
                self.edits.fail(ScanError::NotEvent);
            }
            return RestoredEvent { before, data: None };
        };
        let EventParts { deltas, values, ends } = parts;
        let (signed, deltas): (Vec<_>, Vec<_>) =
            deltas.into_iter().partition(|delta| self.is_signed(delta));
        let mut before: Vec<ExtraEvent> =
            signed.iter().filter_map(|delta| self.sign(&delta.block)).collect();
        before.extend(deltas.iter().filter_map(|delta| self.end_other_call(delta)));
        before.extend(self.end_blocks(&deltas, &ends));
        let mut edits: Vec<(Range<usize>, String)> =
            values.into_iter().filter_map(|value| value.edited(&mut self.edits)).collect();
        edits.extend(self.edit_deltas(name, data, &deltas, (&edits, &ends)));
        edits.sort_by_key(|(range, _)| range.start);
        RestoredEvent { before, data: edited(data, &edits) }
    }

    /// An event's own name; `None` if it stays the same.
    pub fn name(&mut self, name: &str) -> Option<String> {
        self.edits.edited(name, Some(b""))
    }

    /// What is still held back, when the stream ends.
    pub fn finish(&mut self) -> Vec<ExtraEvent> {
        let blocks = std::mem::take(&mut self.blocks);
        blocks.into_values().filter_map(|mut block| block.flush(&mut self.edits)).collect()
    }

    /// Whether a piece of reasoning has to stay as its provider signs it.
    fn is_signed(&self, delta: &Delta) -> bool {
        delta.is_signed
            || (delta.is_detail && self.signs_reasoning)
            || self.signed.contains(&delta.block)
    }

    /// From here on the block is signed. Gives what was held back of it.
    fn sign(&mut self, block: &BlockId) -> Option<ExtraEvent> {
        if self.signed.len() < MAX_BLOCKS {
            self.signed.insert(*block);
        }
        self.blocks.remove(block)?.flush(&mut self.edits)
    }

    /// Some providers give all calls of tools the same number: what was held back of one before another
    /// begins with this piece.
    fn end_other_call(&mut self, delta: &Delta) -> Option<ExtraEvent> {
        let call = delta.call?;
        let is_other = |block: &Block| block.call.is_some_and(|own| own != call);
        self.blocks.get(&delta.block).filter(|block| is_other(block))?;
        self.blocks.remove(&delta.block)?.flush(&mut self.edits)
    }

    /// The edits of an event's pieces. `others` are those of what else is in it.
    fn edit_deltas(
        &mut self,
        name: &str,
        data: &[u8],
        deltas: &[Delta],
        (others, ends): (&[(Range<usize>, String)], &Ends),
    ) -> Vec<(Range<usize>, String)> {
        let mut last_pieces = BTreeMap::new();
        for (place, delta) in deltas.iter().enumerate() {
            last_pieces.insert(&delta.block, place);
        }
        let mut copy = EventCopy { name, source: data, edits: others, data: None, long: 0 };
        let mut new = Vec::new();
        for (place, delta) in deltas.iter().enumerate() {
            let is_last = last_pieces.get(&delta.block) == Some(&place);
            let is_end = is_last && (delta.is_last || ends.contain(&delta.block));
            let mut text = String::new();
            self.edit(delta, (is_last, is_end), &mut copy, &mut text);
            if text != delta.text {
                new.push((delta.range.clone(), quoted(&text)));
            }
        }
        new
    }

    /// Appends to `out` what goes down of a piece. Says whether it is the last one of its block in the
    /// event, and of all.
    fn edit(
        &mut self,
        delta: &Delta,
        (is_last, is_end): (bool, bool),
        copy: &mut EventCopy<'_>,
        out: &mut String,
    ) {
        let Self { blocks, edits, .. } = self;
        let is_full = blocks.len() >= MAX_BLOCKS && !blocks.contains_key(&delta.block);
        if is_end || is_full {
            if !is_end {
                edits.fail(ScanError::TooLong);
            }
            let mut block = blocks.remove(&delta.block).unwrap_or_default();
            block.text.push(edits, &delta.text, out);
            block.text.finish(edits, out);
            return;
        }
        let block = blocks.entry(delta.block).or_default();
        block.call = delta.call.or(block.call);
        block.text.push(edits, &delta.text, out);
        if !is_last {
            return;
        }
        block.last = None;
        if block.text.is_holding() {
            block.last = copy.template(delta);
            if block.last.is_none() {
                edits.fail(ScanError::TooLong);
                block.text.finish(edits, out);
            }
        }
    }

    /// What was held back of blocks that end before or with this event and have no piece in it, and of
    /// those whose candidate goes on with another text.
    fn end_blocks(&mut self, deltas: &[Delta], ends: &Ends) -> Vec<ExtraEvent> {
        let mut before = Vec::new();
        let pieces: BTreeSet<&BlockId> = deltas.iter().map(|delta| &delta.block).collect();
        let mut texts: BTreeMap<u32, BTreeSet<TextKind>> = BTreeMap::new();
        for delta in deltas.iter().filter(|delta| !delta.text.is_empty()) {
            texts.entry(delta.block.item).or_default().insert(delta.block.kind());
        }
        let is_followed = |block: &BlockId| {
            let others = texts.get(&block.item).into_iter().flatten();
            others.into_iter().any(|kind| *kind != block.kind())
        };
        let edits = &mut self.edits;
        self.blocks.retain(|id, block| {
            if pieces.contains(id) {
                return true;
            }
            let is_end = ends.contain(id);
            if is_end || is_followed(id) {
                before.extend(block.flush(edits));
            }
            !is_end
        });
        before
    }
}

impl EventCopy<'_> {
    /// A copy with a gap for a piece; `None` if it is too long.
    fn template(&mut self, delta: &Delta) -> Option<Template> {
        if self.name.len() > MAX_NAME {
            return None;
        }
        if delta.is_start {
            return Some(Template::after_start(delta.block.item));
        }
        let Self { name, source, edits, data, .. } = self;
        let data = data.get_or_insert_with(|| {
            edited(source, edits).map_or_else(|| Arc::from(*source), Arc::from)
        });
        if data.len() > MAX_TEMPLATE {
            self.long += 1;
            if self.long > MAX_LONG_COPIES {
                return None;
            }
        }
        let Range { start, end } = delta.range;
        let before = edits.partition_point(|(range, _)| range.start < start);
        let (mut longer, mut shorter) = (0, 0);
        for (range, new) in edits.get(..before).unwrap_or_default() {
            longer += new.len();
            shorter += range.len();
        }
        let moved = |place: usize| place + longer - shorter;
        Template::new(name, data, moved(start)..moved(end))
    }
}

impl Block {
    /// An event with what is held back.
    fn flush(&mut self, edits: &mut AnswerEdits) -> Option<ExtraEvent> {
        let mut text = String::new();
        self.text.finish(edits, &mut text);
        let template = self.last.take()?;
        if text.is_empty() { None } else { template.fill(&text) }
    }
}

#[cfg(test)]
mod tests;
