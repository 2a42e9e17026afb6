//! The operations of the data plane: what can be asked of an upstream, and by which path of its API.

use percent_encoding::percent_decode_str;

use super::Format;
use crate::domain::provider::UpstreamApi;
use crate::domain::provider_settings::UnmeteredMethod;
use crate::llm::answer::BinaryEvents;
use crate::llm::gemini::GeminiMethod;

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

/// What counts the tokens of messages on Vertex, in a path where others name their model.
const COUNTING_MODEL: &str = "count-tokens";

/// What a caller can ask of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// An answer of the model: `POST`, with a body of this format.
    Generate(Format),
    /// A conversation's items, summed up by the model: `POST`, with a body and an answer of responses.
    CompactResponse,
    /// The tokens of a message that is not sent to the model: `POST`, with a body of messages.
    CountTokens,
    /// The same at OpenAI, as the gateway asks it: `POST`, with a body of responses.
    CountInputTokens,
    /// The same at Bedrock, as the gateway asks it: `POST`, with the model in the path and the body of an
    /// invocation within the body.
    CountInvokeTokens {
        /// The model as the path has it.
        model: String,
    },
    /// A call of Gemini's API: `POST`, with the model in the path.
    Gemini {
        /// The model as the caller encoded it.
        model: String,
        method: GeminiMethod,
    },
    /// A call of Bedrock's Converse API: `POST`, with the model in the path.
    Converse {
        /// The model as the caller encoded it.
        model: String,
        /// Whether the answer is to be a binary event stream.
        is_stream: bool,
    },
    /// A call of one of Bedrock's models in its own format: `POST`, with the model in the path.
    Invoke {
        /// The model as the caller encoded it.
        model: String,
        /// Whether the answer is to be a binary event stream.
        is_stream: bool,
        /// The model's own.
        format: Format,
    },
    /// A call of a model of Anthropic's on Vertex: `POST`, with the model in the path and a body of
    /// messages without it.
    RawPredict {
        /// The model as the caller encoded it.
        model: String,
        /// Whether the answer is to be a stream.
        is_stream: bool,
    },
    /// A call of a deployment in Azure's older form: `POST`, with the deployment in the path.
    Deployment {
        /// Its name as the caller encoded it, in place of the model's.
        name: String,
        /// Of chat completions or embeddings.
        format: Format,
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

    /// What a `POST` to this path, `/model/{model}/converse`, `/converse-stream`, `/invoke` or
    /// `/invoke-with-response-stream`, asks for in Bedrock's API.
    pub fn of_bedrock_post(path: &str) -> Option<Self> {
        let (model, method) = path.strip_prefix("/model/")?.split_once('/')?;
        let model = Some(model.to_owned()).filter(|model| !model.is_empty())?;
        let invoke = |model: String, is_stream| {
            let format = Format::of_invoked(&percent_decode_str(&model).decode_utf8_lossy());
            Self::Invoke { model, is_stream, format }
        };
        match method {
            "converse" => Some(Self::Converse { model, is_stream: false }),
            "converse-stream" => Some(Self::Converse { model, is_stream: true }),
            "invoke" => Some(invoke(model, false)),
            "invoke-with-response-stream" => Some(invoke(model, true)),
            _ => None,
        }
    }

    /// What a `POST` to this path below `publishers/anthropic`, `/models/{model}:rawPredict` or
    /// `:streamRawPredict`, asks for in Vertex' API. Tokens are counted by a model of that name.
    pub fn of_raw_predict(path: &str) -> Option<Self> {
        let call = path.strip_prefix("/models/")?;
        let (model, method) =
            [":", "%3A", "%3a"].iter().find_map(|colon| call.rsplit_once(colon))?;
        let is_stream = match method {
            "rawPredict" if model == COUNTING_MODEL => return Some(Self::CountTokens),
            "rawPredict" => false,
            "streamRawPredict" => true,
            _ => return None,
        };
        let is_segment = !model.is_empty() && !model.contains('/');
        is_segment.then(|| Self::RawPredict { model: model.to_owned(), is_stream })
    }

    /// What a `POST` to this path, `/deployments/{name}/chat/completions` or `/embeddings`, asks for in
    /// Azure's API.
    pub fn of_deployment_post(path: &str) -> Option<Self> {
        let (name, _) = path.strip_prefix("/deployments/")?.split_once('/')?;
        let call = path.get("/deployments/".len() + name.len()..)?;
        let formats = [Format::Chat, Format::Embeddings];
        let format = formats.into_iter().find(|format| format.path_after_v1() == Some(call))?;
        (!name.is_empty()).then(|| Self::Deployment { name: name.to_owned(), format })
    }

    /// The format of the body; none for an operation without one.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Generate(format) => Some(*format),
            Self::CompactResponse => Some(Format::Responses),
            Self::CountTokens => Some(Format::Messages),
            Self::CountInputTokens => Some(Format::Responses),
            Self::CountInvokeTokens { .. } => Some(Format::Invoke),
            Self::Gemini { method, .. } => Some(Format::of_gemini(*method)),
            Self::Converse { .. } => Some(Format::Converse),
            Self::Invoke { format, .. } | Self::Deployment { format, .. } => Some(*format),
            Self::RawPredict { .. } => Some(Format::Messages),
            Self::ListModels | Self::GetModel { .. } | Self::Unmetered { .. } => None,
        }
    }

    /// The format of the model's answer; none for an operation that no model answers.
    pub fn answer_format(&self) -> Option<Format> {
        match self {
            Self::Generate(format) => Some(*format),
            Self::CompactResponse => Some(Format::Responses),
            Self::Gemini { method, .. } => {
                Some(Format::of_gemini(*method)).filter(|_| !self.counts_tokens())
            }
            Self::Converse { .. }
            | Self::Invoke { .. }
            | Self::RawPredict { .. }
            | Self::Deployment { .. } => self.format(),
            Self::CountTokens
            | Self::CountInputTokens
            | Self::CountInvokeTokens { .. }
            | Self::ListModels
            | Self::GetModel { .. }
            | Self::Unmetered { .. } => None,
        }
    }

    /// Whether its requests and answers can be put into other formats.
    pub fn is_convertible(&self) -> bool {
        matches!(
            self,
            Self::Generate(Format::Chat | Format::Responses | Format::Messages) | Self::CountTokens
        )
    }

    /// Whether it only counts the tokens of its body, which costs nothing.
    pub fn counts_tokens(&self) -> bool {
        matches!(
            self,
            Self::CountTokens
                | Self::CountInputTokens
                | Self::CountInvokeTokens { .. }
                | Self::Gemini { method: GeminiMethod::CountTokens, .. }
        )
    }

    /// Whether it asks for a stream, given the raw value of the body's `stream`.
    pub fn asks_for_stream(&self, field: Option<&str>) -> bool {
        match self {
            Self::Gemini { method, .. } => *method == GeminiMethod::StreamGenerateContent,
            Self::Converse { is_stream, .. }
            | Self::Invoke { is_stream, .. }
            | Self::RawPredict { is_stream, .. } => *is_stream,
            _ => field == Some("true"),
        }
    }

    /// The format in which its callers expect the gateway's errors.
    pub fn error_format(&self) -> Format {
        match self {
            Self::Invoke { .. } | Self::CountInvokeTokens { .. } => Format::Converse,
            _ => self.format().unwrap_or(Format::Chat),
        }
    }

    /// Whether its streams are server-sent events only if the query asks for them.
    pub fn streams_events_on_request(&self) -> bool {
        matches!(self, Self::Gemini { method: GeminiMethod::StreamGenerateContent, .. })
    }

    /// How the events of its streams are written, if that is in binary.
    pub fn binary_events(&self) -> Option<BinaryEvents> {
        match self {
            Self::Converse { .. } => Some(BinaryEvents::Plain),
            Self::Invoke { .. } => Some(BinaryEvents::Wrapped),
            _ => None,
        }
    }

    /// Whether the path names the model, and the body does not.
    pub fn has_model_in_path(&self) -> bool {
        self.model_in_path().is_some() && self.format().is_some()
    }

    /// The only parameters that its requests may have, of those that requests of its format have; none
    /// if they may have them all.
    pub fn parameters(&self) -> Option<&'static [&'static str]> {
        match self {
            Self::CompactResponse => Some(&COMPACT_PARAMETERS),
            Self::CountTokens => Some(&COUNTED_PARAMETERS),
            Self::Generate(Format::Embeddings)
            | Self::Deployment { format: Format::Embeddings, .. } => Some(&EMBEDDING_PARAMETERS),
            Self::Gemini { method, .. } if !method.generates() => Some(&[]),
            // What they are called is the model's affair.
            Self::Invoke { format: Format::Invoke, .. } => Some(&[]),
            Self::CountInputTokens | Self::CountInvokeTokens { .. } => Some(&[]),
            Self::Generate(_)
            | Self::Converse { .. }
            | Self::Invoke { .. }
            | Self::RawPredict { .. }
            | Self::Deployment { .. }
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

    /// The family that its format is of; none for a listing, which all have alike.
    pub fn family(&self) -> Option<UpstreamApi> {
        if matches!(self, Self::Invoke { .. }) {
            return Some(UpstreamApi::Converse);
        }
        Some(match self.format()? {
            Format::Chat | Format::Responses | Format::Embeddings => UpstreamApi::OpenAi,
            Format::Messages => UpstreamApi::Anthropic,
            Format::Gemini | Format::GeminiEmbeddings => UpstreamApi::Gemini,
            Format::Converse | Format::Invoke => UpstreamApi::Converse,
        })
    }

    /// Whether upstreams with this API have the operation. All but Bedrock's runtime and Vertex have
    /// listings.
    pub fn is_in(&self, api: UpstreamApi) -> bool {
        if matches!(self, Self::Unmetered { .. }) {
            return true;
        }
        let Some(family) = self.family() else {
            return !matches!(api, UpstreamApi::Converse | UpstreamApi::Vertex);
        };
        let is_missing_in_vertex = match self {
            Self::CompactResponse | Self::Generate(Format::Responses | Format::Embeddings) => true,
            Self::Deployment { format, .. } => *format != Format::Chat,
            Self::Gemini { method, .. } => *method == GeminiMethod::BatchEmbedContents,
            _ => false,
        };
        api.families().contains(&family) && !(api == UpstreamApi::Vertex && is_missing_in_vertex)
    }

    /// The model of the path, as the caller encoded it.
    pub fn model_in_path(&self) -> Option<&str> {
        match self {
            Self::Gemini { model, .. }
            | Self::Converse { model, .. }
            | Self::Invoke { model, .. }
            | Self::CountInvokeTokens { model }
            | Self::RawPredict { model, .. } => Some(model),
            Self::Deployment { name, .. } => Some(name),
            Self::GetModel { id } => Some(id),
            _ => None,
        }
    }

    /// The same for another model, encoded as one segment of a path.
    pub fn for_model(&self, name: String) -> Self {
        let mut other = self.clone();
        match &mut other {
            Self::Gemini { model, .. }
            | Self::Converse { model, .. }
            | Self::Invoke { model, .. }
            | Self::CountInvokeTokens { model }
            | Self::RawPredict { model, .. } => *model = name,
            Self::Deployment { name: own, .. } => *own = name,
            _ => {}
        }
        other
    }

    /// The same for a model of this name, whose own format the body has. Changes nothing where the format
    /// does not depend on the model.
    pub fn in_format_of(self, name: &str) -> Self {
        match self {
            Self::Invoke { model, is_stream, .. } => {
                Self::Invoke { model, is_stream, format: Format::of_invoked(name) }
            }
            other => other,
        }
    }

    /// What an upstream with this API is asked for the same answer of this model, encoded as one segment of
    /// a path. `is_stream` is what the caller asks for.
    pub fn at(&self, api: UpstreamApi, model: impl FnOnce() -> String, is_stream: bool) -> Self {
        match (self, api) {
            (Self::Generate(Format::Messages), UpstreamApi::Vertex) => {
                Self::RawPredict { model: model(), is_stream }
            }
            (Self::CountTokens, UpstreamApi::Vertex) => {
                Self::RawPredict { model: COUNTING_MODEL.to_owned(), is_stream: false }
            }
            (Self::Generate(Format::Messages), UpstreamApi::Converse) => {
                Self::Invoke { model: model(), is_stream, format: Format::Messages }
            }
            (Self::RawPredict { .. }, UpstreamApi::Anthropic | UpstreamApi::Azure) => {
                Self::Generate(Format::Messages)
            }
            (Self::Deployment { format, .. }, UpstreamApi::OpenAi | UpstreamApi::Vertex) => {
                Self::Generate(*format)
            }
            _ => self.clone(),
        }
    }

    /// The path after `/v1`, or whatever the API's version is, to be added to the base URL.
    pub fn path_after_v1(&self) -> String {
        match self {
            Self::Generate(format) => format.path_after_v1().unwrap_or_default().to_owned(),
            Self::Converse { model, is_stream } => {
                format!("/model/{model}/converse{}", if *is_stream { "-stream" } else { "" })
            }
            Self::Invoke { model, is_stream: false, .. } => format!("/model/{model}/invoke"),
            Self::Invoke { model, .. } => format!("/model/{model}/invoke-with-response-stream"),
            Self::RawPredict { model, is_stream } => {
                format!(
                    "/models/{model}:{}",
                    if *is_stream { "streamRawPredict" } else { "rawPredict" }
                )
            }
            Self::Deployment { name, format } => {
                format!("/deployments/{name}{}", format.path_after_v1().unwrap_or_default())
            }
            Self::Gemini { model, method } => format!("/models/{model}:{}", method.as_str()),
            Self::CompactResponse => COMPACT_PATH.to_owned(),
            Self::CountTokens => COUNT_TOKENS_PATH.to_owned(),
            Self::CountInputTokens => "/responses/input_tokens".to_owned(),
            Self::CountInvokeTokens { model } => {
                format!("/model/{}/count-tokens", foundation_model(model))
            }
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
            Self::CountTokens | Self::CountInputTokens | Self::CountInvokeTokens { .. } => {
                "count_tokens"
            }
            Self::Gemini { method, .. } => method.label(),
            Self::Converse { is_stream: false, .. } => Format::Converse.label(),
            Self::Converse { is_stream: true, .. } => "converse_stream",
            Self::Invoke { is_stream: false, .. } => Format::Invoke.label(),
            Self::Invoke { is_stream: true, .. } => "invoke_stream",
            Self::RawPredict { is_stream: false, .. } => "raw_predict",
            Self::RawPredict { is_stream: true, .. } => "stream_raw_predict",
            Self::Deployment { format, .. } => format.label(),
            Self::ListModels => "list_models",
            Self::GetModel { .. } => "get_model",
            Self::Unmetered { .. } => "unmetered",
        }
    }
}

/// The model without the prefix of an inference profile, which Bedrock does not count for. Those of accounts
/// (`arn:`) hide it.
fn foundation_model(model: &str) -> &str {
    match model.find("anthropic.") {
        Some(at) if !model.starts_with("arn") => model.get(at..).unwrap_or(model),
        _ => model,
    }
}
