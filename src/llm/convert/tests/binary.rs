//! Answers in the messages of AWS's binary streams.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::super::answer_conversion::StreamConverter;
use super::recordings::recordings;
use super::{CALLERS, conversion, stream};
use crate::llm::answer::BinaryEvents;
use crate::llm::event_stream::{event_message, exception_message};
use crate::llm::format::Format;

/// The recorded streams of Anthropic's, with the data of their events.
fn streams() -> impl Iterator<Item = (Vec<u8>, Vec<String>)> {
    let is_one =
        |one: &super::recordings::Recording| one.format == Format::Messages && one.is_stream;
    recordings().into_iter().filter(is_one).map(|recording| {
        let text = String::from_utf8(recording.body.clone()).unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        (recording.body, data.map(str::to_owned).collect())
    })
}

/// The event as Bedrock's `InvokeModelWithResponseStream` sends it.
fn wrapped(data: &str) -> Vec<u8> {
    let payload = json!({"bytes": STANDARD.encode(data), "p": "abcdefgh"});
    event_message("chunk", payload.to_string().as_bytes())
}

fn in_messages(caller: Format) -> super::Conversion {
    super::Conversion {
        binary: Some(BinaryEvents::Wrapped),
        ..conversion(Format::Messages, caller)
    }
}

#[test]
fn wrapped_events_are_as_events_of_a_text() {
    for (text, data) in streams() {
        let body: Vec<u8> = data.iter().flat_map(|data| wrapped(data)).collect();
        for caller in CALLERS {
            let expected = match caller {
                // As they were, but for the framing.
                Format::Messages => {
                    let named = data.iter().map(|data| {
                        let event: serde_json::Value = serde_json::from_str(data).unwrap();
                        format!("event: {}\ndata: {data}\n\n", event["type"].as_str().unwrap())
                    });
                    (named.collect(), true)
                }
                _ => stream(conversion(Format::Messages, caller), true, [&text[..]]),
            };
            for size in [1, 5, body.len()] {
                let written = stream(in_messages(caller), true, body.chunks(size));
                assert_eq!(written, expected, "{caller:?}");
            }
        }
    }
}

#[test]
fn damage_and_cuts_end_with_an_error() {
    let (_, data) = streams().min_by_key(|(text, _)| text.len()).unwrap();
    let bodies: Vec<Vec<u8>> = data.iter().map(|data| wrapped(data)).collect();
    for caller in CALLERS {
        for damaged in 0..bodies.len() {
            let mut body = bodies.concat();
            let start: usize = bodies[..damaged].iter().map(Vec::len).sum();
            // A byte of the payload, which only the checksum at the end reveals.
            body[start + bodies[damaged].len() - 8] ^= 1;
            let mut converter = StreamConverter::new(in_messages(caller), true);
            let mut out = Vec::new();
            converter.push(&body, &mut out);
            assert!(converter.finish(&mut out) && converter.has_failed(), "{caller:?} {damaged}");
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains("damaged") && !text.contains("message_stop"), "{text}");
        }
        let body = bodies.concat();
        for place in 0..body.len() {
            let (_, has_ended) = stream(in_messages(caller), true, [&body[..place]]);
            assert!(!has_ended, "{caller:?} {place}");
        }
    }
}

#[test]
fn an_exception_ends_the_answer() {
    let (_, data) = streams().next().unwrap();
    let exception = exception_message("throttlingException", r#"{"message":"Too fast."}"#);
    for caller in CALLERS {
        let body = [wrapped(&data[0]), wrapped(&data[1]), exception.clone()].concat();
        let mut converter = StreamConverter::new(in_messages(caller), true);
        let mut out = Vec::new();
        converter.push(&body, &mut out);
        assert!(converter.has_failed());
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Too fast.") && text.contains("throttlingException"), "{text}");
    }
}

#[test]
fn a_ping_is_no_event_of_the_providers() {
    let (_, data) = streams().next().unwrap();
    let mut converter = StreamConverter::new(in_messages(Format::Messages), true);
    let mut out = Vec::new();
    converter.ping(&mut out);
    assert_eq!(out, b": ping\n\n");
    converter.push(&wrapped(&data[0]), &mut out);
    converter.ping(&mut out);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches("event: message_start").count(), 1, "{text}");
    assert!(text.ends_with("\n\n: ping\n\n"), "{text}");
}
