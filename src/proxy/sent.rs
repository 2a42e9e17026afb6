//! What went up, kept for the case that nobody but the gateway counts its tokens. Most answers tell
//! them, so a plain one's request is looked at only when it did not; a stream may last for hours, so
//! its request is walked through and let go as soon as the answer begins.

use bytes::Bytes;

use super::budget::Share;
use crate::llm::sample::Sample;

/// The body that went up, or what is left of it.
pub enum Sent {
    /// All of it.
    Body {
        /// The body.
        bytes: Bytes,
        /// The right to hold it in memory.
        memory: Option<Share>,
    },
    /// As much as may be held for as long as a stream lasts.
    Sample(Sample),
}

impl Sent {
    /// Lets the body go, but for a sample; see [`Sample::of_body`] for the seed.
    pub fn shorten(&mut self, seed: u64) {
        if let Self::Body { bytes, .. } = self {
            *self = Self::Sample(Sample::of_body(bytes, seed));
        }
    }

    /// What is to be counted.
    pub fn into_sample(self, seed: u64) -> Sample {
        match self {
            Self::Body { bytes, .. } => Sample::of_body(&bytes, seed),
            Self::Sample(sample) => sample,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::sample::LONGEST_SAMPLE;
    use crate::proxy::budget::Budget;

    #[test]
    fn a_long_body_and_its_memory_are_let_go() {
        let budget = Budget::new(1);
        let bytes = Bytes::from(format!("{{\"input\":\"{}\"}}", "x".repeat(LONGEST_SAMPLE)));
        let whole = Sent::Body { bytes: bytes.clone(), memory: budget.take(1) }.into_sample(7);
        let mut sent = Sent::Body { bytes: bytes.clone(), memory: budget.take(1) };
        assert!(budget.take(1).is_none());
        sent.shorten(7);
        assert!(budget.take(1).is_some() && bytes.is_unique());
        sent.shorten(8);
        assert_eq!(sent.into_sample(8), whole, "it is the sample that was taken first");
    }
}
