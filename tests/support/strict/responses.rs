//! Requests in OpenAI's format of responses.

use serde_json::Value;

use super::Family;
use super::prompt::{Part, Prompt, ToolSeen, Turn, push};
use super::shape::{Checked, arguments, data_url, filled, list, name, object, text, word};

const PARAMETERS: [&str; 15] = [
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "stream",
    "max_output_tokens",
    "temperature",
    "top_p",
    "reasoning",
    "text",
    "metadata",
    "user",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
];

/// The longest id of a call.
const LONGEST_ID: usize = 64;

pub(super) fn read(body: &Value) -> Checked<Prompt> {
    object(body, "body", &["model", "input", "store", "include"], &PARAMETERS)?;
    if body["store"] != false {
        return Err("the answer would be stored".to_owned());
    }
    if !list(&body["include"], "include")?.contains(&"reasoning.encrypted_content".into()) {
        return Err("the reasoning would not come back".to_owned());
    }
    let mut system = Vec::new();
    if let Some(instructions) = body.get("instructions") {
        system.push(filled(instructions, "instructions")?.to_owned());
    }
    let tools =
        list(&body["tools"], "tools")?.iter().map(read_tool).collect::<Checked<Vec<_>>>()?;
    let items = list(&body["input"], "input")?;
    let mut turns = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let path = format!("input[{place}]");
        match item.get("type").map_or(Ok("message"), |kind| text(kind, &path))? {
            "message" => read_message(item, &path, &mut turns)?,
            "function_call" => read_call(item, &path, &mut turns)?,
            "function_call_output" => read_output(item, &path, &mut turns)?,
            "reasoning" => {
                let next = items.get(place + 1).map(|next| (&next["type"], &next["role"]));
                let follows = next.is_some_and(|(kind, role)| {
                    kind == "function_call" || kind == "reasoning" || role == "assistant"
                });
                if !follows {
                    return Err(format!("{path}: reasoning without its required following item"));
                }
                read_reasoning(item, &path, &mut turns)?;
            }
            other => return Err(format!("{path}: an item of the type {other}")),
        }
    }
    Ok(Prompt { system, tools, turns, is_stream: body["stream"] == true })
}

fn read_tool(tool: &Value) -> Checked<ToolSeen> {
    object(tool, "tool", &["type", "name", "parameters", "strict"], &["description"])?;
    word(&tool["type"], "tool.type", &["function"])?;
    let name = name(&tool["name"], "tool.name", 64, "_-")?.to_owned();
    Ok(ToolSeen { name, schema: tool["parameters"].clone() })
}

/// An item's own id, which says its kind.
fn check_id(item: &Value, path: &str, prefix: &str) -> Checked<()> {
    match item.get("id") {
        Some(id) if !name(id, path, LONGEST_ID, "_-")?.starts_with(prefix) => {
            Err(format!("{path}.id must begin with {prefix}: {id}"))
        }
        _ => Ok(()),
    }
}

fn read_message(item: &Value, path: &str, turns: &mut Vec<Turn>) -> Checked<()> {
    object(item, path, &["role", "content"], &["type", "id", "status", "phase"])?;
    let is_model = word(&item["role"], path, &["user", "assistant"])? == "assistant";
    check_id(item, path, "msg")?;
    let plain = |text: &str| Part::Text { text: text.to_owned(), proof: None };
    if item["content"].is_string() {
        push(turns, is_model, plain(filled(&item["content"], path)?));
        return Ok(());
    }
    for part in list(&item["content"], path)? {
        match (text(&part["type"], path)?, is_model) {
            ("input_text", false) => {
                object(part, path, &["type", "text"], &[])?;
                push(turns, false, plain(filled(&part["text"], path)?));
            }
            ("output_text", true) => {
                object(part, path, &["type", "text", "annotations"], &["logprobs"])?;
                push(turns, true, plain(text(&part["text"], path)?));
            }
            (other, _) => return Err(format!("{path}: a part of the type {other}")),
        }
    }
    Ok(())
}

fn read_call(item: &Value, path: &str, turns: &mut Vec<Turn>) -> Checked<()> {
    object(item, path, &["type", "call_id", "name", "arguments"], &["id", "status"])?;
    check_id(item, path, "fc")?;
    let call = Part::Call {
        id: Some(name(&item["call_id"], path, LONGEST_ID, "_-.:")?.to_owned()),
        name: name(&item["name"], path, 64, "_-")?.to_owned(),
        arguments: arguments(&item["arguments"], path)?,
        proof: None,
    };
    push(turns, true, call);
    Ok(())
}

fn read_output(item: &Value, path: &str, turns: &mut Vec<Turn>) -> Checked<()> {
    object(item, path, &["type", "call_id", "output"], &["id", "status"])?;
    let (mut said, mut image) = (String::new(), None);
    if item["output"].is_string() {
        said = text(&item["output"], path)?.to_owned();
    } else {
        for part in list(&item["output"], path)? {
            match text(&part["type"], path)? {
                "input_text" => {
                    object(part, path, &["type", "text"], &[])?;
                    said.push_str(filled(&part["text"], path)?);
                }
                "input_image" => {
                    object(part, path, &["type", "image_url"], &["detail"])?;
                    image = Some(data_url(&part["image_url"], path)?);
                }
                other => return Err(format!("{path}: a part of the type {other}")),
            }
        }
    }
    let id = Some(name(&item["call_id"], path, LONGEST_ID, "_-.:")?.to_owned());
    push(turns, false, Part::Result { id, name: None, text: said, image, is_error: None });
    Ok(())
}

/// The id of the item of a thought. What is encrypted is bound to it.
pub(super) fn reasoning_id(text: &str) -> String {
    let signature = Family::OpenAi.sign(&format!("id of {text}"));
    let letters = signature.chars().filter(char::is_ascii_alphanumeric).take(24);
    format!("rs_{}", letters.collect::<String>())
}

/// Callers that keep no ids send what is encrypted alone.
fn read_reasoning(item: &Value, path: &str, turns: &mut Vec<Turn>) -> Checked<()> {
    let optional = ["id", "content", "status"];
    object(item, path, &["type", "summary", "encrypted_content"], &optional)?;
    check_id(item, path, "rs")?;
    if item
        .get("content")
        .is_some_and(|content| !content.is_null() && content != &Value::Array(vec![]))
    {
        return Err(format!("{path}.content is nothing that was given out"));
    }
    let mut shown = String::new();
    for part in list(&item["summary"], path)? {
        object(part, path, &["type", "text"], &[])?;
        word(&part["type"], path, &["summary_text"])?;
        shown.push_str(filled(&part["text"], path)?);
    }
    let data = filled(&item["encrypted_content"], path)?.to_owned();
    let (id, signature) =
        data.split_once('.').ok_or(format!("{path}: not encrypted by OpenAI: {data}"))?;
    if item.get("id").is_some_and(|own| own != id) {
        return Err(format!("{path}: what is encrypted belongs to {id}, not to {}", item["id"]));
    }
    push(turns, true, Part::Thought { text: shown, proof: Some(signature.to_owned()) });
    Ok(())
}
