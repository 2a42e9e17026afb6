//! The messages of the errors that have more than one.

use std::borrow::Cow;

use crate::domain::provider::{Provider, UpstreamApi};

/// What to do about a field that could choose another model.
pub(super) fn model_override(field: &str) -> Cow<'static, str> {
    if field == "model" {
        return "A suffix or preset in the model's name could choose another model, provider or price. Leave it out, or ask an administrator for a model configuration with this model.".into();
    }
    format!("The field '{field}' could choose another model, provider or price than the request's model. Leave it out, or ask an administrator for a model configuration with it in the default_parameters.").into()
}

/// `max_window` is the largest window of zstd, where that of the body is larger.
pub(super) fn undecodable_body(max_window: Option<u64>) -> Cow<'static, str> {
    match max_window {
        Some(max) => Cow::Owned(format!(
            "The request body is compressed by zstd with a window that is too large; the largest is {max} bytes (RFC 9659). Compress it at a level of at most 19 and without long-distance matching, or send it uncompressed without Content-Encoding."
        )),
        None => Cow::Borrowed(
            "The request body is not compressed as its Content-Encoding says, or is incomplete. Compress it again, or send it uncompressed without Content-Encoding.",
        ),
    }
}

/// Of a fallback chain none of whose targets is ready.
pub(super) fn targets_cool_down(is_rate: bool) -> &'static str {
    if is_rate {
        "All targets of the fallback chain limit the rate of requests at the moment. Try again later."
    } else {
        "All targets of the fallback chain have failed a moment ago. Try again later."
    }
}

/// Which formats the provider of this model configuration speaks, or else the built-in provider.
pub(super) fn format_not_served(configuration: Option<&str>, provider: Provider) -> String {
    let formats = match provider.api() {
        UpstreamApi::OpenAi => {
            "OpenAI's formats: /v1/chat/completions, /v1/responses, /v1/responses/compact and /v1/embeddings"
        }
        UpstreamApi::Anthropic => "Anthropic's format: /v1/messages and /v1/messages/count_tokens",
        UpstreamApi::Gemini => {
            "Google's format: /v1beta/models/{model}:generateContent, :streamGenerateContent, :countTokens, :embedContent and :batchEmbedContents"
        }
        UpstreamApi::Converse => {
            "Bedrock's formats: /model/{model}/converse, /converse-stream, /invoke and /invoke-with-response-stream"
        }
        UpstreamApi::Vertex => {
            "the formats of Vertex: generateContent and its like below publishers/google, rawPredict and streamRawPredict below publishers/anthropic, and endpoints/openapi/chat/completions"
        }
        UpstreamApi::Azure => "OpenAI's formats below /openai, and Anthropic's below /anthropic",
    };
    let provider = provider.as_str();
    match configuration {
        Some(name) => format!(
            "The model configuration '{name}' has the provider '{provider}', which speaks {formats}. Call it in that format, or choose another model configuration."
        ),
        None => format!(
            "The provider '{provider}' speaks {formats}. Call it in that format, or choose another provider."
        ),
    }
}
