//! What requests used and cost: reading it out of answers, pricing it, and recording it.

pub mod catalogue;
pub mod estimate;
pub mod journal;
pub mod ledger;
pub mod prices;
mod prompt;
pub mod record;
pub mod sample;
pub(crate) mod spread;
pub(crate) mod strings;
pub mod usage;
