//! Google's format.

use serde_json::{Value, json};

use super::plan::pieces;
use super::prompt::{Part, Prompt, ToolSeen, Turn};
use super::shape::{Checked, filled, list, name, object, object_value, one_of, text, word};
use super::{Answer, Family, Said, Tokens};
use crate::support::script::{Script, data};

pub(super) fn read(body: &Value) -> Checked<Prompt> {
    let optional = ["systemInstruction", "tools", "toolConfig", "generationConfig", "serviceTier"];
    object(body, "body", &["contents"], &optional)?;
    let mut system = Vec::new();
    if let Some(instruction) = body.get("systemInstruction") {
        object(instruction, "systemInstruction", &["parts"], &["role"])?;
        for part in list(&instruction["parts"], "systemInstruction")? {
            object(part, "systemInstruction", &["text"], &[])?;
            system.push(filled(&part["text"], "systemInstruction")?.to_owned());
        }
    }
    let mut tools = Vec::new();
    for tool in list(&body["tools"], "tools")? {
        object(tool, "tool", &["functionDeclarations"], &[])?;
        for one in list(&tool["functionDeclarations"], "functionDeclarations")? {
            object(one, "function", &["name"], &["description", "parametersJsonSchema"])?;
            let name = name(&one["name"], "function.name", 128, "_-.:")?.to_owned();
            tools.push(ToolSeen { name, schema: one["parametersJsonSchema"].clone() });
        }
    }
    let mut turns: Vec<Turn> = Vec::new();
    for (place, content) in list(&body["contents"], "contents")?.iter().enumerate() {
        let path = format!("contents[{place}]");
        object(content, &path, &["role", "parts"], &[])?;
        let is_model = word(&content["role"], &path, &["user", "model"])? == "model";
        let read = |part| read_part(part, is_model, &path);
        let parts =
            list(&content["parts"], &path)?.iter().map(read).collect::<Checked<Vec<_>>>()?;
        if parts.is_empty() {
            return Err(format!("{path} is empty"));
        }
        let results = parts.iter().filter(|part| matches!(part, Part::Result { .. })).count();
        if results > 0 && results < parts.len() {
            return Err(format!("{path} has results beside other parts"));
        }
        match turns.last_mut() {
            Some(turn) if turn.is_model == is_model => {
                let after_results = matches!(turn.parts.last(), Some(Part::Result { .. }));
                if is_model || !after_results {
                    return Err(format!("{path}: the roles do not take turns"));
                }
                turn.parts.extend(parts);
            }
            None if is_model => return Err(format!("{path}: the model begins")),
            _ => turns.push(Turn { is_model, parts }),
        }
    }
    Ok(Prompt { system, tools, turns, is_stream: false })
}

fn read_part(part: &Value, is_model: bool, path: &str) -> Checked<Part> {
    let keys = ["text", "functionCall", "functionResponse", "inlineData"];
    let key = one_of(part, path, &keys)?;
    object(part, path, &[key], &["thoughtSignature", "thought"])?;
    if part["thought"] == true {
        return Err(format!("{path}: a thought comes back: {part}"));
    }
    let proof = part.get("thoughtSignature").map(|proof| filled(proof, path).map(str::to_owned));
    let proof = proof.transpose()?;
    let value = &part[key];
    match (key, is_model) {
        ("text", _) => {
            let text = text(value, path)?.to_owned();
            if let Some(proof) = &proof
                && *proof != Family::Google.sign(&text)
            {
                return Err(format!("{path}: thought signature is not valid: {part}"));
            }
            if text.is_empty() && proof.is_none() {
                return Err(format!("{path}: an empty text"));
            }
            Ok(Part::Text { text, proof })
        }
        ("functionCall", true) => {
            object(value, path, &["name", "args"], &["id"])?;
            let arguments = object_value(value["args"].clone(), path)?;
            let name = name(&value["name"], path, 128, "_-.:")?.to_owned();
            Ok(Part::Call { id: id(value, path)?, name, arguments, proof })
        }
        ("functionResponse", false) => {
            object(value, path, &["name", "response"], &["id", "parts"])?;
            let response = &value["response"];
            let key = one_of(response, path, &["output", "error"])?;
            let mut image = None;
            for part in value.get("parts").map_or(Ok(&[][..]), |parts| list(parts, path))? {
                image = Some(read_inline(&part["inlineData"], path)?);
            }
            Ok(Part::Result {
                id: id(value, path)?,
                name: Some(name(&value["name"], path, 128, "_-.:")?.to_owned()),
                text: text(&response[key], path)?.to_owned(),
                image,
                is_error: Some(key == "error"),
            })
        }
        ("inlineData", false) => Ok(Part::Image(read_inline(value, path)?)),
        _ => Err(format!("{path}: {key} of the other side")),
    }
}

fn id(value: &Value, path: &str) -> Checked<Option<String>> {
    value.get("id").map(|id| filled(id, path).map(str::to_owned)).transpose()
}

fn read_inline(value: &Value, path: &str) -> Checked<String> {
    object(value, path, &["mimeType", "data"], &[])?;
    word(&value["mimeType"], path, &["image/png"])?;
    Ok(filled(&value["data"], path)?.to_owned())
}

/// The first of the calls, and the last text, are signed.
pub(super) fn answer(answer: Answer<'_>) -> Script {
    let family = Family::Google;
    let (mut parts, mut calls) = (Vec::new(), 0);
    for said in answer.says {
        match said {
            Said::Thought(text) => parts.extend(streamed(answer, text, true)),
            Said::Hidden(_) => {}
            Said::Text(text) => {
                let mut texts = streamed(answer, text, false);
                if let Some(last) = texts.last_mut() {
                    last["thoughtSignature"] = family.sign(text).into();
                }
                parts.extend(texts);
            }
            Said::Call { tool, arguments } => {
                let name = &answer.tools[*tool];
                let args: Value = serde_json::from_str(arguments).unwrap();
                let mut part = json!({"functionCall": {"name": name, "args": args}});
                if calls == 0 {
                    part["thoughtSignature"] = family.sign(&format!("{name} {args}")).into();
                }
                calls += 1;
                parts.push(part);
            }
        }
    }
    let Tokens { input, cached, output, reasoning } = answer.tokens();
    let usage = json!({"promptTokenCount": input, "cachedContentTokenCount": cached,
        "candidatesTokenCount": output - reasoning, "thoughtsTokenCount": reasoning,
        "totalTokenCount": input + output});
    let chunk = |parts: Value, finish: Option<&str>| {
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        if let Some(finish) = finish {
            candidate["finishReason"] = finish.into();
        }
        json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "as-served",
            "responseId": "strict"})
    };
    if !answer.is_stream {
        return Script::json(200, &chunk(parts.into(), Some("STOP")));
    }
    let mut chunks: Vec<Value> = parts.into_iter().map(|part| chunk(json!([part]), None)).collect();
    chunks.push(chunk(json!([{"text": ""}]), Some("STOP")));
    Script::sse(chunks.iter().map(data))
}

fn streamed(answer: Answer<'_>, text: &str, is_thought: bool) -> Vec<Value> {
    let part = |text: String| match is_thought {
        true => json!({"text": text, "thought": true}),
        false => json!({"text": text}),
    };
    match answer.is_stream {
        true => pieces(text).into_iter().map(part).collect(),
        false => vec![part(text.to_owned())],
    }
}
