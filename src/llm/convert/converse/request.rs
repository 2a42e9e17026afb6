//! Writes a request (AWS, "Converse").

use super::super::Target;
use super::super::error::{ConvertError, Dropped};
use super::super::losses::drop_openais;
use super::super::request::{Named, OutputFormat, Raw, Request};
use super::content::write_cache_point;
use super::extras::Extras;
use super::messages::write_messages;
use super::tools::write_tools;
use crate::json::writer::JsonWriter;

pub(in crate::llm::convert) fn write_request(
    request: &Request<'_>,
    target: &Target<'_>,
    dropped: &mut Dropped,
) -> Result<String, ConvertError> {
    drop_fields(request, dropped)?;
    let extras = Extras::plan(request, target.model, dropped)?;
    let mut json = JsonWriter::new();
    json.object(|json| {
        write_messages(request, json, dropped)?;
        write_system(request, json);
        write_inference_config(request, &extras, json, dropped)?;
        write_tools(request, json, dropped)?;
        write_output_format(request, json)?;
        extras.write(json);
        write_service_tier(request, json, dropped)
    })?;
    Ok(json.finish())
}

/// What Converse has no counterpart for: an error where the answer would mean something else.
fn drop_fields(request: &Request<'_>, dropped: &mut Dropped) -> Result<(), ConvertError> {
    if let Some(Named { field, .. }) = &request.top_logprobs {
        let problem = "is not supported by Bedrock's Converse API";
        return Err(ConvertError::unsupported(field, problem));
    }
    drop_openais(request, dropped)?;
    for Named { field, .. } in [&request.user, &request.seed].into_iter().flatten() {
        dropped.drop(field)?;
    }
    let penalties = [&request.presence_penalty, &request.frequency_penalty];
    for Named { field, value } in penalties.into_iter().flatten() {
        if number(value) != Some(0.0) {
            dropped.drop(field)?;
        }
    }
    Ok(())
}

/// A number, for comparing.
fn number(raw: &Raw<'_>) -> Option<f64> {
    raw.parse().ok()
}

fn write_system(request: &Request<'_>, json: &mut JsonWriter) {
    if request.system.iter().all(|part| part.text.is_empty()) {
        return;
    }
    json.key("system").array(|json| {
        for part in request.system.iter().filter(|part| !part.text.is_empty()) {
            json.object(|json| json.key("text").string(&part.text));
            write_cache_point(part.cache, json);
        }
    });
}

fn write_inference_config(
    request: &Request<'_>,
    extras: &Extras<'_>,
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    if let Some(Named { field, value }) = &request.temperature
        && number(value).is_some_and(|temperature| temperature > 1.0)
    {
        let problem = "must be at most 1 for Bedrock's Converse API";
        return Err(ConvertError::unsupported(field, problem));
    }
    let mut numbers = vec![("maxTokens", &request.max_tokens)];
    for (key, sampling) in [("temperature", &request.temperature), ("topP", &request.top_p)] {
        match sampling {
            Some(Named { field, value }) if !extras.takes_sampling() => {
                if number(value) != Some(1.0) {
                    dropped.drop(field)?;
                }
            }
            _ => numbers.push((key, sampling)),
        }
    }
    let stop = request.stop.as_ref().map(|stop| &stop.value[..]).unwrap_or_default();
    if stop.is_empty() && numbers.iter().all(|(_, number)| number.is_none()) {
        return Ok(());
    }
    json.key("inferenceConfig").object(|json| {
        for (key, number) in numbers {
            json.optional_raw(key, number.as_ref().map(|number| &number.value));
        }
        if !stop.is_empty() {
            json.key("stopSequences").array(|json| {
                stop.iter().for_each(|sequence| json.string(sequence));
            });
        }
    });
    Ok(())
}

/// The schema is a string in Converse (AWS, `JsonSchemaDefinition`).
fn write_output_format(request: &Request<'_>, json: &mut JsonWriter) -> Result<(), ConvertError> {
    let Some(Named { field, value }) = &request.output_format else { return Ok(()) };
    let OutputFormat::Schema { name, description, schema, .. } = value else {
        let problem = "has no counterpart in Bedrock's Converse API; give a JSON schema";
        return Err(ConvertError::unsupported(field, problem));
    };
    json.key("outputConfig").object(|json| {
        json.key("textFormat").object(|json| {
            json.key("type").string("json_schema");
            json.key("structure").object(|json| {
                json.key("jsonSchema").object(|json| {
                    json.key("schema").string(schema);
                    json.optional_string("name", name.as_ref());
                    json.optional_string("description", description.as_ref());
                });
            });
        });
    });
    Ok(())
}

fn write_service_tier(
    request: &Request<'_>,
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    let Some(Named { field, value }) = &request.service_tier else { return Ok(()) };
    match &**value {
        "auto" | "default" | "standard_only" => {}
        "flex" | "priority" => json.key("serviceTier").object(|json| {
            json.key("type").string(value);
        }),
        _ => dropped.drop(field)?,
    }
    Ok(())
}
