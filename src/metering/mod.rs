//! What requests used and cost: reading it out of answers, and recording it.

pub mod estimate;
pub mod record;
pub mod sample;
pub(crate) mod strings;
pub mod usage;
