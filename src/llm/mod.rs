//! What the API formats mean, without I/O: limits of requests, answers, streams, usage, texts and error
//! bodies. No actix, no clock, no network.
//!
//! A format is one variant of [`format::Format`] and one folder with what differs between formats: how
//! its stream events are read, how it names usage, how it reports an error.

pub mod answer;
mod chat;
mod converse;
pub mod convert;
mod embeddings;
pub mod error;
pub mod event_stream;
pub mod format;
pub mod gemini;
pub mod invoke;
pub mod limits;
mod messages;
pub mod model_listing;
pub mod prompt_start;
mod prompt_text;
pub mod provider_error;
mod responses;
pub mod sse;
pub mod stored_state;
#[cfg(test)]
mod test_support;
pub mod text_sample;
pub mod usage;
