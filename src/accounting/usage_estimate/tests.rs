//! Our count of tokens against the reference tokenizer, and estimates from samples.

use std::sync::mpsc::channel;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::llm::text_sample::{MAX_SAMPLE_BYTES, TextSampler};

const LONG: Duration = Duration::from_secs(60);

/// The count of another implementation, which is optimized in tests.
fn reference(text: &str) -> u64 {
    bpe_openai::o200k_base().count(text) as u64
}

fn text(text: &str) -> TextSample {
    let mut sampler = TextSampler::default();
    sampler.take(text.as_bytes());
    sampler.sample()
}

fn unbounded(answer: TextSample) -> Estimation {
    Estimation {
        request: TextSample::default(),
        answer,
        reported: None,
        at_most_input: u64::MAX,
        at_most_output: u64::MAX,
    }
}

fn estimated(estimation: Estimation) -> (Option<u64>, Option<u64>) {
    let estimator = Estimator::default();
    let (sender, usage) = channel();
    estimator.estimate(estimation, move |usage| sender.send(usage).unwrap());
    let usage = usage.recv_timeout(LONG).unwrap();
    assert!(estimator.close(LONG));
    (usage.input, usage.output)
}

#[test]
fn known_texts_have_known_counts() {
    for (text, tokens) in [
        ("", 0),
        ("hello world", 2),
        ("tiktoken is great!", 6),
        ("The quick brown fox jumps over the lazy dog.", 10),
        ("<|endoftext|>", 7),
        ("こんにちは", 1),
    ] {
        assert_eq!(count(text), tokens, "{text}");
    }
}

