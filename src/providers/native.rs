//! Which API format a model is asked for an answer in: the caller's own where its provider speaks it,
//! otherwise the one that loses least.

use actix_web::http::header::{HeaderMap, HeaderName};

use crate::domain::provider::{Provider, UpstreamApi};
use crate::json::writer::JsonWriter;
use crate::llm::convert::ChatReasoning;
use crate::llm::format::Format;

/// The format in which this model of a provider is asked for what a caller asks for in `asked`, which is
/// chat, responses or messages. `provider_name` is the catalogue's name for the host.
///
/// As the providers document their APIs: Claude speaks Messages everywhere, Gemini its own format, and
/// models on Bedrock that are not Claude speak Converse. OpenAI's models reason and call tools at once in
/// Responses only, so that messages become responses there.
///
/// Two are kept simple. Bedrock serves OpenAI's models below `/openai/v1` as well, but not in all regions and
/// not all of them, while Converse has every model, under the same key and signature. Fireworks and Baseten
/// have an interface like Anthropic's: it is one in addition to their chats, and which of its fields hold for which
/// model is not said.
pub fn native_format(
    provider: Provider,
    provider_name: &str,
    model: &str,
    asked: Format,
) -> Format {
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

/// Which reasoning of earlier turns a provider of chats takes (DeepSeek, "Thinking mode"; Moonshot, "Use the
/// thinking model"; OpenRouter, "Preserving reasoning"; Groq, "Reasoning"). OpenAI's schema has none; Groq
/// answers 400 and Mistral 422 to members that they do not know. `provider_name` is the catalogue's.
pub fn chat_reasoning(provider_name: &str) -> ChatReasoning {
    match provider_name {
        "openai" | "azure" | "mistral" => ChatReasoning::None,
        "groq" => ChatReasoning::Plain,
        "deepseek" | "moonshot" => ChatReasoning::Text,
        "openrouter" => ChatReasoning::Details,
        _ => ChatReasoning::Unknown,
    }
}

/// Whether a model takes marks in its prompt up to which the provider caches it: OpenAI's from GPT 5.6 on
/// (OpenAI, "Prompt caching").
pub fn takes_cache_breakpoints(provider_name: &str, model: &str) -> bool {
    let version = model.strip_prefix("gpt-").map(|rest| rest.split('-').next().unwrap_or(rest));
    let numbers = version.map(|version| version.split_once('.').unwrap_or((version, "0")));
    let parsed = numbers
        .and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)));
    matches!(provider_name, "openai" | "azure") && parsed.is_some_and(|version| version >= (5, 6))
}

/// Names the features of Anthropic's API that are tried out.
const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// Those that Bedrock takes for Claude (AWS, "Anthropic Claude Messages API"); any other is a 400.
const BEDROCK_BETAS: [&str; 11] = [
    "compact-2026-01-12",
    "computer-use-2025-01-24",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "dev-full-thinking-2025-05-14",
    "effort-2025-11-24",
    "interleaved-thinking-2025-05-14",
    "output-128k-2025-02-19",
    "token-efficient-tools-2025-02-19",
    "tool-examples-2025-10-29",
    "tool-search-tool-2025-10-19",
];

/// The value of `anthropic_beta` in a body for Bedrock, which does not read the header of Anthropic's own
/// API: those of the caller's that Bedrock takes.
pub fn bedrock_betas(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(ANTHROPIC_BETA).filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(str::trim);
    let mut taken = names.filter(|name| BEDROCK_BETAS.contains(name)).peekable();
    taken.peek()?;
    let mut json = JsonWriter::new();
    json.array(|json| taken.for_each(|name| json.string(name)));
    Some(json.finish())
}

/// Whether a provider of an API like OpenAI's has `POST /responses` (xAI, "Responses API"; Groq, "Responses
/// API"; Fireworks, "Responses API"; OpenRouter, "Responses API"; each as of 2026).
fn has_responses(provider: Provider) -> bool {
    matches!(
        provider,
        Provider::Openai
            | Provider::Xai
            | Provider::Groq
            | Provider::Fireworks
            | Provider::Openrouter
    )
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn marks_for_the_cache_are_for_newer_models_of_openai() {
        for (provider, model, expected) in [
            ("openai", "gpt-5.6", true),
            ("openai", "gpt-5.10-mini", true),
            ("azure", "gpt-6", true),
            ("openai", "gpt-5.1", false),
            ("openai", "gpt-4o", false),
            ("openai", "o3", false),
            ("groq", "gpt-5.6", false),
        ] {
            assert_eq!(takes_cache_breakpoints(provider, model), expected, "{model}");
        }
    }

    #[test]
    fn bedrock_gets_the_betas_that_it_takes() {
        let mut headers = HeaderMap::new();
        assert_eq!(bedrock_betas(&headers), None);
        let value = "claude-code-20250219, interleaved-thinking-2025-05-14,effort-2025-11-24";
        headers.insert(ANTHROPIC_BETA, HeaderValue::from_static(value));
        let expected = r#"["interleaved-thinking-2025-05-14","effort-2025-11-24"]"#;
        assert_eq!(bedrock_betas(&headers).as_deref(), Some(expected));
    }

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
