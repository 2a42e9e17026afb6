//! What differs from provider to provider, in one table.
//!
//! Providers go by the catalogue's names for their hosts. For a host that the catalogue does not know
//! everything is assumed that any provider is known to do.

pub mod built_in;
pub mod cloud;
pub mod native;

use crate::json::case_fold::{self, FoldBuffer};
use crate::json::object::JsonBody;
use crate::llm::limits::{BodyFacts, KNOWN_MODEL_FIELDS, is_set};

/// What one provider does differently.
#[derive(Debug)]
pub struct Quirks {
    provider: &'static str,
    /// Fields of a request, under case folding, with which a caller could choose another model,
    /// provider or price than the configured one.
    model_fields: &'static [&'static str],
    /// Suffixes of model names that do the same.
    model_suffixes: &'static [&'static str],
    /// A stored preset can be named in a model's name, too.
    names_presets: bool,
    /// Limits on the answer that the provider accepts and ignores.
    pub ignored_limits: &'static [&'static str],
    /// It refuses `stream_options`, and reports the usage of streams by itself.
    pub refuses_stream_options: bool,
    image_tokens: u64,
}

/// OpenAI, "Images and vision": 85 tokens and 170 for each of at most 8 tiles (`gpt-4o`), or 1,536
/// patches of a token each, times 2.46 (`gpt-4.1-nano`), whichever model it is.
const OPENAI_IMAGE_TOKENS: u64 = 3_779;
/// Anthropic, "Vision": at most 4,784 tokens, for models that read up to 2,576 pixels.
const ANTHROPIC_IMAGE_TOKENS: u64 = 4_784;
/// Google, "Media resolution": 1,120 tokens by default, 2,240 at ultra-high resolution.
const GOOGLE_IMAGE_TOKENS: u64 = 2_240;
/// The largest of the published bounds.
const UNKNOWN_IMAGE_TOKENS: u64 = ANTHROPIC_IMAGE_TOKENS;

const UNKNOWN: Quirks = Quirks {
    provider: "",
    model_fields: KNOWN_MODEL_FIELDS,
    model_suffixes: PRICED_SUFFIXES,
    names_presets: true,
    ignored_limits: &[],
    refuses_stream_options: false,
    image_tokens: UNKNOWN_IMAGE_TOKENS,
};

/// For providers that the catalogue knows and this table does not.
const USUAL: Quirks =
    Quirks { model_fields: &["fallbacks"], model_suffixes: &[], names_presets: false, ..UNKNOWN };

/// Suffixes with which OpenRouter searches the web at a fee of its own, as with `plugins`, and takes the
/// fastest host at that host's price, as with `provider` (OpenRouter, "Model Variants").
const PRICED_SUFFIXES: &[&str] = &["online", "nitro"];

/// With which OpenRouter reads a preset of the account from a model's name, as from the field `preset`
/// (OpenRouter, "Presets"): `@preset/NAME`, alone or after a model.
const PRESET: &str = "@preset/";

const QUIRKS: &[Quirks] = &[
    Quirks { provider: "openai", image_tokens: OPENAI_IMAGE_TOKENS, ..USUAL },
    Quirks {
        provider: "azure",
        // Agents of the Foundry bring their own model.
        model_fields: &["agent", "agent_reference", "fallbacks"],
        image_tokens: OPENAI_IMAGE_TOKENS,
        ..USUAL
    },
    Quirks { provider: "anthropic", image_tokens: ANTHROPIC_IMAGE_TOKENS, ..USUAL },
    Quirks { provider: "google", image_tokens: GOOGLE_IMAGE_TOKENS, ..USUAL },
    Quirks { provider: "deepseek", ignored_limits: &["max_completion_tokens"], ..USUAL },
    Quirks { provider: "groq", model_fields: &["compound_custom", "fallbacks"], ..USUAL },
    Quirks {
        provider: "openrouter",
        model_fields: &[
            "fallbacks",
            "models",
            "plugins",
            "preset",
            "provider",
            "provider_options",
            "provideroptions",
            "route",
        ],
        model_suffixes: PRICED_SUFFIXES,
        names_presets: true,
        ..USUAL
    },
    Quirks { provider: "together", model_fields: &["fallbacks", "safety_model"], ..USUAL },
    Quirks { provider: "qwen", ..USUAL },
    // 422 "Extra inputs are not permitted", as of 2025.
    Quirks { provider: "mistral", refuses_stream_options: true, ..USUAL },
    Quirks { provider: "moonshot", ..USUAL },
    Quirks { provider: "zhipu", ..USUAL },
    Quirks { provider: "fireworks", ..USUAL },
    Quirks { provider: "deepinfra", ..USUAL },
];

/// The quirks of a provider.
pub fn quirks(provider: &str) -> &'static Quirks {
    QUIRKS.iter().find(|quirks| quirks.provider == provider).unwrap_or(&UNKNOWN)
}

impl Quirks {
    /// Maximum tokens that the model reads for one image.
    pub fn image_tokens(&self, model: &str) -> u64 {
        /// OpenAI, "Images and vision": 2,833 tokens and 5,667 for each of at most 8 tiles. Its price
        /// a token makes up for it.
        const GPT_4O_MINI: u64 = 48_169;
        if model.contains("gpt-4o-mini") { GPT_4O_MINI } else { self.image_tokens }
    }

    /// Whether the name of a model that the caller chose asks for more than the model: by any of its
    /// suffixes, which can be stacked, or by a preset. Case and space count for nothing, since a provider
    /// may well ignore them.
    pub fn asks_for_more_than_a_model(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        let is_priced = |suffix: &str| self.model_suffixes.contains(&suffix.trim());
        name.split(':').skip(1).any(is_priced) || (self.names_presets && name.contains(PRESET))
    }

