//! OpenAI Responses. A conversation is a list of items: messages, calls of functions and their outputs, and
//! reasoning.
//!
//! What belongs to other families travels in the `encrypted_content` of reasoning items, in a container
//! ([`super::opaque`]). A signature that belongs to a text or a call (Gemini) has a reasoning item of its
//! own, whose container names in place of an id what it belongs to: the id of the call, or
//! [`OF_TEXT`] for the text before it.

mod answer_reader;
mod answer_writer;
mod content;
mod echo;
mod input;
mod item_writer;
mod open_item;
mod read_request;
mod stream_reader;
mod tools;
mod upstream_item;
mod write_request;

pub(super) use answer_reader::read_answer;
pub(super) use answer_writer::{AnswerWriter, write_answer};
pub(super) use echo::echo;
pub(super) use read_request::read_request;
pub(super) use stream_reader::StreamReader;
pub(super) use write_request::write_request;

/// Stands in a container for the id of a call where the signature belongs to the text before it.
const OF_TEXT: &str = "text";

/// The most of a caller's word that errors repeat, in characters.
const MAX_KIND_CHARS: usize = 64;

/// Between the parts of a summary when they become one text.
const PARAGRAPH: &str = "\n\n";

/// Why a kind of item, tool or content is refused.
fn only_openai(kind: &str, of: &str) -> String {
    let kind: String = kind.chars().take(MAX_KIND_CHARS).collect();
    format!(
        "is '{kind}', a kind of {of} that only OpenAI's Responses API has; leave it out, or use one of \
         OpenAI's models"
    )
}

#[cfg(test)]
mod tests;