#[test]
fn request_and_answer_are_counted() {
    let body = Bytes::from_static(br#"{"messages":[{"role":"user","content":"hello world"}]}"#);
    let request = TextSample::of_request(&body);
    let estimation = Estimation { request, ..unbounded(text(r"hello\u0020world")) };
    // "user", a line feed, "hello", " world".
    assert_eq!(estimated(estimation), (Some(4), Some(2)));
}

/// Text that has a token for every few bytes.
fn dense(bytes: usize) -> String {
    "The quick brown fox jumps over the lazy dog. ".chars().cycle().take(bytes).collect()
}

fn counted(body: String) -> u64 {
    let request = TextSample::of_request(&Bytes::from(body));
    let estimation = Estimation { request, ..unbounded(TextSample::default()) };
    estimation.counted().input.unwrap()
}

/// A caller who leaves before the usage comes pays for what is counted here, and chooses the form.
#[test]
fn no_form_of_a_request_makes_its_prompt_cheap() {
    let prompt = dense(400_000);
    let exact = reference(&prompt);
    let (blanks, ids) = (" ".repeat(500_000), "i".repeat(128));
    let message = format!(r#"{{"role":"user","content":"{prompt}"}}"#);
    let many_ids = vec![format!(r#"{{"id":"{ids}","type":"{ids}"}}"#); 2_000].join(",");
    let escaped: String = prompt.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    let words: Vec<String> =
        prompt.split_inclusive(". ").map(|words| format!("\"{words}\":1")).collect();
    let numbers = vec!["1234567"; exact as usize / 4].join(" , ");
    for (form, body) in [
        ("blanks first", format!(r#"{{{blanks}"messages":[{message}]}}"#)),
        ("blanks within", format!(r#"{{"messages":[{blanks}{message}{blanks}]}}"#)),
        ("ids first", format!(r#"{{"metadata":[{many_ids}],"messages":[{message}]}}"#)),
        ("cheap text first", format!(r#"{{"messages":[{{"content":"{blanks}"}},{message}]}}"#)),
        ("last", format!(r#"{{"a":"{ids}","user":"{ids}","b":[[{{"type":"x"}},"{prompt}"]]}}"#)),
        ("under an odd key", format!(r#"{{"messages":[{{"id":"{prompt}"}}]}}"#)),
        ("as an encoded file", format!(r#"{{"input":"data:text/plain;base64,{prompt}"}}"#)),
        ("said twice", format!(r#"{{"messages":[{{"reasoning_details":["{prompt}"]}}]}}"#)),
        ("escaped", format!(r#"{{"input":"{escaped}"}}"#)),
        ("as names", format!(r#"{{"tools":[{{"parameters":{{{}}}}}]}}"#, words.join(","))),
        ("as numbers", format!(r#"{{"tools":[{{"enum":[{numbers}]}}]}}"#)),
    ] {
        let estimate = counted(body);
        assert!((exact * 4 / 5..exact * 2).contains(&estimate), "{form}: {estimate} of {exact}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_prompt_is_counted_wherever_it_stands(
        parts in prop::collection::vec((1_000..60_000_usize, any::<bool>(), any::<bool>()), 2..14),
    ) {
        let mut exact = 0;
        let parts: Vec<String> = parts.into_iter().map(|(bytes, is_dense, is_blank)| {
            let text = if is_dense { dense(bytes) } else { " ".repeat(bytes) };
            exact += reference(&text);
            let blank = if is_blank { " ".repeat(bytes) } else { String::new() };
            format!("{blank}\"{text}\"")
        }).collect();
        let estimate = counted(format!("{{\"input\":[{}]}}", parts.join(",")));
        // A handful of cheap ones weigh little; the cuts of blocks weigh a token each.
        let low = (exact * 11 / 20).saturating_sub(1_500);
        prop_assert!((low..exact * 2 + 8_000).contains(&estimate), "{} of {}", estimate, exact);
    }
}

#[test]
fn no_more_than_was_reserved() {
    let request = TextSample::of_request(&Bytes::from_static(b"{\"input\":\"hello world\"}"));
    let answer = text("hello world");
    let estimation =
        Estimation { request, answer, reported: None, at_most_input: 1, at_most_output: 1 };
    assert_eq!(estimated(estimation.clone()), (Some(1), Some(1)));
    let rough = estimation.rough();
    assert_eq!((rough.input, rough.output), (Some(1), Some(1)));
}

#[test]
fn what_was_reported_before_the_cut_stands() {
    let request = TextSample::of_request(&Bytes::from_static(b"{\"input\":\"hello world\"}"));
    let reported = TokenUsage {
        input: Some(9),
        cached_input: Some(3),
        output: Some(5),
        ..TokenUsage::default()
    };
    let estimation =
        Estimation { request, reported: Some(reported), ..unbounded(text("hello world")) };
    assert_eq!(estimation.counted(), TokenUsage { output: Some(7), ..reported });
    let bounded = Estimation { at_most_output: 4, at_most_input: 1, ..estimation.clone() };
    assert_eq!(bounded.counted(), reported);
    let no_input = TokenUsage { input: Some(0), output: None, ..reported };
    let estimation = Estimation { reported: Some(no_input), ..estimation };
    let usage = estimation.counted();
    assert_eq!((usage.input, usage.output), (Some(2), Some(2)));
}

#[test]
fn a_long_text_is_counted_in_part() {
    let whole = "hello world ".repeat(MAX_SAMPLE_BYTES / 12 * 10);
    let (_, output) = estimated(unbounded(text(&whole)));
    let exact = reference(&whole);
    // Each cut costs a token.
    assert!((exact..exact * 21 / 20).contains(&output.unwrap()), "{output:?} {exact}");
}

/// What the tokenizer is given is the measure of its work: each byte at most once, and none beyond
/// the bound.
#[test]
fn hostile_text_makes_no_more_work_than_other() {
    for hostile in ["a", " ", "\\n", "\\\\", "1", "é", "\u{301}", "A b", "\\r\\n ", "!"] {
        let whole = hostile.repeat(1024 * 1024 / hostile.len());
        let sample = text(&whole);
        assert_eq!(sample.length(), whole.len() as u64);
        let mut given = 0;
        let tokens = sample.tokens(|text| {
            given += text.len();
            count(text)
        });
        assert!(given <= MAX_SAMPLE_BYTES);
        assert!((1..=whole.len() as u64).contains(&tokens.unwrap()), "{hostile}");
    }
}

#[test]
fn what_is_no_text_is_measured() {
    let mut sampler = TextSampler::default();
    sampler.take(b"\xff\xfe\xfd\xff\xfe");
    assert_eq!(estimated(unbounded(sampler.sample())), (Some(0), Some(2)));
    let gzip = Bytes::from_static(b"\x1f\x8b\x08\xff\"\xff\xff\"");
    let estimation = Estimation { request: TextSample::of_request(&gzip), ..unbounded(text("")) };
    assert_eq!(estimated(estimation), (Some(2), Some(0)));
}

#[test]
fn beyond_the_queue_lengths_have_to_do() {
    let estimator = Estimator::with_queue(2);
    let (go, wait) = channel::<()>();
    let (sender, usages) = channel();
    let done = sender.clone();
    estimator.estimate(unbounded(text("hello world")), move |usage| {
        wait.recv_timeout(LONG).unwrap();
        done.send(usage.output).unwrap();
    });
    for _ in 0..2 {
        let sender = sender.clone();
        estimator.estimate(unbounded(text("hello world")), move |usage| {
            sender.send(usage.output).unwrap();
        });
    }
    // The third has had no place and no need to wait.
    assert_eq!(usages.try_recv(), Ok(Some(3)));
    assert!(usages.try_recv().is_err());
    go.send(()).unwrap();
    assert!(estimator.close(LONG));
    assert_eq!(usages.try_iter().collect::<Vec<_>>(), [Some(2), Some(2)]);

    estimator.estimate(unbounded(text("hello world")), move |usage| {
        sender.send(usage.output).unwrap();
    });
    assert_eq!(usages.try_recv(), Ok(Some(3)), "closed");
}

#[test]
fn what_waits_at_the_deadline_is_answered_by_length() {
    let estimator = Estimator::with_queue(8);
    let (go, wait) = channel::<()>();
    let (sender, usages) = channel();
    estimator.estimate(unbounded(text("")), move |_| wait.recv_timeout(LONG).unwrap());
    for _ in 0..3 {
        let sender = sender.clone();
        estimator.estimate(unbounded(text("hello world")), move |usage| {
            sender.send(usage.output).unwrap();
        });
    }
    let closing = estimator.clone();
    let closed = std::thread::spawn(move || closing.close(Duration::ZERO));
    while !estimator.shared.hurry.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
    go.send(()).unwrap();
    assert!(closed.join().unwrap());
    assert_eq!(usages.try_iter().collect::<Vec<_>>(), [Some(3); 3]);
}

#[test]
fn a_settlement_that_panics_is_not_the_end() {
    let estimator = Estimator::default();
    estimator.estimate(unbounded(text("a")), |_| panic!("on purpose"));
    let (sender, usages) = channel();
    estimator.estimate(unbounded(text("a")), move |usage| sender.send(usage.output).unwrap());
    assert!(estimator.close(LONG));
    assert_eq!(usages.try_recv(), Ok(Some(1)));
}
