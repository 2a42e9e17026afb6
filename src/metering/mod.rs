//! What requests used and cost: reading it out of answers, pricing it, and recording it.

pub mod catalogue;
pub mod prices;
pub mod record;
pub mod usage;
