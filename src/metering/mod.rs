//! What requests used and cost: reading it out of answers, and recording it.

pub mod journal;
pub mod ledger;
pub mod record;
pub mod usage;
