//! A caller's request.

use std::borrow::Cow;

use super::super::error::ConvertError;
use super::super::fields::{Fields, Path, array, parse_text, text};
use super::super::request::{
    Named, OutputFormat, ReasoningShow, ReasoningWish, Request, SystemPart,
};
use super::input::read_input;
use super::tools::{read_tool_choice, read_tools};

/// Why nothing that is stored goes to other formats.
const STATE: &str = "needs a model whose provider speaks the Responses API, since only such a provider stores responses; \
     send the whole conversation in 'input'";
const RESPONSES_ONLY: &str = "needs a model whose provider speaks the Responses API; leave it out";

pub(in crate::llm::convert) fn read_request(json: &str) -> Result<Request<'_>, ConvertError> {
    let root = Path::ROOT;
    let body = Fields::parse(json, &root)?;
    let mut request = Request { include_usage: true, ..Request::default() };
    request.model = body.required_text("model", &root)?;
    request.stream = body.boolean("stream", &root)?.unwrap_or(false);
    if let Some(instructions) =
        body.text("instructions", &root)?.filter(|instructions| !instructions.is_empty())
    {
        request.system.push(SystemPart { is_developer: false, text: instructions, cache: None });
    }
    for (key, raw) in body.iter() {
        read_member(key, raw, &body, &mut request)?;
    }
    // References to stored state are reported first: without them there may be no input.
    let input = body.get("input").ok_or_else(|| root.key("input").invalid("is required"))?;
    read_input(input, &root.key("input"), &mut request)?;
    request.tools = read_tools(&body.array("tools", &root)?, &root, &mut request.left_out)?;
    request.tool_choice = read_tool_choice(&body, !request.tools.is_empty())?;
    Ok(request)
}

/// Reads what needs no other member.
fn read_member<'a>(
    key: &str,
    raw: &'a str,
    body: &Fields<'a>,
    request: &mut Request<'a>,
) -> Result<(), ConvertError> {
    let root = Path::ROOT;
    let path = root.key(key);
    let number = |field: &'static str, neutral: f64| {
        let number = body.number(field, &root)?.filter(|raw| !is_number(raw, neutral));
        Ok::<_, ConvertError>(number.map(|raw| Named::new(field, raw)))
    };
    let word = |field: &'static str| {
        let word = body.text(field, &root)?.filter(|word| !word.is_empty());
        Ok::<_, ConvertError>(word.map(|word| Named::new(field, word)))
    };
    match key {
        "model" | "stream" | "instructions" | "input" | "tools" | "tool_choice" => {}
        "previous_response_id" | "conversation" | "prompt" => return Err(path.unsupported(STATE)),
        "store" | "background" if body.boolean(key, &root)? == Some(true) => {
            return Err(path.unsupported(STATE));
        }
        // What is translated is not stored.
        "store" | "background" => {}
        "truncation" if text(raw, &path)? == "disabled" => {}
        "context_management" if array(raw, &path)?.is_empty() => {}
        "top_logprobs" if is_number(raw, 0.0) => {}
        "truncation" | "context_management" | "max_tool_calls" | "moderation" | "top_logprobs" => {
            return Err(path.unsupported(RESPONSES_ONLY));
        }
        "include" => read_include(raw, &path, request)?,
        "stream_options" => {
            if body.object(key, &root)?.is_some_and(|options| {
                options.iter().any(|(key, raw)| (key, raw) != ("include_obfuscation", "false"))
            }) {
                request.left_out.push(key.to_owned().into());
            }
        }
        "reasoning" => read_reasoning(&Fields::parse(raw, &path)?, &path, request)?,
        "text" => read_text(&Fields::parse(raw, &path)?, &path, request)?,
        "parallel_tool_calls" => {
            // That several may be called is the default everywhere.
            let parallel = body.boolean(key, &root)?.filter(|may| !may);
            request.parallel_tool_calls =
                parallel.map(|may| Named::new("parallel_tool_calls", may));
        }
        "max_output_tokens" => {
            let most = body.limit(key, &root)?;
            request.max_tokens = most.map(|raw| Named::new("max_output_tokens", raw));
        }
        "temperature" => request.temperature = number("temperature", 1.0)?,
        "top_p" => request.top_p = number("top_p", 1.0)?,
        // Not of OpenAI's API, but its answers have them, and compatible servers take them.
        "presence_penalty" => request.presence_penalty = number("presence_penalty", 0.0)?,
        "frequency_penalty" => request.frequency_penalty = number("frequency_penalty", 0.0)?,
        "safety_identifier" => request.user = word("safety_identifier")?.or(request.user.take()),
        "user" if body.get("safety_identifier").is_none() => request.user = word("user")?,
        "metadata" => {
            let pairs = Fields::parse(raw, &path)?;
            if pairs.iter().next().is_some() {
                request.metadata = Some(Named::new("metadata", Cow::Borrowed(raw)));
            }
        }
        "service_tier" => {
            request.service_tier = word("service_tier")?.filter(|tier| tier.value != "auto");
        }
        "prompt_cache_key" => request.prompt_cache_key = word("prompt_cache_key")?,
        "prompt_cache_retention" => {
            request.prompt_cache_retention = word("prompt_cache_retention")?;
        }
        unknown => request.left_out.push(unknown.to_owned().into()),
    }
    Ok(())
}

