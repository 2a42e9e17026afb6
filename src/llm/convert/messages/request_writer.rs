//! Writes a request for Anthropic's API, and for Claude at other providers.

use super::block_writer::write_cache;
use super::claude::Claude;
use super::reasoning_writer::{Thinking, plan_thinking};
use super::turn_writer::{arrange, write_messages, write_system};
use crate::json::writer::JsonWriter;
use crate::llm::convert::Target;
use crate::llm::convert::error::{ConvertError, Dropped};
use crate::llm::convert::losses::{drop_format_description, drop_openais};
use crate::llm::convert::request::{
    Named, OutputFormat, Raw, ReasoningShow, Request, Tool, ToolChoice,
};

/// The parameters of a tool that has none; `input_schema` is required.
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

pub(in crate::llm::convert) fn write_request(
    request: &Request<'_>,
    target: &Target<'_>,
    dropped: &mut Dropped,
) -> Result<String, ConvertError> {
    drop_unknown(request, dropped)?;
    let claude = Claude::of(target.model);
    let messages = arrange(&request.turns, claude)?;
    let (thinking, max_tokens) = plan_thinking(request, target, claude, dropped)?;
    check_choice(request, &thinking)?;
    let temperature = sampling(request.temperature.as_ref(), Some(1.0))?;
    let top_p = sampling(request.top_p.as_ref(), None)?;
    let mut json = JsonWriter::new();
    json.object(|json| {
        json.key("model").string(target.model);
        json.key("max_tokens").raw(&max_tokens);
        if request.stream {
            json.key("stream").boolean(true);
        }
        write_system(&request.system, json);
        if !request.tools.is_empty() {
            json.key("tools").array(|json| request.tools.iter().for_each(|t| write_tool(t, json)));
            write_choice(request, json);
        }
        json.key("messages");
        write_messages(&messages, json, dropped)?;
        for (key, value) in [
            ("temperature", temperature),
            ("top_p", top_p),
            ("top_k", request.top_k.as_ref().map(|top_k| &top_k.value)),
        ] {
            json.optional_raw(key, value);
        }
        if let Some(stop) = request.stop.as_ref().filter(|stop| !stop.value.is_empty()) {
            let sequences = &stop.value;
            json.key("stop_sequences").array(|json| sequences.iter().for_each(|s| json.string(s)));
        }
        write_thinking(request, &thinking, json, dropped)?;
        write_output(request, &thinking, json)?;
        if let Some(user) = &request.user {
            json.key("metadata").object(|json| json.key("user_id").string(&user.value));
        }
        write_service_tier(request, json, dropped)
    })?;
    Ok(json.finish())
}

/// Leaves out what the API has not, and does not change what the answer means.
fn drop_unknown(request: &Request<'_>, dropped: &mut Dropped) -> Result<(), ConvertError> {
    let is_zero = |raw: &Raw<'_>| raw.parse::<f64>().is_ok_and(|number| number == 0.0);
    let penalties = [&request.presence_penalty, &request.frequency_penalty];
    let penalties = penalties.map(|one| one.as_ref().filter(|one| !is_zero(&one.value)));
    for field in [
        request.seed.as_ref().map(|one| one.field),
        penalties[0].map(|one| one.field),
        penalties[1].map(|one| one.field),
    ]
    .into_iter()
    .flatten()
    {
        dropped.drop(field)?;
    }
    drop_openais(request, dropped)?;
    drop_format_description(request, dropped)?;
    match &request.top_logprobs {
        Some(one) => {
            let problem = "is not supported by Anthropic's API, which gives no log probabilities";
            Err(ConvertError::unsupported(one.field, problem))
        }
        None => Ok(()),
    }
}

/// A number that is sent, if it is not 1, as which it has no effect: models refuse some of these.
fn sampling<'r, 'a>(
    value: Option<&'r Named<Raw<'a>>>,
    most: Option<f64>,
) -> Result<Option<&'r Raw<'a>>, ConvertError> {
    let Some(Named { field, value }) = value else { return Ok(None) };
    let number = value.parse::<f64>().unwrap_or(0.0);
    if most.is_some_and(|most| number > most) {
        return Err(ConvertError::unsupported(field, "must be at most 1 for Anthropic's API"));
    }
    Ok((number != 1.0).then_some(value))
}

