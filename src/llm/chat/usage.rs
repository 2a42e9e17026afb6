//! How usage is named in chat completions: by OpenAI, and by others who serve its API.

use crate::domain::tokens::ByKind;
use crate::llm::usage::{NO_KINDS, UsageNames};

const INPUT: &str = "prompt_tokens_details";
const OUTPUT: &str = "completion_tokens_details";

pub(in crate::llm) const USAGE_NAMES: UsageNames = UsageNames {
    kinds: ByKind {
        input: &[("", "prompt_tokens"), ("", "input_tokens"), ("billed_units", "input_tokens")],
        cached_input: &[
            (INPUT, "cached_tokens"),
            (INPUT, "cache_read_tokens"),
            (INPUT, "cache_read_input_tokens"),
            // DeepSeek
            ("", "prompt_cache_hit_tokens"),
            // Gateways to Anthropic and Bedrock
            ("", "cache_read_input_tokens"),
            // Moonshot, Together
            ("", "cached_tokens"),
            // Mistral
            ("prompt_token_details", "cached_tokens"),
            ("", "num_cached_tokens"),
            ("input_tokens_details", "cached_tokens"),
        ],
        cache_write: &[
            (INPUT, "cache_write_tokens"),
            // LiteLLM
            (INPUT, "cache_creation_tokens"),
            // DashScope
            (INPUT, "cache_creation_input_tokens"),
            ("", "cache_creation_input_tokens"),
            ("input_tokens_details", "cache_write_tokens"),
        ],
        output: &[
            ("", "completion_tokens"),
            ("", "output_tokens"),
            ("billed_units", "output_tokens"),
        ],
        reasoning: &[
            (OUTPUT, "reasoning_tokens"),
            (OUTPUT, "thinking_tokens"),
            ("output_tokens_details", "reasoning_tokens"),
            // Perplexity, SGLang
            ("", "reasoning_tokens"),
        ],
        audio_input: &[(INPUT, "audio_tokens"), ("input_tokens_details", "audio_tokens")],
        audio_output: &[(OUTPUT, "audio_tokens"), ("output_tokens_details", "audio_tokens")],
        ..NO_KINDS
    },
    total: &[("", "total_tokens")],
    // Perplexity
    reasoning_beside_output: &[("", "citation_tokens"), ("", "num_search_queries")],
};
