//! Conversations that go on with what was answered: recorded answers, as the caller got them, come back in
//! the next request.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::answer::{Answer, AnswerBlock, BlockKind};
use super::super::opaque::Family;
use super::super::test_rendering::fold;
use super::recordings::{Recording, recordings};
use super::{ALL, CALLERS, conversion, convert, name, read_back};
use crate::llm::format::Format;

/// What is shown of opaque data.
const SIGNED: [&str; 3] = [" Signature ", " Redacted ", " Encrypted "];

/// A request in the caller's format with this conversation.
fn request(caller: Format, items: &[Value]) -> String {
    let request = match caller {
        Format::Responses => json!({"model": "m", "input": items}),
        _ => json!({"model": "m", "max_tokens": 4096, "messages": items}),
    };
    request.to_string()
}

/// A message of the user's, which is the same in all callers' formats.
fn said(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

/// A message of the user's with a picture.
fn picture(caller: Format) -> Value {
    let (text, image) = match caller {
        Format::Responses => (
            json!({"type": "input_text", "text": "This?"}),
            json!({"type": "input_image", "image_url": "data:image/png;base64,AAAA"}),
        ),
        Format::Messages => (
            json!({"type": "text", "text": "This?"}),
            json!({"type": "image", "source": {
                "type": "base64", "media_type": "image/png", "data": "AAAA"}}),
        ),
        _ => (
            json!({"type": "text", "text": "This?"}),
            json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
        ),
    };
    json!({"role": "user", "content": [text, image]})
}

/// What an application adds to the conversation after an answer: the answer, and the results of its calls.
fn continued(caller: Format, answer: &Value) -> Vec<Value> {
    match caller {
        Format::Responses => {
            let output = answer["output"].as_array().unwrap();
            let calls = output.iter().filter(|item| item["type"] == "function_call");
            let results = calls.map(|call| {
                json!({"type": "function_call_output", "call_id": call["call_id"], "output": "ok"})
            });
            output.iter().cloned().chain(results).collect()
        }
        Format::Messages => {
            let content = answer["content"].as_array().unwrap();
            let calls = content.iter().filter(|block| block["type"] == "tool_use");
            let results: Vec<Value> = calls
                .map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "ok"}))
                .collect();
            let mut items = vec![json!({"role": "assistant", "content": content})];
            if !results.is_empty() {
                items.push(json!({"role": "user", "content": results}));
            }
            items
        }
        _ => {
            let message = &answer["choices"][0]["message"];
            let calls = message["tool_calls"].as_array().into_iter().flatten();
            let results = calls
                .map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": "ok"}));
            [message.clone()].into_iter().chain(results).collect()
        }
    }
}

/// The answer for the caller, plain; `None` if the recording is none.
fn answered(recording: &Recording, caller: Format) -> Option<Value> {
    let json = conversion(recording.format, caller).plain(&recording.body, recording.is_stream);
    Some(serde_json::from_str(&json.ok()?).unwrap())
}

/// A line for each block of which something goes back to the provider: texts, calls, and what the
/// provider can read of its reasoning. A chat's message has but one text and tells no order.
fn shown(format: Format, answer: &Answer, is_chat: bool) -> Vec<String> {
    let family = match format {
        Format::Responses => Family::OpenAi,
        Format::Messages => Family::Anthropic,
        Format::Converse => Family::Bedrock,
        _ => Family::Google,
    };
    // A provider of chats may serve models of any family.
    let opaque = |block: &AnswerBlock| {
        let own = block.opaque.iter().filter(|one| format == Format::Chat || one.is_of(family));
        own.map(|one| format!(" {:?} {} {:?}", one.kind, one.data, one.id)).collect::<String>()
    };
    let mut lines: Vec<String> = Vec::new();
    let mut texts = String::new();
    for block in &answer.blocks {
        let signed = opaque(block);
        match &block.kind {
            BlockKind::Text | BlockKind::Refusal if is_chat => {
                texts.push_str(&block.text);
                lines.extend((!signed.is_empty()).then_some(signed));
            }
            BlockKind::Text | BlockKind::Refusal if block.text.is_empty() && signed.is_empty() => {}
            BlockKind::Text | BlockKind::Refusal => {
                lines.push(format!("text {}{signed}", block.text));
            }
            BlockKind::Reasoning { .. } if signed.is_empty() && format != Format::Chat => {}
            BlockKind::Reasoning { .. } => lines.push(format!("thought {}{signed}", block.text)),
            BlockKind::ToolCall { name, .. } => {
                // The test itself wrote it anew on the way.
                let arguments: Value = serde_json::from_str(&block.text).unwrap();
                lines.push(format!("call {name} {arguments}{signed}"));
            }
        }
    }
    if is_chat {
        lines.push(format!("text {texts}"));
        lines.sort();
    }
    lines
}

