//! The tools of a caller's request, and which of them is to be called.

use std::borrow::Cow;

use super::super::error::ConvertError;
use super::super::fields::{Fields, Path};
use super::super::request::{Named, Text, Tool, ToolChoice};
use super::only_openai;

pub(super) fn read_tools<'a>(
    tools: &[&'a str],
    root: &Path<'_>,
    left_out: &mut Vec<Cow<'a, str>>,
) -> Result<Vec<Tool<'a>>, ConvertError> {
    let list = root.key("tools");
    let tools = tools.iter().enumerate().map(|(index, raw)| {
        let path = list.index(index);
        let fields = Fields::parse(raw, &path)?;
        require_function(&fields, &path)?;
        let parameters = fields.get("parameters");
        if parameters.is_some_and(|raw| !raw.starts_with('{')) {
            return Err(path.key("parameters").invalid("must be an object"));
        }
        if fields.boolean("defer_loading", &path)? == Some(true) {
            let field = "tools.defer_loading";
            if !left_out.iter().any(|known| known == field) {
                left_out.push(field.into());
            }
        }
        Ok(Tool {
            name: fields.required_text("name", &path)?,
            description: fields.text("description", &path)?,
            parameters: parameters.map(Cow::Borrowed),
            strict: fields.boolean("strict", &path)?.filter(|is_strict| *is_strict),
            cache: None,
        })
    });
    tools.collect()
}

/// Reads `tool_choice`. That the model decides is no choice, nor is anything without tools that forces
/// nothing.
pub(super) fn read_tool_choice<'a>(
    body: &Fields<'a>,
    has_tools: bool,
) -> Result<Option<Named<ToolChoice<'a>>>, ConvertError> {
    let root = Path::ROOT;
    let path = root.key("tool_choice");
    let choice = match body.get("tool_choice") {
        None => return Ok(None),
        Some(raw) if raw.starts_with('"') => match &*body.required_text("tool_choice", &root)? {
            "auto" => return Ok(None),
            "none" if !has_tools => return Ok(None),
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            _ => return Err(path.invalid("must be 'auto', 'none', 'required' or an object")),
        },
        Some(raw) => read_named_choice(&Fields::parse(raw, &path)?, &path)?,
    };
    if !has_tools {
        return Err(path.invalid("needs 'tools'"));
    }
    Ok(Some(Named::new("tool_choice", choice)))
}

fn read_named_choice<'a>(
    fields: &Fields<'a>,
    path: &Path<'_>,
) -> Result<ToolChoice<'a>, ConvertError> {
    if fields.required_text("type", path)? != "allowed_tools" {
        require_function(fields, path)?;
        return Ok(ToolChoice::Tool(fields.required_text("name", path)?));
    }
    let is_required = match &*fields.required_text("mode", path)? {
        "auto" => false,
        "required" => true,
        _ => return Err(path.key("mode").invalid("must be 'auto' or 'required'")),
    };
    let list = path.key("tools");
    let names: Result<Vec<Text<'a>>, ConvertError> = fields
        .array("tools", path)?
        .into_iter()
        .enumerate()
        .map(|(index, raw)| {
            let path = list.index(index);
            let tool = Fields::parse(raw, &path)?;
            require_function(&tool, &path)?;
            tool.required_text("name", &path)
        })
        .collect();
    Ok(ToolChoice::Allowed { names: names?, is_required })
}

/// Refuses what is not of the type `function`.
fn require_function(fields: &Fields<'_>, path: &Path<'_>) -> Result<(), ConvertError> {
    match &*fields.required_text("type", path)? {
        "function" => Ok(()),
        "custom" => Err(path.key("type").unsupported(
            "is 'custom', a tool whose input is no JSON, which only OpenAI's Responses API has; \
             declare a function, or use one of OpenAI's models",
        )),
        other => Err(path.key("type").unsupported(only_openai(other, "tool"))),
    }
}
