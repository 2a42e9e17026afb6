//! Observes answers while they are relayed: what they used, which model gave them, whether they are an
//! answer at all, and whether a stream ended as it should. Nothing is held back here but the usage
//! event that the caller did not ask for.

mod array;
mod binary;
pub(super) mod event;
mod kept_event;
pub(super) mod members;
mod partial_event;
mod plain;
mod plain_contents;
pub(super) mod search_calls;
mod stream;
mod stream_contents;

pub use binary::BinaryEvents;
pub use plain::PlainAnswer;
pub use stream::{StreamEnd, StreamForm, StreamRest, StreamedAnswer, first_byte};

use crate::domain::pricing::ToolCalls;
use crate::llm::usage::ReportedUsage;

/// What was read out of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedAnswer {
    /// The usage that was reported, all reports combined.
    pub usage: Option<ReportedUsage>,
    /// The model that answered.
    pub model: Option<String>,
    /// What kind of answer it is.
    pub content: AnswerContent,
    /// Calls of OpenAI's tools that have a fee of their own.
    pub calls: ToolCalls,
    /// The id of an answer of OpenAI's Responses API.
    pub response_id: Option<String>,
}

/// What kind of answer a success status came with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnswerContent {
    /// Neither an answer nor usage.
    #[default]
    Nothing,
    /// The provider has accepted the request and goes on working on it.
    Pending,
    /// An answer, or a part of it, or a report of what it used.
    Answer,
    /// The provider reports an error. Parts of an answer may have come before.
    Error,
}

impl AnswerContent {
    /// The stable code of a whole answer that is no success in spite of its status.
    pub fn failure_code(self) -> Option<&'static str> {
        match self {
            Self::Nothing => Some("upstream_no_answer"),
            Self::Error => Some("upstream_reported_error"),
            Self::Pending | Self::Answer => None,
        }
    }

    /// Takes in that a part of an answer, or an error, has come.
    fn add(&mut self, is_answer: bool, is_error: bool) {
        if is_error {
            *self = Self::Error;
        } else if is_answer && *self == Self::Nothing {
            *self = Self::Answer;
        }
    }
}