/// Reads what the answer is to include: encrypted reasoning always is.
fn read_include(raw: &str, path: &Path<'_>, request: &mut Request<'_>) -> Result<(), ConvertError> {
    for (index, raw) in array(raw, path)?.into_iter().enumerate() {
        let path = path.index(index);
        match &*text(raw, &path)? {
            "reasoning.encrypted_content" => {}
            "message.output_text.logprobs" => return Err(path.unsupported(RESPONSES_ONLY)),
            _ if request.left_out.iter().any(|field| field == "include") => {}
            _ => request.left_out.push("include".into()),
        }
    }
    Ok(())
}

fn read_reasoning<'a>(
    fields: &Fields<'a>,
    path: &Path<'_>,
    request: &mut Request<'a>,
) -> Result<(), ConvertError> {
    let wish = fields.text("effort", path)?.map(|effort| match &*effort {
        "none" => ReasoningWish::Off,
        _ => ReasoningWish::Effort(effort),
    });
    request.reasoning.wish = wish.map(|wish| Named::new("reasoning.effort", wish));
    // `generate_summary` is the old name.
    for (key, field) in
        [("generate_summary", "reasoning.generate_summary"), ("summary", "reasoning.summary")]
    {
        if fields.text(key, path)?.is_some() {
            request.reasoning.show = Some(Named::new(field, ReasoningShow::Summary));
        }
    }
    for (key, raw) in fields.iter() {
        let is_neutral = matches!(
            (key, parse_text(raw).as_deref()),
            ("effort" | "summary" | "generate_summary", _)
                | ("context", Some("auto" | "current_turn"))
                | ("mode", Some("standard"))
        );
        if !is_neutral {
            request.left_out.push(path.key(key).to_string().into());
        }
    }
    Ok(())
}

fn read_text<'a>(
    fields: &Fields<'a>,
    path: &Path<'_>,
    request: &mut Request<'a>,
) -> Result<(), ConvertError> {
    for (key, raw) in fields.iter() {
        let place = path.key(key);
        match key {
            "format" => {
                let format = read_format(raw, &place)?;
                request.output_format = format.map(|format| Named::new("text.format", format));
            }
            "verbosity" => {
                let verbosity = Some(text(raw, &place)?).filter(|word| word != "medium");
                request.verbosity = verbosity.map(|word| Named::new("text.verbosity", word));
            }
            _ => request.left_out.push(place.to_string().into()),
        }
    }
    Ok(())
}

fn read_format<'a>(
    raw: &'a str,
    path: &Path<'_>,
) -> Result<Option<OutputFormat<'a>>, ConvertError> {
    let fields = Fields::parse(raw, path)?;
    match &*fields.required_text("type", path)? {
        "text" => Ok(None),
        "json_object" => Ok(Some(OutputFormat::Json)),
        "json_schema" => {
            let schema = fields.get("schema").filter(|raw| raw.starts_with('{'));
            Ok(Some(OutputFormat::Schema {
                name: Some(fields.required_text("name", path)?),
                description: fields.text("description", path)?,
                schema: schema
                    .ok_or_else(|| path.key("schema").invalid("must be an object"))?
                    .into(),
                strict: fields.boolean("strict", path)?.filter(|is_strict| *is_strict),
            }))
        }
        _ => Err(path.key("type").unsupported(RESPONSES_ONLY)),
    }
}

fn is_number(raw: &str, number: f64) -> bool {
    raw.parse::<f64>().is_ok_and(|value| value == number)
}
