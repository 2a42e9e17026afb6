//! What was sent upstream, kept until it is known whether its tokens have to be estimated. Most
//! answers report their usage, so a plain request's body is looked at only if its answer did not; a
//! stream may last for hours, so its request is reduced to a sample when the answer begins.

use bytes::Bytes;

use super::budget::Share;
use crate::llm::sample::Sample;

/// The body that was sent, or a sample of its text.
pub enum SentBody {
    /// With its share of the memory budget.
    Whole(Bytes, Option<Share>),
    Sample(Sample),
}

impl SentBody {
    /// Drops the body and keeps a sample; see [`Sample::of_body`] for the seed.
    pub fn shorten(&mut self, seed: u64) {
        if let Self::Whole(bytes, _) = self {
            *self = Self::Sample(Sample::of_body(bytes, seed));
        }
    }

    /// The text to estimate from.
    pub fn into_sample(self, seed: u64) -> Sample {
        match self {
            Self::Whole(bytes, _) => Sample::of_body(&bytes, seed),
            Self::Sample(sample) => sample,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::budget::Budget;
    use crate::llm::sample::LONGEST_SAMPLE;

    #[test]
    fn a_shortened_body_gives_its_memory_back() {
        let budget = Budget::new(1);
        let bytes = Bytes::from(format!("{{\"input\":\"{}\"}}", "x".repeat(LONGEST_SAMPLE)));
        let whole = SentBody::Whole(bytes.clone(), budget.take(1)).into_sample(7);
        let mut sent = SentBody::Whole(bytes.clone(), budget.take(1));
        assert!(budget.take(1).is_none());
        sent.shorten(7);
        assert!(budget.take(1).is_some() && bytes.is_unique());
        sent.shorten(8);
        assert_eq!(sent.into_sample(8), whole, "the first sample is kept");
    }
}
