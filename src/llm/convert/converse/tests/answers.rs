//! Answers, plain and streamed, recorded and made up.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{StreamReader, read_answer};
use crate::llm::convert::answer::{AnswerEvent, AnswerUsage, Failure, ReadEvents};
use crate::llm::convert::test_rendering::{check_order, folded, shown};
use crate::llm::event_stream::{EventStreamReader, Part};

const TEXT_STREAM: &str = include_str!("../../../../../tests/fixtures/converse/text_stream.json");
const REASONING_STREAM: &str =
    include_str!("../../../../../tests/fixtures/converse/reasoning_stream.json");
const SIGNED_STREAM: &str =
    include_str!("../../../../../tests/fixtures/converse/signed_stream.chunks.txt");
const NO_ARGUMENTS_STREAM: &str =
    include_str!("../../../../../tests/fixtures/converse/no_arguments_stream.chunks.txt");
const CALL: &str = include_str!("../../../../../tests/fixtures/converse/call.json");

/// The messages of a recorded binary stream, by name.
fn recorded(recording: &str) -> Vec<(String, String)> {
    let recording: Value = serde_json::from_str(recording).unwrap();
    let text = recording["exchanges"][0]["response"]["base64"].as_str().unwrap();
    let bytes = STANDARD.decode(text).unwrap();
    let (mut reader, mut at) = (EventStreamReader::default(), 0);
    let (mut messages, mut payload) = (Vec::new(), Vec::new());
    while let Some(part) = reader.next(&bytes, &mut at).unwrap() {
        match part {
            Part::Payload(bytes) => payload.extend_from_slice(bytes),
            Part::End(headers) => {
                let payload = String::from_utf8(std::mem::take(&mut payload)).unwrap();
                messages.push((headers.name().to_owned(), payload));
            }
        }
    }
    messages
}

/// The events in lines, each a member of its name.
fn lines(text: &str) -> Vec<(String, String)> {
    let event = |line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let (name, data) = line.as_object().unwrap().iter().next().unwrap();
        (name.clone(), data.to_string())
    };
    text.lines().map(event).collect()
}

fn made(events: Value) -> Vec<(String, String)> {
    let text: Vec<String> = events.as_array().unwrap().iter().map(Value::to_string).collect();
    lines(&text.join("\n"))
}

fn streamed(messages: &[(String, String)]) -> Vec<AnswerEvent> {
    let (mut reader, mut events) = (StreamReader::default(), Vec::new());
    for (name, data) in messages {
        reader.read(Some(name), data, &mut events);
    }
    reader.finish(&mut events);
    check_order(&events);
    events
}

fn answer(content: Value, stop: Value) -> Value {
    json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": stop})
}

#[test]
fn recorded_streams_are_read() {
    let text = folded(&streamed(&recorded(TEXT_STREAM)));
    assert!(shown(&text).starts_with("text: The capital of France is Paris."));
    assert!(shown(&text).ends_with("\nEnd end_turn"));
    let usage = |input, output| AnswerUsage {
        input: Some(input),
        output: Some(output),
        ..AnswerUsage::default()
    };
    assert_eq!(text.usage, usage(13, 82));
    let reasoning = folded(&streamed(&recorded(REASONING_STREAM)));
    let expected = "reasoning: The user just says \"Hi\". We need to respond appropriately, \
                    friendly greeting. No special instructions. Should be short.\n\
                    text: Hello! How can I help you today?\nEnd end_turn";
    assert_eq!(shown(&reasoning), expected);
    assert_eq!(reasoning.usage, usage(70, 43));
    let signed = folded(&streamed(&lines(SIGNED_STREAM)));
    let blocks = shown(&signed);
    let blocks: Vec<&str> = blocks.lines().collect();
    assert!(
        blocks[0].starts_with("reasoning: Let me count the r's in \"strawberry\""),
        "{blocks:?}"
    );
    assert!(blocks[0].ends_with(" <bedrock Signature Ep0CCkgI>"), "{blocks:?}");
    assert!(blocks[1].starts_with("text: ") && blocks[2] == "End end_turn", "{blocks:?}");
    assert_eq!(signed.usage, usage(51, 94));
    // The usage may come first.
    let call = streamed(&lines(NO_ARGUMENTS_STREAM));
    let expected = "text: I'll update the issue list for you.\n\
                    call tool-use-id updateIssueList: {}\nToolCall tool_use";
    assert_eq!(shown(&folded(&call)), expected);
    assert_eq!(call.last(), Some(&AnswerEvent::End));
}

