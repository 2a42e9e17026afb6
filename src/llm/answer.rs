//! Watches answers as they pass: what they cost, which model gave them, and whether a stream ended
//! as a stream should. Nothing here holds an answer back, but for the one event that is not the
//! caller's.

mod passing;
mod plain;
mod stream;
mod text;

pub use plain::BodyWatch;
pub use stream::{End, Finish, StreamKind, StreamWatch};

use crate::llm::usage::Report;

/// What an answer said about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The usage that was reported, in the last report where there were several.
    pub usage: Option<Report>,
    /// The model that answered.
    pub model: Option<String>,
}
