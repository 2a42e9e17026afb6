//! Usage in Anthropic's form: the input is without what the cache read and wrote.

use crate::json::writer::JsonWriter;
use crate::llm::convert::answer::AnswerUsage;
use crate::llm::messages::parse_usage;

pub(super) fn read_usage(raw: &str) -> Option<AnswerUsage> {
    parse_usage(raw).map(|usage| usage.counts.into())
}

/// The counts of a later report; a zero after a larger count means that it is missing.
pub(super) fn without_lost_counts(earlier: AnswerUsage, later: AnswerUsage) -> AnswerUsage {
    let kept = |earlier: Option<u64>, later: Option<u64>| {
        later.filter(|count| *count > 0 || earlier.is_none_or(|earlier| earlier == 0))
    };
    AnswerUsage {
        input: kept(earlier.input, later.input),
        cache_read: kept(earlier.cache_read, later.cache_read),
        cache_write: kept(earlier.cache_write, later.cache_write),
        cache_write_1h: kept(earlier.cache_write_1h, later.cache_write_1h),
        output: kept(earlier.output, later.output),
        reasoning: kept(earlier.reasoning, later.reasoning),
        audio_input: None,
        audio_output: None,
    }
}

/// What is written of usage that the provider does not report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Estimate {
    /// In tokens.
    pub(super) input: u64,
    /// In bytes of what was written.
    pub(super) output_bytes: usize,
}

/// Bytes of text that make about one token.
const BYTES_A_TOKEN: u64 = 4;

/// Writes the `usage` of a message. Every count is a number, since clients add them up.
pub(super) fn write_usage(usage: &AnswerUsage, estimate: Estimate, json: &mut JsonWriter) {
    json.object(|json| {
        write_counts(usage, estimate, json);
        if usage.cache_write_1h.is_none() {
            json.key("cache_creation").null();
        }
        for key in ["inference_geo", "server_tool_use", "service_tier"] {
            json.key(key).null();
        }
    });
}

/// Writes the `usage` at the end of a stream.
pub(super) fn write_last_usage(usage: &AnswerUsage, estimate: Estimate, json: &mut JsonWriter) {
    json.object(|json| {
        write_counts(usage, estimate, json);
        json.key("server_tool_use").null();
    });
}

fn write_counts(usage: &AnswerUsage, estimate: Estimate, json: &mut JsonWriter) {
    let input = match usage.total_input() {
        Some(_) => usage.input.unwrap_or(0),
        None => estimate.input,
    };
    let written = u64::try_from(estimate.output_bytes).unwrap_or(u64::MAX);
    let cache_write = usage.cache_write.unwrap_or(0);
    json.key("input_tokens").number(input);
    json.key("cache_creation_input_tokens").number(cache_write);
    json.key("cache_read_input_tokens").number(usage.cache_read.unwrap_or(0));
    if let Some(long) = usage.cache_write_1h {
        json.key("cache_creation").object(|json| {
            let short = cache_write.saturating_sub(long);
            json.key("ephemeral_5m_input_tokens").number(short);
            json.key("ephemeral_1h_input_tokens").number(long);
        });
    }
    json.key("output_tokens").number(usage.output.unwrap_or(written.div_ceil(BYTES_A_TOKEN)));
    if let Some(reasoning) = usage.reasoning {
        let details = json.key("output_tokens_details");
        details.object(|json| json.key("thinking_tokens").number(reasoning));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(usage: &AnswerUsage) -> String {
        let estimate = Estimate { input: 70, output_bytes: 9 };
        let [mut whole, mut last] = [JsonWriter::new(), JsonWriter::new()];
        write_usage(usage, estimate, &mut whole);
        write_last_usage(usage, estimate, &mut last);
        let whole = whole.finish();
        assert_eq!(read_usage(&last.finish()), read_usage(&whole));
        whole
    }

    #[test]
    fn counts_are_read_as_they_are_written() {
        let usage = AnswerUsage {
            input: Some(3),
            cache_read: Some(7),
            cache_write: Some(50),
            cache_write_1h: Some(30),
            output: Some(9),
            reasoning: Some(4),
            ..AnswerUsage::default()
        };
        assert_eq!(read_usage(&written(&usage)), Some(usage));
    }

    #[test]
    fn what_is_not_reported_is_estimated() {
        let unknown = read_usage(&written(&AnswerUsage::default())).unwrap();
        assert_eq!((unknown.input, unknown.output), (Some(70), Some(3)));
        let cached = AnswerUsage { cache_read: Some(5), output: Some(0), ..AnswerUsage::default() };
        let cached = read_usage(&written(&cached)).unwrap();
        assert_eq!((cached.input, cached.cache_read, cached.output), (Some(0), Some(5), Some(0)));
    }

    #[test]
    fn zeros_do_not_replace_counts() {
        let earlier = AnswerUsage { input: Some(4), cache_read: Some(9), ..AnswerUsage::default() };
        let later = AnswerUsage {
            input: Some(6),
            cache_read: Some(0),
            output: Some(0),
            ..AnswerUsage::default()
        };
        let usage = earlier.updated(without_lost_counts(earlier, later));
        assert_eq!((usage.input, usage.cache_read, usage.output), (Some(6), Some(9), Some(0)));
    }
}