fn write_tool(tool: &Tool<'_>, json: &mut JsonWriter) {
    json.object(|json| {
        json.key("name").string(&tool.name);
        json.optional_string("description", tool.description.as_ref());
        json.key("input_schema").raw(tool.parameters.as_deref().unwrap_or(NO_PARAMETERS));
        if tool.strict == Some(true) {
            json.key("strict").boolean(true);
        }
        write_cache(tool.cache, json);
    });
}

/// What the API refuses of `tool_choice`.
fn check_choice(request: &Request<'_>, thinking: &Thinking<'_>) -> Result<(), ConvertError> {
    let Some(Named { field, value }) = &request.tool_choice else { return Ok(()) };
    let is_forced = match value {
        ToolChoice::Auto | ToolChoice::None => return Ok(()),
        ToolChoice::Required | ToolChoice::Tool(_) => true,
        ToolChoice::Allowed { .. } => false,
    };
    let problem = if request.tools.is_empty() {
        "needs tools"
    } else if !is_forced {
        "can't name several tools for Anthropic's API; send those tools alone"
    } else if matches!(thinking, Thinking::Budget(_)) {
        // Adaptive thinking goes with it: the API has answered such requests.
        "can't force a tool while this model thinks; leave it out, or turn reasoning off"
    } else {
        return Ok(());
    };
    Err(ConvertError::unsupported(field, problem))
}

/// Writes `tool_choice`, which also says whether several tools may be called at once.
fn write_choice(request: &Request<'_>, json: &mut JsonWriter) {
    let choice = request.tool_choice.as_ref().map(|choice| &choice.value);
    let is_alone = request.parallel_tool_calls.as_ref().is_some_and(|parallel| !parallel.value);
    let (kind, name) = match choice {
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Tool(name)) => ("tool", Some(name)),
        _ if is_alone => ("auto", None),
        _ => return,
    };
    json.key("tool_choice").object(|json| {
        json.key("type").string(kind);
        json.optional_string("name", name);
        if is_alone && kind != "none" {
            json.key("disable_parallel_tool_use").boolean(true);
        }
    });
}

fn write_thinking(
    request: &Request<'_>,
    thinking: &Thinking<'_>,
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    let show = request.reasoning.show.as_ref().map(|show| show.value);
    let (kind, budget) = match (thinking, &request.reasoning.show) {
        // Only a model that thinks can show it.
        (Thinking::Unspecified, Some(show)) => return dropped.drop(show.field),
        (Thinking::Unspecified, None) => return Ok(()),
        (Thinking::Off, _) => ("disabled", None),
        (Thinking::Budget(budget), _) => ("enabled", Some(*budget)),
        (Thinking::Adaptive(_), _) => ("adaptive", None),
    };
    json.key("thinking").object(|json| {
        json.key("type").string(kind);
        if let Some(budget) = budget {
            json.key("budget_tokens").number(budget);
        }
        match show {
            Some(ReasoningShow::Omit) if kind != "disabled" => {
                json.key("display").string("omitted");
            }
            // Models that take a budget alone show their thoughts anyway.
            Some(ReasoningShow::Summary) if kind == "adaptive" => {
                json.key("display").string("summarized");
            }
            _ => {}
        }
    });
    Ok(())
}

/// Writes `output_config`: the effort and the format of the answer.
fn write_output(
    request: &Request<'_>,
    thinking: &Thinking<'_>,
    json: &mut JsonWriter,
) -> Result<(), ConvertError> {
    let schema = match &request.output_format {
        Some(Named { value: OutputFormat::Schema { schema, .. }, .. }) => Some(schema),
        Some(Named { field, value: OutputFormat::Json }) => {
            let problem = "can't ask Anthropic's API for JSON without a schema; send a JSON schema";
            return Err(ConvertError::unsupported(field, problem));
        }
        None => None,
    };
    let effort = match thinking {
        Thinking::Adaptive(effort) => *effort,
        _ => None,
    };
    if schema.is_none() && effort.is_none() {
        return Ok(());
    }
    json.key("output_config").object(|json| {
        json.optional_string("effort", effort);
        if let Some(schema) = schema {
            json.key("format").object(|json| {
                json.key("type").string("json_schema");
                json.key("schema").raw(schema);
            });
        }
    });
    Ok(())
}

/// `auto` is the default of both.
fn write_service_tier(
    request: &Request<'_>,
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    match &request.service_tier {
        Some(tier) if tier.value == "default" => json.key("service_tier").string("standard_only"),
        Some(tier) if tier.value != "auto" => dropped.drop(tier.field)?,
        _ => {}
    }
    Ok(())
}
