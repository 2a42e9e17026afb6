//! The API formats, and the operations of the data plane.

use super::answer::event::{Event, EventContent};
use super::error::GatewayError;
use super::gemini::{self, GeminiMethod};
use super::text_sample::TextSampler;
use super::usage::{ReportedUsage, UsageNames};
use super::{chat, converse, embeddings, messages, responses};
use crate::domain::provider::UpstreamApi;
use crate::domain::provider_settings::UnmeteredMethod;
use crate::json::scanner::{MemberNames, TopLevelScanner};

/// OpenAI, "Compact a response".
const COMPACT_PARAMETERS: [&str; 6] = [
    "instructions",
    "previous_response_id",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
];

/// OpenAI, "Create embeddings".
const EMBEDDING_PARAMETERS: [&str; 3] = ["dimensions", "encoding_format", "user"];

/// The parameters that the count of a message's tokens depends on.
const COUNTED_PARAMETERS: [&str; 6] =
    ["system", "tools", "tool_choice", "thinking", "output_config", "context_management"];

const COUNT_TOKENS_PATH: &str = "/messages/count_tokens";
const COMPACT_PATH: &str = "/responses/compact";

/// The format of a request and of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenAI Chat Completions.
    Chat,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
    /// OpenAI Embeddings: vectors that stand for texts. Nothing is written, and nothing is streamed.
    Embeddings,
    /// Google Gemini, `generateContent`.
    Gemini,
    /// Google Gemini, `embedContent`.
    GeminiEmbeddings,
    /// Amazon Bedrock, Converse.
    Converse,
}

/// What a caller can ask of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// An answer of the model: `POST`, with a body of this format.
    Generate(Format),
    /// A conversation's items, summed up by the model: `POST`, with a body and an answer of responses.
    CompactResponse,
    /// The tokens of a message that is not sent to the model: `POST`, with a body of messages.
    CountTokens,
    /// A call of Gemini's API: `POST`, with the model in the path.
    Gemini {
        /// The model as the caller encoded it.
        model: String,
        /// What is asked of it.
        method: GeminiMethod,
    },
    /// A call of Bedrock's Converse API: `POST`, with the model in the path.
    Converse {
        /// The model as the caller encoded it.
        model: String,
        /// Whether the answer is to be a binary event stream.
        is_stream: bool,
    },
    /// `GET /v1/models`
    ListModels,
    /// `GET /v1/models/{id}`
    GetModel {
        /// The id as the caller encoded it.
        id: String,
    },
    /// A call of an endpoint of a provider of which the gateway reads nothing.
    Unmetered {
        /// Its method.
        method: UnmeteredMethod,
        /// The path after the version, without anything encoded.
        path: String,
    },
}

impl Operation {
    /// What a `POST` to this path after `/v1` asks for.
    pub fn of_post(path: &str) -> Option<Self> {
        match path {
            COUNT_TOKENS_PATH => Some(Self::CountTokens),
            COMPACT_PATH => Some(Self::CompactResponse),
            _ => Format::ALL
                .into_iter()
                .find(|format| format.path_after_v1() == Some(path))
                .map(Self::Generate),
        }
    }

    /// What a `POST` to this path after the version, `/models/{model}:{method}`, asks for in Gemini's API.
    pub fn of_gemini_post(path: &str) -> Option<Self> {
        let call = path.strip_prefix("/models/")?;
        let (model, method) =
            [":", "%3A", "%3a"].iter().find_map(|colon| call.rsplit_once(colon))?;
        let method = GeminiMethod::parse(method)?;
        let is_segment = !model.is_empty() && !model.contains('/');
        is_segment.then(|| Self::Gemini { model: model.to_owned(), method })
    }

    /// What a `POST` to this path, `/model/{model}/converse` or `/converse-stream`, asks for in Bedrock's
    /// API.
    pub fn of_converse_post(path: &str) -> Option<Self> {
        let (model, method) = path.strip_prefix("/model/")?.split_once('/')?;
        let is_stream = match method {
            "converse" => false,
            "converse-stream" => true,
            _ => return None,
        };
        (!model.is_empty()).then(|| Self::Converse { model: model.to_owned(), is_stream })
    }

