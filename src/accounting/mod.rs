//! Requests that an upstream may bill: admitting them, recording their attempts, settling what they
//! used and cost.

pub mod account;
pub mod budget;
pub mod catalogue;
mod charge;
pub mod engine;
pub mod journal;
pub mod ledger;
pub mod prices;
pub mod record;
pub mod request;
pub mod sent_body;
pub mod usage_estimate;
