//! How usage is named in messages. The input does not include what was read from the cache or written to
//! it.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::tokens::{ByKind, TokenUsage};
use crate::llm::usage::{NO_KINDS, ReportedUsage, UsageNames, count};

pub(in crate::llm) const USAGE_NAMES: UsageNames = UsageNames {
    kinds: ByKind {
        input: &[("", "input_tokens")],
        cached_input: &[("", "cache_read_input_tokens")],
        cache_write: &[
            ("", "cache_creation_input_tokens"),
            ("cache_creation", "ephemeral_5m_input_tokens"),
        ],
        cache_write_1h: &[("cache_creation", "ephemeral_1h_input_tokens")],
        output: &[("", "output_tokens")],
        reasoning: &[("output_tokens_details", "thinking_tokens")],
        ..NO_KINDS
    },
    ..UsageNames::NONE
};

/// Reads a `usage` object. `None` when it is not an object or holds no known count.
pub(in crate::llm) fn parse_usage(raw: &str) -> Option<ReportedUsage> {
    let usage = ReportedUsage::parse(raw, &USAGE_NAMES)?;
    let counts = match raw.contains("\"iterations\"") {
        true => with_compactions(usage.counts, raw),
        false => usage.counts,
    };
    let searches = raw.contains("\"server_tool_use\"").then(|| web_searches(raw)).flatten();
    let web_searches = searches.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX));
    Some(ReportedUsage { counts, input_excludes_cache: true, web_searches, ..usage })
}

/// The searches of the web, each of which is billed (Anthropic, "Web search tool").
fn web_searches(raw: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Usage<'a> {
        #[serde(borrow)]
        server_tool_use: Option<ServerToolUse<'a>>,
    }
    #[derive(Deserialize)]
    struct ServerToolUse<'a> {
        #[serde(borrow)]
        web_search_requests: Option<&'a RawValue>,
    }
    let tools = serde_json::from_str::<Usage<'_>>(raw).ok()?.server_tool_use?;
    count(tools.web_search_requests?.get().as_bytes())
}

/// Adds the iterations that summed up a long conversation, which are billed and in no total
/// (Anthropic, "Compaction").
fn with_compactions(counts: TokenUsage, raw: &str) -> TokenUsage {
    #[derive(Deserialize)]
    struct Usage<'a> {
        #[serde(borrow)]
        iterations: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Iteration<'a> {
        r#type: &'a str,
    }
    let Ok(usage) = serde_json::from_str::<Usage<'_>>(raw) else { return counts };
    let is_compaction = |iteration: &&RawValue| {
        serde_json::from_str::<Iteration<'_>>(iteration.get())
            .is_ok_and(|iteration| iteration.r#type == "compaction")
    };
    usage
        .iterations
        .into_iter()
        .filter(is_compaction)
        .filter_map(|iteration| ReportedUsage::parse(iteration.get(), &USAGE_NAMES))
        .fold(counts, |sum, iteration| {
            let (mut sum, more) = (sum.counts(), iteration.counts.counts());
            for (sum, more) in sum.iter_mut().zip(more) {
                *sum = match (*sum, more) {
                    (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
                    (sum, more) => sum.or(more),
                };
            }
            TokenUsage::from_counts(sum)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(raw: &str) -> TokenUsage {
        parse_usage(raw).unwrap().tokens(1_000_000)
    }

    #[test]
    fn the_input_includes_the_cache() {
        let usage = tokens(
            r#"{"input_tokens":3,"cache_creation_input_tokens":50,"cache_read_input_tokens":7,
               "cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":30},
               "output_tokens":9,"output_tokens_details":{"thinking_tokens":4}}"#,
        );
        let expected = TokenUsage {
            input: Some(60),
            cached_input: Some(7),
            cache_write: Some(50),
            cache_write_1h: Some(30),
            output: Some(9),
            reasoning: Some(4),
            ..TokenUsage::default()
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn a_later_report_replaces_what_it_names() {
        let start = parse_usage(
            r#"{"input_tokens":2,"cache_creation_input_tokens":30,"cache_read_input_tokens":0,
               "cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},
               "output_tokens":1}"#,
        );
        let end =
            parse_usage(r#"{"input_tokens":6,"cache_read_input_tokens":50,"output_tokens":40}"#);
        let usage = start.unwrap().updated(end.unwrap()).tokens(1_000);
        assert_eq!((usage.input, usage.output), (Some(86), Some(40)));
        assert_eq!((usage.cached_input, usage.cache_write), (Some(50), Some(30)));
        assert_eq!(usage.cache_write_1h, Some(20));
    }

    #[test]
    fn searches_are_counted() {
        let searches = |more: &str| {
            let raw = format!(r#"{{"input_tokens":1,"output_tokens":1{more}}}"#);
            parse_usage(&raw).unwrap().web_searches
        };
        let two = r#","server_tool_use":{"web_search_requests":2,"web_fetch_requests":0}"#;
        assert_eq!(searches(two), 2);
        assert_eq!(searches(&two.replace(":2,", ":2.0,")), 2);
        assert_eq!(searches(&two.replace(":2,", ":1.5,")), 2);
        assert_eq!(searches(&two.replace(":2,", ":-1,")), 0);
        assert_eq!(searches(r#","server_tool_use":null"#), 0);
        assert_eq!(searches(""), 0);
        let start = parse_usage(r#"{"input_tokens":1,"output_tokens":1}"#).unwrap();
        let end = format!(r#"{{"output_tokens":9{two}}}"#);
        assert_eq!(start.updated(parse_usage(&end).unwrap()).web_searches, 2);
    }

    #[test]
    fn compactions_are_added_and_other_iterations_are_not() {
        let usage = tokens(
            r#"{"input_tokens":10,"output_tokens":5,"iterations":[
               {"type":"compaction","input_tokens":1000,"output_tokens":100},
               {"type":"message","input_tokens":10,"output_tokens":5}]}"#,
        );
        assert_eq!((usage.input, usage.output), (Some(1010), Some(105)));
        let odd = tokens(r#"{"input_tokens":10,"output_tokens":5,"iterations":7}"#);
        assert_eq!((odd.input, odd.output), (Some(10), Some(5)));
    }
}
