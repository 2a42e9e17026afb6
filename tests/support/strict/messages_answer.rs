//! Answers in Anthropic's format, and as Bedrock wraps them.

use serde_json::{Value, json};

use super::plan::pieces;
use super::{Answer, Family, Said, Speaks, Tokens};
use crate::support::{event_stream::invoked, script::Script};

pub(super) fn answer(answer: Answer<'_>) -> Script {
    let blocks: Vec<Value> =
        (0..).zip(answer.says).map(|(place, said)| block(answer, place, said)).collect();
    let stop = if answer.has_calls() { "tool_use" } else { "end_turn" };
    let Tokens { input, cached, output, .. } = answer.tokens();
    let message = |content: Value, stop: Value, output: u64| {
        json!({"id": "msg_01strict", "type": "message", "role": "assistant", "model": "as-served",
            "content": content, "stop_reason": stop, "stop_sequence": null,
            "usage": {"input_tokens": input - cached, "cache_read_input_tokens": cached,
                "cache_creation_input_tokens": 0, "output_tokens": output}})
    };
    if !answer.is_stream {
        return Script::json(200, &message(blocks.into(), stop.into(), output));
    }
    let mut events = vec![
        json!({"type": "message_start", "message": message(json!([]), Value::Null, 1)}),
        json!({"type": "ping"}),
    ];
    for (index, block) in blocks.iter().enumerate() {
        events.extend(block_events(index, block));
    }
    events.push(
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null},
        "usage": {"output_tokens": output}}),
    );
    events.push(json!({"type": "message_stop"}));
    if answer.host.speaks == Speaks::Invoke {
        let head: &[(&str, &str)] = &[("content-type", "application/vnd.amazon.eventstream")];
        return Script::new().chunked_head(200, head).chunk(invoked(&events)).end();
    }
    Script::sse(events.iter().map(|event| {
        let kind = event["type"].as_str().unwrap();
        format!("event: {kind}\ndata: {event}\n\n")
    }))
}

fn block(answer: Answer<'_>, place: usize, said: &Said) -> Value {
    let sign = |text: &str| Family::Anthropic.sign(text);
    match said {
        Said::Thought(text) => {
            json!({"type": "thinking", "thinking": text, "signature": sign(text)})
        }
        Said::Hidden(text) => {
            json!({"type": "redacted_thinking", "data": sign(&format!("hidden {text}"))})
        }
        Said::Text(text) => json!({"type": "text", "text": text}),
        Said::Call { tool, arguments } => json!({"type": "tool_use", "name": answer.tools[*tool],
            "id": format!("toolu_01AbcdefghijklmnopqR{}{place}", answer.number),
            "input": serde_json::from_str::<Value>(arguments).unwrap()}),
    }
}

fn block_events(index: usize, block: &Value) -> Vec<Value> {
    let mut begun = block.clone();
    let mut deltas = Vec::new();
    match block["type"].as_str().unwrap() {
        "thinking" => {
            begun["thinking"] = "".into();
            begun["signature"] = "".into();
            for piece in pieces(block["thinking"].as_str().unwrap()) {
                deltas.push(json!({"type": "thinking_delta", "thinking": piece}));
            }
            deltas.push(json!({"type": "signature_delta", "signature": block["signature"]}));
        }
        "text" => {
            begun["text"] = "".into();
            for piece in pieces(block["text"].as_str().unwrap()) {
                deltas.push(json!({"type": "text_delta", "text": piece}));
            }
        }
        "tool_use" => {
            begun["input"] = json!({});
            deltas.push(json!({"type": "input_json_delta", "partial_json": ""}));
            if block["input"] != json!({}) {
                for piece in pieces(&block["input"].to_string()) {
                    deltas.push(json!({"type": "input_json_delta", "partial_json": piece}));
                }
            }
        }
        _ => {}
    }
    let mut events =
        vec![json!({"type": "content_block_start", "index": index, "content_block": begun})];
    events.extend(
        deltas
            .into_iter()
            .map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})),
    );
    events.push(json!({"type": "content_block_stop", "index": index}));
    events
}
