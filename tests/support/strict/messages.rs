//! Requests in Anthropic's format, to its own API and to Claude on Bedrock.

use serde_json::Value;

use super::Family;
use super::prompt::{Part, Prompt, ToolSeen, Turn};
use super::shape::{Checked, filled, list, name, number, object, object_value, text, word};
use crate::support::upstream::RecordedRequest;

const PARAMETERS: [&str; 10] = [
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "metadata",
    "output_config",
];

pub(super) fn read(body: &Value, request: &RecordedRequest, is_invoked: bool) -> Checked<Prompt> {
    let mut optional = PARAMETERS.to_vec();
    if is_invoked {
        optional.push("anthropic_beta");
        object(body, "body", &["anthropic_version", "max_tokens", "messages"], &optional)?;
        word(&body["anthropic_version"], "anthropic_version", &["bedrock-2023-05-31"])?;
    } else {
        optional.push("stream");
        object(body, "body", &["model", "max_tokens", "messages"], &optional)?;
        if request.header("anthropic-version") != Some("2023-06-01") {
            return Err("anthropic-version is missing".to_owned());
        }
    }
    let system = match body.get("system") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(system) => list(system, "system")?.iter().map(read_system).collect::<Checked<_>>()?,
        None => Vec::new(),
    };
    let tools =
        list(&body["tools"], "tools")?.iter().map(read_tool).collect::<Checked<Vec<_>>>()?;
    let mut turns: Vec<Turn> = Vec::new();
    for (place, message) in list(&body["messages"], "messages")?.iter().enumerate() {
        let path = format!("messages[{place}]");
        object(message, &path, &["role", "content"], &[])?;
        let is_model = word(&message["role"], &path, &["user", "assistant"])? == "assistant";
        if is_model != (place % 2 == 1) {
            return Err(format!("{path}: the roles do not take turns"));
        }
        let parts = match &message["content"] {
            Value::String(text) => vec![plain(text, &path)?],
            content => {
                let read = |block| read_block(block, is_model, &path);
                list(content, &path)?.iter().map(read).collect::<Checked<Vec<_>>>()?
            }
        };
        if parts.is_empty() {
            return Err(format!("{path} is empty"));
        }
        turns.push(Turn { is_model, parts });
    }
    check_thinking(body)?;
    Ok(Prompt { system, tools, turns, is_stream: body["stream"] == true })
}

/// The budget is within the limit.
fn check_thinking(body: &Value) -> Checked<()> {
    let limit = number(&body["max_tokens"], "max_tokens")?;
    let Some(thinking) = body.get("thinking") else { return Ok(()) };
    let kind = word(&thinking["type"], "thinking.type", &["enabled", "disabled", "adaptive"])?;
    if kind == "adaptive" {
        object(thinking, "thinking", &["type"], &["display"])?;
    }
    if kind != "enabled" {
        return Ok(());
    }
    object(thinking, "thinking", &["type", "budget_tokens"], &["display"])?;
    let budget = number(&thinking["budget_tokens"], "budget_tokens")?;
    if budget < 1024 || budget >= limit {
        return Err(format!("budget_tokens is {budget}, and max_tokens {limit}"));
    }
    match ["temperature", "top_k"].into_iter().find(|key| body.get(*key).is_some()) {
        Some(sampling) => Err(format!("{sampling} together with thinking")),
        None => Ok(()),
    }
}

fn read_system(block: &Value) -> Checked<String> {
    object(block, "system", &["type", "text"], &["cache_control"])?;
    Ok(filled(&block["text"], "system")?.to_owned())
}

fn read_tool(tool: &Value) -> Checked<ToolSeen> {
    let optional = ["description", "strict", "cache_control", "type"];
    object(tool, "tool", &["name", "input_schema"], &optional)?;
    let name = name(&tool["name"], "tool.name", 128, "_-")?.to_owned();
    Ok(ToolSeen { name, schema: tool["input_schema"].clone() })
}

fn plain(text: &str, path: &str) -> Checked<Part> {
    match text.trim().is_empty() {
        true => Err(format!("{path}: text content blocks must contain non-whitespace text")),
        false => Ok(Part::Text { text: text.to_owned(), proof: None }),
    }
}

fn read_block(block: &Value, is_model: bool, path: &str) -> Checked<Part> {
    match (text(&block["type"], path)?, is_model) {
        ("text", _) => {
            object(block, path, &["type", "text"], &["cache_control", "citations"])?;
            plain(text(&block["text"], path)?, path)
        }
        ("thinking", true) => {
            object(block, path, &["type", "thinking", "signature"], &[])?;
            let text = text(&block["thinking"], path)?.to_owned();
            let signature = filled(&block["signature"], path)?.to_owned();
            if Family::Anthropic.sign(&text) != signature {
                return Err(format!("{path}: invalid `signature` in `thinking` block: {block}"));
            }
            Ok(Part::Thought { text, proof: Some(signature) })
        }
        ("redacted_thinking", true) => {
            object(block, path, &["type", "data"], &[])?;
            let data = filled(&block["data"], path)?.to_owned();
            Ok(Part::Thought { text: String::new(), proof: Some(data) })
        }
        ("tool_use", true) => {
            let optional = ["cache_control", "caller"];
            object(block, path, &["type", "id", "name", "input"], &optional)?;
            Ok(Part::Call {
                id: Some(name(&block["id"], path, 256, "_-")?.to_owned()),
                name: name(&block["name"], path, 128, "_-")?.to_owned(),
                arguments: object_value(block["input"].clone(), path)?,
                proof: None,
            })
        }
        ("tool_result", false) => read_result(block, path),
        ("image", false) => Ok(Part::Image(read_image(block, path)?)),
        (other, _) => Err(format!("{path}: a block of the type {other}")),
    }
}

fn read_image(block: &Value, path: &str) -> Checked<String> {
    object(block, path, &["type", "source"], &["cache_control"])?;
    let source = &block["source"];
    object(source, path, &["type", "media_type", "data"], &[])?;
    word(&source["type"], path, &["base64"])?;
    word(&source["media_type"], path, &["image/png"])?;
    Ok(filled(&source["data"], path)?.to_owned())
}

fn read_result(block: &Value, path: &str) -> Checked<Part> {
    let optional = ["content", "is_error", "cache_control"];
    object(block, path, &["type", "tool_use_id"], &optional)?;
    let id = Some(name(&block["tool_use_id"], path, 256, "_-")?.to_owned());
    let (mut said, mut image) = (String::new(), None);
    match block.get("content") {
        None => {}
        Some(Value::String(text)) => said.clone_from(text),
        Some(content) => {
            for part in list(content, path)? {
                match text(&part["type"], path)? {
                    "text" => said.push_str(filled(&part["text"], path)?),
                    "image" => image = Some(read_image(part, path)?),
                    other => return Err(format!("{path}: a result of the type {other}")),
                }
            }
        }
    }
    let is_error = Some(block["is_error"] == true);
    Ok(Part::Result { id, name: None, text: said, image, is_error })
}
