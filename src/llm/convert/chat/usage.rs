//! Usage: from the many names that compatible providers have for it, and in OpenAI's.

use super::super::answer::AnswerUsage;
use crate::json::writer::JsonWriter;
use crate::llm::format::Format;

/// Reads a `usage` object. `None` if it holds no known count.
pub(super) fn read_usage(raw: &str) -> Option<AnswerUsage> {
    // With reasoning that is counted in the total alone (xAI, Google's compatible API).
    let usage = Format::Chat.parse_usage(raw)?.tokens(u64::MAX);
    let through_cache =
        usage.cached_input.unwrap_or(0).saturating_add(usage.cache_write.unwrap_or(0));
    // Parts that exceed their whole are counted in addition to it.
    let beside = usage.reasoning.filter(|reasoning| usage.output < Some(*reasoning)).unwrap_or(0);
    Some(AnswerUsage {
        input: usage.input.map(|input| input.checked_sub(through_cache).unwrap_or(input)),
        output: usage.output.map(|output| output.saturating_add(beside)),
        ..usage.into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        for (raw, expected) in [
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":2,"audio_tokens":1},"completion_tokens_details":{"reasoning_tokens":3}}"#,
                AnswerUsage {
                    input: Some(4),
                    cache_read: Some(4),
                    cache_write: Some(2),
                    output: Some(5),
                    reasoning: Some(3),
                    audio_input: Some(1),
                    ..AnswerUsage::default()
                },
            ),
            // DeepSeek's names; xAI's reasoning in addition to the output.
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":35,"prompt_cache_hit_tokens":8,"completion_tokens_details":{"reasoning_tokens":20}}"#,
                AnswerUsage {
                    input: Some(2),
                    cache_read: Some(8),
                    output: Some(25),
                    reasoning: Some(20),
                    ..AnswerUsage::default()
                },
            ),
            (
                r#"{"prompt_tokens":3,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":7}}"#,
                AnswerUsage {
                    input: Some(3),
                    cache_read: Some(7),
                    output: Some(5),
                    ..AnswerUsage::default()
                },
            ),
        ] {
            assert_eq!(read_usage(raw), Some(expected), "{raw}");
        }
        assert_eq!(read_usage("{}"), None);
        assert_eq!(read_usage("3"), None);
    }

    #[test]
    fn totals_include_the_cache() {
        let usage = AnswerUsage {
            input: Some(4),
            cache_read: Some(3),
            cache_write: Some(2),
            output: Some(5),
            reasoning: Some(1),
            ..AnswerUsage::default()
        };
        let mut json = JsonWriter::new();
        write_usage(&mut json, &usage, 99);
        let json = json.finish();
        assert_eq!(
            json,
            r#"{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":2,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":1,"audio_tokens":0}}"#
        );
        let read = read_usage(&json).unwrap();
        assert_eq!(AnswerUsage { audio_input: None, audio_output: None, ..read }, usage);
        let mut json = JsonWriter::new();
        write_usage(&mut json, &AnswerUsage { output: Some(1), ..AnswerUsage::default() }, 99);
        assert!(
            json.finish()
                .starts_with(r#"{"prompt_tokens":99,"completion_tokens":1,"total_tokens":100,"#)
        );
    }
}
