//! Answers in OpenAI's format of responses.

use serde_json::{Value, json};

use super::plan::pieces;
use super::responses::reasoning_id;
use super::{Answer, Family, Said, Tokens};
use crate::support::script::{Script, data};

pub(super) fn answer(answer: Answer<'_>) -> Script {
    let items: Vec<Value> =
        (0..).zip(answer.says).map(|(place, said)| item(answer, place, said)).collect();
    let response = |status: &str, output: Value, usage: Value| {
        json!({"id": "resp_strict", "object": "response", "created_at": 1_700_000_000, "status": status,
            "model": "as-served", "error": null, "incomplete_details": null, "output": output,
            "parallel_tool_calls": true, "store": false, "usage": usage})
    };
    let whole = response("completed", items.clone().into(), usage(answer.tokens()));
    if !answer.is_stream {
        return Script::json(200, &whole);
    }
    let mut events = Events::default();
    for kind in ["response.created", "response.in_progress"] {
        let begun = response("in_progress", json!([]), Value::Null);
        events.write(kind, json!({"response": begun}));
    }
    for (index, item) in items.iter().enumerate() {
        events.write_item(index, item);
    }
    events.write("response.completed", json!({"response": whole}));
    Script::sse(events.0)
}

fn item(answer: Answer<'_>, place: usize, said: &Said) -> Value {
    let id = |prefix: &str| format!("{prefix}_0strict{}{place}", answer.number);
    let reasoning = |signed: &str, summary: Value| {
        let id = reasoning_id(signed);
        let data = format!("{id}.{}", Family::OpenAi.sign(signed));
        json!({"id": id, "type": "reasoning", "summary": summary, "encrypted_content": data})
    };
    match said {
        Said::Thought(text) => reasoning(text, json!([{"type": "summary_text", "text": text}])),
        Said::Hidden(text) => reasoning(&format!("hidden {text}"), json!([])),
        Said::Text(text) => json!({"id": id("msg"), "type": "message", "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]}),
        Said::Call { tool, arguments } => json!({"id": id("fc"), "type": "function_call",
            "status": "completed", "arguments": arguments, "name": answer.tools[*tool],
            "call_id": id("call_Abcdefghijklmnop")}),
    }
}

/// The events, numbered.
#[derive(Default)]
struct Events(Vec<String>);

impl Events {
    fn write(&mut self, kind: &str, mut fields: Value) {
        fields["type"] = kind.into();
        fields["sequence_number"] = self.0.len().into();
        self.0.push(format!("event: {kind}\n{}", data(fields)));
    }

    fn write_item(&mut self, index: usize, item: &Value) {
        let mut begun = item.clone();
        if !item["status"].is_null() {
            begun["status"] = "in_progress".into();
        }
        let at = |mut fields: Value| {
            fields["item_id"] = item["id"].clone();
            fields["output_index"] = index.into();
            fields
        };
        match item["type"].as_str().unwrap() {
            "reasoning" => {
                begun["summary"] = json!([]);
                // It is another one until the item is done.
                begun["encrypted_content"] = "not yet".into();
                self.write(
                    "response.output_item.added",
                    json!({"output_index": index, "item": begun}),
                );
                for part in item["summary"].as_array().unwrap() {
                    let empty = json!({"type": "summary_text", "text": ""});
                    let kind = "response.reasoning_summary_part";
                    let text = "response.reasoning_summary_text";
                    self.write(
                        &format!("{kind}.added"),
                        at(json!({"summary_index": 0, "part": empty})),
                    );
                    for piece in pieces(part["text"].as_str().unwrap()) {
                        self.write(
                            &format!("{text}.delta"),
                            at(json!({"summary_index": 0, "delta": piece})),
                        );
                    }
                    self.write(
                        &format!("{text}.done"),
                        at(json!({"summary_index": 0, "text": part["text"]})),
                    );
                    self.write(
                        &format!("{kind}.done"),
                        at(json!({"summary_index": 0, "part": part})),
                    );
                }
            }
            "message" => {
                begun["content"] = json!([]);
                self.write(
                    "response.output_item.added",
                    json!({"output_index": index, "item": begun}),
                );
                let part = &item["content"][0];
                let empty = json!({"type": "output_text", "text": "", "annotations": []});
                self.write(
                    "response.content_part.added",
                    at(json!({"content_index": 0, "part": empty})),
                );
                for piece in pieces(part["text"].as_str().unwrap()) {
                    let delta = json!({"content_index": 0, "delta": piece, "logprobs": []});
                    self.write("response.output_text.delta", at(delta));
                }
                let done = json!({"content_index": 0, "text": part["text"], "logprobs": []});
                self.write("response.output_text.done", at(done));
                self.write(
                    "response.content_part.done",
                    at(json!({"content_index": 0, "part": part})),
                );
            }
            _ => {
                begun["arguments"] = "".into();
                self.write(
                    "response.output_item.added",
                    json!({"output_index": index, "item": begun}),
                );
                for piece in pieces(item["arguments"].as_str().unwrap()) {
                    self.write(
                        "response.function_call_arguments.delta",
                        at(json!({"delta": piece})),
                    );
                }
                let done = json!({"arguments": item["arguments"], "name": item["name"]});
                self.write("response.function_call_arguments.done", at(done));
            }
        }
        self.write("response.output_item.done", json!({"output_index": index, "item": item}));
    }
}

fn usage(tokens: Tokens) -> Value {
    let Tokens { input, cached, output, reasoning } = tokens;
    json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens_details": {"reasoning_tokens": reasoning}})
}
