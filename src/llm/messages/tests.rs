//! Plain answers, and recorded streams of Anthropic's API.

use proptest::prelude::*;

use crate::domain::tokens::TokenUsage;
use crate::llm::answer::{AnswerContent, PlainAnswer, StreamEnd, StreamedAnswer};
use crate::llm::format::Format;
use crate::llm::test_support::{self, tokens};

/// A recorded stream, with a ping and a comment in it.
fn thinking_stream() -> String {
    let recording = include_str!("../../../tests/fixtures/messages/thinking_stream.json");
    let recording: serde_json::Value = serde_json::from_str(recording).unwrap();
    let text = recording["exchanges"][0]["response"]["text"].as_str().unwrap();
    text.replacen("event: content_block_delta", ": wait\n\nevent: content_block_delta", 1)
}

/// The stream of which each line is the data of one event.
fn stream_of(lines: &str) -> String {
    lines
        .lines()
        .filter(|line| !line.is_empty())
        .map(|data| {
            let event: serde_json::Value = serde_json::from_str(data).unwrap();
            format!("event: {}\ndata: {data}\n\n", event["type"].as_str().unwrap())
        })
        .collect()
}

fn recorded() -> Vec<(String, TokenUsage)> {
    let usage = |input, output| TokenUsage {
        input: Some(input),
        output: Some(output),
        cached_input: Some(0),
        cache_write: Some(0),
        cache_write_1h: Some(0),
        ..TokenUsage::default()
    };
    let cached = TokenUsage {
        cached_input: Some(6_289),
        cache_write: Some(3_337),
        reasoning: Some(0),
        ..usage(9_632, 198)
    };
    vec![
        (thinking_stream(), usage(43, 282)),
        (
            stream_of(include_str!("../../../tests/fixtures/messages/tool_stream.chunks.txt")),
            usage(565, 48),
        ),
        (
            stream_of(include_str!("../../../tests/fixtures/messages/cached_stream.chunks.txt")),
            cached,
        ),
    ]
}

/// Passes the stream in chunks of these sizes and checks that nothing of it is changed.
fn pass(stream: &str, sizes: &[usize]) -> StreamedAnswer {
    test_support::pass(StreamedAnswer::new(Format::Messages, true), stream.as_bytes(), sizes)
}

#[test]
fn recorded_streams_are_read() {
    for (stream, usage) in recorded() {
        for wire in [stream.clone(), stream.replace("event: ", "x: ")] {
            let mut answer = pass(&wire, &[wire.len()]);
            assert_eq!(tokens(&answer), usage);
            assert!(answer.is_terminal() && !answer.is_cut_short());
            assert_eq!(answer.observed().content, AnswerContent::Answer);
            assert!(answer.observed().model.as_deref().unwrap().starts_with("claude-"));
            assert!(answer.take_text().is_empty());
            assert_eq!(answer.finish(StreamEnd::Complete).last, None);
        }
    }
}

#[test]
fn a_stream_without_its_end_is_cut_short() {
    let stream = thinking_stream();
    let (begun, _) = stream.split_once("event: message_delta").unwrap();
    let mut answer = pass(begun, &[1_000]);
    assert!(answer.is_cut_short());
    assert_eq!((tokens(&answer).input, tokens(&answer).output), (Some(43), Some(1)));
    let text = answer.take_text().text().unwrap();
    assert!(text.starts_with("This is a straightforward question"), "{text}");
    assert!(text.ends_with("crossing streets."), "{text}");

    let begun = pass("event: ping\ndata: {\"type\": \"ping\"}\n\n", &[7]);
    assert!(!begun.is_cut_short(), "no answer has begun");
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\"}}\n\n";
    let failed = pass(&format!("{stream}{error}"), &[999]);
    assert!(!failed.is_cut_short());
    assert_eq!(failed.observed().content, AnswerContent::Error);
}

#[test]
fn the_count_of_a_message_that_has_begun_is_not_that_of_the_whole() {
    let stream = thinking_stream().replace(",\"output_tokens\":282", "");
    let mut answer = pass(&stream, &[100]);
    assert_eq!((tokens(&answer).input, tokens(&answer).output), (Some(43), None));
    assert!(!answer.take_text().is_empty());
}

#[test]
fn plain_answers_are_read() {
    let text = r#"[{"type":"text","text":"hi"}]"#;
    let usage = r#"{"input_tokens":5,"cache_read_input_tokens":7,"output_tokens":2}"#;
    for (body, content) in [
        (
            format!(r#"{{"type":"message","content":{text},"usage":{usage}}}"#),
            AnswerContent::Answer,
        ),
        (format!(r#"{{"type":"message","content":{text}}}"#), AnswerContent::Answer),
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#.to_owned(),
            AnswerContent::Error,
        ),
        (r#"{"type":"message","content":[]}"#.to_owned(), AnswerContent::Nothing),
    ] {
        let mut answer = PlainAnswer::new(Format::Messages);
        answer.push(body.as_bytes());
        assert_eq!(answer.observed().content, content, "{body}");
        let tokens = answer.observed().usage.map(|usage| usage.tokens(10));
        assert_eq!(tokens.is_some(), body.contains("usage"));
        assert!(tokens.is_none_or(|usage| usage.input == Some(12)), "{tokens:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_gives_the_same_usage(
        which in 0..3_usize,
        sizes in prop::collection::vec(1..200_usize, 1..20),
    ) {
        let (stream, usage) = recorded().swap_remove(which);
        let answer = pass(&stream, &sizes);
        prop_assert_eq!(tokens(&answer), usage);
        prop_assert!(answer.is_terminal());
    }
}
