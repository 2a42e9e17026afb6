//! Usage: from the many names that compatible providers have for it, and in OpenAI's.

use super::super::answer::AnswerUsage;
use crate::json::writer::JsonWriter;
use crate::llm::format::Format;

/// Reads a `usage` object. `None` if it holds no known count.
pub(super) fn read_usage(raw: &str) -> Option<AnswerUsage> {
    // No tokens beyond those that the provider names: only reasoning that it counts beside the output.
    let usage = Format::Chat.parse_usage(raw)?.tokens(0);
    let through_cache =
        usage.cached_input.unwrap_or(0).saturating_add(usage.cache_write.unwrap_or(0));
    Some(AnswerUsage {
        input: usage.input.map(|input| input.saturating_sub(through_cache)),
        cache_read: usage.cached_input,
        cache_write: usage.cache_write,
        cache_write_1h: usage.cache_write_1h,
        output: usage.output,
        reasoning: usage.reasoning,
        audio_input: usage.audio_input,
        audio_output: usage.audio_output,
    })
}

/// Whether anything was counted. A usage of zeros alone would mislead.
pub(super) fn has_counts(usage: &AnswerUsage) -> bool {
    *usage != AnswerUsage::default()
}

/// Writes a usage object. An input that the provider did not count is the gateway's estimate.
pub(super) fn write_usage(json: &mut JsonWriter, usage: &AnswerUsage, estimated_input: u64) {
    let input = usage.total_input().unwrap_or(estimated_input);
    let output = usage.output.unwrap_or(0);
    json.object(|json| {
        json.key("prompt_tokens").number(input);
        json.key("completion_tokens").number(output);
        json.key("total_tokens").number(input.saturating_add(output));
        json.key("prompt_tokens_details").object(|json| {
            json.key("cached_tokens").number(usage.cache_read.unwrap_or(0));
            if let Some(written) = usage.cache_write {
                json.key("cache_write_tokens").number(written);
            }
            json.key("audio_tokens").number(usage.audio_input.unwrap_or(0));
        });
        json.key("completion_tokens_details").object(|json| {
            json.key("reasoning_tokens").number(usage.reasoning.unwrap_or(0));
            json.key("audio_tokens").number(usage.audio_output.unwrap_or(0));
        });
    });
}
