//! A request for a provider that speaks the Responses API.
//!
//! Nothing is stored there, so that the conversation is whole in every request, and the state of the
//! reasoning comes back encrypted.

use super::super::Target;
use super::super::error::{ConvertError, Dropped};
use super::super::ids::fitting_user;
use super::super::request::{
    Named, OutputFormat, Reasoning, ReasoningShow, Request, SystemPart, Text, Tool, ToolChoice,
};
use super::item_writer::ItemWriter;
use crate::json::writer::JsonWriter;

/// Named where a format asks for a name and the caller gave none.
const SCHEMA_NAME: &str = "response";

pub(in crate::llm::convert) fn write_request(
    request: &Request<'_>,
    target: &Target<'_>,
    dropped: &mut Dropped,
) -> Result<String, ConvertError> {
    refuse_or_drop(request, dropped)?;
    let instructions = match &request.system[..] {
        // The provider wants some input.
        _ if request.turns.is_empty() => None,
        [SystemPart { text, cache, .. }] if cache.is_none() || !target.takes_cache_breakpoints => {
            if cache.is_some() {
                dropped.drop("cache_control")?;
            }
            Some(text)
        }
        _ => None,
    };
    let mut items = ItemWriter::new(target, dropped);
    if instructions.is_none() {
        items.write_system(&request.system)?;
    }
    for turn in &request.turns {
        items.write_turn(turn)?;
    }
    let input = items.finish();

    let mut json = JsonWriter::new();
    json.object(|json| {
        json.key("model").string(target.model);
        json.optional_string("instructions", instructions);
        json.key("input").raw(&input);
        write_tools(request, json);
        write_reasoning(&request.reasoning, json);
        write_text(request, json);
        for (key, number) in [
            ("max_output_tokens", &request.max_tokens),
            ("temperature", &request.temperature),
            ("top_p", &request.top_p),
            ("metadata", &request.metadata),
        ] {
            json.optional_raw(key, number.as_ref().map(|number| &number.value));
        }
        write_words(request, json);
        json.key("store").boolean(false);
        json.key("include").array(|json| json.string("reasoning.encrypted_content"));
        if request.stream {
            json.key("stream").boolean(true);
        }
    });
    Ok(json.finish())
}

/// What the Responses API has not.
fn refuse_or_drop(request: &Request<'_>, dropped: &mut Dropped) -> Result<(), ConvertError> {
    if let Some(stop) = request.stop.as_ref().filter(|stop| !stop.value.is_empty()) {
        let problem =
            "is not supported by OpenAI's Responses API, which this model is called through";
        return Err(ConvertError::unsupported(stop.field, problem));
    }
    if let Some(logprobs) = &request.top_logprobs {
        let problem = "can't be answered in another format than the provider's";
        return Err(ConvertError::unsupported(logprobs.field, problem));
    }
    let left_out =
        [&request.top_k, &request.seed, &request.presence_penalty, &request.frequency_penalty];
    for field in left_out.into_iter().flatten() {
        dropped.drop(field.field)?;
    }
    if let Some(Named { field, value: true }) = &request.store {
        dropped.drop(field)?;
    }
    if request.tools.iter().any(|tool| tool.cache.is_some()) {
        dropped.drop("cache_control")?;
    }
    Ok(())
}

fn write_tools(request: &Request<'_>, json: &mut JsonWriter) {
    let choice = request.tool_choice.as_ref().map(|choice| &choice.value);
    if request.tools.is_empty() {
        // The provider refuses a choice without tools, unless it forces nothing: then it says nothing.
        if !matches!(choice, None | Some(ToolChoice::Auto | ToolChoice::None)) {
            write_choice(choice, json);
        }
        return;
    }
    json.key("tools").array(|json| {
        for tool in &request.tools {
            write_tool(tool, json);
        }
    });
    write_choice(choice, json);
    let parallel = request.parallel_tool_calls.as_ref().map(|parallel| parallel.value);
    json.optional_boolean("parallel_tool_calls", parallel);
}

fn write_tool(tool: &Tool<'_>, json: &mut JsonWriter) {
    json.object(|json| {
        json.key("type").string("function");
        json.key("name").string(&tool.name);
        json.optional_string("description", tool.description.as_ref());
        json.key("parameters").raw(tool.parameters.as_deref().unwrap_or("null"));
        // Without it the provider takes the schema for a strict one.
        json.key("strict").boolean(tool.strict.unwrap_or(false));
    });
}

fn write_choice(choice: Option<&ToolChoice<'_>>, json: &mut JsonWriter) {
    let function = |name: &Text<'_>, json: &mut JsonWriter| {
        json.object(|json| {
            json.key("type").string("function");
            json.key("name").string(name);
        });
    };
    let word = match choice {
        None => return,
        Some(ToolChoice::Auto) => "auto",
        Some(ToolChoice::Required) => "required",
        Some(ToolChoice::None) => "none",
        Some(ToolChoice::Tool(name)) => return function(name, json.key("tool_choice")),
        Some(ToolChoice::Allowed { names, is_required }) => {
            return json.key("tool_choice").object(|json| {
                json.key("type").string("allowed_tools");
                json.key("mode").string(if *is_required { "required" } else { "auto" });
                json.key("tools").array(|json| names.iter().for_each(|name| function(name, json)));
            });
        }
    };
    json.key("tool_choice").string(word);
}

fn write_reasoning(reasoning: &Reasoning<'_>, json: &mut JsonWriter) {
    let effort = reasoning.wish.as_ref().and_then(|wish| wish.value.effort());
    let is_shown = reasoning.show.as_ref().is_some_and(|show| show.value == ReasoningShow::Summary);
    if effort.is_none() && !is_shown {
        return;
    }
    json.key("reasoning").object(|json| {
        json.optional_string("effort", effort);
        if is_shown {
            json.key("summary").string("auto");
        }
    });
}

fn write_text(request: &Request<'_>, json: &mut JsonWriter) {
    if request.output_format.is_none() && request.verbosity.is_none() {
        return;
    }
    json.key("text").object(|json| {
        match request.output_format.as_ref().map(|format| &format.value) {
            None => {}
            Some(OutputFormat::Json) => json.key("format").object(|json| {
                json.key("type").string("json_object");
            }),
            Some(OutputFormat::Schema { name, description, schema, strict }) => {
                json.key("format").object(|json| {
                    json.key("type").string("json_schema");
                    json.key("name").string(name.as_deref().unwrap_or(SCHEMA_NAME));
                    json.optional_string("description", description.as_ref());
                    json.key("schema").raw(schema);
                    json.optional_boolean("strict", *strict);
                });
            }
        }
        json.optional_string("verbosity", request.verbosity.as_ref().map(|word| &word.value));
    });
}

fn write_words(request: &Request<'_>, json: &mut JsonWriter) {
    if let Some(user) = &request.user {
        let key = if user.field == "user" { "user" } else { "safety_identifier" };
        json.key(key).string(&fitting_user(&user.value));
    }
    let tier = request.service_tier.as_ref().map(|tier| match &*tier.value {
        // Anthropic's word for it.
        "standard_only" => "default",
        other => other,
    });
    for (key, word) in [
        ("service_tier", tier.filter(|tier| *tier != "auto")),
        ("prompt_cache_key", request.prompt_cache_key.as_ref().map(|key| &*key.value)),
        ("prompt_cache_retention", request.prompt_cache_retention.as_ref().map(|one| &*one.value)),
    ] {
        json.optional_string(key, word);
    }
}
