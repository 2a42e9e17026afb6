//! Usage in the dialects of providers.

use proptest::prelude::*;

use super::*;
use crate::llm::format::Format;

fn parse(raw: &str) -> Option<ReportedUsage> {
    ReportedUsage::parse(raw, Format::Chat.usage_names())
}

fn report(raw: &str) -> ReportedUsage {
    parse(raw).unwrap()
}

fn counts(raw: &str) -> TokenUsage {
    report(raw).counts
}

#[test]
fn chat_usage_with_all_its_details() {
    let usage = parse(
        r#"{"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 4}}"#,
    );
    assert_eq!(
        usage,
        Some(ReportedUsage {
            counts: TokenUsage {
                input: Some(100),
                cached_input: Some(64),
                cache_write: None,
                output: Some(50),
                reasoning: Some(20),
                audio_input: Some(3),
                audio_output: Some(4),
                cache_write_1h: None,
            },
            total: Some(150),
            ..Default::default()
        })
    );
}

#[test]
fn responses_usage_and_other_dialects() {
    let usage = counts(
        r#"{"input_tokens": 7, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 2}}"#,
    );
    assert_eq!((usage.input, usage.output), (Some(7), Some(9)));
    assert_eq!((usage.cached_input, usage.reasoning), (Some(0), Some(2)));

    let usage = counts(
        r#"{"prompt_tokens": 7, "prompt_cache_hit_tokens": 5, "prompt_tokens_details": null,
            "cache_creation_input_tokens": 1}"#,
    );
    assert_eq!((usage.cached_input, usage.cache_write), (Some(5), Some(1)));
    assert_eq!(usage.output, None);
}