    /// The format of the body; none for an operation without one.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Generate(format) => Some(*format),
            Self::CompactResponse => Some(Format::Responses),
            Self::CountTokens => Some(Format::Messages),
            Self::Gemini { method, .. } => Some(method.format()),
            Self::Converse { .. } => Some(Format::Converse),
            Self::ListModels | Self::GetModel { .. } | Self::Unmetered { .. } => None,
        }
    }

    /// The format of the model's answer; none for an operation that no model answers.
    pub fn answer_format(&self) -> Option<Format> {
        match self {
            Self::Generate(format) => Some(*format),
            Self::CompactResponse => Some(Format::Responses),
            Self::Gemini { method, .. } => Some(method.format()).filter(|_| !self.counts_tokens()),
            Self::Converse { .. } => Some(Format::Converse),
            Self::CountTokens
            | Self::ListModels
            | Self::GetModel { .. }
            | Self::Unmetered { .. } => None,
        }
    }

    /// Whether it only counts the tokens of its body, which costs nothing.
    pub fn counts_tokens(&self) -> bool {
        matches!(self, Self::CountTokens | Self::Gemini { method: GeminiMethod::CountTokens, .. })
    }

    /// Whether it asks for a stream, given the raw value of the body's `stream`.
    pub fn asks_for_stream(&self, field: Option<&str>) -> bool {
        match self {
            Self::Gemini { method, .. } => *method == GeminiMethod::StreamGenerateContent,
            Self::Converse { is_stream, .. } => *is_stream,
            _ => field == Some("true"),
        }
    }

    /// Whether the model stands in the path, and not in the body.
    pub fn has_model_in_path(&self) -> bool {
        matches!(self, Self::Gemini { .. } | Self::Converse { .. })
    }

    /// The only parameters that its requests may have, of those that requests of its format have; none
    /// if they may have them all.
    pub fn parameters(&self) -> Option<&'static [&'static str]> {
        match self {
            Self::CompactResponse => Some(&COMPACT_PARAMETERS),
            Self::CountTokens => Some(&COUNTED_PARAMETERS),
            Self::Generate(Format::Embeddings) => Some(&EMBEDDING_PARAMETERS),
            Self::Gemini { method, .. } if !method.generates() => Some(&[]),
            Self::Generate(_)
            | Self::Converse { .. }
            | Self::Gemini { .. }
            | Self::ListModels
            | Self::GetModel { .. }
            | Self::Unmetered { .. } => None,
        }
    }

    /// Whether its requests may bound the length of the answer.
    pub fn bounds_answers(&self) -> bool {
        *self != Self::CompactResponse
    }

    /// Whether upstreams with this API have the operation. All but Bedrock's runtime have listings.
    pub fn is_in(&self, api: UpstreamApi) -> bool {
        match self.format() {
            Some(Format::Chat | Format::Responses | Format::Embeddings) => {
                api == UpstreamApi::OpenAi
            }
            Some(Format::Messages) => api == UpstreamApi::Anthropic,
            Some(Format::Gemini | Format::GeminiEmbeddings) => api == UpstreamApi::Gemini,
            Some(Format::Converse) => api == UpstreamApi::Converse,
            None => api != UpstreamApi::Converse || matches!(self, Self::Unmetered { .. }),
        }
    }

    /// The model of the path, as the caller encoded it.
    pub fn model_in_path(&self) -> Option<&str> {
        match self {
            Self::Gemini { model, .. } | Self::Converse { model, .. } => Some(model),
            Self::GetModel { id } => Some(id),
            _ => None,
        }
    }

    /// The same for another model, encoded as one segment of a path.
    pub fn for_model(&self, name: String) -> Self {
        match self {
            Self::Gemini { method, .. } => Self::Gemini { model: name, method: *method },
            Self::Converse { is_stream, .. } => {
                Self::Converse { model: name, is_stream: *is_stream }
            }
            other => other.clone(),
        }
    }

    /// The path after `/v1`, or whatever the API's version is, to be added to the base URL.
    pub fn path_after_v1(&self) -> String {
        match self {
            Self::Generate(format) => format.path_after_v1().unwrap_or_default().to_owned(),
            Self::Converse { model, is_stream } => {
                format!("/model/{model}/converse{}", if *is_stream { "-stream" } else { "" })
            }
            Self::Gemini { model, method } => format!("/models/{model}:{}", method.name()),
            Self::CompactResponse => COMPACT_PATH.to_owned(),
            Self::CountTokens => COUNT_TOKENS_PATH.to_owned(),
            Self::ListModels => "/models".to_owned(),
            Self::GetModel { id } => format!("/models/{id}"),
            Self::Unmetered { path, .. } => path.clone(),
        }
    }

    /// The name in logs, in metrics and in the ledger.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Generate(format) => format.label(),
            Self::CompactResponse => "compact_response",
            Self::CountTokens => "count_tokens",
            Self::Gemini { method, .. } => method.label(),
            Self::Converse { is_stream: false, .. } => Format::Converse.label(),
            Self::Converse { is_stream: true, .. } => "converse_stream",
            Self::ListModels => "list_models",
            Self::GetModel { .. } => "get_model",
            Self::Unmetered { .. } => "unmetered",
        }
    }
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 7] = [
        Self::Chat,
        Self::Responses,
        Self::Messages,
        Self::Embeddings,
        Self::Gemini,
        Self::GeminiEmbeddings,
        Self::Converse,
    ];

    /// The path of its requests after `/v1`; none for a format whose paths name the model.
    fn path_after_v1(self) -> Option<&'static str> {
        match self {
            Self::Chat => Some("/chat/completions"),
            Self::Responses => Some("/responses"),
            Self::Messages => Some("/messages"),
            Self::Embeddings => Some("/embeddings"),
            Self::Gemini | Self::GeminiEmbeddings | Self::Converse => None,
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
        }
    }

    /// The body of an answer that tells the caller of an error.
    pub fn error_body(self, error: &GatewayError<'_>) -> String {
        match self {
            Self::Chat | Self::Responses | Self::Embeddings => error.body(),
            Self::Messages => messages::error_body(error),
            Self::Gemini | Self::GeminiEmbeddings => gemini::error_body(error),
            Self::Converse => converse::error_body(error),
        }
    }

    /// The event that tells the caller of an error and ends the stream. `events` have come before it. Not
    /// for Converse, whose events are no text: its body alone.
    pub fn error_event(self, error: &GatewayError<'_>, events: u64) -> String {
        match self {
            Self::Chat | Self::Embeddings => chat::error_event(error),
            Self::Responses => responses::error_event(error, events),
            Self::Messages => messages::error_event(error),
            Self::Gemini | Self::GeminiEmbeddings => gemini::error_event(error),
            Self::Converse => converse::error_body(error),
        }
    }

    /// Reads a `usage` object. `None` when it is not an object or holds no known count.
    pub(super) fn parse_usage(self, raw: &str) -> Option<ReportedUsage> {
        match self {
            Self::Chat | Self::Responses => ReportedUsage::parse(raw, self.usage_names()),
            Self::Messages => messages::parse_usage(raw),
            Self::Embeddings => embeddings::parse_usage(raw),
            Self::Gemini => gemini::parse_usage(raw),
            Self::GeminiEmbeddings => gemini::parse_embedding_usage(raw),
            Self::Converse => converse::parse_usage(raw),
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
        }
    }

    /// How the members of its answers are named.
    pub(super) fn member_names(self) -> &'static MemberNames {
        match self {
            Self::Chat | Self::Responses | Self::Messages | Self::Converse => &MemberNames::USUAL,
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

    /// Whether a count of the output stands at the beginning of its streams, before there is any.
    pub(super) fn begins_with_usage(self) -> bool {
        self == Self::Messages
    }

    /// Whether its streams are binary.
    pub fn has_binary_streams(self) -> bool {
        self == Self::Converse
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
        }
    }

    /// The same for an event of `length` bytes that was too long to be kept.
    pub(super) fn read_long_event(
        self,
        name: &str,
        members: &TopLevelScanner,
        length: u64,
        text: &mut TextSampler,
    ) -> EventContent {
        match self {
            Self::Chat | Self::Embeddings => chat::read_long_event(name, members, length, text),
            Self::Responses => responses::read_long_event(name, members, length, text),
            Self::Messages => messages::read_long_event(name, members, length, text),
            Self::Gemini | Self::GeminiEmbeddings => gemini::read_long_event(members, length, text),
            Self::Converse => converse::read_long_event(name, members, length, text),
        }
    }
}
