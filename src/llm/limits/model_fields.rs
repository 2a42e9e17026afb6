//! Fields with which a caller could choose another model, provider or price than the configured one.

use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};

/// Such fields of all providers and routers that we know, under case folding. A provider that takes
/// only some of them has a list of its own.
pub const KNOWN_MODEL_FIELDS: &[&str] = &[
    // OpenRouter, and gateways that follow it
    "models",
    "route",
    "preset",
    "provider",
    "plugins",
    "provideroptions",
    "provider_options",
    // Anthropic, LiteLLM, AssemblyAI
    "fallbacks",
    "fallback_config",
    "default_fallbacks",
    "context_window_fallbacks",
    "context_window_fallback_dict",
    "content_policy_fallbacks",
    // LiteLLM
    "api_base",
    "base_url",
    "custom_llm_provider",
    "deployment_id",
    "model_list",
    "user_config",
    // Groq's compound systems
    "compound_custom",
    // Azure's agents, which bring their own model
    "agent",
    "agent_reference",
    // Together, a second model that is charged for
    "safety_model",
];

/// The fields of this kind inside others, as far as one needs to know them.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelFields {
    first: Option<String>,
}

impl ModelFields {
    pub(super) fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    pub(super) fn note(&mut self, container: &str, key: &str) {
        let dot = if key.is_empty() { "" } else { "." };
        self.first.get_or_insert_with(|| format!("{container}{dot}{key}"));
    }

    /// A member of parameters that some upstreams merge into the request.
    pub(super) fn note_nested(&mut self, container: &str, key: &[u8], value: Token<'_>) {
        let known = || KNOWN_MODEL_FIELDS.iter().find(|known| known.as_bytes() == key).copied();
        let key = if key == b"model" { Some("model") } else { known() };
        if let Some(key) = key.filter(|_| !matches!(value, Token::Literal(b"null" | b"false"))) {
            self.note(container, key);
        }
    }
}

/// Whether a raw value says anything: it is not null, false or empty.
pub fn is_set(raw: &str) -> bool {
    let read = || -> Result<bool, SyntaxError> {
        let mut tokens = Tokenizer::new(raw.as_bytes());
        Ok(match tokens.next()? {
            Token::Literal(literal) => !matches!(literal, b"null" | b"false"),
            Token::String(text) => !text.raw().is_empty(),
            Token::BeginObject | Token::BeginArray => {
                !matches!(tokens.next()?, Token::EndObject | Token::EndArray)
            }
            _ => true,
        })
    };
    read().unwrap_or(true)
}
