//! Reads tools, and which of them are to be called.

use std::borrow::Cow;

use super::block_reader::{TOOL_SEARCH, read_cache};
use crate::llm::convert::error::ConvertError;
use crate::llm::convert::fields::{Fields, Path};
use crate::llm::convert::request::{Named, Request, Tool, ToolChoice};

/// Reads `tools`. Other formats have all tools from the beginning: what says that one is loaded later has
/// no meaning there, nor has the tool that searches for those.
pub(super) fn read_tools<'a>(
    body: &Fields<'a>,
    path: &Path<'_>,
    left_out: &mut Vec<Cow<'a, str>>,
) -> Result<Vec<Tool<'a>>, ConvertError> {
    let place = path.key("tools");
    let mut tools = Vec::new();
    for (index, raw) in body.array("tools", path)?.into_iter().enumerate() {
        tools.extend(read_tool(raw, &place.index(index), left_out)?);
    }
    Ok(tools)
}

fn read_tool<'a>(
    raw: &'a str,
    path: &Path<'_>,
    left_out: &mut Vec<Cow<'a, str>>,
) -> Result<Option<Tool<'a>>, ConvertError> {
    let fields = Fields::parse(raw, path)?;
    match fields.text("type", path)?.as_deref() {
        None | Some("custom") => {}
        Some(kind) if kind.starts_with(TOOL_SEARCH) => {
            left_out.push(Cow::Borrowed("tools.tool_search_tool"));
            return Ok(None);
        }
        Some(_) => {
            let problem = "names a tool that only Anthropic's API runs";
            return Err(path.key("type").unsupported(problem));
        }
    }
    for (key, raw) in fields.iter() {
        let is_neutral = match key {
            "type" | "name" | "description" | "input_schema" | "strict" | "cache_control" => true,
            "defer_loading" | "eager_input_streaming" => raw == "false",
            "input_examples" => raw == "[]",
            "allowed_callers" => raw == "[\"direct\"]",
            _ => false,
        };
        if !is_neutral {
            left_out.push(Cow::Owned(format!("tools.{key}")));
        }
    }
    let schema = path.key("input_schema");
    let parameters = fields.get("input_schema").ok_or_else(|| schema.invalid("is required"))?;
    Fields::parse(parameters, &schema)?;
    Ok(Some(Tool {
        name: fields.required_text("name", path)?,
        description: fields.text("description", path)?,
        parameters: Some(Cow::Borrowed(parameters)),
        strict: fields.boolean("strict", path)?,
        cache: read_cache(&fields, path)?,
    }))
}

/// Reads `tool_choice`, after the tools. `auto` is what models do anyway, and without tools there is
/// nothing to choose from.
pub(super) fn read_tool_choice<'a>(
    body: &Fields<'a>,
    path: &Path<'_>,
    request: &mut Request<'a>,
) -> Result<(), ConvertError> {
    let Some(fields) = body.object("tool_choice", path)? else { return Ok(()) };
    let place = path.key("tool_choice");
    let choice = match &*fields.required_text("type", &place)? {
        "auto" => None,
        "none" => Some(ToolChoice::None),
        "any" => Some(ToolChoice::Required),
        "tool" => Some(ToolChoice::Tool(fields.required_text("name", &place)?)),
        _ => {
            let problem = "must be \"auto\", \"any\", \"tool\" or \"none\"";
            return Err(place.key("type").invalid(problem));
        }
    };
    let is_alone = fields.boolean("disable_parallel_tool_use", &place)? == Some(true);
    if request.tools.is_empty() {
        return match choice {
            None | Some(ToolChoice::None) => Ok(()),
            Some(_) => Err(place.invalid("needs 'tools'")),
        };
    }
    request.tool_choice = choice.map(|choice| Named::new("tool_choice", choice));
    request.parallel_tool_calls =
        is_alone.then(|| Named::new("tool_choice.disable_parallel_tool_use", false));
    Ok(())
}
