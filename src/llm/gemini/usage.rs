//! How usage is named in `usageMetadata`. The input includes what was read from a cache, and not what
//! the provider's tools brought in; the output does not include thoughts (Google, "GenerateContentResponse:
//! UsageMetadata"). Counts of zero are left out.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::tokens::ByKind;
use crate::llm::usage::{NO_KINDS, ReportedUsage, UsageNames, count};

pub(in crate::llm) const USAGE_NAMES: UsageNames = UsageNames {
    kinds: ByKind {
        input: &[("", "promptTokenCount")],
        cached_input: &[("", "cachedContentTokenCount")],
        output: &[("", "candidatesTokenCount")],
        reasoning: &[("", "thoughtsTokenCount")],
        ..NO_KINDS
    },
    total: &[("", "totalTokenCount")],
    ..UsageNames::NONE
};

pub(in crate::llm) const EMBEDDING_NAMES: UsageNames = UsageNames {
    kinds: ByKind { input: &[("", "promptTokenCount"), ("", "totalTokenCount")], ..NO_KINDS },
    ..UsageNames::NONE
};

/// What the provider's tools brought into the prompt.
const TOOL_NAMES: UsageNames = UsageNames {
    kinds: ByKind { input: &[("", "toolUsePromptTokenCount")], ..NO_KINDS },
    ..UsageNames::NONE
};

/// Reads a `usageMetadata` object. `None` when it is not an object or holds no known count.
pub(in crate::llm) fn parse_usage(raw: &str) -> Option<ReportedUsage> {
    let mut usage = ReportedUsage::parse(raw, &USAGE_NAMES)?;
    let tools = ReportedUsage::parse(raw, &TOOL_NAMES).and_then(|tools| tools.counts.input);
    let counts = &mut usage.counts;
    counts.input = sum(counts.input, tools);
    counts.output = sum(counts.output, counts.reasoning).or_else(|| {
        // All that was used is input.
        Some(usage.total?.saturating_sub(counts.input?))
    });
    let details = ModalityDetails::read(raw);
    let cached = details.cache_tokens_details.and_then(audio_tokens).unwrap_or(0);
    let prompt = details.prompt_tokens_details.and_then(audio_tokens);
    let tools = details.tool_use_prompt_tokens_details.and_then(audio_tokens);
    counts.audio_input = sum(prompt, tools).map(|audio| audio.saturating_sub(cached));
    counts.audio_output = details.candidates_tokens_details.and_then(audio_tokens);
    Some(usage)
}

/// Reads the same of an answer with embeddings, all of whose tokens are input.
pub(in crate::llm) fn parse_embedding_usage(raw: &str) -> Option<ReportedUsage> {
    let mut usage = ReportedUsage::parse(raw, &EMBEDDING_NAMES)?;
    usage.counts.output = Some(0);
    Some(usage)
}

/// Tokens by modality. Audio has a price of its own; what was read of it from a cache has the price of
/// the cache.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ModalityDetails<'a> {
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    cache_tokens_details: Option<&'a RawValue>,
    candidates_tokens_details: Option<&'a RawValue>,
    tool_use_prompt_tokens_details: Option<&'a RawValue>,
}

impl<'a> ModalityDetails<'a> {
    /// Most answers have text alone, and are not read again.
    fn read(raw: &'a str) -> Self {
        let has_audio = memchr::memmem::find(raw.as_bytes(), b"\"AUDIO\"").is_some();
        if has_audio { serde_json::from_str(raw).unwrap_or_default() } else { Self::default() }
    }
}

/// The tokens of audio in a list of tokens by modality; none if it has no audio.
fn audio_tokens(details: &RawValue) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Detail<'a> {
        #[serde(borrow)]
        modality: Cow<'a, str>,
        token_count: Option<&'a RawValue>,
    }
    let details: Vec<Detail<'_>> = serde_json::from_str(details.get()).ok()?;
    let audio = details.iter().filter(|detail| detail.modality == "AUDIO");
    let tokens = |detail: &Detail<'_>| {
        detail.token_count.and_then(|raw| count(raw.get().as_bytes())).unwrap_or(0)
    };
    audio.map(|detail| Some(tokens(detail))).fold(None, sum)
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tokens::TokenUsage;

    fn tokens(raw: &str) -> TokenUsage {
        parse_usage(raw).unwrap().tokens(1_000_000)
    }

    #[test]
    fn thoughts_are_output_and_tools_are_input() {
        let usage = tokens(
            r#"{"promptTokenCount":100,"cachedContentTokenCount":40,"candidatesTokenCount":20,
               "toolUsePromptTokenCount":7,"thoughtsTokenCount":300,"totalTokenCount":427,
               "promptTokensDetails":[{"modality":"TEXT","tokenCount":100}],"trafficType":"ON_DEMAND"}"#,
        );
        let expected = TokenUsage {
            input: Some(107),
            cached_input: Some(40),
            output: Some(320),
            reasoning: Some(300),
            ..TokenUsage::default()
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn counts_of_zero_are_left_out() {
        for (raw, input, output, reasoning) in [
            (
                r#"{"promptTokenCount":15,"thoughtsTokenCount":2,"totalTokenCount":17}"#,
                15,
                2,
                Some(2),
            ),
            (r#"{"promptTokenCount":15,"totalTokenCount":15}"#, 15, 0, None),
            (
                r#"{"promptTokenCount":15,"candidatesTokenCount":4,"totalTokenCount":19}"#,
                15,
                4,
                None,
            ),
            (
                r#"{"promptTokenCount":15,"toolUsePromptTokenCount":5,"totalTokenCount":20}"#,
                20,
                0,
                None,
            ),
        ] {
            let usage = tokens(raw);
            assert_eq!((usage.input, usage.output), (Some(input), Some(output)), "{raw}");
            assert_eq!(usage.reasoning, reasoning, "{raw}");
        }
        assert_eq!(tokens(r#"{"promptTokenCount":15}"#).output, None);
        assert_eq!(parse_usage(r#"{"trafficType":"ON_DEMAND"}"#), None);
        assert_eq!(parse_usage("[]"), None);
    }

    #[test]
    fn audio_is_told_apart_and_cached_audio_is_cached_input() {
        let usage = tokens(
            r#"{"promptTokenCount":130,"cachedContentTokenCount":50,"candidatesTokenCount":20,
               "totalTokenCount":150,
               "promptTokensDetails":[{"modality":"TEXT","tokenCount":30},{"modality":"AUDIO","tokenCount":100}],
               "cacheTokensDetails":[{"tokenCount":50,"modality":"AUDIO"}],
               "candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":20},{"modality":"IMAGE"}]}"#,
        );
        let expected = TokenUsage {
            input: Some(130),
            cached_input: Some(50),
            output: Some(20),
            audio_input: Some(50),
            audio_output: Some(20),
            ..TokenUsage::default()
        };
        assert_eq!(usage, expected);
        let fraction = tokens(
            r#"{"promptTokenCount":9,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":4.5}]}"#,
        );
        assert_eq!(fraction.audio_input, Some(5));
        let odd = r#"{"promptTokenCount":1,"promptTokensDetails":{"modality":"AUDIO"}}"#;
        assert_eq!(tokens(odd).audio_input, None);
    }

    #[test]
    fn embeddings_have_no_output() {
        let raw =
            r#"{"promptTokenCount":9,"promptTokenDetails":[{"modality":"TEXT","tokenCount":9}]}"#;
        let usage = parse_embedding_usage(raw).unwrap().tokens(0);
        let expected = TokenUsage { input: Some(9), output: Some(0), ..TokenUsage::default() };
        assert_eq!(usage, expected);
    }
}
