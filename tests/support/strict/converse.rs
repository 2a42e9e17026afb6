//! Bedrock's format.

use serde_json::{Value, json};

use super::plan::pieces;
use super::prompt::{Part, Prompt, ToolSeen, Turn};
use super::shape::{Checked, filled, list, name, number, object, object_value, one_of, text, word};
use super::{Answer, Family, Said, Tokens};
use crate::support::{event_stream::message, script::Script};

pub(super) fn read(body: &Value) -> Checked<Prompt> {
    let optional = ["system", "inferenceConfig", "toolConfig", "additionalModelRequestFields"];
    object(body, "body", &["messages"], &optional)?;
    let mut system = Vec::new();
    for block in body.get("system").map_or(Ok(&[][..]), |system| list(system, "system"))? {
        object(block, "system", &["text"], &[])?;
        system.push(filled(&block["text"], "system")?.to_owned());
    }
    if let Some(config) = body.get("inferenceConfig") {
        let map = object(config, "inferenceConfig", &[], &["maxTokens", "temperature", "topP"])?;
        map.get("maxTokens").map(|limit| number(limit, "maxTokens")).transpose()?;
        // AWS, "Extended thinking" of Amazon Nova 2.
        let effort = &body["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"];
        if effort == "high" {
            return Err("inferenceConfig must be unset at the effort high".to_owned());
        }
    }
    // Needed as soon as there are calls, and given with every request here.
    let config = &body["toolConfig"];
    object(config, "toolConfig", &["tools"], &["toolChoice"])?;
    let tools =
        list(&config["tools"], "tools")?.iter().map(read_tool).collect::<Checked<Vec<_>>>()?;
    let mut turns: Vec<Turn> = Vec::new();
    for (place, message) in list(&body["messages"], "messages")?.iter().enumerate() {
        let path = format!("messages[{place}]");
        object(message, &path, &["role", "content"], &[])?;
        let is_model = word(&message["role"], &path, &["user", "assistant"])? == "assistant";
        if is_model != (place % 2 == 1) {
            return Err(format!("{path}: the roles do not take turns"));
        }
        let read = |block| read_block(block, is_model, &path);
        let parts =
            list(&message["content"], &path)?.iter().map(read).collect::<Checked<Vec<_>>>()?;
        if parts.is_empty() {
            return Err(format!("{path} is empty"));
        }
        turns.push(Turn { is_model, parts });
    }
    Ok(Prompt { system, tools, turns, is_stream: false })
}

fn read_tool(tool: &Value) -> Checked<ToolSeen> {
    object(tool, "tool", &["toolSpec"], &[])?;
    let spec = &tool["toolSpec"];
    object(spec, "toolSpec", &["name", "inputSchema"], &["description", "strict"])?;
    object(&spec["inputSchema"], "inputSchema", &["json"], &[])?;
    let name = name(&spec["name"], "toolSpec.name", 64, "_-")?.to_owned();
    Ok(ToolSeen { name, schema: spec["inputSchema"]["json"].clone() })
}

fn read_block(block: &Value, is_model: bool, path: &str) -> Checked<Part> {
    let key = one_of(block, path, &["text", "image", "toolUse", "toolResult", "reasoningContent"])?;
    object(block, path, &[key], &[])?;
    let value = &block[key];
    match (key, is_model) {
        ("text", _) => Ok(Part::Text { text: filled(value, path)?.to_owned(), proof: None }),
        ("image", false) => Ok(Part::Image(read_image(value, path)?)),
        ("toolUse", true) => {
            object(value, path, &["toolUseId", "name", "input"], &[])?;
            Ok(Part::Call {
                id: Some(name(&value["toolUseId"], path, 64, "_-")?.to_owned()),
                name: name(&value["name"], path, 64, "_-")?.to_owned(),
                arguments: object_value(value["input"].clone(), path)?,
                proof: None,
            })
        }
        ("toolResult", false) => {
            object(value, path, &["toolUseId", "content"], &["status"])?;
            let (mut said, mut image) = (String::new(), None);
            for part in list(&value["content"], path)? {
                match one_of(part, path, &["text", "image"])? {
                    "text" => said.push_str(filled(&part["text"], path)?),
                    _ => image = Some(read_image(&part["image"], path)?),
                }
            }
            let id = Some(name(&value["toolUseId"], path, 64, "_-")?.to_owned());
            let is_error = Some(value["status"] == "error");
            Ok(Part::Result { id, name: None, text: said, image, is_error })
        }
        ("reasoningContent", true) => read_reasoning(value, path),
        _ => Err(format!("{path}: {key} of the other side")),
    }
}

