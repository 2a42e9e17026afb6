//! Callers of responses, who let nothing be stored.

use serde_json::{Value, json};

use super::{Called, Caller, Heard, count, events, parsed, text};
use crate::support::{
    http::{Answer, Request},
    strict::{Outcome, SCHEMAS, SYSTEM},
};

pub(super) fn request(caller: &Caller, model: &str) -> Request {
    let tools: Vec<Value> = caller
        .tools()
        .iter()
        .zip(SCHEMAS)
        .map(|(name, schema)| {
            let schema: Value = serde_json::from_str(schema).unwrap();
            json!({"type": "function", "name": name, "description": "A tool.", "parameters": schema,
                "strict": false})
        })
        .collect();
    let mut body = json!({"model": model, "instructions": SYSTEM, "input": caller.history,
        "tools": tools, "store": false, "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "medium", "summary": "auto"}});
    if caller.is_stream {
        body["stream"] = true.into();
    }
    Request::post_json("/v1/responses", &body)
}

pub(super) fn results(all: &[(String, Outcome)]) -> Vec<Value> {
    let result = |(id, outcome): &(String, Outcome)| {
        let output = match outcome.image {
            None => outcome.text.into(),
            Some(data) => json!([{"type": "input_text", "text": outcome.text},
                {"type": "input_image", "image_url": format!("data:image/png;base64,{data}")}]),
        };
        json!({"type": "function_call_output", "call_id": id, "output": output})
    };
    all.iter().map(result).collect()
}

pub(super) fn hear(is_stream: bool, answer: &Answer) -> (Heard, Vec<Value>) {
    let response = if is_stream { collected(answer) } else { answer.json() };
    let usage = &response["usage"];
    let mut heard = Heard {
        stop: text(&response["status"]),
        tokens: [
            count(&usage["input_tokens"]),
            count(&usage["input_tokens_details"]["cached_tokens"]),
            count(&usage["output_tokens"]),
        ],
        model: text(&response["model"]),
        ..Heard::default()
    };
    let mut items = response["output"].as_array().unwrap().clone();
    for item in &items {
        let parts = |key: &str| item[key].as_array().cloned().unwrap_or_default();
        match item["type"].as_str().unwrap() {
            "reasoning" => {
                let shown = parts("summary").into_iter().chain(parts("content"));
                heard.thoughts.extend(shown.map(|part| text(&part["text"])));
            }
            "message" => heard.text.extend(parts("content").iter().map(|part| text(&part["text"]))),
            "function_call" => heard.calls.push(Called {
                id: text(&item["call_id"]),
                name: text(&item["name"]),
                arguments: parsed(&item["arguments"]),
            }),
            other => panic!("an item of the type {other}"),
        }
    }
    if is_stream {
        // As Codex does it: what is not stored has no id.
        for item in &mut items {
            let map = item.as_object_mut().unwrap();
            map.remove("id");
            map.remove("status");
        }
    }
    (heard, items)
}

/// The response at the end of a stream, after a check that its events come in order and add up to it.
fn collected(answer: &Answer) -> Value {
    let mut done = Vec::new();
    let (mut arguments, mut said) = (String::new(), String::new());
    let mut last = Value::Null;
    for (number, (name, event)) in events(answer).into_iter().enumerate() {
        let kind = event["type"].as_str().unwrap();
        assert_eq!(name.as_deref(), Some(kind), "{event}");
        assert_eq!(event["sequence_number"], number, "{event}");
        assert!(last.is_null(), "{event}");
        match kind {
            "response.output_item.added" => {
                assert_eq!(event["output_index"], done.len(), "{event}");
                arguments.clear();
                said.clear();
            }
            "response.function_call_arguments.delta" => {
                arguments.push_str(event["delta"].as_str().unwrap());
            }
            "response.output_text.delta" => said.push_str(event["delta"].as_str().unwrap()),
            "response.output_item.done" => {
                let item = &event["item"];
                match item["type"].as_str().unwrap() {
                    "function_call" => assert_eq!(item["arguments"], *arguments, "{event}"),
                    "message" => assert_eq!(item["content"][0]["text"], *said, "{event}"),
                    _ => {}
                }
                done.push(item.clone());
            }
            "response.completed" => last = event["response"].clone(),
            _ => {}
        }
    }
    assert_eq!(last["output"], Value::from(done), "{}", answer.text());
    last
}
