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
pub mod answer_conversion;
mod chat;
mod converse;
mod count;
pub mod error;
mod fields;
mod frames;
mod gemini;
mod ids;
mod losses;
mod media;
mod merged_turns;
mod messages;
mod names;
pub mod opaque;
mod other_family;
pub mod request;
mod responses;
#[cfg(test)]
mod sample_blocks;
#[cfg(test)]
mod sample_events;
#[cfg(test)]
mod sample_turns;
mod sequence;
#[cfg(test)]
mod test_rendering;
#[cfg(test)]
mod tests;
pub mod upstream_error;

pub use count::{BEDROCK_MESSAGES, TokenCounter, convert_count, wrap_invocation};
pub use ids::IdRule;
pub use names::ToolNames;
pub use other_family::{ChatReasoning, FamilyRules, may_hold_foreign, without_foreign};

use super::format::Format;
use error::{ConvertError, Dropped};
use request::Block;

/// What a writer of requests has to know of the target.
#[derive(Debug, Clone, Copy)]
pub struct Target<'t> {
    /// The model as the target calls it. Formats with the model in the path do not write it.
    pub model: &'t str,
    /// The limit for formats that need one where the caller set none, in tokens.
    pub default_max_tokens: u64,
    /// Google's own API, which takes the ids of calls; Vertex refuses them.
    pub takes_call_ids: bool,
    /// Which reasoning of earlier turns a provider of chats wants back.
    pub reasoning: ChatReasoning,
    /// The model takes `prompt_cache_breakpoint` (OpenAI's from gpt-5.6 on); others cache by themselves.
    pub takes_cache_breakpoints: bool,
}

impl<'t> Target<'t> {
    /// A target that takes nothing but what its format says.
    pub const fn new(model: &'t str, default_max_tokens: u64) -> Self {
        Self {
            model,
            default_max_tokens,
            takes_call_ids: false,
            reasoning: ChatReasoning::None,
            takes_cache_breakpoints: false,
        }
    }
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

/// How a request is converted.
#[derive(Debug, Clone, Copy)]
pub struct RequestOptions {
    /// Which ids of calls the target takes.
    pub ids: IdRule,
    /// Nothing may be left out.
    pub is_strict: bool,
}

/// A request in the target's format.
#[derive(Debug)]
pub struct ConvertedRequest {
    pub json: String,
    /// The tools' names that were replaced.
    pub names: ToolNames,
    /// The caller's fields that were left out, each once.
    pub dropped: Vec<String>,
    /// What writing the answer needs of the request.
    pub include_usage: bool,
    pub echo: Vec<(&'static str, String)>,
}

/// Puts a caller's request into the format of a target. `from` is chat, responses or messages.
pub fn convert_request(
    json: &str,
    from: Format,
    to: Format,
    target: &Target<'_>,
    options: RequestOptions,
) -> Result<ConvertedRequest, ConvertError> {
    let mut request = match from {
        Format::Chat => chat::read_request(json)?,
        Format::Responses => responses::read_request(json)?,
        Format::Messages => messages::read_request(json)?,
        other => return Err(not_converted(other)),
    };
    let blocks = || request.turns.iter().flat_map(|turn| &turn.blocks);
    if request.system.is_empty() && blocks().all(|block| matches!(block, Block::Reasoning(_))) {
        let problem = "must hold a message that is not empty";
        return Err(ConvertError::invalid(callers_name(from, "messages"), problem));
    }
    let mut dropped = Dropped::new(options.is_strict);
    for field in std::mem::take(&mut request.left_out) {
        dropped.drop(&field)?;
    }
    ids::fit(&mut request, options.ids);
    let names = ToolNames::fit(&mut request, to);
    let written = match to {
        Format::Chat => chat::write_request(&request, target, &mut dropped),
        Format::Responses => responses::write_request(&request, target, &mut dropped),
        Format::Messages => messages::write_request(&request, target, &mut dropped),
        Format::Gemini => gemini::write_request(&request, target, &mut dropped),
        Format::Converse => converse::write_request(&request, target, &mut dropped),
        other => return Err(not_converted(other)),
    };
    let written = written.map_err(|error| error.rename(|field| callers_name(from, field)))?;
    let echo = match from {
        Format::Responses => responses::echo(json),
        _ => Vec::new(),
    };
    Ok(ConvertedRequest {
        json: written,
        names,
        dropped: dropped
            .fields()
            .iter()
            .map(|field| callers_name(from, field).to_owned())
            .collect(),
        include_usage: request.include_usage,
        echo,
    })
}

/// The caller's name for what writers call by the name of another format.
fn callers_name(from: Format, field: &str) -> &str {
    match (from, field) {
        (Format::Responses, "messages") => "input",
        (Format::Chat, "response_format.description") => "response_format.json_schema.description",
        (Format::Responses, "cache_control") => "prompt_cache_breakpoint",
        _ => field,
    }
}

fn not_converted(format: Format) -> ConvertError {
    let problem = format!("can't be put into another format: it is in that of {}", format.label());
    ConvertError::unsupported("model", problem)
}