    /// The first field of a caller's body that could choose another model, provider or price than the
    /// configured one. `model` itself is none: it is replaced.
    pub fn model_override(&self, body: &JsonBody, facts: &BodyFacts) -> Option<String> {
        let overrides = |key: &str| {
            let mut buffer = FoldBuffer::default();
            let key = case_fold::fold(key, &mut buffer).unwrap_or_default();
            self.model_fields.iter().any(|field| field.as_bytes() == key)
        };
        let field = body.fields().find(|(key, raw)| overrides(key) && is_set(raw));
        let field = field.map(|(key, _)| key).or_else(|| facts.nested_model_field());
        field.map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::pricing::catalogue::Catalogue;

    fn model_override(provider: &str, body: &str) -> Option<String> {
        let (body, facts) = BodyFacts::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        quirks(provider).model_override(&body, &facts)
    }

    #[test]
    fn the_table_has_the_catalogues_providers() {
        let mut names: Vec<_> = QUIRKS.iter().map(|quirks| quirks.provider).collect();
        let mut listed: Vec<_> =
            Catalogue::shipped().providers.iter().map(|one| one.provider.as_str()).collect();
        // Clouds are as hosts that nobody knows.
        listed.retain(|name| !matches!(*name, "bedrock" | "vertex"));
        names.sort_unstable();
        listed.sort_unstable();
        assert_eq!(names, listed);
        assert_eq!(quirks("deepseek").ignored_limits, ["max_completion_tokens"]);
        assert!(quirks("openai_compatible").ignored_limits.is_empty());
    }

    #[test]
    fn a_host_that_nobody_knows_has_every_field_of_any_provider() {
        for quirks in QUIRKS {
            for field in quirks.model_fields {
                assert!(KNOWN_MODEL_FIELDS.contains(field), "{}: {field}", quirks.provider);
            }
        }
    }

    #[test]
    fn names_that_ask_for_more_than_a_model_are_found_however_they_are_spelled() {
        for name in [
            "openai/gpt-4o:online",
            "openai/gpt-4o:NITRO",
            "openai/gpt-4o:online:floor",
            "openai/gpt-4o:free:nitro:exacto",
            "openai/gpt-4o:online ",
            "openai/gpt-4o: online\t",
            "openai/gpt-4o@preset/big",
            "@Preset/big",
        ] {
            for provider in ["openrouter", "openai_compatible"] {
                assert!(quirks(provider).asks_for_more_than_a_model(name), "{provider} {name}");
            }
            assert!(!quirks("openai").asks_for_more_than_a_model(name), "{name}");
        }
        for name in [
            "openai/gpt-4o:free",
            "openai/gpt-4o:floor",
            "perplexity/sonar-online",
            "online",
            "nitro:8b",
            "ft:gpt-4o-mini:team:nitrogen:abc",
            "anthropic.claude-3-5-sonnet-20240620-v1:0",
            "arn:aws:bedrock:eu-west-1:1:application-inference-profile/online",
            "claude-opus-4@20250514",
            "preset/big",
        ] {
            assert!(!quirks("openai_compatible").asks_for_more_than_a_model(name), "{name}");
        }
    }

    #[test]
    fn fields_that_choose_a_model_are_found_however_they_are_spelled() {
        for (body, field) in [
            (r#"{"models":["vendor/huge"],"route":"fallback"}"#, "models"),
            (r#"{"Models":["vendor/huge"]}"#, "Models"),
            (r#"{"mod\u0065ls":["vendor/huge"]}"#, "models"),
            ("{\"fallbac\u{212a}s\":[{\"model\":\"huge\"}]}", "fallbac\u{212a}s"),
            (r#"{"provider":{"order":["dear"]}}"#, "provider"),
            (r#"{"plugins":[{"id":"web"}]}"#, "plugins"),
            (r#"{"preset":"mine"}"#, "preset"),
            (r#"{"agent_reference":{"name":"a"}}"#, "agent_reference"),
            (r#"{"safety_model":"huge"}"#, "safety_model"),
            (r#"{"prompt":{"id":"pmpt_1"}}"#, "prompt"),
            (r#"{"extra_body":{"model":"huge"}}"#, "extra_body.model"),
            (r#"{"extra_body":{"a":[{"Fallb\u0061cks":["huge"]}]}}"#, "extra_body.fallbacks"),
            (r#"{"providerOptions":{"gateway":{"models":["huge"]}}}"#, "providerOptions"),
            (r#"{"tools":[{"parameters":{"model":"huge"},"type":"advisor"}]}"#, "tools.model"),
        ] {
            assert_eq!(model_override("openai_compatible", body).as_deref(), Some(field), "{body}");
        }
        for body in [
            r#"{"model":"huge","models":null,"plugins":[ ],"provider":{},"preset":"","route":false}"#,
            r#"{"prompt":"text","messages":[{"role":"user","content":"x","models":["y"]}]}"#,
            r#"{"extra_body":{"top_k":1,"model":null}}"#,
            r#"{"tools":[{"type":"function","function":{"parameters":{"model":{}}}}]}"#,
        ] {
            assert_eq!(model_override("openai_compatible", body), None, "{body}");
        }
        assert_eq!(model_override("openrouter", r#"{"route":"x"}"#).as_deref(), Some("route"));
        assert_eq!(model_override("openai", r#"{"route":"x"}"#), None);
        assert_eq!(
            model_override("groq", r#"{"compound_custom":{"models":{}}}"#).as_deref(),
            Some("compound_custom")
        );
    }
}
