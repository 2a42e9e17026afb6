//! Whatever a caller sends is refused or becomes a valid request.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use super::super::{chat, messages, responses};
use super::requests::requests;
use super::{ALL, CALLERS, convert};
use crate::llm::format::Format;
use crate::llm::limits::BodyFacts;

/// Any JSON, of few words.
fn any_value() -> impl Strategy<Value = Value> {
    let words = vec![
        "",
        "text",
        "user",
        "assistant",
        "system",
        "type",
        "content",
        "role",
        "tool_use",
        "function",
        "data:image/png;base64,AA==",
        "https://a/b.png",
        "tollgate.1.google.signature..x",
        "{}",
        "é\u{0}\"",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(vec!["0", "-1", "1.5", "1e400", "18446744073709551616", "16"])
            .prop_map(|number| serde_json::from_str(number).unwrap()),
        select(words.clone()).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((select(words.clone()), inner), 0..3).prop_map(|members| {
                members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            }),
        ]
    })
}

/// All values in a value, from the outside.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// Calls `change` with the value number `at`, counted from the outside.
fn change(value: &mut Value, mut at: usize, change_one: &mut dyn FnMut(&mut Value)) {
    descend(value, &mut at, change_one);
}

fn descend(value: &mut Value, at: &mut usize, change_one: &mut dyn FnMut(&mut Value)) {
    if *at == 0 {
        change_one(value);
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(elements) => {
            elements.iter_mut().for_each(|one| descend(one, at, change_one));
        }
        Value::Object(members) => {
            members.values_mut().for_each(|one| descend(one, at, change_one));
        }
        _ => {}
    }
}

/// A request of the corpus with some values replaced, by others or by ones of its own.
fn changed_request() -> impl Strategy<Value = (Format, String)> {
    let replacement = prop_oneof![
        any_value().prop_map(Ok),
        any::<Index>().prop_map(Err),
        any::<Index>().prop_map(Err),
    ];
    let changes = prop::collection::vec((any::<Index>(), replacement), 1..4);
    (select(requests()), changes).prop_map(|((caller, _, json), changes)| {
        let mut request: Value = serde_json::from_str(&json).unwrap();
        for (at, new) in changes {
            let mut own = Value::Null;
            if let Err(from) = &new {
                let from = from.index(count(&request));
                change(&mut request, from, &mut |one| own = one.clone());
            }
            let (new, at) = (new.unwrap_or(own), at.index(count(&request)));
            change(&mut request, at, &mut |one| one.clone_from(&new));
        }
        (caller, request.to_string())
    })
}

/// What Google's API wants of every request.
fn check_gemini(request: &Value) {
    let contents = request["contents"].as_array().unwrap();
    assert!(!contents.is_empty(), "{request}");
    for content in contents {
        assert!(content["role"] == "user" || content["role"] == "model", "{content}");
        let parts = content["parts"].as_array().unwrap();
        assert!(!parts.is_empty(), "{content}");
        let is_result = |part: &Value| part["functionResponse"].is_object();
        assert!(parts.iter().all(is_result) || !parts.iter().any(is_result), "{content}");
        for part in parts {
            let kinds = ["text", "functionCall", "functionResponse", "inlineData"];
            assert_eq!(kinds.iter().filter(|kind| part.get(**kind).is_some()).count(), 1, "{part}");
            assert!(part["text"] != "" || part["thoughtSignature"].is_string(), "{part}");
            assert!(part.pointer("/functionCall/args").is_none_or(Value::is_object), "{part}");
        }
    }
}

/// What Bedrock's Converse API and Nova want of every request.
fn check_converse(request: &Value) {
    let messages = request["messages"].as_array().unwrap();
    assert!(!messages.is_empty(), "{request}");
    let mut has_calls = false;
    let mut last = &Value::Null;
    for message in messages {
        assert!(message["role"] == "user" || message["role"] == "assistant", "{message}");
        assert_ne!(&message["role"], last, "{request}");
        last = &message["role"];
        let blocks = message["content"].as_array().unwrap();
        assert!(!blocks.is_empty(), "{message}");
        for block in blocks {
            assert!(block.as_object().unwrap().len() == 1 && block["text"] != "", "{block}");
            assert!(block.pointer("/toolUse/input").is_none_or(Value::is_object), "{block}");
            has_calls |= block["toolUse"].is_object() || block["toolResult"].is_object();
        }
    }
    assert!(!has_calls || request["toolConfig"]["tools"].is_array(), "{request}");
    for tool in request["toolConfig"]["tools"].as_array().into_iter().flatten() {
        let Some(name) = tool["toolSpec"]["name"].as_str() else { continue };
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        assert!((1..=64).contains(&name.len()) && name.chars().all(is_allowed), "{name}");
    }
    let effort = &request["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"];
    let config = &request["inferenceConfig"];
    let is_limited = ["maxTokens", "temperature", "topP"].iter().any(|key| !config[key].is_null());
    assert!(effort != "high" || !is_limited, "{request}");
}

/// Sees that the request is refused, or what becomes of it is valid and always the same.
fn check(json: &str, caller: Format, target: Format) {
    let converted = match convert(json, caller, target) {
        Ok(converted) => converted,
        Err(error) => {
            assert!(!error.to_string().starts_with("''"), "{error}");
            return;
        }
    };
    let again = convert(json, caller, target).unwrap();
    assert_eq!((&converted.json, &converted.dropped), (&again.json, &again.dropped));
    let text = &converted.json;
    let value: Value = serde_json::from_str(text).unwrap();
    match target {
        Format::Gemini => check_gemini(&value),
        Format::Converse => check_converse(&value),
        _ => {}
    }
    let facts = BodyFacts::parse_in(target, Bytes::copy_from_slice(text.as_bytes()));
    assert!(facts.is_ok(), "{:?} {text}", facts.err());
    let read = match target {
        Format::Chat => chat::read_request(text).map(drop),
        Format::Messages => messages::read_request(text).map(drop),
        Format::Responses => responses::read_request(text).map(drop),
        _ => Ok(()),
    };
    assert!(read.is_ok(), "{:?}\n{json}\n{text}", read.err());
}

proptest! {
    #[test]
    fn changed_requests_are_refused_or_valid((caller, json) in changed_request()) {
        for target in ALL {
            check(&json, caller, target);
        }
    }

    #[test]
    fn any_json_is_refused_or_valid(value in any_value(), messages in any_value()) {
        let wrapped = json!({"model": "m", "max_tokens": 16, "messages": messages, "input": messages});
        for json in [value.to_string(), wrapped.to_string()] {
            for caller in CALLERS {
                for target in ALL {
                    check(&json, caller, target);
                }
            }
        }
    }

    #[test]
    fn damaged_text_is_refused_or_valid(
        (caller, _, json) in select(requests()),
        at in any::<Index>(),
        length in 0..9_usize,
        new in "[\\[\\]{}\",:0-9a\\\\é]{0,3}",
    ) {
        let mut characters: Vec<char> = json.chars().collect();
        let start = at.index(characters.len());
        let end = characters.len().min(start + length);
        characters.splice(start..end, new.chars());
        let json: String = characters.into_iter().collect();
        for target in ALL {
            check(&json, caller, target);
        }
    }
}
