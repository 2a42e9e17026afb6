//! Which API format a model is asked for an answer in: the caller's own where its provider speaks it,
//! otherwise the one that loses least.

use crate::domain::provider::{Provider, UpstreamApi};
use crate::llm::format::Format;

/// The format in which this model of a provider is asked for what a caller asks for in `asked`, which is
/// chat, responses or messages. `provider_name` is the catalogue's name for the host.
///
/// As the providers document their APIs: Claude speaks Messages everywhere, Gemini its own format, and
/// models on Bedrock that are not Claude speak Converse. OpenAI's models reason and call tools at once in
/// Responses only, so that messages become responses there.
pub fn native_format(provider: Provider, provider_name: &str, model: &str, asked: Format) -> Format {
    let is_claude = model.contains("claude");
    match provider.api() {
        UpstreamApi::Anthropic => Format::Messages,
        UpstreamApi::Gemini => Format::Gemini,
        UpstreamApi::Converse if is_claude => Format::Messages,
        UpstreamApi::Converse => Format::Converse,
        UpstreamApi::Vertex if is_claude => Format::Messages,
        UpstreamApi::Vertex if model.contains("gemini") => Format::Gemini,
        UpstreamApi::Vertex => Format::Chat,
        UpstreamApi::Azure if is_claude => Format::Messages,
        UpstreamApi::Azure => of_openai(asked),
        UpstreamApi::OpenAi => {
            let host = Provider::parse(provider_name).unwrap_or(provider);
            match (provider, host) {
                (Provider::Openai, _) | (_, Provider::Openai | Provider::Azure) => of_openai(asked),
                (one, other) if has_responses(one) || has_responses(other) => match asked {
                    Format::Responses => Format::Responses,
                    _ => Format::Chat,
                },
                _ => Format::Chat,
            }
        }
    }
}

/// That of OpenAI's own models.
fn of_openai(asked: Format) -> Format {
    match asked {
        Format::Chat => Format::Chat,
        _ => Format::Responses,
    }
}

/// Whether a provider of an API like OpenAI's has `POST /responses` (xAI, "Responses API"; Groq, "Responses
/// API"; Fireworks, "Responses API"; OpenRouter, "Responses API"; each as of 2026).
fn has_responses(provider: Provider) -> bool {
    matches!(
        provider,
        Provider::Openai | Provider::Xai | Provider::Groq | Provider::Fireworks | Provider::Openrouter
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_is_asked_in_a_format_that_it_speaks() {
        use Format::{Chat, Converse, Gemini, Messages, Responses};
        for (provider, host, model, expected) in [
            (Provider::Openai, "openai", "gpt-5", [Chat, Responses, Responses]),
            (Provider::OpenaiCompatible, "openai", "gpt-5", [Chat, Responses, Responses]),
            (Provider::OpenaiCompatible, "openai_compatible", "llama", [Chat, Chat, Chat]),
            (Provider::Xai, "xai", "grok-4", [Chat, Responses, Chat]),
            (Provider::Mistral, "mistral", "mistral-large", [Chat, Chat, Chat]),
            (Provider::Anthropic, "anthropic", "claude-sonnet-5", [Messages; 3]),
            (Provider::AnthropicCompatible, "anthropic_compatible", "kimi", [Messages; 3]),
            (Provider::Gemini, "google", "gemini-3-pro", [Gemini; 3]),
            (Provider::Vertex, "vertex", "gemini-3-pro", [Gemini; 3]),
            (Provider::Vertex, "vertex", "claude-sonnet-4-5@20250929", [Messages; 3]),
            (Provider::Vertex, "vertex", "meta/llama-4", [Chat; 3]),
            (Provider::Bedrock, "bedrock", "us.anthropic.claude-sonnet-4-5-v1:0", [Messages; 3]),
            (Provider::Bedrock, "bedrock", "amazon.nova-pro-v1:0", [Converse; 3]),
            (Provider::Azure, "azure", "claude-sonnet-4-5", [Messages; 3]),
            (Provider::Azure, "azure", "my-deployment", [Chat, Responses, Responses]),
        ] {
            let formats = [Chat, Responses, Messages]
                .map(|asked| native_format(provider, host, model, asked));
            assert_eq!(formats, expected, "{provider:?} {model}");
        }
    }
}