#[test]
fn a_recorded_answer_is_read() {
    let events = read_answer(CALL).unwrap();
    assert_eq!(events.last(), Some(&AnswerEvent::End));
    let expected = "call json-tool-id json: {\"elements\":[{\"location\":\"San Francisco\",\
                    \"temperature\":-5,\"condition\":\"snowy\"},{\"location\":\"London\",\
                    \"temperature\":0,\"condition\":\"snowy\"}]}\nToolCall tool_use";
    let answer = folded(&events);
    assert_eq!(shown(&answer), expected);
    assert_eq!((answer.usage.input, answer.usage.output), (Some(15), Some(42)));
}

#[test]
fn a_stream_without_its_end_is_cut_off() {
    let messages = recorded(REASONING_STREAM);
    let end = messages.iter().position(|(name, _)| name == "messageStop").unwrap();
    for count in 0..=messages.len() {
        let events = streamed(&messages[..count]);
        assert_eq!(events.contains(&AnswerEvent::End), count > end, "{count}");
    }
}

#[test]
fn a_stream_makes_what_its_answer_makes() {
    let citation = |url| json!({"title": "T", "location": {"web": {"url": url, "domain": "d"}}});
    let plain = answer(
        json!([
            {"reasoningContent": {"reasoningText": {"signature": "s", "text": "a"}}},
            {"reasoningContent": {"redactedContent": "UkVE"}},
            {"text": ""},
            {"text": "b"},
            {"citationsContent": {"content": [{"text": "c"}], "citations": [citation("https://c"),
                {"location": {"documentChar": {"documentIndex": 0}}}]}},
            {"toolUse": {"toolUseId": "1", "name": "f", "input": {"x": 1.0}}},
            {"toolUse": {"toolUseId": "2", "name": "g", "input": {}}},
            {"toolUse": {"toolUseId": "3", "name": "h", "input": {}, "type": "server_tool_use"}},
            {"image": {"format": "png", "source": {"bytes": "AA"}}},
        ]),
        json!("tool_use"),
    );
    let whole = folded(&read_answer(&plain.to_string()).unwrap());
    let expected = "reasoning: a <bedrock Signature s>\n\
                    reasoning:  <bedrock Redacted UkVE>\n\
                    text: b\n\
                    text: c (https://c Some(\"T\"))\n\
                    call 1 f: {\"x\":1.0}\n\
                    call 2 g: {}\n\
                    ToolCall tool_use";
    assert_eq!(shown(&whole), expected);
    let delta = |index: u32, delta: Value| json!({"contentBlockDelta": {"contentBlockIndex": index, "delta": delta, "p": "abc"}});
    let start = |index: u32, start: Value| json!({"contentBlockStart": {"contentBlockIndex": index, "start": start}});
    let stop = |index: u32| json!({"contentBlockStop": {"contentBlockIndex": index}});
    let events = streamed(&made(json!([
        {"messageStart": {"role": "assistant"}},
        delta(0, json!({"reasoningContent": {"text": "a"}})),
        delta(0, json!({"reasoningContent": {"text": ""}})),
        delta(0, json!({"reasoningContent": {"signature": "s"}})),
        stop(0),
        delta(1, json!({"reasoningContent": {"redactedContent": "UkVE"}})),
        stop(1),
        delta(2, json!({"text": ""})),
        stop(2),
        delta(3, json!({"text": "b"})),
        // Some do not close their texts.
        delta(4, json!({"text": "c"})),
        delta(4, json!({"citation": citation("https://c")})),
        delta(4, json!({"citation": {"location": {"documentChar": {"documentIndex": 0}}}})),
        stop(4),
        start(5, json!({"toolUse": {"toolUseId": "1", "name": "f"}})),
        start(6, json!({"toolUse": {"toolUseId": "2", "name": "g"}})),
        delta(5, json!({"toolUse": {"input": "{\"x\":"}})),
        delta(6, json!({"toolUse": {"input": ""}})),
        stop(6),
        delta(5, json!({"toolUse": {"input": "1.0}"}})),
        stop(5),
        start(7, json!({"toolUse": {"toolUseId": "3", "name": "h", "type": "server_tool_use"}})),
        delta(7, json!({"toolUse": {"input": "{}"}})),
        stop(7),
        start(8, json!({"image": {"format": "png"}})),
        delta(8, json!({"image": {"source": {"bytes": "AA"}}})),
        stop(8),
        {"newEvent": {"a": 1}},
        {"messageStop": {"stopReason": "tool_use"}},
        {"metadata": {"metrics": {"latencyMs": 1}}},
    ])));
    assert_eq!(events.last(), Some(&AnswerEvent::End));
    assert_eq!(folded(&events), whole);
}

