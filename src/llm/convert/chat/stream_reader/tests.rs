//! How streams of chats are read.

use super::*;

fn events(frames: &[&str]) -> Vec<AnswerEvent> {
    let (mut reader, mut out) = (StreamReader::default(), Vec::new());
    for frame in frames {
        reader.read(None, frame, &mut out);
    }
    reader.finish(&mut out);
    out
}

/// The events in short, without the start.
fn shown(frames: &[&str]) -> String {
    let shown = events(frames).into_iter().filter_map(|event| {
        Some(match event {
            AnswerEvent::Start { .. } => return None,
            AnswerEvent::Open { block, kind } => match kind {
                BlockKind::Text => format!("{block}:text"),
                BlockKind::Refusal => format!("{block}:refusal"),
                BlockKind::Reasoning { is_summary: false } => format!("{block}:why"),
                BlockKind::Reasoning { is_summary: true } => format!("{block}:sum"),
                BlockKind::ToolCall { id, name } => format!("{block}:{id}={name}"),
            },
            AnswerEvent::Text { block, text } => format!("{block}'{text}"),
            AnswerEvent::Arguments { block, json } => format!("{block}{json}"),
            AnswerEvent::Opaque { block, opaque } => {
                format!("{block}+{:?}:{}", opaque.family, opaque.data)
            }
            AnswerEvent::Annotation { block, annotation } => {
                format!("{block}@{}{:?}", annotation.url, annotation.span)
            }
            AnswerEvent::Close { block } => format!("{block}."),
            AnswerEvent::Usage(usage) => format!("usage:{:?}", usage.output.unwrap_or(0)),
            AnswerEvent::Stop(stop) => match stop.sequence {
                Some(sequence) => format!("{:?}({},{sequence})", stop.reason, stop.native),
                None => format!("{:?}({})", stop.reason, stop.native),
            },
            AnswerEvent::Ping => "ping".to_owned(),
            AnswerEvent::End => "end".to_owned(),
            AnswerEvent::Failed(failure) => {
                format!("failed:{}:{}", failure.code, failure.message)
            }
        })
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// The events of deltas, with a proper end after them.
fn of_deltas(deltas: &[&str]) -> String {
    let mut frames: Vec<String> = deltas
        .iter()
        .map(|delta| format!(r#"{{"id":"1","choices":[{{"index":0,"delta":{delta}}}]}}"#))
        .collect();
    frames.push(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#.to_owned());
    frames.push(DONE.to_owned());
    let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
    let shown = shown(&frames);
    let end = shown.strip_suffix("End(stop) end").unwrap_or_else(|| panic!("{shown}"));
    end.trim_end().to_owned()
}

#[test]
fn deltas_become_blocks() {
    for (deltas, expected) in [
        (vec![r#"{"role":"assistant","content":""}"#, r#"{"content":null}"#, "{}", "null"], ""),
        (
            vec![r#"{"role":"assistant","content":"a"}"#, r#"{"role":"assistant","content":"b"}"#],
            "0:text 0'a 0'b 0.",
        ),
        (
            vec![
                r#"{"reasoning_content":"w"}"#,
                r#"{"content":"","reasoning":"v"}"#,
                r#"{"content":"a"}"#,
            ],
            "0:why 0'w 0'v 0. 1:text 1'a 1.",
        ),
        (
            vec![r#"{"reasoning_content":"w","reasoning":"w","content":"a"}"#],
            "0:why 0'w 0. 1:text 1'a 1.",
        ),
        (vec![r#"{"content":"<think>w</think>a"}"#], "0:text 0'<think>w</think>a 0."),
        // OpenRouter
        (
            vec![
                r#"{"reasoning":"w","reasoning_details":[{"type":"reasoning.text","text":"w","index":0}]}"#,
                r#"{"reasoning":"v","reasoning_details":[{"type":"reasoning.text","text":"v","index":0}]}"#,
                r#"{"content":"","reasoning_details":[{"type":"reasoning.text","signature":"s","format":"anthropic-claude-v1","index":0}]}"#,
                r#"{"reasoning_details":[{"type":"reasoning.encrypted","data":"r","format":"anthropic-claude-v1","index":1}]}"#,
                r#"{"content":"a"}"#,
            ],
            "0:why 0'w 0'v 0+Anthropic:s 0. 1:why 1+Anthropic:r 1. 2:text 2'a 2.",
        ),
        (
            vec![
                r#"{"reasoning_details":[{"type":"reasoning.summary","summary":"w","index":0}]}"#,
                r#"{"reasoning_details":[{"type":"reasoning.encrypted","data":"e","format":"openai-responses-v1","index":0}]}"#,
            ],
            "0:sum 0'w 0+OpenAi:e 0.",
        ),
        (
            vec![
                r#"{"reasoning_details":[{"type":"reasoning.encrypted","data":"s","id":"c","format":"google-gemini-v1","index":0}],"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]}"#,
            ],
            "0:c=f 0{} 0+Google:s 0.",
        ),
        // Mistral
        (
            vec![
                r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"w"}]}]}"#,
                r#"{"content":[{"type":"text","text":"a"},{"type":"reference","reference_ids":[1]}]}"#,
                r#"{"content":"b"}"#,
            ],
            "0:why 0'w 0. 1:text 1'a 1'b 1.",
        ),
        (vec![r#"{"refusal":"no"}"#, r#"{"refusal":null}"#], "0:refusal 0'no 0."),
        (
            vec![
                r#"{"content":"a"}"#,
                r#"{"annotations":[{"type":"url_citation","url_citation":{"url":"u","title":"t","start_index":0,"end_index":1}},{"type":"file_citation"}]}"#,
            ],
            "0:text 0'a 0@uSome((0, 1)) 0.",
        ),
        // Google's compatible API
        (
            vec![r#"{"content":"a","extra_content":{"google":{"thought_signature":"s"}}}"#],
            "0:text 0'a 0+Google:s 0.",
        ),
        (
            vec![
                r#"{"extra_content":{"google":{"thought_signature":"s"}},"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}},{"index":1,"function":{"name":"g","arguments":"{}"}}]}"#,
            ],
            "0:=f 0+Google:s 0{} 0. 1:=g 1{} 1.",
        ),
        (
            vec![
                r#"{"function_call":{"name":"f","arguments":"{"}}"#,
                r#"{"function_call":{"arguments":"}"}}"#,
            ],
            "0:=f 0{ 0} 0.",
        ),
        // A text between calls, and one while a call is not complete.
        (
            vec![
                r#"{"content":"a","tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]}"#,
                r#"{"content":"b"}"#,
                r#"{"tool_calls":[{"index":1,"id":"d","function":{"name":"g","arguments":"{"}}]}"#,
                r#"{"content":"c"}"#,
                r#"{"tool_calls":[{"index":1,"function":{"arguments":"}"}}]}"#,
            ],
            "0:text 0'a 0. 1:c=f 1{} 1. 2:text 2'b 2. 3:d=g 3{ 4:text 4'c 4. 3} 3.",
        ),
    ] {
        assert_eq!(of_deltas(&deltas), expected, "{deltas:?}");
    }
}

const TEXT: &str = r#"{"choices":[{"delta":{"content":"a"}}]}"#;
const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;

#[test]
fn the_end_is_known() {
    for (frames, expected) in [
        (vec![TEXT, STOP, USAGE, DONE], "0:text 0'a 0. usage:2 End(stop) end"),
        (vec![TEXT, STOP, USAGE], "0:text 0'a 0. usage:2 End(stop) end"),
        (vec![TEXT, STOP, DONE, USAGE, DONE], "0:text 0'a 0. End(stop) end"),
        (vec![TEXT, DONE], "0:text 0'a 0. End() end"),
        (vec![TEXT], "0:text 0'a"),
        (vec![], ""),
        (vec![DONE], "failed:upstream_error:The provider's answer ended before it was complete."),
        (
            vec![
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{"}}]}}]}"#,
                DONE,
            ],
            "0:c=f 0{ failed:upstream_error:The provider's answer ended before it was complete.",
        ),
        // Usage with the stop, in every chunk, in a choice, and Groq's.
        (
            vec![
                r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"length"}],"usage":{"completion_tokens":3}}"#,
            ],
            "0:text 0'a 0. usage:3 MaxTokens(length) end",
        ),
        (
            vec![
                r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"completion_tokens":1}}"#,
                r#"{"choices":[{"delta":{"content":"b"},"finish_reason":"stop","usage":{"completion_tokens":2}}],"usage":null}"#,
                r#"{"choices":[],"x_groq":{"usage":{"completion_tokens":4}}}"#,
            ],
            "0:text 0'a usage:1 0'b 0. usage:2 usage:4 End(stop) end",
        ),
        // An empty reason is none; a second one may refine a plain stop.
        (
            vec![
                r#"{"choices":[{"delta":{"content":"a"},"finish_reason":""}]}"#,
                STOP,
                r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#,
                r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#,
            ],
            "0:text 0'a 0. Refusal(content_filter) end",
        ),
        (
            vec![
                r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop","stop_reason":"END"}]}"#,
            ],
            "0:text 0'a 0. StopSequence(stop,END) end",
        ),
        (
            vec![
                r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"eos","stop_reason":2}]}"#,
            ],
            "0:text 0'a 0. Other(eos) end",
        ),
        (
            vec![
                r#"{"choices":[{"delta":{"function_call":{"name":"f"}},"finish_reason":"function_call"}]}"#,
            ],
            "0:=f 0. ToolCall(function_call) end",
        ),
        // Only the first choice counts; a whole message is as good as deltas.
        (
            vec![
                r#"{"choices":[{"index":1,"delta":{"content":"z"},"finish_reason":"stop"}]}"#,
                TEXT,
            ],
            "0:text 0'a",
        ),
        (
            vec![r#"{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}"#],
            "0:text 0'a 0. End(stop) end",
        ),
    ] {
        assert_eq!(shown(&frames), expected, "{frames:?}");
    }
}

#[test]
fn the_start_has_the_first_id_that_is_there() {
    let frames = [
        r#"{"id":"","model":"","choices":[],"prompt_filter_results":[{}]}"#,
        r#"{"id":"1","model":"m","choices":[{"delta":{"content":"a"}}]}"#,
        r#"{"id":"2","model":"n","choices":[{"delta":{"content":"a"}}]}"#,
    ];
    let events = events(&frames);
    let start = AnswerEvent::Start { id: Some("1".to_owned()), model: Some("m".to_owned()) };
    assert_eq!(events.first(), Some(&start));
    let starts = events.iter().filter(|event| matches!(event, AnswerEvent::Start { .. }));
    assert_eq!(starts.count(), 1);
}

#[test]
fn errors_end_the_stream() {
    for (frame, expected) in [
        (r#"{"error":{"message":"Busy","type":"overloaded","code":null}}"#, "overloaded:Busy"),
        (r#"{"error":{"message":"Busy","type":"t","code":"c"},"choices":[]}"#, "c:Busy"),
        (r#"{"error":{"message":"Busy","code":502}}"#, "502:Busy"),
        (r#"{"error":"Busy"}"#, "upstream_error:Busy"),
        (r#"{"error":[1]}"#, "upstream_error:The provider reports an error."),
        (r#"{"object":"error","message":"Busy","type":"t"}"#, "t:Busy"),
        (
            r#"{"choices":[{"error":{"message":"Busy","code":"c"},"finish_reason":"error"}]}"#,
            "c:Busy",
        ),
        (
            r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#,
            "error:The provider broke off its answer.",
        ),
        (
            r#"{"choices":[{"delta":{},"finish_reason":"insufficient_system_resource"}]}"#,
            "insufficient_system_resource:The provider broke off its answer.",
        ),
        ("<html>", "upstream_error:The provider sent an event that can't be read."),
        ("[]", "upstream_error:The provider sent an event that can't be read."),
        (r#"{"choices":3}"#, "upstream_error:The provider sent an event that can't be read."),
        (r#"{"choices":[3]}"#, "upstream_error:The provider sent an event that can't be read."),
        (
            r#"{"choices":[{"delta":3}]}"#,
            "upstream_error:The provider sent an event that can't be read.",
        ),
        (
            r#"{"choices":[{"delta":{"content":3}}]}"#,
            "upstream_error:The provider sent an event that can't be read.",
        ),
        (
            r#"{"choices":[{"delta":{"tool_calls":[3]}}]}"#,
            "upstream_error:The provider sent a tool call that can't be read.",
        ),
    ] {
        let shown = shown(&[TEXT, frame, TEXT, STOP, DONE]);
        assert_eq!(shown, format!("0:text 0'a failed:{expected}"), "{frame}");
    }
    let (mut reader, mut out) = (StreamReader::default(), Vec::new());
    reader.read(Some("error"), r#"{"message":"Busy"}"#, &mut out);
    assert!(matches!(&out[..], [AnswerEvent::Failed(failure)] if failure.message == "Busy"));
}
