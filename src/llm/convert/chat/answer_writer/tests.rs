//! What callers of chats get.

use super::super::super::sample_events::{open, text};
use super::*;

fn context(include_usage: bool) -> AnswerContext {
    AnswerContext {
        model: "m".to_owned(),
        created: 7,
        seed: "abc".to_owned(),
        include_usage,
        ..AnswerContext::default()
    }
}

fn written(events: Vec<AnswerEvent>, include_usage: bool) -> String {
    let (mut writer, mut out) = (AnswerWriter::new(context(include_usage)), Vec::new());
    events.into_iter().for_each(|event| writer.write(event, &mut out));
    String::from_utf8(out).unwrap()
}

/// The choices of the chunks, without their envelope.
fn choices(events: Vec<AnswerEvent>) -> Vec<String> {
    let stream = written(events, false);
    let start = r#"data: {"id":"chatcmpl-abc","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"#;
    let chunks = stream.split_terminator("\n\n").filter(|chunk| *chunk != "data: [DONE]");
    let choice = |chunk: &str| {
        let rest = chunk.strip_prefix(start).unwrap_or_else(|| panic!("{chunk}"));
        let rest = rest.strip_suffix("}]}").unwrap_or_else(|| panic!("{chunk}"));
        rest.trim_end_matches(r#","logprobs":null,"finish_reason":null"#).to_owned()
    };
    chunks.map(choice).collect()
}

fn call(id: &str) -> BlockKind {
    BlockKind::ToolCall { id: id.to_owned(), name: "f".to_owned() }
}

fn stop(reason: StopReason, native: &str) -> AnswerEvent {
    AnswerEvent::Stop(Stop { reason, native: native.to_owned(), sequence: None })
}

#[test]
fn events_become_chunks() {
    let signature =
        |family| Opaque { family, kind: OpaqueKind::Signature, id: None, data: "s".into() };
    let events = vec![
        AnswerEvent::Start { id: Some("theirs".to_owned()), model: None },
        AnswerEvent::Ping,
        open(0, BlockKind::Reasoning { is_summary: false }),
        text(0, "w"),
        AnswerEvent::Opaque { block: 0, opaque: signature(Family::Anthropic) },
        AnswerEvent::Close { block: 0 },
        open(1, BlockKind::Text),
        text(1, "a"),
        text(1, ""),
        AnswerEvent::Close { block: 1 },
        open(2, call("c1")),
        open(3, call("")),
        AnswerEvent::Arguments { block: 3, json: "{".to_owned() },
        AnswerEvent::Opaque { block: 2, opaque: signature(Family::Google) },
        AnswerEvent::Arguments { block: 3, json: "}".to_owned() },
        AnswerEvent::Close { block: 2 },
        AnswerEvent::Close { block: 3 },
        stop(StopReason::End, "STOP"),
        AnswerEvent::End,
        text(1, "late"),
    ];
    assert_eq!(
        choices(events),
        [
            r#""delta":{"role":"assistant","content":null}"#,
            r#""delta":{"reasoning_content":"w","reasoning_details":[{"type":"reasoning.text","text":"w","index":0}]}"#,
            r#""delta":{"reasoning_details":[{"type":"reasoning.text","text":"","signature":"s","format":"anthropic-claude-v1","index":0}]}"#,
            r#""delta":{"content":"a"}"#,
            r#""delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]}"#,
            r#""delta":{"tool_calls":[{"index":1,"id":"call_abc1","type":"function","function":{"name":"f","arguments":""}}]}"#,
            r#""delta":{"tool_calls":[{"index":1,"function":{"arguments":"{"}}]}"#,
            r#""delta":{"tool_calls":[{"index":0,"function":{"arguments":""},"extra_content":{"google":{"thought_signature":"s"}}}],"reasoning_details":[{"type":"reasoning.encrypted","data":"s","id":"c1","format":"google-gemini-v1","index":2}]}"#,
            r#""delta":{"tool_calls":[{"index":1,"function":{"arguments":"}"}}]}"#,
            r#""delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}"#,
            r#""delta":{},"logprobs":null,"finish_reason":"tool_calls","native_finish_reason":"STOP""#,
        ]
    );
}

#[test]
fn annotations_count_the_text_before_their_block() {
    let annotation = |span| Annotation { url: "u".to_owned(), title: None, span };
    let events = vec![
        open(0, BlockKind::Text),
        text(0, "ü."),
        AnswerEvent::Close { block: 0 },
        open(1, BlockKind::Text),
        AnswerEvent::Annotation { block: 1, annotation: annotation(Some((1, 2))) },
        AnswerEvent::Annotation { block: 1, annotation: annotation(None) },
        text(1, "abc"),
        AnswerEvent::Close { block: 1 },
    ];
    let expected = r#""delta":{"annotations":[{"index":0,"type":"url_citation","url_citation":{"url":"u","title":"","start_index":3,"end_index":4}},{"index":1,"type":"url_citation","url_citation":{"url":"u","title":"","start_index":2,"end_index":5}}]}"#;
    assert_eq!(choices(events).last().map(String::as_str), Some(expected));
}

#[test]
fn reasons_have_openais_words() {
    for (reason, has_call, expected) in [
        (StopReason::End, false, "stop"),
        (StopReason::End, true, "tool_calls"),
        (StopReason::ToolCall, false, "stop"),
        (StopReason::ToolCall, true, "tool_calls"),
        (StopReason::StopSequence, false, "stop"),
        (StopReason::MaxTokens, true, "length"),
        (StopReason::ContextFull, false, "length"),
        (StopReason::Refusal, false, "content_filter"),
        (StopReason::Pause, false, "stop"),
        (StopReason::Other, false, "stop"),
    ] {
        let mut events = Vec::new();
        if has_call {
            events.push(open(0, call("c")));
            events.push(AnswerEvent::Close { block: 0 });
        }
        events.push(stop(reason, ""));
        // Nothing is written while an error may still come.
        assert!(
            choices(events.clone()).iter().all(|choice| !choice.contains("finish_reason\":\""))
        );
        events.push(AnswerEvent::End);
        let expected = format!(r#""delta":{{}},"logprobs":null,"finish_reason":"{expected}""#);
        assert_eq!(choices(events).last(), Some(&expected), "{reason:?}");
    }
}

#[test]
fn usage_comes_last_if_it_is_wanted() {
    let usage = |output| {
        AnswerEvent::Usage(AnswerUsage {
            input: Some(1),
            output: Some(output),
            ..AnswerUsage::default()
        })
    };
    let events = || {
        vec![
            usage(1),
            open(0, BlockKind::Text),
            text(0, "a"),
            AnswerEvent::Close { block: 0 },
            stop(StopReason::End, ""),
            usage(2),
            AnswerEvent::End,
        ]
    };
    let stream = written(events(), true);
    let chunks: Vec<&str> = stream.split_terminator("\n\n").collect();
    assert_eq!(chunks.len(), 5);
    assert!(chunks[..3].iter().all(|chunk| chunk.ends_with(r#"}],"usage":null}"#)));
    assert!(
        chunks[3].contains(r#""choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"#)
    );
    assert_eq!(chunks[4], "data: [DONE]");
    assert!(!written(events(), false).contains("usage"));
    let without = vec![open(0, BlockKind::Text), AnswerEvent::End];
    assert!(!written(without, true).contains(r#""choices":[]"#));
}

#[test]
fn an_end_without_more_is_an_empty_answer() {
    let stream = written(vec![AnswerEvent::End, AnswerEvent::End], false);
    assert_eq!(stream.matches("finish_reason\":\"stop").count(), 1);
    assert_eq!(stream.matches("[DONE]").count(), 1);
    let (mut writer, mut out) = (AnswerWriter::new(context(false)), Vec::new());
    writer.ping(&mut out);
    assert_eq!(out, b": ping\n\n");
}