#[test]
fn texts_that_are_not_closed_end_with_the_next_block() {
    let delta = |index: u32, text: &str| json!({"contentBlockDelta": {"contentBlockIndex": index, "delta": {"text": text}}});
    let events = streamed(&made(json!([delta(0, "a"), delta(1, "b")])));
    let order: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            AnswerEvent::Open { block, .. } => Some(("open", *block)),
            AnswerEvent::Close { block } => Some(("close", *block)),
            _ => None,
        })
        .collect();
    assert_eq!(order, [("open", 0), ("close", 0), ("open", 1)]);
}

#[test]
fn the_end_is_told_as_soon_as_it_is_known() {
    let stop = ("messageStop".to_owned(), json!({"stopReason": "end_turn"}).to_string());
    let metadata = ("metadata".to_owned(), json!({"usage": {"outputTokens": 1}}).to_string());
    for messages in [[&stop, &metadata], [&metadata, &stop]] {
        let (mut reader, mut events) = (StreamReader::default(), Vec::new());
        for (count, (name, data)) in messages.into_iter().enumerate() {
            reader.read(Some(name), data, &mut events);
            assert_eq!(events.last() == Some(&AnswerEvent::End), count == 1);
        }
        let count = events.len();
        reader.finish(&mut events);
        assert_eq!(events.len(), count);
    }
}

#[test]
fn reasons_are_translated() {
    for (native, expected) in [
        ("end_turn", "End"),
        ("stop_sequence", "StopSequence"),
        ("tool_use", "ToolCall"),
        ("max_tokens", "MaxTokens"),
        ("model_context_window_exceeded", "ContextFull"),
        ("guardrail_intervened", "Refusal"),
        ("content_filtered", "Refusal"),
        ("something_new", "Other"),
    ] {
        let plain = folded(&read_answer(&answer(json!([]), json!(native)).to_string()).unwrap());
        assert_eq!(shown(&plain), format!("{expected} {native}"));
        let events = streamed(&made(json!([{"messageStop": {"stopReason": native}}])));
        assert_eq!(folded(&events).stop, plain.stop);
    }
    for native in ["malformed_tool_use", "malformed_model_output"] {
        let events = read_answer(&answer(json!([]), json!(native)).to_string()).unwrap();
        let Some(AnswerEvent::Failed(failure)) = events.last() else { panic!("{events:?}") };
        assert_eq!(failure.code, "malformed_function_call");
        let streamed = streamed(&made(json!([
            {"messageStop": {"stopReason": native}},
            {"metadata": {}},
        ])));
        assert_eq!(streamed, events);
    }
    for extra in [json!({"stop_sequence": "###"}), json!({"delta": {"stop_sequence": "###"}})] {
        let mut plain = answer(json!([]), json!("stop_sequence"));
        plain["additionalModelResponseFields"] = extra;
        let plain = folded(&read_answer(&plain.to_string()).unwrap());
        assert_eq!(shown(&plain), "StopSequence stop_sequence ###");
    }
}