#[test]
fn what_a_provider_said_comes_back_to_it() {
    let mut signed = BTreeMap::new();
    for recording in recordings() {
        let provider = recording.format;
        // As the provider's own callers would read it.
        let source = match recording.is_stream {
            false => read_back::plain(provider, std::str::from_utf8(&recording.body).unwrap()),
            true => fold(read_back::stream(provider, &recording.body)),
        };
        for caller in CALLERS.into_iter().filter(|caller| *caller != provider) {
            let Some(answer) = answered(&recording, caller) else { continue };
            let mut items = vec![said("first")];
            items.extend(continued(caller, &answer));
            items.push(said("next"));
            let converted = convert(&request(caller, &items), caller, provider).unwrap();
            let sent: Value = serde_json::from_str(&converted.json).unwrap();
            let is_chat = caller == Format::Chat || provider == Format::Chat;
            let expected = shown(provider, &source, is_chat);
            if expected.iter().all(|line| line == "text ") {
                // It said nothing.
                continue;
            }
            let told = format!("{} of {} by {caller:?}", recording.name, name(provider));
            let back = shown(provider, &read_back::last_said(provider, &sent), is_chat);
            assert_eq!(back, expected, "{told}\n{sent}");
            let is_signed = |line: &&String| SIGNED.iter().any(|kind| line.contains(kind));
            *signed.entry((name(provider), name(caller))).or_insert(0) +=
                back.iter().filter(is_signed).count();
        }
    }
    // Each pair has something opaque among its recordings.
    assert!(signed.len() == 12 && signed.values().all(|count| *count > 0), "{signed:?}");
}

#[test]
fn what_was_sent_begins_what_is_sent_next() {
    for caller in CALLERS {
        // A turn for each recording, all in one conversation.
        let mut items = vec![said("Hi")];
        let mut ends = Vec::new();
        for recording in recordings().iter().filter(|recording| recording.format != caller) {
            let Some(answer) = answered(recording, caller) else { continue };
            items.extend(continued(caller, &answer));
            ends.push(items.len());
            items.push(said("Go on."));
            items.push(picture(caller));
            ends.push(items.len());
        }
        for target in ALL.into_iter().filter(|target| *target != caller) {
            let sent = |items: &[Value]| -> Vec<Value> {
                let converted = convert(&request(caller, items), caller, target).unwrap();
                let sent: Value = serde_json::from_str(&converted.json).unwrap();
                read_back::conversation(target, &sent).clone()
            };
            let whole = sent(&items);
            for end in ends.iter().step_by(5) {
                let begun = sent(&items[..*end]);
                let is_same = whole.get(..begun.len()) == Some(&begun[..]);
                // What the user says after results of tools may go into the message that holds them.
                let is_longer = || match (begun.split_last(), whole.get(begun.len() - 1)) {
                    (Some((last, before)), Some(longer)) => {
                        let begins = |key: &str| {
                            let list = |one: &Value| one[key].as_array().cloned();
                            list(longer).zip(list(last)).is_some_and(|(l, s)| l.starts_with(&s))
                        };
                        whole.starts_with(before) && (begins("content") || begins("parts"))
                    }
                    _ => false,
                };
                assert!(is_same || is_longer(), "{caller:?} {target:?} {end}");
            }
        }
    }
}
