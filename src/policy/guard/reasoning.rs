//! `reasoning_details` of chats (OpenRouter): reasoning in entries. Those with the same `index` are pieces of
//! one reasoning, which its provider has signed if one of them has a signature.

use std::collections::BTreeSet;

/// The key of the array.
pub(super) const DETAILS: &[u8] = b"reasoning_details";

/// The entries of one array.
#[derive(Debug, Default)]
pub(super) struct ReasoningEntries {
    entries: Vec<Entry>,
    /// The indexes of those with a signature.
    signed: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Entry {
    index: Option<u64>,
    is_signed: bool,
}

impl ReasoningEntries {
    /// At the beginning of a further entry. Gives its number.
    pub(super) fn begin(&mut self) -> usize {
        self.entries.push(Entry::default());
        self.entries.len() - 1
    }

    /// Notes what a string of the entry that is being read says.
    pub(super) fn read_string(&mut self, key: &[u8], value: &[u8]) {
        if let Some(entry) = self.entries.last_mut() {
            entry.is_signed |= key == b"signature" && !value.is_empty();
        }
    }

    /// The same for a literal.
    pub(super) fn read_literal(&mut self, key: &[u8], literal: &[u8]) {
        if let Some(entry) = self.entries.last_mut().filter(|_| key == b"index") {
            entry.index = std::str::from_utf8(literal).ok().and_then(|index| index.parse().ok());
        }
    }

    /// At the end of an entry.
    pub(super) fn end(&mut self) {
        if let Some(Entry { index: Some(index), is_signed: true }) = self.entries.last() {
            self.signed.insert(*index);
        }
    }

    /// At the end of the array: whether an entry, or another piece of its reasoning, has a signature.
    pub(super) fn is_signed(&self, number: usize) -> bool {
        self.entries.get(number).is_some_and(|entry| {
            entry.is_signed || entry.index.is_some_and(|index| self.signed.contains(&index))
        })
    }
}

/// Whether text in this form is signed in the end, `anthropic-claude-v1`: in a stream the signature comes
/// after what it is of.
pub(super) fn is_signed_form(form: &[u8]) -> bool {
    form.starts_with(b"anthropic") || form.starts_with(b"bedrock")
}
