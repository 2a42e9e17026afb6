//! The members of a request that its answer repeats.

use super::super::fields::{Fields, Path, parse_array, parse_object};
use crate::json::writer::JsonWriter;

/// What an answer says of the request where the caller said nothing, in the order of OpenAI's answers. What
/// a translated request may not ask for (stored state, truncation) has no other value. By OpenAI's
/// description of its API, `user` is not `null`.
const DEFAULTS: [(&str, Option<&str>); 20] = [
    ("instructions", Some("null")),
    ("max_output_tokens", Some("null")),
    ("max_tool_calls", Some("null")),
    ("parallel_tool_calls", Some("true")),
    ("previous_response_id", Some("null")),
    ("prompt_cache_key", Some("null")),
    ("prompt_cache_retention", Some("null")),
    ("reasoning", Some(r#"{"effort":null,"summary":null}"#)),
    ("safety_identifier", Some("null")),
    ("service_tier", Some(r#""default""#)),
    ("store", Some("false")),
    ("temperature", Some("1.0")),
    ("text", Some(r#"{"format":{"type":"text"},"verbosity":"medium"}"#)),
    ("tool_choice", Some(r#""auto""#)),
    ("tools", Some("[]")),
    ("top_logprobs", Some("0")),
    ("top_p", Some("1.0")),
    ("truncation", Some(r#""disabled""#)),
    ("user", None),
    ("metadata", Some("{}")),
];

/// Those of the members above that are the caller's.
const REPEATED: [&str; 13] = [
    "instructions",
    "max_output_tokens",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "top_p",
    "user",
    "metadata",
];

/// The members of a request that its answer repeats, as the answer has them.
pub(in crate::llm::convert) fn echo(json: &str) -> Vec<(&'static str, String)> {
    let Ok(body) = Fields::parse(json, &Path::ROOT) else { return Vec::new() };
    let tools = body.get("tools").and_then(parse_array).map(|tools| ("tools", echo_tools(&tools)));
    let members = REPEATED.iter().filter_map(|key| {
        let raw = body.get(key)?;
        let value = match *key {
            "reasoning" => echo_object(raw, &[("effort", "null"), ("summary", "null")])?,
            "text" => {
                let defaults = [("format", r#"{"type":"text"}"#), ("verbosity", r#""medium""#)];
                echo_object(raw, &defaults)?
            }
            _ => raw.to_owned(),
        };
        Some((*key, value))
    });
    members.chain(tools).collect()
}

/// Writes the members that a response has besides its output.
pub(super) fn write_echo(echo: &[(&'static str, String)], json: &mut JsonWriter) {
    for (key, default) in DEFAULTS {
        let own = echo.iter().find(|(own, _)| *own == key);
        json.optional_raw(key, own.map(|(_, value)| &**value).or(default));
    }
}

/// An object with these members, which answers always have.
fn echo_object(raw: &str, defaults: &[(&str, &str)]) -> Option<String> {
    let fields = parse_object(raw)?;
    let mut json = JsonWriter::new();
    json.object(|json| {
        for (key, default) in defaults {
            json.key(key).raw(fields.get(key).unwrap_or(default));
        }
    });
    Some(json.finish())
}

/// Answers have all members of a tool.
fn echo_tools(tools: &[&str]) -> String {
    let mut json = JsonWriter::new();
    json.array(|json| {
        for raw in tools {
            let Ok(tool) = Fields::parse(raw, &Path::ROOT) else { continue };
            if tool.find_text("type").as_deref() != Some("function") {
                json.raw(raw);
                continue;
            }
            json.object(|json| {
                json.key("type").string("function");
                for (key, default) in [
                    ("name", r#""""#),
                    ("description", "null"),
                    ("parameters", "null"),
                    ("strict", "false"),
                ] {
                    json.key(key).raw(tool.get(key).unwrap_or(default));
                }
            });
        }
    });
    json.finish()
}
