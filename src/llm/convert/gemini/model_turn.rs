//! The parts of a turn of the model's, with the signatures of its thoughts where they came from.

use super::super::opaque::{Family, Opaque, OpaqueKind};
use super::super::request::{Block, ReasoningBlock};
use super::part::Part;

/// Stands for the signature of a call that another model made: newer models refuse calls without one
/// (Google, "Thought signatures").
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Collects the parts of one turn.
#[derive(Debug)]
pub(super) struct ModelTurn<'p> {
    parts: Vec<Part<'p>>,
    /// A signature that came in a block of reasoning, with its thoughts. It may belong to the
    /// call or text that follows: formats without a place for signatures there put it before.
    pending: Option<(&'p str, &'p str)>,
    /// The first call of the turn needs a signature.
    needs_signature: bool,
}

impl<'p> ModelTurn<'p> {
    pub(super) fn new(needs_signature: bool) -> Self {
        Self { parts: Vec::new(), pending: None, needs_signature }
    }

    /// A part of another kind than the turn's own.
    pub(super) fn push(&mut self, part: Part<'p>) {
        self.flush();
        self.parts.push(part);
    }

    /// Takes a block of the turn, of which something is to be written. Gives it back if it is media or a
    /// result.
    pub(super) fn take(&mut self, block: &'p Block<'p>) -> Option<&'p Block<'p>> {
        match block {
            Block::Text(block) => {
                let own = signature(&block.opaque);
                let signature = self.take_signature(own, false);
                let text = &block.text;
                self.parts.push(Part::Text { text, is_thought: false, signature });
            }
            Block::Refusal(text) => self.push(Part::text(text)),
            Block::ToolCall(call) => {
                let own = signature(&call.opaque);
                let mut signature = self.take_signature(own, true);
                if self.needs_signature {
                    signature = signature.or(Some(NO_SIGNATURE));
                }
                self.needs_signature = false;
                self.parts.push(Part::Call { call, signature });
            }
            // Thoughts of others are left out: they would be taken for text.
            Block::Reasoning(ReasoningBlock { text, opaque, .. }) => {
                if let Some(signature) = signature(opaque) {
                    self.flush();
                    self.pending = Some((signature, text));
                }
            }
            Block::Media(_) | Block::ToolResult(_) => return Some(block),
        }
        None
    }

    /// The parts in order.
    pub(super) fn finish(mut self) -> Vec<Part<'p>> {
        self.flush();
        self.parts
    }

    /// The signature of the next part: its own, or else the pending one, which a text takes only if it
    /// does not sign thoughts.
    fn take_signature(&mut self, own: Option<&'p str>, is_call: bool) -> Option<&'p str> {
        if own.is_none()
            && let Some((signature, _)) =
                self.pending.take_if(|(_, text)| is_call || text.is_empty())
        {
            return Some(signature);
        }
        self.flush();
        own
    }

    /// Writes the pending signature on a part of its own.
    fn flush(&mut self) {
        if let Some((signature, text)) = self.pending.take() {
            let is_thought = !text.is_empty();
            self.parts.push(Part::Text { text, is_thought, signature: Some(signature) });
        }
    }
}

/// The last signature that Google's models can read.
pub(super) fn signature<'p>(opaque: &'p [Opaque<'_>]) -> Option<&'p str> {
    let own = |one: &&Opaque<'_>| one.is_of(Family::Google) && one.kind == OpaqueKind::Signature;
    opaque.iter().rev().find(own).map(|one| &*one.data)
}
