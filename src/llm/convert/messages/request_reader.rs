//! Reads a request of a caller who speaks Messages.

use std::borrow::Cow;

use super::tool_reader::{read_tool_choice, read_tools};
use super::turn_reader::{read_system, read_turns};
use crate::llm::convert::error::ConvertError;
use crate::llm::convert::fields::{Fields, Path, text};
use crate::llm::convert::request::{
    Named, OutputFormat, Raw, ReasoningShow, ReasoningWish, Request, Text,
};

/// What only Anthropic's API does, and what the answer would be wrong without.
const ONLY_ANTHROPICS: &str = "is only supported by models that Anthropic's API serves";

pub(in crate::llm::convert) fn read_request<'a>(
    json: &'a str,
) -> Result<Request<'a>, ConvertError> {
    let path = Path::ROOT;
    let body = Fields::parse(json, &path)?;
    let mut request = Request {
        model: body.required_text("model", &path)?,
        stream: body.boolean("stream", &path)?.unwrap_or(false),
        include_usage: true,
        max_tokens: Some(Named::new("max_tokens", read_max_tokens(&body, &path)?)),
        temperature: sampling(&body, "temperature", &path)?,
        top_p: sampling(&body, "top_p", &path)?,
        top_k: body.number("top_k", &path)?.map(|value| Named::new("top_k", value)),
        stop: read_stop(&body, &path)?,
        service_tier: read_service_tier(&body, &path)?,
        ..Request::default()
    };
    let left_out = &mut request.left_out;
    request.system = read_system(&body, &path, left_out)?;
    request.turns = read_turns(&body, &path, left_out)?;
    request.tools = read_tools(&body, &path, left_out)?;
    request.user = read_user(&body, &path, left_out)?;
    read_thinking(&body, &path, &mut request)?;
    read_output(&body, &path, &mut request)?;
    read_tool_choice(&body, &path, &mut request)?;
    for (key, raw) in body.iter() {
        read_other(key, raw, &path, &mut request.left_out)?;
    }
    Ok(request)
}

/// Members that no other format has.
fn read_other(
    key: &str,
    raw: &str,
    path: &Path<'_>,
    left_out: &mut Vec<Cow<'_, str>>,
) -> Result<(), ConvertError> {
    let is_neutral = match key {
        "model" | "messages" | "max_tokens" | "stream" | "temperature" | "top_p" | "top_k"
        | "stop_sequences" | "service_tier" | "system" | "tools" | "tool_choice" | "thinking"
        | "output_config" | "output_format" | "metadata" => true,
        // Stands in bodies for Bedrock and Vertex.
        "anthropic_version" => true,
        "mcp_servers" | "fallbacks" | "container" | "thread" | "compaction" | "billing_policy" => {
            if raw != "[]" {
                return Err(path.key(key).unsupported(ONLY_ANTHROPICS));
            }
            true
        }
        "inference_geo" => {
            if raw != "\"global\"" {
                return Err(path.key(key).unsupported(ONLY_ANTHROPICS));
            }
            true
        }
        "context_management" => read_context_management(raw, &path.key(key))?,
        "speed" => raw == "\"standard\"",
        "betas" | "anthropic_beta" => raw == "[]",
        _ => false,
    };
    if !is_neutral {
        left_out.push(Cow::Owned(key.to_owned()));
    }
    Ok(())
}

/// Whether nothing is to be done. Thoughts of earlier turns need not be cleared, since other providers get
/// none of them; all else that an edit clears would be seen by the model.
fn read_context_management(raw: &str, path: &Path<'_>) -> Result<bool, ConvertError> {
    let mut is_neutral = true;
    let edits_path = path.key("edits");
    for (index, edit) in Fields::parse(raw, path)?.array("edits", path)?.into_iter().enumerate() {
        let path = edits_path.index(index);
        let edit = Fields::parse(edit, &path)?;
        if !edit.required_text("type", &path)?.starts_with("clear_thinking_") {
            return Err(path.unsupported(ONLY_ANTHROPICS));
        }
        is_neutral &= edit.get("keep") == Some("\"all\"");
    }
    Ok(is_neutral)
}

fn read_max_tokens<'a>(body: &Fields<'a>, path: &Path<'_>) -> Result<Raw<'a>, ConvertError> {
    let place = path.key("max_tokens");
    let tokens = body.number("max_tokens", path)?.ok_or_else(|| place.invalid("is required"))?;
    match tokens.parse::<u64>() {
        // Only fills Anthropic's cache.
        Ok(0) => Err(place.unsupported("must be at least 1 for this model")),
        Ok(_) => Ok(tokens),
        Err(_) => Err(place.invalid("must be a whole number that is not negative")),
    }
}

/// `temperature` or `top_p`; 1 is what models do anyway.
fn sampling<'a>(
    body: &Fields<'a>,
    key: &'static str,
    path: &Path<'_>,
) -> Result<Option<Named<Raw<'a>>>, ConvertError> {
    let value = body.number(key, path)?;
    let value = value.filter(|value| value.parse::<f64>().is_ok_and(|value| value != 1.0));
    Ok(value.map(|value| Named::new(key, value)))
}

