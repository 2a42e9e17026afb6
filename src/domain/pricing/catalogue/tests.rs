//! The shipped catalogue is complete, and hosts are found in it.

use std::collections::HashSet;

use chrono::NaiveDate;

use super::*;
use crate::domain::money::NanoUsd;
use crate::domain::pricing::Tier;

#[test]
fn the_shipped_one_is_read_and_sound() {
    let catalogue: Catalogue = serde_json::from_str(include_str!("../catalogue.json")).unwrap();
    assert_eq!(&catalogue, Catalogue::shipped());
    assert!(!catalogue.name.is_empty() && !catalogue.note.is_empty());
    catalogue.date.parse::<NaiveDate>().unwrap();
    assert!(catalogue.version.starts_with(&catalogue.date));
    assert!(!catalogue.version.contains(':'), "it stands between colons");
    let mut providers = HashSet::new();
    let mut hosts = HashSet::new();
    for provider in &catalogue.providers {
        let name = &provider.provider;
        assert!(providers.insert(name), "{name} is there twice");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'-'), "{name}");
        assert!(provider.source.starts_with("https://"), "{name}");
        assert!(!provider.hosts.is_empty(), "{name}");
        for host in &provider.hosts {
            assert!(hosts.insert(host), "{host} is there twice");
            assert_eq!(*host, host.to_ascii_lowercase());
        }
        let mut models = HashSet::new();
        for model in &provider.models {
            assert!(models.insert(&model.model), "{name}/{} is there twice", model.model);
            sound(&format!("{name}/{}", model.model), model);
        }
    }
}

/// What holds of every price that a provider has published so far; a slip of a digit does not.
fn sound(what: &str, model: &Model) {
    let price = &model.price;
    let base = Tier {
        above_input_tokens: 0,
        input: price.input,
        cached_input: price.cached_input,
        cache_write: price.cache_write,
        cache_write_1h: price.cache_write_1h,
        output: price.output,
        reasoning: price.reasoning,
        audio_input: price.audio_input,
        audio_output: price.audio_output,
    };
    let dearest: NanoUsd = "1000".parse().unwrap();
    let mut before = base.clone();
    for tier in std::iter::once(&base).chain(&price.tiers) {
        // Models for embeddings write nothing.
        let least = if what.contains("embedding") { NanoUsd::ZERO } else { tier.input };
        assert!(tier.input > NanoUsd::ZERO && tier.output >= least, "{what}");
        assert!(tier.output <= dearest, "{what}");
        assert!(tier.cached_input.is_none_or(|cached| cached < tier.input), "{what}");
        assert!(tier.cache_write.is_none_or(|write| write >= tier.input), "{what}");
        assert!(tier.audio_input.is_none_or(|audio| audio > tier.input), "{what}");
        assert!(tier.input >= before.input && tier.output >= before.output, "{what}");
        assert_eq!(tier.cached_input.is_some(), base.cached_input.is_some(), "{what}");
        assert_eq!(tier.cache_write.is_some(), base.cache_write.is_some(), "{what}");
        before = tier.clone();
    }
    let window = model.context_window.unwrap_or(u64::MAX);
    assert!((2_048..=10_000_000).contains(&window.min(10_000_000)), "{what}");
    assert!(model.max_output_tokens.is_none_or(|most| (2_048..=window).contains(&most)), "{what}");
    assert!(price.tiers.iter().all(|tier| tier.above_input_tokens < window), "{what}");
}

#[test]
fn hosts_tell_their_provider() {
    let catalogue = Catalogue::shipped();
    for (host, provider) in [
        ("api.openai.com", Some("openai")),
        ("API.OpenAI.com", Some("openai")),
        ("api.anthropic.com", Some("anthropic")),
        ("generativelanguage.googleapis.com", Some("google")),
        ("api.deepseek.com", Some("deepseek")),
        ("api.mistral.ai", Some("mistral")),
        ("dashscope.aliyuncs.com", Some("qwen")),
        ("dashscope-intl.aliyuncs.com", Some("qwen")),
        ("api.moonshot.ai", Some("moonshot")),
        ("api.moonshot.cn", Some("moonshot")),
        ("api.z.ai", Some("zhipu")),
        ("open.bigmodel.cn", Some("zhipu")),
        ("api.groq.com", Some("groq")),
        ("api.together.xyz", Some("together")),
        ("api.fireworks.ai", Some("fireworks")),
        ("api.deepinfra.com", Some("deepinfra")),
        ("openrouter.ai", Some("openrouter")),
        ("ours.openai.azure.com", Some("azure")),
        ("bedrock-runtime.eu-west-1.amazonaws.com", Some("bedrock")),
        ("us-east5-aiplatform.googleapis.com", Some("vertex")),
        ("aiplatform.googleapis.com", Some("vertex")),
        ("api.openai.com.evil.example", None),
        ("evil-api.openai.com", None),
        ("127.0.0.1", None),
        ("", None),
    ] {
        assert_eq!(catalogue.provider_at(host), provider, "{host}");
    }
}

#[test]
fn the_families_are_there_dates_included() {
    for (provider, model, listed) in [
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("openai", "gpt-5-mini-2025-08-07", "gpt-5-mini"),
        ("openai", "chatgpt-4o-latest", "chatgpt-4o-latest"),
        ("openai", "text-embedding-3-small", "text-embedding-3-small"),
        ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("anthropic", "claude-opus-4-1-20250805", "claude-opus-4-1"),
        ("anthropic", "claude-3-5-haiku-latest", "claude-3-5-haiku"),
        ("google", "gemini-2.5-pro", "gemini-2.5-pro"),
        ("google", "gemini-embedding-001", "gemini-embedding-001"),
        ("deepseek", "deepseek-flash", "deepseek-flash"),
        ("mistral", "codestral-latest", "codestral"),
        ("qwen", "qwen3-max-2025-09-23", "qwen3-max"),
        ("groq", "llama-3.3-70b-versatile", "llama-3.3-70b-versatile"),
        ("moonshot", "kimi-k3", "kimi-k3"),
        ("zhipu", "glm-4.6", "glm-4.6"),
        (
            "bedrock",
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "*anthropic.claude-sonnet-4-5*",
        ),
        (
            "bedrock",
            "global.anthropic.claude-haiku-4-5-20251001-v1:0",
            "global.anthropic.claude-haiku-4-5*",
        ),
        ("bedrock", "us.amazon.nova-micro-v1:0", "us.amazon.nova-micro-v1:0"),
        ("vertex", "claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("vertex", "gemini-2.5-pro", "gemini-2.5-pro"),
    ] {
        let (found, _) = Catalogue::shipped()
            .find(provider, model)
            .unwrap_or_else(|| panic!("no {provider}/{model}"));
        assert_eq!(found.model, listed, "{provider}/{model}");
    }
    // A name that merely begins like a known one is another model.
    for model in ["gpt-4o-realtime", "gpt-4", "gpt-99"] {
        let found = Catalogue::shipped().find("openai", model);
        assert!(found.is_none_or(|(found, _)| found.model == model), "{model}");
    }
}

#[test]
fn long_prompts_reach_their_tier() {
    let (model, _) = Catalogue::shipped().find("google", "gemini-2.5-pro").unwrap();
    let usd = |text: &str| text.parse::<NanoUsd>().unwrap();
    assert_eq!(model.price.max_cost(200_000, 0), usd("0.25"));
    assert_eq!(model.price.max_cost(400_000, 100_000), usd("2.5"));
}
