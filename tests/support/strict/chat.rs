//! Requests to hosts of chats.

use serde_json::Value;

use super::prompt::{Part, Prompt, ToolSeen, Turn, push};
use super::shape::{Checked, arguments, data_url, filled, list, name, number, object, text, word};
use super::{ChatRules, Family};

const PARAMETERS: [&str; 17] = [
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "stream",
    "stream_options",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "n",
    "response_format",
    "reasoning_effort",
    "presence_penalty",
    "frequency_penalty",
    "user",
    "max_completion_tokens",
];

pub(super) fn read(body: &Value, rules: ChatRules) -> Checked<Prompt> {
    let map = object(body, "body", &["model", "messages"], &PARAMETERS)?;
    let tools = list(map.get("tools").unwrap_or(&Value::Null), "tools")?;
    let tools = tools.iter().map(read_tool).collect::<Checked<Vec<_>>>()?;
    let (mut system, mut turns) = (Vec::new(), Vec::new());
    // Results have to stand directly after their calls.
    let mut before = "";
    for (place, message) in list(&body["messages"], "messages")?.iter().enumerate() {
        let path = format!("messages[{place}]");
        let role = text(&message["role"], &path)?;
        match role {
            "system" if turns.is_empty() => {
                object(message, &path, &["role", "content"], &[])?;
                system.push(filled(&message["content"], &path)?.to_owned());
            }
            "user" => read_user(message, &path, &mut turns)?,
            "assistant" => read_assistant(message, &path, rules, &mut turns)?,
            "tool" if matches!(before, "assistant" | "tool") => {
                read_result(message, &path, rules, &mut turns)?;
            }
            other => return Err(format!("{path}: {other} after {before}")),
        }
        before = role;
    }
    if map.get("stream_options").is_some() && body["stream"] != true {
        return Err("stream_options without stream".to_owned());
    }
    Ok(Prompt { system, tools, turns, is_stream: body["stream"] == true })
}

fn read_tool(tool: &Value) -> Checked<ToolSeen> {
    object(tool, "tool", &["type", "function"], &[])?;
    word(&tool["type"], "tool.type", &["function"])?;
    let function = &tool["function"];
    object(function, "function", &["name", "parameters"], &["description", "strict"])?;
    let name = name(&function["name"], "function.name", 64, "_-")?.to_owned();
    Ok(ToolSeen { name, schema: function["parameters"].clone() })
}

fn id(value: &Value, path: &str, rules: ChatRules) -> Checked<Option<String>> {
    let id = match rules {
        ChatRules::Mistral => {
            let id = name(value, path, 9, "")?;
            if id.len() < 9 {
                return Err(format!("{path} has not nine characters: {id}"));
            }
            id
        }
        ChatRules::OpenAi | ChatRules::DeepSeek | ChatRules::OpenRouter => {
            let id = filled(value, path)?;
            if id.chars().count() > 40 {
                return Err(format!("{path} is too long: {id}"));
            }
            id
        }
    };
    Ok(Some(id.to_owned()))
}

fn read_user(message: &Value, path: &str, turns: &mut Vec<Turn>) -> Checked<()> {
    object(message, path, &["role", "content"], &[])?;
    let plain = |text: &str| Part::Text { text: text.to_owned(), proof: None };
    if message["content"].is_string() {
        push(turns, false, plain(filled(&message["content"], path)?));
        return Ok(());
    }
    for part in list(&message["content"], path)? {
        match text(&part["type"], path)? {
            "text" => {
                object(part, path, &["type", "text"], &[])?;
                push(turns, false, plain(filled(&part["text"], path)?));
            }
            "image_url" => {
                object(part, path, &["type", "image_url"], &[])?;
                object(&part["image_url"], path, &["url"], &["detail"])?;
                push(turns, false, Part::Image(data_url(&part["image_url"]["url"], path)?));
            }
            other => return Err(format!("{path}: a part of the type {other}")),
        }
    }
    Ok(())
}

