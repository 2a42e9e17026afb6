//! What the API formats mean, without I/O: requests' limits, answers, streams, usage, texts and
//! error bodies. No actix, no clock, no network.

pub mod answer;
pub mod error;
pub mod limits;
mod prompt;
pub mod sample;
pub(crate) mod spread;
pub mod sse;
pub mod usage;
