//! Requests and answers from one format into another. Pure: no I/O, no clock, no randomness.
//!
//! A request is read into [`request::Request`], which keeps the order of what was said, and written for the
//! target. An answer is read into events ([`answer::AnswerEvent`]) and written for the caller; a plain one
//! is the fold of its events. Where caller and target have one format, nothing here is used: the body is
//! spliced and relayed.
//!
//! Every format has a folder: `read_request` and `AnswerWriter` for those that callers may use (chat,
//! responses, messages), `write_request`, `read_answer` and `StreamReader` for all.
//!
//! Rules that hold for all: a neutral value (the documented default) never causes an error; nothing is
//! reordered or made up; output depends on the input alone, so that turn n of a conversation is a prefix of
//! turn n + 1; words that are not known survive as text.

pub mod answer;
mod converse;
pub mod error;
mod fields;
mod gemini;
mod ids;
mod names;
pub mod opaque;
pub mod request;
mod runs;
#[cfg(test)]
mod sample_turns;
mod sequence;
#[cfg(test)]
mod shown;

pub use ids::IdRule;
pub use names::ToolNames;

/// What a writer of requests has to know of the target.
#[derive(Debug, Clone, Copy)]
pub struct Target<'t> {
    /// The model as the target calls it. Formats with the model in the path do not write it.
    pub model: &'t str,
    /// The limit for formats that need one where the caller set none, in tokens.
    pub default_max_tokens: u64,
    /// Google's own API, which takes the ids of calls; Vertex refuses them.
    pub takes_call_ids: bool,
}

/// What a writer of answers has to know of the request.
#[derive(Debug, Clone, Default)]
pub struct AnswerContext {
    /// The model as the caller named it.
    pub model: String,
    /// When the request came, in seconds since 1970.
    pub created: u64,
    /// Makes ids unique: letters and digits that no other request has, at most 32.
    pub seed: String,
    /// Whether a chat stream ends with an event of usage.
    pub include_usage: bool,
    /// The gateway's estimate of the input, in tokens, where the provider does not report it.
    pub estimated_input: u64,
    /// Members of the request that the Responses API repeats in its answer, raw.
    pub echo: Vec<(&'static str, String)>,
}