fn read_reasoning(value: &Value, path: &str) -> Checked<Part> {
    let key = one_of(value, path, &["reasoningText", "redactedContent"])?;
    object(value, path, &[key], &[])?;
    if key == "redactedContent" {
        let data = filled(&value[key], path)?.to_owned();
        return Ok(Part::Thought { text: String::new(), proof: Some(data) });
    }
    object(&value[key], path, &["text", "signature"], &[])?;
    let text = text(&value[key]["text"], path)?.to_owned();
    let signature = filled(&value[key]["signature"], path)?.to_owned();
    if Family::Nova.sign(&text) != signature {
        return Err(format!("{path}: the signature is not that of {text:?}"));
    }
    Ok(Part::Thought { text, proof: Some(signature) })
}

fn read_image(value: &Value, path: &str) -> Checked<String> {
    object(value, path, &["format", "source"], &[])?;
    word(&value["format"], path, &["png"])?;
    object(&value["source"], path, &["bytes"], &[])?;
    Ok(filled(&value["source"]["bytes"], path)?.to_owned())
}

pub(super) fn answer(answer: Answer<'_>) -> Script {
    let stop = if answer.has_calls() { "tool_use" } else { "end_turn" };
    let Tokens { input, cached, output, .. } = answer.tokens();
    let usage = json!({"inputTokens": input - cached, "outputTokens": output,
        "cacheReadInputTokens": cached, "cacheWriteInputTokens": 0, "totalTokens": input + output});
    let content: Vec<Value> =
        (0..).zip(answer.says).map(|(place, said)| block(answer, place, said)).collect();
    if !answer.is_stream {
        return Script::json(
            200,
            &json!({"output": {"message": {"role": "assistant", "content": content}},
                "stopReason": stop, "usage": usage, "metrics": {"latencyMs": 7}}),
        );
    }
    let event = |name: &str, payload: Value| {
        let headers = [
            (":message-type", "event"),
            (":event-type", name),
            (":content-type", "application/json"),
        ];
        message(&headers, &payload.to_string())
    };
    let mut events = vec![event("messageStart", json!({"role": "assistant", "p": "abc"}))];
    for (index, block) in content.iter().enumerate() {
        let tool = &block["toolUse"];
        if tool.is_object() {
            let start = json!({"toolUse": {"toolUseId": tool["toolUseId"], "name": tool["name"]}});
            events.push(event(
                "contentBlockStart",
                json!({"contentBlockIndex": index, "start": start}),
            ));
        }
        for delta in deltas(block) {
            events.push(event(
                "contentBlockDelta",
                json!({"contentBlockIndex": index, "delta": delta}),
            ));
        }
        events.push(event("contentBlockStop", json!({"contentBlockIndex": index})));
    }
    events.push(event("messageStop", json!({"stopReason": stop})));
    events.push(event("metadata", json!({"usage": usage, "metrics": {"latencyMs": 7}})));
    let head: &[(&str, &str)] = &[("content-type", "application/vnd.amazon.eventstream")];
    Script::new().chunked_head(200, head).chunks(events).end()
}

fn block(answer: Answer<'_>, place: usize, said: &Said) -> Value {
    let sign = |text: &str| Family::Nova.sign(text);
    match said {
        Said::Thought(text) => {
            json!({"reasoningContent": {"reasoningText": {"text": text, "signature": sign(text)}}})
        }
        Said::Hidden(text) => {
            json!({"reasoningContent": {"redactedContent": sign(&format!("hidden {text}"))}})
        }
        Said::Text(text) => json!({"text": text}),
        Said::Call { tool, arguments } => json!({"toolUse": {
            "toolUseId": format!("tooluse_Abcdefghijklmno-R{}{place}", answer.number),
            "name": answer.tools[*tool],
            "input": serde_json::from_str::<Value>(arguments).unwrap()}}),
    }
}

fn deltas(block: &Value) -> Vec<Value> {
    let of = |text: &Value| pieces(text.as_str().unwrap()).into_iter();
    if block["text"].is_string() {
        return of(&block["text"]).map(|piece| json!({"text": piece})).collect();
    }
    if block["toolUse"].is_object() {
        let input = block["toolUse"]["input"].to_string();
        return of(&input.into()).map(|piece| json!({"toolUse": {"input": piece}})).collect();
    }
    let reasoning = &block["reasoningContent"];
    if reasoning["redactedContent"].is_string() {
        return vec![json!({"reasoningContent": reasoning})];
    }
    let whole = &reasoning["reasoningText"];
    let texts = of(&whole["text"]).map(|piece| json!({"reasoningContent": {"text": piece}}));
    let signature = json!({"reasoningContent": {"signature": whole["signature"]}});
    texts.chain([signature]).collect()
}