#[test]
fn exceptions_end_the_stream() {
    for (name, data, message) in [
        ("throttlingException", r#"{"message":"Slow down"}"#, "Slow down"),
        ("modelStreamErrorException", r#"{"Message":"Broken","originalStatusCode":500}"#, "Broken"),
        ("internalServerException", "", "The provider reports an error."),
        ("error", "{}", "The provider reports an error."),
    ] {
        let mut messages = recorded(TEXT_STREAM);
        messages.truncate(3);
        messages.push((name.to_owned(), data.to_owned()));
        messages.extend(recorded(TEXT_STREAM));
        let events = streamed(&messages);
        let failure = Failure { code: name.to_owned(), message: message.to_owned() };
        assert_eq!(events.last(), Some(&AnswerEvent::Failed(failure)));
        assert!(!events.contains(&AnswerEvent::End));
    }
}

#[test]
fn what_is_no_answer_is_an_error() {
    for odd in [
        "<html>",
        "",
        "[]",
        "{}",
        r#"{"output":{"message":{"content":{}}}}"#,
        r#"{"output":{"message":{"content":[{"text":3}]}}}"#,
        r#"{"output":{"message":{"content":[{"toolUse":{"toolUseId":"1"}}]}}}"#,
    ] {
        assert!(read_answer(odd).is_err(), "{odd}");
    }
    let call = json!({"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}});
    for (name, data) in [
        ("contentBlockDelta", "x".to_owned()),
        ("contentBlockDelta", r#"{"delta":{"text":3}}"#.to_owned()),
        ("contentBlockDelta", call.to_string()),
        ("contentBlockStart", r#"{"start":{"toolUse":{}}}"#.to_owned()),
        ("messageStop", "[]".to_owned()),
    ] {
        let events = streamed(&[(name.to_owned(), data)]);
        let Some(AnswerEvent::Failed(failure)) = events.last() else { panic!("{events:?}") };
        assert_eq!(failure.code, "upstream_error");
    }
    let start = |index: usize| {
        let data = json!({"contentBlockIndex": index,
            "start": {"toolUse": {"toolUseId": "1", "name": "f"}}});
        ("contentBlockStart".to_owned(), data.to_string())
    };
    let many: Vec<_> = (0..70).map(start).collect();
    assert!(matches!(streamed(&many).last(), Some(AnswerEvent::Failed(_))));
}

#[test]
fn usage_is_told_in_parts() {
    let usage = json!({"inputTokens": 3, "outputTokens": 9, "totalTokens": 69,
        "cacheReadInputTokens": 7, "cacheWriteInputTokens": 50,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 20}, {"ttl": "1h", "inputTokens": 30}]});
    let mut plain = answer(json!([]), json!("end_turn"));
    plain["usage"] = usage;
    let expected = AnswerUsage {
        input: Some(3),
        cache_read: Some(7),
        cache_write: Some(50),
        cache_write_1h: Some(30),
        output: Some(9),
        ..AnswerUsage::default()
    };
    assert_eq!(folded(&read_answer(&plain.to_string()).unwrap()).usage, expected);
    assert_eq!(expected.total_input(), Some(60));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        stream in prop::sample::select(vec![
            lines(SIGNED_STREAM), lines(NO_ARGUMENTS_STREAM), recorded(REASONING_STREAM),
        ]),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[\\[\\]{}\",:0-9a-z]{0,3}"),
            0..6,
        ),
    ) {
        let mut messages = stream;
        let mut plain: Vec<char> = CALL.chars().collect();
        for (message, place, new) in edits {
            let at = place.index(plain.len());
            plain.splice(at..at + 1, new.chars());
            let message = message.index(messages.len());
            let mut data: Vec<char> = messages[message].1.chars().collect();
            let at = place.index(data.len() + 1);
            data.splice(at..(at + 1).min(data.len()), new.chars());
            messages[message].1 = data.into_iter().collect();
        }
        streamed(&messages);
        if let Ok(events) = read_answer(&plain.into_iter().collect::<String>()) {
            check_order(&events);
            let is_last = matches!(
                events.last(),
                Some(AnswerEvent::End | AnswerEvent::Failed(_))
            );
            prop_assert!(is_last);
        }
    }
}
