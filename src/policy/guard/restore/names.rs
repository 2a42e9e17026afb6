//! Collects the texts of a stream that its model has written, for a service that recognizes names.

use std::collections::BTreeMap;

use super::super::answer_names::AnswerTexts;
use super::super::redact::ScanError;
use super::deltas::{BlockId, EventParts, read_event};
use crate::llm::format::Format;

#[derive(Debug, Default)]
pub(super) struct StreamTexts {
    /// Texts that arrive in pieces.
    blocks: BTreeMap<BlockId, String>,
    others: AnswerTexts,
}

impl StreamTexts {
    pub(super) fn read(&mut self, format: Format, name: &str, data: &[u8]) {
        let Ok(EventParts { deltas, values, .. }) = read_event(format, name, data, true) else {
            return;
        };
        for delta in deltas.into_iter().filter(|delta| !delta.is_signed) {
            self.blocks.entry(delta.block).or_default().push_str(&delta.text);
        }
        values.iter().for_each(|value| value.collect(&mut self.others));
    }

    pub(super) fn finish(self) -> Result<Vec<Vec<u8>>, ScanError> {
        let Self { blocks, mut others } = self;
        blocks.values().for_each(|text| others.add(text.as_bytes(), b"text"));
        others.finish()
    }
}
