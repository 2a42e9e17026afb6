//! Callers of messages.

use serde_json::{Value, json};

use super::{Called, Caller, Heard, count, events, text};
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
            json!({"name": name, "description": "A tool.", "input_schema": schema})
        })
        .collect();
    let mut body = json!({"model": model, "max_tokens": 4096, "tools": tools,
        "system": [{"type": "text", "text": SYSTEM}],
        "messages": caller.history, "thinking": {"type": "enabled", "budget_tokens": 2048}});
    if caller.is_stream {
        body["stream"] = true.into();
    }
    Request::post_json("/v1/messages", &body).header("anthropic-version", "2023-06-01")
}

/// One message with the results, and the remark after them.
pub(super) fn results(all: &[(String, Outcome)], remark: Option<Value>) -> Value {
    let result = |(id, outcome): &(String, Outcome)| {
        let mut content = vec![json!({"type": "text", "text": outcome.text})];
        content.extend(outcome.image.map(|data| {
            json!({"type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": data}})
        }));
        let mut block = json!({"type": "tool_result", "tool_use_id": id, "content": content});
        if outcome.is_error {
            block["is_error"] = true.into();
        }
        block
    };
    let mut content: Vec<Value> = all.iter().map(result).collect();
    content.extend(remark.map(|remark| json!({"type": "text", "text": remark["content"]})));
    json!({"role": "user", "content": content})
}

pub(super) fn hear(is_stream: bool, answer: &Answer) -> (Heard, Vec<Value>) {
    let message = if is_stream { collected(answer) } else { answer.json() };
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    let usage = &message["usage"];
    let mut heard = Heard {
        stop: text(&message["stop_reason"]),
        tokens: ["input_tokens", "cache_read_input_tokens", "output_tokens"]
            .map(|key| count(&usage[key])),
        model: text(&message["model"]),
        ..Heard::default()
    };
    for block in message["content"].as_array().unwrap() {
        match block["type"].as_str().unwrap() {
            "thinking" => heard.thoughts.push_str(block["thinking"].as_str().unwrap()),
            "redacted_thinking" => assert!(block["data"].is_string(), "{block}"),
            "text" => heard.text.push_str(block["text"].as_str().unwrap()),
            "tool_use" => heard.calls.push(Called {
                id: text(&block["id"]),
                name: text(&block["name"]),
                arguments: block["input"].clone(),
            }),
            other => panic!("a block of the type {other}"),
        }
    }
    (heard, vec![json!({"role": "assistant", "content": message["content"]})])
}

/// Puts a stream together, as Anthropic's clients do it.
fn collected(answer: &Answer) -> Value {
    let mut message = Value::Null;
    let mut open: Option<Block> = None;
    let mut has_ended = false;
    for (name, event) in events(answer) {
        let kind = event["type"].as_str().unwrap();
        assert_eq!(name.as_deref(), Some(kind), "{event}");
        assert!(
            !has_ended && (message.is_null() == (kind == "message_start") || kind == "ping"),
            "{event}"
        );
        let is_open = open.as_ref().is_some_and(|block| event["index"] == block.index);
        match kind {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                let index = message["content"].as_array().unwrap().len();
                assert!(open.is_none() && event["index"] == index, "{event}");
                open = Some(Block {
                    index,
                    whole: event["content_block"].clone(),
                    json: String::new(),
                });
            }
            "content_block_delta" if is_open => open.as_mut().unwrap().add(&event["delta"]),
            "content_block_stop" if is_open => {
                let block = open.take().unwrap().finish();
                message["content"].as_array_mut().unwrap().push(block);
            }
            "message_delta" if open.is_none() => {
                for (key, value) in event["delta"].as_object().unwrap() {
                    message[key] = value.clone();
                }
                for (key, value) in event["usage"].as_object().unwrap() {
                    message["usage"][key] = value.clone();
                }
            }
            "message_stop" if open.is_none() => has_ended = true,
            "ping" => {}
            _ => panic!("out of place: {event}"),
        }
    }
    assert!(has_ended, "{}", answer.text());
    message
}

struct Block {
    index: usize,
    whole: Value,
    /// The arguments of a call so far.
    json: String,
}

impl Block {
    fn add(&mut self, delta: &Value) {
        let kind = self.whole["type"].as_str().unwrap().to_owned();
        let mut append = |key: &str| {
            let all = text(&self.whole[key]) + delta[key].as_str().unwrap();
            self.whole[key] = all.into();
        };
        match (kind.as_str(), delta["type"].as_str().unwrap()) {
            ("text", "text_delta") => append("text"),
            ("thinking", "thinking_delta") => append("thinking"),
            ("thinking", "signature_delta") => self.whole["signature"] = delta["signature"].clone(),
            ("tool_use", "input_json_delta") => {
                self.json.push_str(delta["partial_json"].as_str().unwrap());
            }
            _ => panic!("{delta} in {}", self.whole),
        }
    }

    fn finish(mut self) -> Value {
        if !self.json.is_empty() {
            self.whole["input"] = serde_json::from_str(&self.json).unwrap();
        }
        self.whole
    }
}
