//! What requests used and cost: reading it out of answers, pricing it, and recording it.

pub mod account;
pub mod budget;
pub mod catalogue;
pub mod engine;
pub mod estimate;
pub mod journal;
pub mod ledger;
pub mod prices;
pub mod record;
pub mod request;
pub mod sent_body;