#[test]
fn cached_input_in_all_spellings() {
    for spelling in [
        r#""prompt_tokens_details": {"cached_tokens": 5}"#,
        r#""prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 2"#,
        r#""cached_tokens": 5"#,
        r#""prompt_tokens_details": {"cached_tokens": 5}, "prompt_cache_hit_tokens": 4"#,
        r#""prompt_tokens_details": {"cached_tokens": null}, "prompt_cache_hit_tokens": 5"#,
    ] {
        let usage = counts(&format!(r#"{{"prompt_tokens": 7, {spelling}}}"#));
        assert_eq!((usage.input, usage.cached_input), (Some(7), Some(5)), "{spelling}");
    }
}

#[test]
fn fractions_are_rounded_up() {
    for (raw, expected) in [
        ("14417.92", 14418),
        ("12.0", 12),
        ("1e3", 1000),
        ("0.2", 1),
        ("0.0", 0),
        ("1e12", MAX_TOKENS),
    ] {
        let usage = counts(&format!(r#"{{"prompt_tokens": 1, "completion_tokens": {raw}}}"#));
        assert_eq!(usage.output, Some(expected), "{raw}");
    }
}

#[test]
fn each_kind_is_read_in_all_its_places() {
    for format in Format::ALL {
        let names = format.usage_names();
        for places in names.kinds.values() {
            for (object, name) in places {
                let raw = match *object {
                    "" => format!(r#"{{"{name}": 7}}"#),
                    object => format!(r#"{{"{object}": {{"{name}": 7}}}}"#),
                };
                let usage = ReportedUsage::parse(&raw, names).unwrap().counts;
                assert_eq!(usage.counts().iter().flatten().collect::<Vec<_>>(), [&7], "{raw}");
            }
        }
    }
}

#[test]
fn both_parts_of_the_cache_are_read() {
    let expected = TokenUsage {
        input: Some(100),
        cached_input: Some(64),
        cache_write: Some(20),
        output: Some(5),
        ..TokenUsage::default()
    };
    for cache in [
        r#""cache_read_input_tokens": 64, "cache_creation_input_tokens": 20"#,
        r#""prompt_tokens_details": {"cached_tokens": 64, "cache_creation_tokens": 20}"#,
        r#""prompt_tokens_details": {"cached_tokens": 64, "cache_creation_input_tokens": 20}"#,
        r#""prompt_tokens_details": {"cached_tokens": 0}, "cache_read_input_tokens": 64,
            "cache_creation_input_tokens": 20"#,
    ] {
        let raw = format!(r#"{{"prompt_tokens": 100, "completion_tokens": 5, {cache}}}"#);
        assert_eq!(counts(&raw), expected, "{raw}");
    }
}

#[test]
fn reasoning_beside_the_output_is_told_by_its_provider() {
    let usage = |reasoning, more| {
        counts(&format!(
            r#"{{"prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196,
                "reasoning_tokens": {reasoning}{more}}}"#
        ))
    };
    let perplexity = r#", "citation_tokens": 20016, "num_search_queries": 18"#;
    // More than the output is charged in addition to it.
    assert_eq!(usage(73997, perplexity).output, Some(7163));
    assert_eq!(usage(73997, perplexity).reasoning, Some(73997));
    assert_eq!(charged_tokens(&usage(73997, perplexity)), (33, 7163 + 73997));
    assert_eq!(usage(3000, perplexity).output, Some(10163));
    assert_eq!(usage(3000, "").output, Some(7163), "a part of it, as SGLang has it");
}

#[test]
fn later_reports_replace_earlier_ones() {
    let first = report(
        r#"{"prompt_tokens": 25, "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 10}}"#,
    );
    let last = report(r#"{"prompt_tokens": 26, "completion_tokens": 30, "total_tokens": 56}"#);
    let expected = TokenUsage { input: Some(26), output: Some(30), ..first.counts };
    assert_eq!(
        first.updated(last),
        ReportedUsage { counts: expected, total: Some(56), ..Default::default() }
    );
    assert_eq!(first.updated(first), first);

    let blank = report(
        r#"{"prompt_tokens": 0, "completion_tokens": 30, "total_tokens": 0,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0}}"#,
    );
    let expected = TokenUsage { output: Some(30), reasoning: Some(0), ..first.counts };
    assert_eq!(first.updated(blank).counts, expected);
    assert_eq!(blank.updated(first).counts.output, Some(1), "a correction");
    assert_eq!(blank.updated(first).counts.input, Some(25));
    assert_eq!(last.updated(blank).total, Some(56));
}

#[test]
fn a_total_tells_what_stands_beside_input_and_output() {
    for (raw, input, output) in [
        // Reasoning in addition to the output, and within it.
        (
            r#"{"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 450,
                "completion_tokens_details": {"reasoning_tokens": 150}}"#,
            100,
            350,
        ),
        (
            r#"{"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300,
                "completion_tokens_details": {"reasoning_tokens": 150}}"#,
            100,
            200,
        ),
        // The same with more reasoning than output, which cannot be a part of it.
        (
            r#"{"input_tokens": 10, "output_tokens": 20, "total_tokens": 530,
                "output_tokens_details": {"reasoning_tokens": 500}}"#,
            10,
            20,
        ),
        (
            r#"{"input_tokens": 10, "output_tokens": 20, "total_tokens": 1000,
                "output_tokens_details": {"reasoning_tokens": 500}}"#,
            10,
            990,
        ),
        // Thoughts that no detail counts.
        (r#"{"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}"#, 20, 603),
        // Input from the cache in addition to the input.
        (
            r#"{"prompt_tokens": 600, "completion_tokens": 20, "total_tokens": 1120,
                "prompt_tokens_details": {"cached_tokens": 500}}"#,
            1100,
            20,
        ),
        (
            r#"{"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 620,
                "prompt_tokens_details": {"cached_tokens": 500}}"#,
            100,
            20,
        ),
        // Nothing new, too little, nonsense, and more than can have been written.
        (r#"{"prompt_tokens": 20, "completion_tokens": 198}"#, 20, 198),
        (r#"{"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 198}"#, 20, 198),
        (r#"{"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 0}"#, 20, 198),
        (r#"{"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": -1}"#, 20, 198),
        (r#"{"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": "623"}"#, 20, 198),
        (r#"{"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 1020}"#, 20, 1000),
        (r#"{"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 1021}"#, 20, 198),
        (
            r#"{"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 1000000000000}"#,
            20,
            198,
        ),
    ] {
        let usage = report(raw).tokens(1000);
        assert_eq!((usage.input, usage.output), (Some(input), Some(output)), "{raw}");
    }
    // Nothing is added to what is not known.
    let half = report(r#"{"prompt_tokens": 20, "total_tokens": 623}"#);
    assert_eq!(half.tokens(1000), half.counts);
    assert_eq!(parse(r#"{"total_tokens": 623}"#), None);
}

#[test]
fn a_total_of_all_reports_is_held_against_the_counts_of_all() {
    let first = report(r#"{"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}"#);
    let last = report(
        r#"{"completion_tokens": 200, "total_tokens": 450,
            "completion_tokens_details": {"reasoning_tokens": 150}}"#,
    );
    assert_eq!(first.updated(last).tokens(0).output, Some(350));
    let unsaid = report(r#"{"prompt_tokens": 100, "completion_tokens": 200}"#);
    assert_eq!(first.updated(unsaid).tokens(1000).output, Some(200));
}

proptest! {
    #[test]
    fn what_is_charged_is_the_total_or_what_it_was(
        counts in prop::array::uniform8(prop::option::of(0..2000_u64)),
        total in prop::option::of(0..20_000_u64),
        most in 0..5000_u64,
    ) {
        let counts = TokenUsage::from_counts(counts);
        let usage = ReportedUsage { counts, total, ..Default::default() }.tokens(most);
        let sum = |usage: &TokenUsage| {
            let (input, output) = charged_tokens(usage);
            input + output
        };
        if usage == counts {
            return Ok(());
        }
        prop_assert!(sum(&usage) > sum(&counts));
        prop_assert_eq!(Some(sum(&usage)), total);
    }
}

#[test]
fn absurd_counts_are_ignored_one_by_one() {
    for absurd in
        ["-1", "-1.5", "1e999", "99999999999999999999999", "1000000000001", "\"3\"", "[3]", "null"]
    {
        let raw = format!(r#"{{"prompt_tokens": {absurd}, "completion_tokens": 2}}"#);
        let usage = counts(&raw);
        assert_eq!((usage.input, usage.output), (None, Some(2)), "{absurd}");
    }
    for nothing in ["null", "{}", "[1, 2]", "3", "", "{", r#"{"prompt_tokens": null}"#] {
        assert_eq!(parse(nothing), None, "{nothing}");
    }
}

#[test]
fn models_are_bounded_text() {
    assert_eq!(model_name(r#""gpt\u002d4""#).as_deref(), Some("gpt-4"));
    assert_eq!(model_name("4"), None);
    assert_eq!(model_name(&format!("\"{}\"", "x".repeat(257))), None);
}
