//! Restores a stream, event by event.
//!
//! Each block of the answer has a text of its own. What may be the beginning of a placeholder is held
//! back, and sent with the block's next piece, or in an event of its own when the block ends: a copy of
//! the block's last event with other text.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::redact::ScanError;
use super::block::{AnswerEdits, BlockText};
use super::deltas::{BlockId, Delta, Ends, EventParts, read_event};
use super::names::StreamTexts;
use super::{edit_answer, edited, quoted};
use crate::llm::format::Format;

/// The most blocks of an answer that are followed at once. In those beyond, placeholders are restored
/// where one piece has all of them.
const MAX_BLOCKS: usize = 1024;
/// The most pieces of text in one event whose blocks are followed, and the most bytes of such an event, of
/// which blocks keep copies. In others, placeholders are restored where one piece has all of them.
const MAX_DELTAS: usize = 256;
const MAX_TEMPLATE: usize = 16 * 1024;

/// Restores the stream of one answer.
#[derive(Debug)]
pub struct StreamRestorer {
    format: Format,
    edits: AnswerEdits,
    blocks: BTreeMap<BlockId, Block>,
    /// Instead of edits: the texts are collected.
    texts: Option<StreamTexts>,
}

#[derive(Debug, Default)]
struct Block {
    text: BlockText,
    /// While something is held back: the last event, with a hole.
    last: Option<Template>,
}

/// An event with a hole for a piece of text.
#[derive(Debug)]
struct Template {
    name: String,
    before: Vec<u8>,
    after: Vec<u8>,
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
        Self { format, edits, blocks: BTreeMap::new(), texts: None }
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

    /// What becomes of the answer.
    pub fn edits_mut(&mut self) -> &mut AnswerEdits {
        &mut self.edits
    }

    /// Restores an event. `name` is empty for an event without one; `data` are those of a server-sent
    /// event, or the payload of a binary one.
    pub fn event(&mut self, name: &str, data: &[u8]) -> RestoredEvent {
        if let Some(texts) = &mut self.texts {
            texts.read(self.format, name, data);
            return RestoredEvent::default();
        }
        // `[DONE]`, and what is not of the format.
        let Ok(parts) = read_event(self.format, name, data, self.edits.has_scan()) else {
            return RestoredEvent { before: self.finish(), data: None };
        };
        let EventParts { deltas, strings, ends } = parts;
        if deltas.len() > MAX_DELTAS || (!deltas.is_empty() && data.len() > MAX_TEMPLATE) {
            let before = self.finish();
            let data = edit_answer(self.format, data, &mut self.edits);
            return RestoredEvent { before, data };
        }
        let mut before = self.end_blocks(&deltas, &ends);
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        edits.extend(strings.into_iter().filter_map(|string| string.edited(&mut self.edits)));
        for (place, delta) in deltas.iter().enumerate() {
            let Some(text) = &delta.text else {
                before.extend(self.flush(&delta.block));
                continue;
            };
            let is_last_piece =
                !deltas.iter().skip(place + 1).any(|later| later.block == delta.block);
            let is_end = is_last_piece && ends.contain(&delta.block);
            let new = self.restore(delta, text, is_end);
            if new != *text {
                edits.push((delta.range.clone(), quoted(&new)));
            }
        }
        edits.sort_by_key(|(range, _)| range.start);
        self.keep_templates(name, data, &deltas, &edits);
        RestoredEvent { before, data: edited(data, &edits) }
    }

    /// What is still held back, when the stream ends.
    pub fn finish(&mut self) -> Vec<ExtraEvent> {
        let blocks = std::mem::take(&mut self.blocks);
        blocks.into_values().filter_map(|mut block| block.flush(&mut self.edits)).collect()
    }

    fn restore(&mut self, delta: &Delta, text: &str, is_end: bool) -> String {
        let mut new = String::new();
        let is_full = self.blocks.len() >= MAX_BLOCKS && !self.blocks.contains_key(&delta.block);
        if is_end || is_full {
            let mut block = self.blocks.remove(&delta.block).unwrap_or_default();
            block.text.push(&mut self.edits, text, &mut new);
            block.text.finish(&mut self.edits, &mut new);
        } else {
            let block = self.blocks.entry(delta.block.clone()).or_default();
            block.text.push(&mut self.edits, text, &mut new);
        }
        new
    }

    /// What was held back of blocks that end before or with this event and have no piece in it, and of
    /// those whose candidate goes on with another text.
    fn end_blocks(&mut self, deltas: &[Delta], ends: &Ends) -> Vec<ExtraEvent> {
        let mut before = Vec::new();
        let has_piece = |block: &BlockId| deltas.iter().any(|delta| delta.block == *block);
        let is_followed = |block: &BlockId| {
            deltas.iter().any(|delta| {
                delta.text.as_ref().is_none_or(|text| !text.is_empty())
                    && block.follows(&delta.block)
            })
        };
        let edits = &mut self.edits;
        self.blocks.retain(|id, block| {
            if has_piece(id) {
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

    fn flush(&mut self, block: &BlockId) -> Option<ExtraEvent> {
        self.blocks.get_mut(block)?.flush(&mut self.edits)
    }

    /// Keeps the event for blocks of which something is held back.
    fn keep_templates(
        &mut self,
        name: &str,
        data: &[u8],
        deltas: &[Delta],
        edits: &[(Range<usize>, String)],
    ) {
        for (place, delta) in deltas.iter().enumerate() {
            let Some(block) = self.blocks.get_mut(&delta.block) else { continue };
            if !block.text.is_holding() {
                block.last = None;
                continue;
            }
            let is_delta = |range: &Range<usize>| deltas.iter().any(|delta| delta.range == *range);
            let mut edits: Vec<_> =
                edits.iter().filter(|(range, _)| !is_delta(range)).cloned().collect();
            let others = deltas.iter().enumerate().filter(|(other, _)| *other != place);
            edits.extend(others.map(|(_, other)| (other.range.clone(), "\"\"".to_owned())));
            edits.sort_by_key(|(range, _)| range.start);
            let hole = edits.partition_point(|(range, _)| range.start < delta.range.start);
            let (first, rest) = edits.split_at(hole);
            let start = data.get(..delta.range.start).unwrap_or_default();
            let end: Vec<_> = rest
                .iter()
                .map(|(range, text)| {
                    (range.start - delta.range.end..range.end - delta.range.end, text.clone())
                })
                .collect();
            let rest = data.get(delta.range.end..).unwrap_or_default();
            block.last = Some(Template {
                name: name.to_owned(),
                before: edited(start, first).unwrap_or_else(|| start.to_vec()),
                after: edited(rest, &end).unwrap_or_else(|| rest.to_vec()),
            });
        }
    }
}

impl Block {
    /// An event with what is held back.
    fn flush(&mut self, edits: &mut AnswerEdits) -> Option<ExtraEvent> {
        let mut text = String::new();
        self.text.finish(edits, &mut text);
        let Template { name, mut before, after } = self.last.take()?;
        if text.is_empty() {
            return None;
        }
        before.extend_from_slice(quoted(&text).as_bytes());
        before.extend_from_slice(&after);
        Some(ExtraEvent { name, data: before })
    }
}

#[cfg(test)]
mod tests;
