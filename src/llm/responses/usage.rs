//! How usage is named in responses: by OpenAI, and by others who serve its API.

use crate::domain::tokens::ByKind;
use crate::llm::usage::{NO_KINDS, UsageNames};

const INPUT: &str = "input_tokens_details";
const OUTPUT: &str = "output_tokens_details";

pub(in crate::llm) const USAGE_NAMES: UsageNames = UsageNames {
    kinds: ByKind {
        input: &[("", "input_tokens"), ("", "prompt_tokens")],
        cached_input: &[
            (INPUT, "cached_tokens"),
            (INPUT, "cache_read_tokens"),
            (INPUT, "cache_read_input_tokens"),
            ("prompt_tokens_details", "cached_tokens"),
            ("", "cache_read_input_tokens"),
            ("", "cached_tokens"),
            ("", "prompt_cache_hit_tokens"),
        ],
        cache_write: &[
            (INPUT, "cache_write_tokens"),
            (INPUT, "cache_creation_tokens"),
            (INPUT, "cache_creation_input_tokens"),
            ("prompt_tokens_details", "cache_write_tokens"),
            ("prompt_tokens_details", "cache_creation_tokens"),
            ("", "cache_creation_input_tokens"),
        ],
        output: &[("", "output_tokens"), ("", "completion_tokens")],
        reasoning: &[
            (OUTPUT, "reasoning_tokens"),
            (OUTPUT, "thinking_tokens"),
            ("completion_tokens_details", "reasoning_tokens"),
            ("", "reasoning_tokens"),
        ],
        audio_input: &[(INPUT, "audio_tokens"), ("prompt_tokens_details", "audio_tokens")],
        audio_output: &[(OUTPUT, "audio_tokens"), ("completion_tokens_details", "audio_tokens")],
        ..NO_KINDS
    },
    total: &[("", "total_tokens")],
    ..UsageNames::NONE
};
