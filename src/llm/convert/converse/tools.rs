//! The tools and which of them are to be called: `toolConfig`.

use std::collections::HashSet;

use super::super::error::{ConvertError, Dropped};
use super::super::request::{Block, Named, Request, Tool, ToolChoice};
use super::content::write_cache_point;
use crate::json::writer::JsonWriter;

/// The schema of a tool without arguments.
const NO_ARGUMENTS: &str = r#"{"type":"object","properties":{}}"#;

/// Writes the member `toolConfig` if there are tools. A conversation in which tools were called needs it
/// even if the request has no tools: then it lists the names that were called.
pub(super) fn write_tools(
    request: &Request<'_>,
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    let called = called_names(request);
    let has_tools = !request.tools.is_empty();
    let choice = match &request.tool_choice {
        None => None,
        Some(Named { value: ToolChoice::Auto, .. }) if !has_tools => None,
        Some(Named { value: ToolChoice::None, .. }) if called.is_empty() => return Ok(()),
        Some(Named { field, value: ToolChoice::None }) => {
            if has_tools {
                dropped.drop(field)?;
            }
            None
        }
        Some(Named { field, .. }) if !has_tools => {
            return Err(ConvertError::invalid(field, "needs 'tools'"));
        }
        Some(Named { field, value: ToolChoice::Allowed { .. } }) => {
            let problem = "can't name several tools for Bedrock's Converse API; send only the \
                           tools that are allowed";
            return Err(ConvertError::unsupported(field, problem));
        }
        Some(Named { value, .. }) => Some(value),
    };
    if !has_tools && called.is_empty() {
        return Ok(());
    }
    if let Some(Named { field, value: false }) = &request.parallel_tool_calls
        && has_tools
    {
        dropped.drop(field)?;
    }
    json.key("toolConfig").object(|json| {
        json.key("tools").array(|json| {
            request.tools.iter().for_each(|tool| write_tool(tool, json));
            if !has_tools {
                for name in called {
                    let (name, parameters) = (name.into(), None);
                    let tool =
                        Tool { name, description: None, parameters, strict: None, cache: None };
                    write_tool(&tool, json);
                }
            }
        });
        if let Some(choice) = choice {
            json.key("toolChoice").object(|json| match choice {
                ToolChoice::Tool(name) => {
                    json.key("tool").object(|json| json.key("name").string(name));
                }
                ToolChoice::Required => json.key("any").object(|_| {}),
                _ => json.key("auto").object(|_| {}),
            });
        }
    });
    Ok(())
}

fn write_tool(tool: &Tool<'_>, json: &mut JsonWriter) {
    json.object(|json| {
        json.key("toolSpec").object(|json| {
            json.key("name").string(&tool.name);
            let description = tool.description.as_ref().filter(|text| !text.is_empty());
            json.optional_string("description", description);
            json.key("inputSchema").object(|json| {
                json.key("json").raw(tool.parameters.as_deref().unwrap_or(NO_ARGUMENTS));
            });
            if tool.strict == Some(true) {
                json.key("strict").boolean(true);
            }
        });
    });
    write_cache_point(tool.cache, json);
}

/// The names of the tools in the conversation, each once, in order.
fn called_names<'r>(request: &'r Request<'_>) -> Vec<&'r str> {
    let mut seen = HashSet::new();
    let blocks = request.turns.iter().flat_map(|turn| &turn.blocks);
    let names = blocks.filter_map(|block| match block {
        Block::ToolCall(call) => Some(&*call.name),
        Block::ToolResult(result) => result.name.as_deref(),
        _ => None,
    });
    names.filter(|name| seen.insert(*name)).collect()
}
