//! Writes a request (Google, "GenerateContentRequest").

use super::super::Target;
use super::super::error::{ConvertError, Dropped};
use super::super::losses::{blocks, drop_format_description, drop_openais, has_cache_mark};
use super::super::request::{Block, Media, Named, OutputFormat, Request, ToolChoice};
use super::contents::write_contents;
use super::thinking::{Model, write_thinking};
use crate::json::writer::JsonWriter;

/// The most sequences at which a model can stop.
const MAX_STOP_SEQUENCES: usize = 5;

pub(in crate::llm::convert) fn write_request(
    request: &Request<'_>,
    target: &Target<'_>,
    dropped: &mut Dropped,
) -> Result<String, ConvertError> {
    let model = Model::new(target.model);
    drop_fields(request, dropped)?;
    let mut json = JsonWriter::new();
    json.object(|json| {
        write_contents(request, model, target.takes_call_ids, json)?;
        write_system(request, json);
        write_tools(request, json, dropped)?;
        let config = generation_config(request, model, dropped)?;
        if config != "{}" {
            json.key("generationConfig").raw(&config);
        }
        write_service_tier(request, target, json, dropped)
    })?;
    Ok(json.finish())
}

/// What Google's API has no counterpart for, and may go.
fn drop_fields(request: &Request<'_>, dropped: &mut Dropped) -> Result<(), ConvertError> {
    drop_openais(request, dropped)?;
    drop_format_description(request, dropped)?;
    if let Some(Named { field, .. }) = &request.user {
        dropped.drop(field)?;
    }
    if has_cache_mark(request) {
        dropped.drop("cache_control")?;
    }
    for block in blocks(request) {
        let Block::Media(Media { detail, .. }) = block else { continue };
        if detail.as_deref().is_some_and(|detail| detail != "auto") {
            dropped.drop("detail")?;
        }
    }
    Ok(())
}

fn write_system(request: &Request<'_>, json: &mut JsonWriter) {
    let texts: Vec<&str> =
        request.system.iter().map(|part| &*part.text).filter(|text| !text.is_empty()).collect();
    if texts.is_empty() {
        return;
    }
    json.key("systemInstruction").object(|json| {
        json.key("parts").array(|json| {
            for text in texts {
                json.object(|json| json.key("text").string(text));
            }
        });
    });
}

fn write_tools(
    request: &Request<'_>,
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    if request.tools.is_empty() {
        return match &request.tool_choice {
            None | Some(Named { value: ToolChoice::Auto | ToolChoice::None, .. }) => Ok(()),
            Some(Named { field, .. }) => Err(ConvertError::invalid(field, "needs 'tools'")),
        };
    }
    if request.tools.iter().any(|tool| tool.strict == Some(true)) {
        dropped.drop("strict")?;
    }
    if let Some(Named { field, value: false }) = &request.parallel_tool_calls {
        dropped.drop(field)?;
    }
    json.key("tools").array(|json| {
        json.object(|json| {
            json.key("functionDeclarations").array(|json| {
                for tool in &request.tools {
                    json.object(|json| {
                        json.key("name").string(&tool.name);
                        json.optional_string("description", tool.description.as_ref());
                        json.optional_raw("parametersJsonSchema", tool.parameters.as_ref());
                    });
                }
            });
        });
    });
    if let Some(Named { value, .. }) = &request.tool_choice {
        write_tool_choice(value, json);
    }
    Ok(())
}

fn write_tool_choice(choice: &ToolChoice<'_>, json: &mut JsonWriter) {
    let (mode, names) = match choice {
        ToolChoice::Auto => ("AUTO", &[][..]),
        ToolChoice::Required => ("ANY", &[][..]),
        ToolChoice::None => ("NONE", &[][..]),
        ToolChoice::Tool(name) => ("ANY", std::slice::from_ref(name)),
        ToolChoice::Allowed { names, is_required: true } => ("ANY", &names[..]),
        // AUTO takes no names; this is the same with names.
        ToolChoice::Allowed { names, is_required: false } => ("VALIDATED", &names[..]),
    };
    json.key("toolConfig").object(|json| {
        json.key("functionCallingConfig").object(|json| {
            json.key("mode").string(mode);
            if !names.is_empty() {
                json.key("allowedFunctionNames").array(|json| {
                    names.iter().for_each(|name| json.string(name));
                });
            }
        });
    });
}

fn generation_config(
    request: &Request<'_>,
    model: Model<'_>,
    dropped: &mut Dropped,
) -> Result<String, ConvertError> {
    if let Some(Named { field, .. }) = &request.top_logprobs {
        // Google has them, but they would not come back through the caller's format.
        let problem = "is not supported for this model's provider";
        return Err(ConvertError::unsupported(field, problem));
    }
    let numbers = [
        ("maxOutputTokens", &request.max_tokens),
        ("temperature", &request.temperature),
        ("topP", &request.top_p),
        ("topK", &request.top_k),
        ("seed", &request.seed),
        ("presencePenalty", &request.presence_penalty),
        ("frequencyPenalty", &request.frequency_penalty),
    ];
    // Some models refuse penalties, even those that change nothing.
    let is_neutral = |key: &str, value: &str| {
        key.ends_with("Penalty") && value.parse::<f64>().is_ok_and(|penalty| penalty == 0.0)
    };
    let mut json = JsonWriter::new();
    json.object(|json| {
        for (key, number) in numbers {
            if let Some(Named { value, .. }) = number
                && !is_neutral(key, value)
            {
                json.key(key).raw(value);
            }
        }
        if let Some(Named { field, value }) = &request.stop {
            if value.len() > MAX_STOP_SEQUENCES {
                let problem = "may hold at most 5 sequences for Google's API";
                return Err(ConvertError::unsupported(field, problem));
            }
            if !value.is_empty() {
                json.key("stopSequences").array(|json| {
                    value.iter().for_each(|stop| json.string(stop));
                });
            }
        }
        if let Some(Named { value, .. }) = &request.output_format {
            json.key("responseMimeType").string("application/json");
            if let OutputFormat::Schema { schema, .. } = value {
                json.key("responseJsonSchema").raw(schema);
            }
        }
        write_thinking(&request.reasoning, model, json, dropped)
    })?;
    Ok(json.finish())
}

/// Google's own API takes the tier in the body; Vertex does not.
fn write_service_tier(
    request: &Request<'_>,
    target: &Target<'_>,
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    let Some(Named { field, value }) = &request.service_tier else { return Ok(()) };
    match &**value {
        "auto" | "default" | "standard" | "standard_only" => {}
        "flex" | "priority" if target.takes_call_ids => json.key("serviceTier").string(value),
        _ => dropped.drop(field)?,
    }
    Ok(())
}