fn read_stop<'a>(
    body: &Fields<'a>,
    path: &Path<'_>,
) -> Result<Option<Named<Vec<Text<'a>>>>, ConvertError> {
    let place = path.key("stop_sequences");
    let sequences = body.array("stop_sequences", path)?.into_iter().enumerate();
    let stop: Vec<_> =
        sequences.map(|(index, raw)| text(raw, &place.index(index))).collect::<Result<_, _>>()?;
    Ok((!stop.is_empty()).then(|| Named::new("stop_sequences", stop)))
}

/// The tier in OpenAI's words.
fn read_service_tier<'a>(
    body: &Fields<'a>,
    path: &Path<'_>,
) -> Result<Option<Named<Text<'a>>>, ConvertError> {
    let tier = body.text("service_tier", path)?.filter(|tier| tier != "auto");
    Ok(tier.map(|tier| {
        let tier = if tier == "standard_only" { Cow::Borrowed("default") } else { tier };
        Named::new("service_tier", tier)
    }))
}

fn read_user<'a>(
    body: &Fields<'a>,
    path: &Path<'_>,
    left_out: &mut Vec<Cow<'a, str>>,
) -> Result<Option<Named<Text<'a>>>, ConvertError> {
    let Some(metadata) = body.object("metadata", path)? else { return Ok(None) };
    for (key, _) in metadata.iter().filter(|(key, _)| *key != "user_id") {
        left_out.push(Cow::Owned(format!("metadata.{key}")));
    }
    let user = metadata.text("user_id", &path.key("metadata"))?;
    Ok(user.map(|user| Named::new("metadata.user_id", user)))
}

/// `thinking`, and the effort.
fn read_thinking<'a>(
    body: &Fields<'a>,
    path: &Path<'_>,
    request: &mut Request<'a>,
) -> Result<(), ConvertError> {
    let output = body.object("output_config", path)?;
    let place = path.key("output_config");
    let effort = output.map(|output| output.text("effort", &place)).transpose()?.flatten();
    let place = path.key("thinking");
    request.reasoning.wish = effort
        .clone()
        .map(|effort| Named::new("output_config.effort", ReasoningWish::Effort(effort)));
    let Some(thinking) = body.object("thinking", path)? else { return Ok(()) };
    let has_effort = effort.is_some();
    let wish = match &*thinking.required_text("type", &place)? {
        "disabled" => ReasoningWish::Off,
        "adaptive" => ReasoningWish::Adaptive(effort),
        "enabled" => {
            let problem = || place.key("budget_tokens").invalid("must be a whole number");
            let budget = thinking.number("budget_tokens", &place)?.ok_or_else(problem)?;
            ReasoningWish::Budget(budget.parse().map_err(|_| problem())?)
        }
        _ => {
            request.left_out.push(Cow::Borrowed("thinking.type"));
            return Ok(());
        }
    };
    if has_effort && !matches!(wish, ReasoningWish::Adaptive(_)) {
        // One of the two is all that others take.
        request.left_out.push(Cow::Borrowed("output_config.effort"));
    }
    request.reasoning.wish = Some(Named::new("thinking", wish));
    let show = match thinking.text("display", &place)?.as_deref() {
        Some("summarized") => Some(ReasoningShow::Summary),
        Some("omitted") => Some(ReasoningShow::Omit),
        Some(_) => {
            request.left_out.push(Cow::Borrowed("thinking.display"));
            None
        }
        None => None,
    };
    request.reasoning.show = show.map(|show| Named::new("thinking.display", show));
    Ok(())
}

/// The format of the answer: in `output_config`, and in `output_format` before that.
fn read_output<'a>(
    body: &Fields<'a>,
    path: &Path<'_>,
    request: &mut Request<'a>,
) -> Result<(), ConvertError> {
    if let Some(format) = body.object("output_format", path)? {
        let format = read_format(&format, &path.key("output_format"))?;
        request.output_format = Some(Named::new("output_format", format));
    }
    let Some(output) = body.object("output_config", path)? else { return Ok(()) };
    let place = path.key("output_config");
    if let Some(format) = output.object("format", &place)? {
        let format = read_format(&format, &place.key("format"))?;
        request.output_format = Some(Named::new("output_config.format", format));
    }
    for (key, _) in output.iter().filter(|(key, _)| !matches!(*key, "format" | "effort")) {
        request.left_out.push(Cow::Owned(format!("output_config.{key}")));
    }
    Ok(())
}

fn read_format<'a>(format: &Fields<'a>, path: &Path<'_>) -> Result<OutputFormat<'a>, ConvertError> {
    if format.required_text("type", path)? != "json_schema" {
        return Err(path.key("type").unsupported("must be \"json_schema\" for this model"));
    }
    let schema = path.key("schema");
    let raw = format.get("schema").ok_or_else(|| schema.invalid("is required"))?;
    Fields::parse(raw, &schema)?;
    Ok(OutputFormat::Schema {
        name: None,
        description: None,
        schema: Cow::Borrowed(raw),
        strict: None,
    })
}