fn read_result(
    message: &Value,
    path: &str,
    rules: ChatRules,
    turns: &mut Vec<Turn>,
) -> Checked<()> {
    object(message, path, &["role", "content", "tool_call_id"], &["name"])?;
    let part = Part::Result {
        id: id(&message["tool_call_id"], path, rules)?,
        name: None,
        text: text(&message["content"], path)?.to_owned(),
        image: None,
        is_error: None,
    };
    push(turns, false, part);
    Ok(())
}

fn read_assistant(
    message: &Value,
    path: &str,
    rules: ChatRules,
    turns: &mut Vec<Turn>,
) -> Checked<()> {
    let mut optional = vec!["content", "tool_calls", "refusal"];
    match rules {
        ChatRules::OpenAi | ChatRules::Mistral => {}
        ChatRules::DeepSeek => optional.push("reasoning_content"),
        ChatRules::OpenRouter => {
            optional.extend([
                "reasoning",
                "reasoning_content",
                "reasoning_details",
                "extra_content",
            ]);
        }
    }
    object(message, path, &["role"], &optional)?;
    if !message["refusal"].is_null() {
        return Err(format!("{path} refuses"));
    }
    let mut parts = Vec::new();
    let content = &message["content"];
    if !content.is_null() {
        let text = filled(content, path)?.to_owned();
        parts.push((1, Part::Text { text, proof: None }));
    }
    let calls = match message.get("tool_calls") {
        Some(calls) => list(calls, path)?,
        None if parts.is_empty() => return Err(format!("{path} says nothing")),
        None => &[],
    };
    for call in calls {
        let others: &[&str] = if rules == ChatRules::OpenRouter { &["extra_content"] } else { &[] };
        object(call, path, &["id", "type", "function"], others)?;
        let function = &call["function"];
        object(function, path, &["name", "arguments"], &[])?;
        let call = Part::Call {
            id: id(&call["id"], path, rules)?,
            name: name(&function["name"], path, 64, "_-")?.to_owned(),
            arguments: arguments(&function["arguments"], path)?,
            proof: None,
        };
        parts.push((1, call));
    }
    if rules == ChatRules::DeepSeek
        && let Some(thoughts) = message.get("reasoning_content")
    {
        let text = filled(thoughts, path)?.to_owned();
        parts.insert(0, (0, Part::Thought { text, proof: None }));
    }
    if rules == ChatRules::OpenRouter
        && let Some(details) = message.get("reasoning_details")
    {
        let thoughts = read_details(details, path)?;
        for (place, thought) in thoughts.into_iter().enumerate() {
            parts.insert(place, (0, thought));
        }
    }
    parts.into_iter().for_each(|(_, part)| push(turns, true, part));
    Ok(())
}

/// The model's own thoughts. Those of other families are left out by this host, by their format.
fn read_details(details: &Value, path: &str) -> Checked<Vec<Part>> {
    let mut thoughts = Vec::new();
    for detail in list(details, path)? {
        let optional = ["text", "summary", "data", "signature", "id", "format", "index"];
        object(detail, path, &["type"], &optional)?;
        if let Some(index) = detail.get("index") {
            number(index, path)?;
        }
        if detail["format"] != "anthropic-claude-v1" {
            continue;
        }
        let kind = word(&detail["type"], path, &["reasoning.text", "reasoning.encrypted"])?;
        let part = match kind {
            "reasoning.text" => {
                let text = text(&detail["text"], path)?.to_owned();
                let signature = filled(&detail["signature"], path)?.to_owned();
                if Family::Anthropic.sign(&text) != signature {
                    return Err(format!("{path}: the signature is not that of {text:?}"));
                }
                Part::Thought { text, proof: Some(signature) }
            }
            _ => {
                let data = filled(&detail["data"], path)?.to_owned();
                Part::Thought { text: String::new(), proof: Some(data) }
            }
        };
        thoughts.push(part);
    }
    Ok(thoughts)
}
