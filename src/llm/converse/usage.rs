//! How usage is named in Converse (AWS, "TokenUsage"). The input does not include what was read from the
//! cache or written to it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::tokens::ByKind;
use crate::llm::usage::{NO_KINDS, ReportedUsage, UsageNames, count};

pub(in crate::llm) const USAGE_NAMES: UsageNames = UsageNames {
    kinds: ByKind {
        input: &[("", "inputTokens")],
        cached_input: &[("", "cacheReadInputTokens"), ("", "cacheReadInputTokenCount")],
        cache_write: &[("", "cacheWriteInputTokens"), ("", "cacheWriteInputTokenCount")],
        output: &[("", "outputTokens")],
        ..NO_KINDS
    },
    // The total adds nothing: all of it is input or output.
    ..UsageNames::NONE
};

/// Reads a `usage` object. `None` when it is not an object or holds no known count.
pub(in crate::llm) fn parse_usage(raw: &str) -> Option<ReportedUsage> {
    let mut usage = ReportedUsage::parse(raw, &USAGE_NAMES)?;
    usage.input_excludes_cache = true;
    if memchr::memmem::find(raw.as_bytes(), b"\"cacheDetails\"").is_some() {
        usage.counts.cache_write_1h = written_for_an_hour(raw);
    }
    Some(usage)
}

/// The part of what was written to the cache that stays there for one hour.
fn written_for_an_hour(raw: &str) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Usage<'a> {
        #[serde(borrow)]
        cache_details: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Detail<'a> {
        #[serde(borrow)]
        ttl: Cow<'a, str>,
        input_tokens: &'a RawValue,
    }
    let usage: Usage<'_> = serde_json::from_str(raw).ok()?;
    let details = usage.cache_details.into_iter();
    let details = details.filter_map(|raw| serde_json::from_str::<Detail<'_>>(raw.get()).ok());
    let details = details.filter(|detail| detail.ttl == "1h");
    let tokens = details.filter_map(|detail| count(detail.input_tokens.get().as_bytes()));
    Some(tokens.fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tokens::TokenUsage;

    #[test]
    fn the_input_includes_the_cache() {
        let raw = r#"{"inputTokens":3,"outputTokens":9,"totalTokens":69,"cacheReadInputTokens":7,
            "cacheReadInputTokenCount":7,"cacheWriteInputTokens":50,"serverToolUsage":{},
            "cacheDetails":[{"ttl":"5m","inputTokens":20},{"ttl":"1h","inputTokens":30}]}"#;
        let expected = TokenUsage {
            input: Some(60),
            cached_input: Some(7),
            cache_write: Some(50),
            cache_write_1h: Some(30),
            output: Some(9),
            ..TokenUsage::default()
        };
        assert_eq!(parse_usage(raw).unwrap().tokens(1_000), expected);
        let fractions = raw.replace(":30}", ":29.5}");
        assert_eq!(parse_usage(&fractions).unwrap().tokens(1_000), expected);
        let plain = r#"{"inputTokens":12,"outputTokens":693,"totalTokens":705}"#;
        let expected = TokenUsage { input: Some(12), output: Some(693), ..TokenUsage::default() };
        assert_eq!(parse_usage(plain).unwrap().tokens(1_000), expected);
        assert_eq!(parse_usage("{}"), None);
    }
}
