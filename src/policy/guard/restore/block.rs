//! One text of an answer on its way to the caller: what must not reach it is masked, then placeholders are
//! restored.

use super::super::answer::AnswerScan;
use super::super::placeholder::Placeholders;
use super::super::redact::ScanError;
use super::mask::{Masking, TextMasker};
use super::text::TextRestorer;

/// What becomes of the texts of an answer.
#[derive(Debug, Default)]
pub struct AnswerEdits {
    pub(super) placeholders: Placeholders,
    pub(super) scan: Option<AnswerScan>,
}

impl AnswerEdits {
    /// The placeholders of the request, and the scan, if the answer is scanned.
    pub fn new(placeholders: Placeholders, scan: Option<AnswerScan>) -> Self {
        Self { placeholders, scan }
    }

    /// Whether every answer stays as it is.
    pub fn are_none(&self) -> bool {
        self.placeholders.is_empty() && self.scan.is_none()
    }

    /// The placeholders of the request.
    pub fn placeholders(&self) -> &Placeholders {
        &self.placeholders
    }

    /// The scan of the answer.
    pub fn scan(&self) -> Option<&AnswerScan> {
        self.scan.as_ref()
    }

    /// The scan of the answer.
    pub fn scan_mut(&mut self) -> Option<&mut AnswerScan> {
        self.scan.as_mut()
    }

    /// Whether answers are scanned.
    pub(super) fn has_scan(&self) -> bool {
        self.scan.is_some()
    }

    /// Whether what is found in the answer may have to be masked, and is not only reported.
    pub(super) fn has_masks(&self) -> bool {
        self.scan.as_ref().is_some_and(|scan| scan.guard().masks())
    }

    /// A part of the answer cannot be scanned, if the answer is.
    pub(super) fn fail(&mut self, error: ScanError) {
        if let Some(scan) = &mut self.scan {
            scan.fail(error);
        }
    }

    fn masking(&mut self) -> Option<Masking<'_>> {
        let placeholders = &self.placeholders;
        self.scan.as_mut().map(|scan| Masking { scan, placeholders })
    }

    /// A whole text with its values; `None` if it stays the same. One that the model has written is scanned,
    /// as the value of the JSON member `name`.
    pub(super) fn edited(&mut self, text: &str, name: Option<&[u8]>) -> Option<String> {
        let masking = name.and_then(|name| self.masking().map(|masking| (masking, name)));
        let masked =
            masking.map(|(mut masking, name)| TextMasker::mask_whole(&mut masking, text, name));
        let masked = masked.as_deref().unwrap_or(text);
        let (mut restorer, mut new) = (TextRestorer::default(), String::new());
        restorer.push(&self.placeholders, masked, &mut new);
        restorer.finish(&self.placeholders, &mut new);
        (new != text).then_some(new)
    }

    /// The mask of a number in the arguments of a tool, the value of the JSON member `name`; `None` if it
    /// stays.
    pub(super) fn edited_number(&mut self, digits: &str, name: &[u8]) -> Option<String> {
        let mut masking = self.masking()?;
        let masked = TextMasker::mask_whole(&mut masking, digits, name);
        (masked != digits).then_some(masked)
    }
}

impl From<Placeholders> for AnswerEdits {
    fn from(placeholders: Placeholders) -> Self {
        Self { placeholders, scan: None }
    }
}

/// Edits one text that arrives in pieces.
#[derive(Debug, Default)]
pub(super) struct BlockText {
    mask: TextMasker,
    restorer: TextRestorer,
}

impl BlockText {
    /// Whether something is held back.
    pub(super) fn is_holding(&self) -> bool {
        self.mask.is_holding() || self.restorer.is_holding()
    }

    /// The bytes that are kept.
    pub(super) fn kept(&self) -> usize {
        self.mask.kept() + self.restorer.kept()
    }

    /// Appends to `out` what follows in the edited text after this piece of it.
    pub(super) fn push(&mut self, edits: &mut AnswerEdits, piece: &str, out: &mut String) {
        let Some(mut masking) = edits.masking() else {
            return self.restorer.push(&edits.placeholders, piece, out);
        };
        let mut masked = String::new();
        self.mask.push(&mut masking, piece, &mut masked);
        self.restorer.push(&edits.placeholders, &masked, out);
    }

    /// Appends the rest.
    pub(super) fn finish(&mut self, edits: &mut AnswerEdits, out: &mut String) {
        if let Some(mut masking) = edits.masking() {
            let mut masked = String::new();
            self.mask.finish(&mut masking, &mut masked);
            self.restorer.push(&edits.placeholders, &masked, out);
        }
        self.restorer.finish(&edits.placeholders, out);
    }
}
