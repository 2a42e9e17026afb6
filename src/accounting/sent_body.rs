//! What was sent upstream, kept until it is known whether its tokens have to be estimated. Most
//! answers report their usage, so a plain request's body is looked at only if its answer did not; a
//! stream may last for hours, so its request is reduced to a sample when the answer begins.

use std::sync::Arc;

use super::budget::Share;
use crate::json::object::BodyPieces;
use crate::llm::text_sample::TextSample;

/// The body that was sent, or a sample of its text.
pub enum SentBody {
    /// With its share of the memory budget.
    Whole(BodyPieces, Option<Arc<Share>>),
    Sample(TextSample),
}

impl Default for SentBody {
    fn default() -> Self {
        Self::Whole(BodyPieces::default(), None)
    }
}

impl SentBody {
    /// Drops the body and keeps a sample.
    pub fn shorten(&mut self) {
        if let Self::Whole(body, _) = self {
            *self = Self::Sample(TextSample::of_request(&body.to_bytes()));
        }
    }

    /// The text to estimate from.
    pub fn into_sample(self) -> TextSample {
        match self {
            Self::Whole(body, _) => TextSample::of_request(&body.to_bytes()),
            Self::Sample(sample) => sample,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::accounting::budget::Budget;
    use crate::llm::text_sample::MAX_SAMPLE_BYTES;

    #[test]
    fn a_shortened_body_gives_its_memory_back() {
        let budget = Budget::new(1);
        let bytes = Bytes::from(format!("{{\"input\":\"{}\"}}", "x".repeat(MAX_SAMPLE_BYTES)));
        let whole =
            SentBody::Whole(bytes.clone().into(), budget.take(1).map(Arc::new)).into_sample();
        let mut sent = SentBody::Whole(bytes.clone().into(), budget.take(1).map(Arc::new));
        assert!(budget.take(1).is_none());
        sent.shorten();
        assert!(budget.take(1).is_some() && bytes.is_unique());
        sent.shorten();
        assert_eq!(sent.into_sample(), whole, "the first sample is kept");
    }
}
