//! The sources of a text that Google's search found. Places are given in bytes of the text, and given on
//! in characters.

use super::super::answer::Annotation;
use super::chunk::{Grounding, GroundingSupport, Web};

/// The most of a text that is kept for it, in bytes. Sources of longer texts have no places.
const MAX_TEXT: usize = 64 * 1024;

/// The most annotations of a text: sources may be named often.
const MAX_ANNOTATIONS: usize = 256;

/// The text of a block so far.
#[derive(Debug, Default)]
pub(super) struct KeptText {
    text: String,
    is_too_long: bool,
}

impl KeptText {
    /// Takes more of the text.
    pub(super) fn push(&mut self, text: &str) {
        self.is_too_long |= self.text.len() + text.len() > MAX_TEXT;
        if self.is_too_long {
            self.text = String::new();
        } else {
            self.text.push_str(text);
        }
    }

    /// The sources: each with the places that it supports, or all of them if no places are given.
    pub(super) fn annotations(&self, grounding: Grounding) -> Vec<Annotation> {
        let chunks = grounding.grounding_chunks.unwrap_or_default();
        let source = |index: usize, span| {
            let Web { uri, title } = chunks.get(index)?.web.as_ref()?;
            Some(Annotation { url: uri.clone()?, title: title.clone(), span })
        };
        let supports = grounding.grounding_supports.unwrap_or_default();
        if supports.is_empty() {
            let all = (0..chunks.len()).filter_map(|index| source(index, None));
            return all.take(MAX_ANNOTATIONS).collect();
        }
        let places = supports.iter().flat_map(|support| {
            let span = self.span(support);
            let indexes = support.grounding_chunk_indices.iter().flatten();
            indexes.filter_map(move |index| Some((usize::try_from(*index).ok()?, span)))
        });
        let annotations = places.filter_map(|(index, span)| source(index, span));
        annotations.take(MAX_ANNOTATIONS).collect()
    }

    fn span(&self, support: &GroundingSupport) -> Option<(u64, u64)> {
        let segment = support.segment.as_ref()?;
        let characters = |end: Option<u64>| {
            let before = self.text.get(..usize::try_from(end.unwrap_or(0)).ok()?)?;
            u64::try_from(before.chars().count()).ok()
        };
        let (start, end) = (characters(segment.start_index)?, characters(segment.end_index)?);
        (start < end).then_some((start, end))
    }
}
