//! Plain answers, and recorded streams of Bedrock.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::domain::tokens::TokenUsage;
use crate::llm::answer::{AnswerContent, BinaryEvents, PlainAnswer, StreamEnd, StreamedAnswer};
use crate::llm::event_stream::exception_message;
use crate::llm::format::{Format, Operation};
use crate::llm::test_support::{self, closed, tokens};

/// The recorded streams, with their usage.
fn recorded() -> Vec<(Vec<u8>, TokenUsage)> {
    let stream = |recording: &str| {
        let recording: Value = serde_json::from_str(recording).unwrap();
        let text = recording["exchanges"][0]["response"]["base64"].as_str().unwrap();
        decode_base64(text)
    };
    let usage = |input, output| TokenUsage {
        input: Some(input),
        output: Some(output),
        ..TokenUsage::default()
    };
    vec![
        (stream(include_str!("../../../tests/fixtures/converse/text_stream.json")), usage(13, 82)),
        (
            stream(include_str!("../../../tests/fixtures/converse/reasoning_stream.json")),
            usage(70, 43),
        ),
    ]
}

fn decode_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter(|byte| *byte != b'=') {
        let value = DIGITS.iter().position(|known| *known == digit).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}

/// Passes the stream in chunks of these sizes and checks that nothing of it is changed.
fn pass(stream: &[u8], sizes: &[usize]) -> StreamedAnswer {
    let answer = StreamedAnswer::of_binary(Format::Converse, BinaryEvents::Plain);
    test_support::pass(answer, stream, sizes)
}

#[test]
fn recorded_streams_are_read() {
    for (stream, usage) in recorded() {
        let mut answer = pass(&stream, &[stream.len()]);
        assert_eq!(tokens(&answer), usage);
        assert!(answer.is_terminal() && answer.is_over() && !answer.is_cut_short());
        assert_eq!(answer.observed().content, AnswerContent::Answer);
        assert!(answer.take_text().is_empty());
        let rest = answer.finish(StreamEnd::Complete);
        assert_eq!((rest.last, rest.abort), (None, false));
    }
}

#[test]
fn a_stream_without_its_end_is_cut_short() {
    let (stream, _) = recorded().swap_remove(0);
    let begun = &stream[..stream.len() / 2];
    let mut answer = pass(begun, &[100]);
    assert!(answer.is_cut_short());
    assert!(answer.take_text().text().unwrap().starts_with("The"));
    let rest = answer.finish(StreamEnd::Failed(closed()));
    assert_eq!((rest.last, rest.abort), (None, true), "nothing can be told within a message");

    let first = u32::from_be_bytes(*stream.first_chunk().unwrap());
    let mut answer = pass(&stream[..usize::try_from(first).unwrap()], &[100]);
    let told = answer.finish(StreamEnd::Failed(closed())).last.unwrap();
    let told_answer = pass(&told, &[7]);
    assert_eq!(told_answer.observed().content, AnswerContent::Error);
}

#[test]
fn a_stream_that_ends_before_its_usage_is_cut_short() {
    let (stream, _) = recorded().swap_remove(0);
    let answer = pass(without_last_message(&stream), &[100]);
    assert!(answer.is_cut_short() && !answer.is_terminal());
    assert_eq!(answer.observed().usage, None);
}

/// The stream up to its last message. Each begins with its length.
fn without_last_message(stream: &[u8]) -> &[u8] {
    let mut at = 0;
    loop {
        let length = u32::from_be_bytes(*stream[at..].first_chunk().unwrap());
        let next = at + usize::try_from(length).unwrap();
        if next == stream.len() {
            return &stream[..at];
        }
        at = next;
    }
}

#[test]
fn an_exception_and_damage_are_failures() {
    let (stream, _) = recorded().swap_remove(0);
    let exception = exception_message("throttlingException", "{\"message\":\"slow\"}");
    let first = u32::from_be_bytes(*stream.first_chunk().unwrap());
    let begun = [&stream[..usize::try_from(first).unwrap()], &exception].concat();
    let answer = pass(&begun, &[10]);
    assert_eq!(answer.observed().content, AnswerContent::Error);

    let mut damaged = stream.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let mut answer = pass(&damaged, &[100]);
    assert!(answer.is_cut_short());
    assert!(answer.finish(StreamEnd::Failed(closed())).abort);
}

#[test]
fn a_long_message_takes_constant_memory() {
    let long = json!({"a": "x".repeat(1_000_000), "usage": {"inputTokens": 3, "outputTokens": 4}});
    let message = exception_message("metadata", &long.to_string());
    let answer = pass(&message, &[1_000]);
    assert_eq!((tokens(&answer).input, tokens(&answer).output), (Some(3), Some(4)));
}

#[test]
fn plain_answers_are_read() {
    let output = r#""output":{"message":{"role":"assistant","content":[{"text":"hi"}]}}"#;
    let usage = r#""usage":{"inputTokens":5,"outputTokens":2,"cacheReadInputTokens":7}"#;
    for (body, content) in [
        (format!("{{{output},{usage}}}"), AnswerContent::Answer),
        (format!("{{{output}}}"), AnswerContent::Answer),
        ("{}".to_owned(), AnswerContent::Nothing),
    ] {
        let mut answer = PlainAnswer::new(Format::Converse);
        answer.push(body.as_bytes());
        assert_eq!(answer.observed().content, content, "{body}");
        let tokens = answer.observed().usage.map(|usage| usage.tokens(10));
        assert_eq!(tokens.is_some(), body.contains("usage"));
        assert!(tokens.is_none_or(|usage| usage.input == Some(12)), "{tokens:?}");
    }
}

#[test]
fn calls_name_their_model() {
    for (path, is_stream) in [
        ("/model/us.amazon.nova-micro-v1%3A0/converse", false),
        ("/model/arn%3Aaws%3Abedrock%3A%2F/converse-stream", true),
    ] {
        let operation = Operation::of_bedrock_post(path).unwrap();
        assert_eq!(operation.path_after_v1(), path);
        assert_eq!(operation.asks_for_stream(None), is_stream);
        assert!(operation.has_model_in_path());
    }
    for path in
        ["/model/m/count-tokens", "/model//converse", "/model/a/b/converse", "/models/m/converse"]
    {
        assert_eq!(Operation::of_bedrock_post(path), None, "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_gives_the_same_usage(
        which in 0..2_usize,
        sizes in prop::collection::vec(1..200_usize, 1..20),
    ) {
        let (stream, usage) = recorded().swap_remove(which);
        let answer = pass(&stream, &sizes);
        prop_assert_eq!(tokens(&answer), usage);
        prop_assert!(answer.is_terminal());
    }

    #[test]
    fn a_damaged_stream_reports_nothing_wrong(
        at in any::<prop::sample::Index>(),
        by in 1..=255_u8,
    ) {
        let (mut stream, usage) = recorded().swap_remove(0);
        let at = at.index(stream.len());
        stream[at] ^= by;
        let answer = pass(&stream, &[100]);
        let reported = answer.observed().usage.map(|report| report.tokens(10_000));
        prop_assert!(reported.is_none_or(|reported| reported == usage));
        prop_assert!(!answer.is_over());
    }
}
