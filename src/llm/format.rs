//! The API formats, and the operations of the data plane.

mod operation;

pub use operation::Operation;

use super::answer::event::{Event, EventContent, LongEvent};
use super::error::GatewayError;
use super::gemini::{self, GeminiMethod};
use super::text_sample::TextSampler;
use super::usage::{ReportedUsage, UsageNames};
use super::{chat, converse, embeddings, invoke, messages, responses};
use crate::json::scanner::MemberNames;

/// The format of a request and of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenAI Chat Completions.
    Chat,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
    /// OpenAI Embeddings: vectors that represent texts. Nothing is written, and nothing is streamed.
    Embeddings,
    /// Google Gemini, `generateContent`.
    Gemini,
    /// Google Gemini, `embedContent`.
    GeminiEmbeddings,
    /// Amazon Bedrock, Converse.
    Converse,
    /// A format of one of Bedrock's models that is not read: its usage comes outside of the answer.
    Invoke,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 8] = [
        Self::Chat,
        Self::Responses,
        Self::Messages,
        Self::Embeddings,
        Self::Gemini,
        Self::GeminiEmbeddings,
        Self::Converse,
        Self::Invoke,
    ];

    /// The format of a method of Gemini's API.
    fn of_gemini(method: GeminiMethod) -> Self {
        match method {
            GeminiMethod::GenerateContent
            | GeminiMethod::StreamGenerateContent
            | GeminiMethod::CountTokens => Self::Gemini,
            GeminiMethod::EmbedContent | GeminiMethod::BatchEmbedContents => Self::GeminiEmbeddings,
        }
    }

    /// The format in which `InvokeModel` calls this model of Bedrock: Anthropic's is read, others are not.
    /// The name may be an ARN that ends in it, and the vendor may have a region before it, as in
    /// `us.anthropic.claude-sonnet-4-5-20250929-v1:0`.
    fn of_invoked(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or_default();
        match name.split('.').take(2).any(|part| part == "anthropic") {
            true => Self::Messages,
            false => Self::Invoke,
        }
    }

    /// The path of its requests after `/v1`; none for a format whose paths name the model.
    fn path_after_v1(self) -> Option<&'static str> {
        match self {
            Self::Chat => Some("/chat/completions"),
            Self::Responses => Some("/responses"),
            Self::Messages => Some("/messages"),
            Self::Embeddings => Some("/embeddings"),
            Self::Gemini | Self::GeminiEmbeddings | Self::Converse | Self::Invoke => None,
        }
    }

    /// The name of its operation in logs, in metrics and in the ledger.
    pub fn label(self) -> &'static str {
        match self {
            Self::Chat => "chat_completions",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Embeddings => "embeddings",
            Self::Gemini => GeminiMethod::GenerateContent.label(),
            Self::GeminiEmbeddings => GeminiMethod::EmbedContent.label(),
            Self::Converse => "converse",
            Self::Invoke => "invoke",
        }
    }

    /// The body of an answer that reports an error to the caller.
    pub fn error_body(self, error: &GatewayError<'_>) -> String {
        match self {
            Self::Chat | Self::Responses | Self::Embeddings => error.body(),
            Self::Messages => messages::error_body(error),
            Self::Gemini | Self::GeminiEmbeddings => gemini::error_body(error),
            Self::Converse | Self::Invoke => converse::error_body(error),
        }
    }

    /// A header with the kind of an error with this status, for callers of this format.
    pub fn error_header(self, status: u16) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Converse | Self::Invoke => {
                Some((converse::ERROR_HEADER, converse::exception_name(status)))
            }
            _ => None,
        }
    }

    /// The event that reports an error to the caller and ends the stream. `events` have come before it. Not
    /// for Bedrock, whose events are no text: its body alone.
    pub fn error_event(self, error: &GatewayError<'_>, events: u64) -> String {
        match self {
            Self::Chat | Self::Embeddings => chat::error_event(error),
            Self::Responses => responses::error_event(error, events),
            Self::Messages => messages::error_event(error),
            Self::Gemini | Self::GeminiEmbeddings => gemini::error_event(error),
            Self::Converse | Self::Invoke => converse::error_body(error),
        }
    }

    /// Reads a `usage` object. `None` when it is not an object or holds no known count.
    pub(super) fn parse_usage(self, raw: &str) -> Option<ReportedUsage> {
        match self {
            Self::Chat => ReportedUsage::parse(raw, self.usage_names()),
            Self::Responses => responses::parse_usage(raw),
            Self::Messages => messages::parse_usage(raw),
            Self::Embeddings => embeddings::parse_usage(raw),
            Self::Gemini => gemini::parse_usage(raw),
            Self::GeminiEmbeddings => gemini::parse_embedding_usage(raw),
            Self::Converse => converse::parse_usage(raw),
            Self::Invoke => invoke::parse_usage(raw),
        }
    }

    /// How its usage is named.
    pub(super) fn usage_names(self) -> &'static UsageNames {
        match self {
            Self::Chat => &chat::USAGE_NAMES,
            Self::Responses => &responses::USAGE_NAMES,
            Self::Messages => &messages::USAGE_NAMES,
            Self::Embeddings => &embeddings::USAGE_NAMES,
            Self::Gemini => &gemini::USAGE_NAMES,
            Self::GeminiEmbeddings => &gemini::EMBEDDING_NAMES,
            Self::Converse => &converse::USAGE_NAMES,
            Self::Invoke => &invoke::USAGE_NAMES,
        }
    }

    /// How the members of its answers are named.
    pub(super) fn member_names(self) -> &'static MemberNames {
        match self {
            Self::Chat | Self::Responses | Self::Messages | Self::Converse => &MemberNames::USUAL,
            Self::Invoke => &invoke::MEMBER_NAMES,
            Self::Embeddings => &embeddings::MEMBER_NAMES,
            Self::Gemini => &gemini::MEMBER_NAMES,
            Self::GeminiEmbeddings => &gemini::EMBEDDING_MEMBER_NAMES,
        }
    }

    /// Whether its models write text. Others use no tokens of output.
    pub(super) fn writes_text(self) -> bool {
        !matches!(self, Self::Embeddings | Self::GeminiEmbeddings)
    }

    /// Whether a stream without its end mark was cut short, however its connection ended.
    pub(super) fn has_mandatory_end(self) -> bool {
        matches!(self, Self::Messages | Self::Gemini | Self::Converse)
    }

    /// Whether the end of its streams is an event of its own, after which no usage comes. Without one,
    /// a later event may still report more.
    pub(super) fn has_end_mark(self) -> bool {
        self != Self::Gemini
    }

    /// Whether its streams begin with a count of the output, before there is any.
    pub(super) fn begins_with_usage(self) -> bool {
        self == Self::Messages
    }

    /// Whether a stream may be one JSON array in place of events.
    pub fn has_array_streams(self) -> bool {
        self == Self::Gemini
    }

    /// Whether a request for usage adds an event to its streams.
    pub(super) fn has_usage_event(self) -> bool {
        self == Self::Chat
    }

    /// Reads an event of a stream, and adds the answer's text in it to `text`.
    pub(super) fn read_event(self, event: Event<'_>, text: &mut TextSampler) -> EventContent {
        match self {
            Self::Chat | Self::Embeddings => chat::read_event(event, text),
            Self::Responses => responses::read_event(event, text),
            Self::Messages => messages::read_event(event, text),
            Self::Gemini | Self::GeminiEmbeddings => gemini::read_event(event, text),
            Self::Converse => converse::read_event(event, text),
            Self::Invoke => invoke::read_event(event, text),
        }
    }

    /// The same for an event that was too long to be kept.
    pub(super) fn read_long_event(
        self,
        event: LongEvent<'_>,
        text: &mut TextSampler,
    ) -> EventContent {
        match self {
            Self::Chat | Self::Embeddings => chat::read_long_event(event, text),
            Self::Responses => responses::read_long_event(event, text),
            Self::Messages => messages::read_long_event(event, text),
            Self::Gemini | Self::GeminiEmbeddings => gemini::read_long_event(event, text),
            Self::Converse => converse::read_long_event(event, text),
            Self::Invoke => invoke::read_long_event(event, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendor_in_a_models_name_tells_its_format() {
        for anthropic in [
            "anthropic.claude-3-haiku-20240307-v1:0",
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "us-gov.anthropic.claude-3-haiku-20240307-v1:0",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-4-v1:0",
        ] {
            assert_eq!(Format::of_invoked(anthropic), Format::Messages, "{anthropic}");
        }
        for other in [
            "us.amazon.nova-micro-v1:0",
            "meta.llama3-70b-instruct-v1:0",
            "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc123",
            "vendor.model.anthropic",
            "",
        ] {
            assert_eq!(Format::of_invoked(other), Format::Invoke, "{other}");
        }
    }
}
