//! A request to a provider of chats.

use super::super::Target;
use super::super::error::{ConvertError, Dropped};
use super::super::request::{
    Named, OutputFormat, Raw, ReasoningShow, ReasoningWish, Request, Text, ToolChoice,
};
use super::message_writer::{check_messages, write_messages};
use super::tools::{write_choice, write_tools};
use crate::json::writer::JsonWriter;

/// The most stop sequences (OpenAI, `stop`).
const MAX_STOPS: usize = 4;

/// The longest text that says whom a request is for, in characters (OpenAI, `safety_identifier`).
const MAX_USER: usize = 64;

/// Writes a request.
pub(in super::super) fn write_request(
    request: &Request<'_>,
    target: &Target<'_>,
    dropped: &mut Dropped,
) -> Result<String, ConvertError> {
    check(request, dropped)?;
    let has_tools = !request.tools.is_empty();
    let mut json = JsonWriter::new();
    json.object(|json| {
        json.key("model").string(target.model);
        json.key("messages");
        write_messages(json, request, target.takes_reasoning);
        if has_tools {
            json.key("tools");
            write_tools(json, &request.tools);
        }
        if let Some(choice) = request.tool_choice.as_ref().filter(|_| has_tools) {
            json.key("tool_choice");
            write_choice(json, &choice.value);
        }
        if has_tools && let Some(Named { value: false, .. }) = request.parallel_tool_calls {
            json.key("parallel_tool_calls").boolean(false);
        }
        write_sampling(json, request);
        write_output(json, request);
        write_identity(json, request);
        if request.stream {
            json.key("stream").boolean(true);
            json.key("stream_options").object(|json| json.key("include_usage").boolean(true));
        }
    });
    Ok(json.finish())
}

/// Leaves out what chats have nothing for, and refuses what would mean something else.
fn check(request: &Request<'_>, dropped: &mut Dropped) -> Result<(), ConvertError> {
    check_messages(request, dropped)?;
    if let Some(Named { field, .. }) = &request.top_logprobs {
        let problem = "is not supported for this model, since its answer is converted";
        return Err(ConvertError::unsupported(field, problem));
    }
    if let Some(stop) = request.stop.as_ref().filter(|stop| stop.value.len() > MAX_STOPS) {
        let problem = "can have at most 4 sequences for this model's provider";
        return Err(ConvertError::unsupported(stop.field, problem));
    }
    if let Some(choice) = &request.tool_choice
        && request.tools.is_empty()
        && !matches!(choice.value, ToolChoice::Auto | ToolChoice::None)
    {
        return Err(ConvertError::unsupported(choice.field, "needs tools"));
    }
    if let Some(top_k) = &request.top_k {
        dropped.drop(top_k.field)?;
    }
    if let Some(Named { field, value: ReasoningShow::Summary }) = &request.reasoning.show {
        dropped.drop(field)?;
    }
    // OpenAI takes metadata only for answers that it stores.
    if let Some(metadata) = request.metadata.as_ref().filter(|_| !is_stored(request)) {
        dropped.drop(metadata.field)?;
    }
    Ok(())
}

fn is_stored(request: &Request<'_>) -> bool {
    request.store.as_ref().is_some_and(|store| store.value)
}

fn write_number(json: &mut JsonWriter, key: &str, number: &Option<Named<Raw<'_>>>) {
    if let Some(number) = number {
        json.key(key).raw(&number.value);
    }
}

fn write_word(json: &mut JsonWriter, key: &str, word: &Option<Named<Text<'_>>>) {
    if let Some(word) = word {
        json.key(key).string(&word.value);
    }
}

fn write_sampling(json: &mut JsonWriter, request: &Request<'_>) {
    // All providers of chats know this name; the newer one is OpenAI's, whose own models with reasoning
    // need it and are asked through the Responses API.
    write_number(json, "max_tokens", &request.max_tokens);
    write_number(json, "temperature", &request.temperature);
    write_number(json, "top_p", &request.top_p);
    write_number(json, "seed", &request.seed);
    write_number(json, "presence_penalty", &request.presence_penalty);
    write_number(json, "frequency_penalty", &request.frequency_penalty);
    if let Some(stop) = request.stop.as_ref().filter(|stop| !stop.value.is_empty()) {
        json.key("stop").array(|json| stop.value.iter().for_each(|text| json.string(text)));
    }
}

fn write_output(json: &mut JsonWriter, request: &Request<'_>) {
    if let Some(effort) = request.reasoning.wish.as_ref().and_then(|wish| effort(&wish.value)) {
        json.key("reasoning_effort").string(effort);
    }
    write_word(json, "verbosity", &request.verbosity);
    match request.output_format.as_ref().map(|format| &format.value) {
        Some(OutputFormat::Json) => {
            json.key("response_format").object(|json| json.key("type").string("json_object"));
        }
        Some(OutputFormat::Schema { name, description, schema, strict }) => {
            json.key("response_format").object(|json| {
                json.key("type").string("json_schema");
                json.key("json_schema").object(|json| {
                    // OpenAI requires a name.
                    json.key("name").string(name.as_deref().unwrap_or("answer"));
                    if let Some(description) = description {
                        json.key("description").string(description);
                    }
                    json.key("schema").raw(schema);
                    if let Some(strict) = strict {
                        json.key("strict").boolean(*strict);
                    }
                });
            });
        }
        None => {}
    }
}

/// The effort for what is wished. Budgets become the effort whose usual budget is nearest below.
fn effort<'w>(wish: &'w ReasoningWish<'_>) -> Option<&'w str> {
    match wish {
        ReasoningWish::Off => Some("none"),
        ReasoningWish::Effort(effort) => Some(effort),
        ReasoningWish::Budget(..2048) => Some("low"),
        ReasoningWish::Budget(..8192) => Some("medium"),
        ReasoningWish::Budget(_) => Some("high"),
        ReasoningWish::Adaptive(effort) => effort.as_deref(),
    }
}

fn write_identity(json: &mut JsonWriter, request: &Request<'_>) {
    if let Some(user) = &request.user {
        // The older name is known to most providers.
        let key = if user.field == "safety_identifier" { user.field } else { "user" };
        json.key(key).string(&fitting_user(&user.value));
    }
    if is_stored(request) {
        json.key("store").boolean(true);
        write_number(json, "metadata", &request.metadata);
    }
    if let Some(tier) = &request.service_tier {
        // Anthropic's word for it.
        let word = if tier.value == "standard_only" { "default" } else { &*tier.value };
        json.key("service_tier").string(word);
    }
    write_word(json, "prompt_cache_key", &request.prompt_cache_key);
    write_word(json, "prompt_cache_retention", &request.prompt_cache_retention);
}

/// A text that is too long is replaced by its digest.
fn fitting_user<'u>(user: &'u str) -> std::borrow::Cow<'u, str> {
    use sha2::{Digest, Sha256};
    if user.chars().count() <= MAX_USER {
        return user.into();
    }
    let digest = Sha256::digest(user.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
