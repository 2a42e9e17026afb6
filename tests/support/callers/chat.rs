//! Callers of chats.

use serde_json::{Map, Value, json};

use super::{Called, Caller, Heard, count, events, parsed, text};
use crate::support::{
    http::{Answer, Request},
    strict::{Keeps, Outcome, SCHEMAS, SYSTEM},
};

pub(super) fn request(caller: &Caller, model: &str) -> Request {
    let mut messages = vec![json!({"role": "system", "content": SYSTEM})];
    messages.extend(caller.history.clone());
    let tools: Vec<Value> = caller
        .tools()
        .iter()
        .zip(SCHEMAS)
        .map(|(name, schema)| {
            let schema: Value = serde_json::from_str(schema).unwrap();
            json!({"type": "function", "function": {"name": name, "description": "A tool.", "parameters": schema}})
        })
        .collect();
    let mut body = json!({"model": model, "messages": messages, "tools": tools,
        "reasoning_effort": "medium"});
    if caller.is_stream {
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
    }
    Request::post_json("/v1/chat/completions", &body)
}

/// The results of calls. Images have no place in them.
pub(super) fn results(all: &[(String, Outcome)]) -> Vec<Value> {
    let result = |(id, outcome): &(String, Outcome)| json!({"role": "tool", "tool_call_id": id, "content": outcome.text});
    all.iter().map(result).collect()
}

pub(super) fn hear(caller: &Caller, answer: &Answer) -> (Heard, Vec<Value>) {
    let (mut message, finish, usage, model) = if caller.is_stream {
        collected(answer, caller.keeps)
    } else {
        let body = answer.json();
        let choice = &body["choices"][0];
        let (finish, usage) = (choice["finish_reason"].clone(), body["usage"].clone());
        (choice["message"].clone(), finish, usage, body["model"].clone())
    };
    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
    let called = |call: &Value| Called {
        id: text(&call["id"]),
        name: text(&call["function"]["name"]),
        arguments: parsed(&call["function"]["arguments"]),
    };
    let thoughts = match caller.keeps {
        Keeps::LastPieces => String::new(),
        Keeps::All | Keeps::Nothing => text(&message["reasoning_content"]),
    };
    let heard = Heard {
        thoughts,
        text: text(&message["content"]),
        calls: calls.iter().map(called).collect(),
        stop: text(&finish),
        tokens: [
            count(&usage["prompt_tokens"]),
            count(&usage["prompt_tokens_details"]["cached_tokens"]),
            count(&usage["completion_tokens"]),
        ],
        model: text(&model),
    };
    if caller.keeps == Keeps::Nothing {
        let own = ["role", "content", "tool_calls"];
        let map = message.as_object_mut().unwrap();
        map.retain(|key, _| own.contains(&key.as_str()));
        for call in map.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            let own = ["id", "type", "function"];
            call.as_object_mut().unwrap().retain(|key, _| own.contains(&key.as_str()));
        }
    }
    (heard, vec![message])
}

/// Puts a stream together: message, reason of the end, usage, model.
fn collected(answer: &Answer, keeps: Keeps) -> (Value, Value, Value, Value) {
    let (mut message, mut finish, mut usage, mut model) =
        (Map::new(), Value::Null, Value::Null, Value::Null);
    let mut events = events(answer);
    assert_eq!(events.pop().map(|(_, data)| data), Some("[DONE]".into()), "{}", answer.text());
    for (_, chunk) in events {
        model = chunk["model"].clone();
        if !chunk["usage"].is_null() {
            usage = chunk["usage"].clone();
        }
        let Some(choice) = chunk["choices"].get(0) else { continue };
        if !choice["finish_reason"].is_null() {
            finish = choice["finish_reason"].clone();
        }
        let delta = choice["delta"].as_object().unwrap();
        match keeps {
            Keeps::LastPieces => accumulate_known(&mut message, delta),
            Keeps::All | Keeps::Nothing => accumulate(&mut message, delta),
        }
    }
    if message["content"] == "" {
        message["content"] = Value::Null;
    }
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        call.as_object_mut().unwrap().remove("index");
    }
    (message.into(), finish, usage, model)
}

/// As OpenAI's client for Python does it: texts are appended, objects merged, entries of lists found by
/// their index.
fn accumulate(whole: &mut Map<String, Value>, delta: &Map<String, Value>) {
    for (key, new) in delta {
        let old = whole.entry(key.clone()).or_insert(Value::Null);
        match (&mut *old, new) {
            (_, Value::Null) => {}
            (old, new) if old.is_null() => *old = new.clone(),
            // Python's client appends a repeated format, which is not the gateway's affair.
            (old, new) if matches!(key.as_str(), "index" | "type" | "format") => *old = new.clone(),
            (Value::String(old), Value::String(new)) => old.push_str(new),
            (Value::Object(old), Value::Object(new)) => accumulate(old, new),
            (Value::Array(old), Value::Array(new)) => {
                for entry in new {
                    let index = usize::try_from(count(&entry["index"])).unwrap();
                    match old.get_mut(index).and_then(Value::as_object_mut) {
                        Some(known) => accumulate(known, entry.as_object().unwrap()),
                        None => old.push(entry.clone()),
                    }
                }
            }
            (old, new) => panic!("{key}: {new} after {old}"),
        }
    }
}

/// As OpenAI's client for JavaScript does it: what it does not know, the last piece replaces.
fn accumulate_known(whole: &mut Map<String, Value>, delta: &Map<String, Value>) {
    let (known, other): (Map<_, _>, Map<_, _>) = delta.clone().into_iter().partition(|(key, _)| {
        matches!(key.as_str(), "role" | "content" | "refusal" | "tool_calls")
    });
    accumulate(whole, &known);
    whole.extend(other);
}
