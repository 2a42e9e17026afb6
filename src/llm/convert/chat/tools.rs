//! Tools, and which of them the model is to call.

use super::super::error::ConvertError;
use super::super::fields::{Fields, Path, array, text};
use super::super::request::{Text, Tool, ToolChoice};
use super::part_reader::cache_mark;
use crate::json::writer::JsonWriter;

const OTHER_KIND: &str =
    "is not supported by this model's provider; only tools of type 'function' are";

pub(super) fn read_tools<'a>(raw: &'a str, path: &Path<'_>) -> Result<Vec<Tool<'a>>, ConvertError> {
    let tools = array(raw, path)?.into_iter().enumerate();
    tools.map(|(index, raw)| read_tool(raw, &path.index(index))).collect()
}

fn read_tool<'a>(raw: &'a str, path: &Path<'_>) -> Result<Tool<'a>, ConvertError> {
    let fields = Fields::parse(raw, path)?;
    if fields.required_text("type", path)? != "function" {
        return Err(path.key("type").unsupported(OTHER_KIND));
    }
    let path = path.key("function");
    let function = function(&fields, &path)?;
    Ok(Tool {
        name: function.required_text("name", &path)?,
        description: function.text("description", &path)?,
        parameters: match function.object("parameters", &path)? {
            Some(_) => function.get("parameters").map(Into::into),
            None => None,
        },
        strict: function.boolean("strict", &path)?,
        cache: cache_mark(&fields, &path)?,
    })
}

fn function<'a>(fields: &Fields<'a>, path: &Path<'_>) -> Result<Fields<'a>, ConvertError> {
    let raw = fields.get("function").ok_or_else(|| path.invalid("is required"))?;
    Fields::parse(raw, path)
}

pub(super) fn read_choice<'a>(
    raw: &'a str,
    path: &Path<'_>,
) -> Result<ToolChoice<'a>, ConvertError> {
    let unknown = "must be 'auto', 'none', 'required' or an object that names a function";
    if raw.starts_with('"') {
        return match &*text(raw, path)? {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => Err(path.invalid(unknown)),
        };
    }
    let fields = Fields::parse(raw, path).map_err(|_| path.invalid(unknown))?;
    match &*fields.required_text("type", path)? {
        "function" => read_name(&fields, path).map(ToolChoice::Tool),
        "allowed_tools" => {
            let path = path.key("allowed_tools");
            let raw = fields.get("allowed_tools").ok_or_else(|| path.invalid("is required"))?;
            let allowed = Fields::parse(raw, &path)?;
            let is_required = match &*allowed.required_text("mode", &path)? {
                "auto" => false,
                "required" => true,
                _ => return Err(path.key("mode").invalid("must be 'auto' or 'required'")),
            };
            let list = path.key("tools");
            let tools = allowed.array("tools", &path)?.into_iter().enumerate();
            let names = tools.map(|(index, raw)| {
                let path = list.index(index);
                let tool = Fields::parse(raw, &path)?;
                if tool.required_text("type", &path)? != "function" {
                    return Err(path.key("type").unsupported(OTHER_KIND));
                }
                read_name(&tool, &path)
            });
            Ok(ToolChoice::Allowed { names: names.collect::<Result<_, _>>()?, is_required })
        }
        _ => Err(path.key("type").unsupported(OTHER_KIND)),
    }
}

fn read_name<'a>(fields: &Fields<'a>, path: &Path<'_>) -> Result<Text<'a>, ConvertError> {
    let path = path.key("function");
    function(fields, &path)?.required_text("name", &path)
}

pub(super) fn write_tools(json: &mut JsonWriter, tools: &[Tool<'_>]) {
    json.array(|json| {
        for tool in tools {
            json.object(|json| {
                json.key("type").string("function");
                json.key("function").object(|json| {
                    json.key("name").string(&tool.name);
                    json.optional_string("description", tool.description.as_ref());
                    json.optional_raw("parameters", tool.parameters.as_ref());
                    json.optional_boolean("strict", tool.strict);
                });
            });
        }
    });
}

pub(super) fn write_choice(json: &mut JsonWriter, choice: &ToolChoice<'_>) {
    match choice {
        ToolChoice::Auto => json.string("auto"),
        ToolChoice::None => json.string("none"),
        ToolChoice::Required => json.string("required"),
        ToolChoice::Tool(name) => write_function(json, name),
        ToolChoice::Allowed { names, is_required } => json.object(|json| {
            json.key("type").string("allowed_tools");
            json.key("allowed_tools").object(|json| {
                json.key("mode").string(if *is_required { "required" } else { "auto" });
                json.key("tools").array(|json| {
                    for name in names {
                        write_function(json, name);
                    }
                });
            });
        }),
    }
}

fn write_function(json: &mut JsonWriter, name: &str) {
    json.object(|json| {
        json.key("type").string("function");
        json.key("function").object(|json| json.key("name").string(name));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_read_and_written_alike() {
        let json = r#"[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object", "z":1.0,"a":1e400},"strict":true}},{"type":"function","function":{"name":"g"}}]"#;
        let tools = read_tools(json, &Path::ROOT).unwrap();
        assert_eq!(tools[0].parameters.as_deref(), Some(r#"{"type":"object", "z":1.0,"a":1e400}"#));
        assert_eq!((tools[1].strict, tools[1].parameters.is_none()), (None, true));
        let mut written = JsonWriter::new();
        write_tools(&mut written, &tools);
        assert_eq!(written.finish(), json);
    }

    #[test]
    fn choices_are_read_and_written_alike() {
        for json in [
            r#""auto""#,
            r#""none""#,
            r#""required""#,
            r#"{"type":"function","function":{"name":"f"}}"#,
            r#"{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"f"}}]}}"#,
        ] {
            let choice = read_choice(json, &Path::ROOT).unwrap();
            let mut written = JsonWriter::new();
            write_choice(&mut written, &choice);
            assert_eq!(written.finish(), json);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let tools = Path::ROOT.key("tools");
        for (json, expected) in [
            ("{}", "tools"),
            (r#"[{"type":"custom","custom":{"name":"f"}}]"#, "tools[0].type"),
            (r#"[{"type":"function"}]"#, "tools[0].function"),
            (r#"[{"type":"function","function":{}}]"#, "tools[0].function.name"),
            (
                r#"[{"type":"function","function":{"name":"f","parameters":[]}}]"#,
                "tools[0].function.parameters",
            ),
        ] {
            assert_eq!(read_tools(json, &tools).unwrap_err().field(), expected);
        }
        let choice = Path::ROOT.key("tool_choice");
        for (json, expected) in [
            (r#""any""#, "tool_choice"),
            ("3", "tool_choice"),
            (r#"{"type":"custom","custom":{"name":"f"}}"#, "tool_choice.type"),
            (r#"{"type":"function"}"#, "tool_choice.function"),
            (
                r#"{"type":"allowed_tools","allowed_tools":{"mode":"x"}}"#,
                "tool_choice.allowed_tools.mode",
            ),
        ] {
            assert_eq!(read_choice(json, &choice).unwrap_err().field(), expected);
        }
    }
}
