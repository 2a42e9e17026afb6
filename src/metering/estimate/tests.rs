use std::sync::mpsc::channel;

use bytes::Bytes;

use super::*;
use crate::metering::sample::{Collector, LONGEST_SAMPLE};

const LONG: Duration = Duration::from_secs(60);

fn text(text: &str) -> Sample {
    let mut collector = Collector::default();
    collector.take(text.as_bytes());
    collector.strings()
}

fn unbounded(answer: Sample) -> Estimation {
    Estimation {
        request: Sample::default(),
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
    let request = Sample::of_body(&body);
    let estimation = Estimation { request, ..unbounded(text(r"hello\u0020world")) };
    // "user", a line feed, "hello", " world".
    assert_eq!(estimated(estimation), (Some(4), Some(2)));
}

#[test]
fn no_more_than_was_reserved() {
    let request = Sample::of_body(&Bytes::from_static(b"{\"input\":\"hello world\"}"));
    let answer = text("hello world");
    let estimation =
        Estimation { request, answer, reported: None, at_most_input: 1, at_most_output: 1 };
    assert_eq!(estimated(estimation.clone()), (Some(1), Some(1)));
    let rough = estimation.rough();
    assert_eq!((rough.input, rough.output), (Some(1), Some(1)));
}

#[test]
fn what_was_reported_before_the_cut_stands() {
    let request = Sample::of_body(&Bytes::from_static(b"{\"input\":\"hello world\"}"));
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
    let whole = "hello world ".repeat(LONGEST_SAMPLE / 12 * 10);
    let (_, output) = estimated(unbounded(text(&whole)));
    let exact = count(&whole);
    assert!(output.unwrap().abs_diff(exact) < exact / 1000, "{output:?} {exact}");
}

/// What the tokenizer is given is the measure of its work: each byte at most once, and none beyond
/// the bound.
#[test]
fn hostile_text_makes_no_more_work_than_other() {
    for hostile in ["a", " ", "\\n", "\\\\", "1", "é", "\u{301}", "A b", "\\r\\n ", "!"] {
        let whole = hostile.repeat(1024 * 1024 / hostile.len());
        let sample = text(&whole);
        assert_eq!(sample.whole(), whole.len() as u64);
        let mut given = 0;
        let tokens = sample.tokens(|text| {
            let pieces = bpe_openai::o200k_base().split(text);
            let in_pieces: usize = pieces.map(str::len).sum();
            assert_eq!(in_pieces, text.len(), "{hostile}");
            given += text.len();
            count(text)
        });
        assert!(given <= LONGEST_SAMPLE);
        assert!((1..=whole.len() as u64).contains(&tokens.unwrap()), "{hostile}");
    }
}

#[test]
fn what_is_no_text_is_measured() {
    let mut collector = Collector::default();
    collector.take(b"\xff\xfe\xfd\xff\xfe");
    assert_eq!(estimated(unbounded(collector.strings())), (Some(0), Some(2)));
    let gzip = Bytes::from_static(b"\x1f\x8b\x08\xff\"\xff\xff\"");
    let estimation = Estimation { request: Sample::of_body(&gzip), ..unbounded(text("")) };
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
