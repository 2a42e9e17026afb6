//! A request to a provider of chats.

use super::super::Target;
use super::super::error::{ConvertError, Dropped};
use super::super::ids::fitting_user;
use super::super::request::{Named, OutputFormat, Raw, Request, Text, ToolChoice};
use super::message_writer::{check_messages, write_messages};
use super::tools::{write_choice, write_tools};
use crate::json::writer::JsonWriter;

/// The most stop sequences (OpenAI, `stop`).
const MAX_STOPS: usize = 4;

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
        write_messages(json, request, target.reasoning);
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
    if let Some(Named { field, .. }) = &request.reasoning.show {
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
    json.optional_raw(key, number.as_ref().map(|number| &number.value));
}

fn write_word(json: &mut JsonWriter, key: &str, word: &Option<Named<Text<'_>>>) {
    json.optional_string(key, word.as_ref().map(|word| &word.value));
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
    let wish = request.reasoning.wish.as_ref();
    json.optional_string("reasoning_effort", wish.and_then(|wish| wish.value.effort()));
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
                    json.optional_string("description", description.as_ref());
                    json.key("schema").raw(schema);
                    json.optional_boolean("strict", *strict);
                });
            });
        }
        None => {}
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

#[cfg(test)]
mod tests {
    use super::super::super::request::ReasoningWish;
    use super::super::super::sample_blocks::{text, tool, user};
    use super::*;

    const TARGET: Target<'_> = Target::new("up/model", 8192);

    /// A request with one message.
    fn request<'a>() -> Request<'a> {
        let turns = vec![user(vec![text("hi")])];
        Request { model: "theirs".into(), turns, ..Request::default() }
    }

    /// What is written after the messages, and what is left out.
    fn written(request: &Request<'_>) -> Result<(String, Vec<String>), ConvertError> {
        let mut dropped = Dropped::new(false);
        let json = write_request(request, &TARGET, &mut dropped)?;
        let start = r#"{"model":"up/model","messages":[{"role":"user","content":"hi"}]"#;
        let rest = json.strip_prefix(start).and_then(|rest| rest.strip_suffix('}'));
        let rest = rest.unwrap_or_else(|| panic!("{json}"));
        Ok((rest.trim_start_matches(',').to_owned(), dropped.fields().to_vec()))
    }

    #[test]
    fn parameters_are_written_raw() {
        let number = |field, raw: &'static str| Some(Named::new(field, Raw::from(raw)));
        let word = |field, text: &'static str| Some(Named::new(field, Text::from(text)));
        let request = Request {
            stream: true,
            max_tokens: number("max_output_tokens", "50"),
            temperature: number("temperature", "0.70"),
            top_p: number("top_p", "1e-1"),
            seed: number("seed", "12345678901234567890"),
            presence_penalty: number("presence_penalty", "-1.0"),
            frequency_penalty: number("frequency_penalty", "2"),
            stop: Some(Named::new("stop_sequences", vec!["a".into(), "b\"".into()])),
            verbosity: word("text.verbosity", "low"),
            user: word("metadata.user_id", "u"),
            service_tier: word("service_tier", "standard_only"),
            prompt_cache_key: word("prompt_cache_key", "k"),
            prompt_cache_retention: word("prompt_cache_retention", "24h"),
            store: Some(Named::new("store", true)),
            metadata: number("metadata", r#"{"a": "b"}"#),
            ..request()
        };
        let expected = concat!(
            r#""max_tokens":50,"temperature":0.70,"top_p":1e-1,"seed":12345678901234567890,"#,
            r#""presence_penalty":-1.0,"frequency_penalty":2,"stop":["a","b\""],"verbosity":"low","#,
            r#""user":"u","store":true,"metadata":{"a": "b"},"service_tier":"default","#,
            r#""prompt_cache_key":"k","prompt_cache_retention":"24h","#,
            r#""stream":true,"stream_options":{"include_usage":true}"#,
        );
        assert_eq!(written(&request).unwrap(), (expected.to_owned(), vec![]));
        assert_eq!(written(&self::request()).unwrap(), (String::new(), vec![]));
    }

    #[test]
    fn wishes_become_efforts() {
        for (wish, expected) in [
            (ReasoningWish::Off, Some("none")),
            (ReasoningWish::Effort("xhigh".into()), Some("xhigh")),
            (ReasoningWish::Effort("newer".into()), Some("newer")),
            (ReasoningWish::Budget(1024), Some("low")),
            (ReasoningWish::Budget(2047), Some("low")),
            (ReasoningWish::Budget(2048), Some("medium")),
            (ReasoningWish::Budget(8191), Some("medium")),
            (ReasoningWish::Budget(8192), Some("high")),
            (ReasoningWish::Budget(u64::MAX), Some("high")),
            (ReasoningWish::Adaptive(None), None),
            (ReasoningWish::Adaptive(Some("max".into())), Some("max")),
        ] {
            let mut request = request();
            request.reasoning.wish = Some(Named::new("thinking", wish.clone()));
            let expected = expected.map(|effort| format!(r#""reasoning_effort":"{effort}""#));
            assert_eq!(written(&request).unwrap().0, expected.unwrap_or_default(), "{wish:?}");
        }
    }

    #[test]
    fn output_formats_have_a_name() {
        let schema = |name: Option<&'static str>| OutputFormat::Schema {
            name: name.map(Into::into),
            description: None,
            schema: r#"{"z":1, "a":2}"#.into(),
            strict: Some(true),
        };
        for (format, expected) in [
            (OutputFormat::Json, r#"{"type":"json_object"}"#),
            (
                schema(Some("n")),
                r#"{"type":"json_schema","json_schema":{"name":"n","schema":{"z":1, "a":2},"strict":true}}"#,
            ),
            (
                schema(None),
                r#"{"type":"json_schema","json_schema":{"name":"answer","schema":{"z":1, "a":2},"strict":true}}"#,
            ),
        ] {
            let output_format = Some(Named::new("output_config.format", format));
            let request = Request { output_format, ..request() };
            assert_eq!(written(&request).unwrap().0, format!(r#""response_format":{expected}"#));
        }
    }

    #[test]
    fn choices_need_tools() {
        let parallel = || Some(Named::new("tool_choice.disable_parallel_tool_use", false));
        let choice = |choice| Some(Named::new("tool_choice", choice));
        let with = Request {
            tools: vec![tool("f")],
            tool_choice: choice(ToolChoice::Required),
            parallel_tool_calls: parallel(),
            ..request()
        };
        let expected = r#""tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required","parallel_tool_calls":false"#;
        assert_eq!(written(&with).unwrap().0, expected);
        let without =
            Request { tools: vec![], tool_choice: choice(ToolChoice::None), ..with.clone() };
        assert_eq!(written(&without).unwrap().0, "");
        let forced = Request { tools: vec![], ..with };
        assert_eq!(written(&forced).unwrap_err().field(), "tool_choice");
    }

    #[test]
    fn what_chats_have_not_is_left_out_or_refused() {
        let mut request = Request {
            top_k: Some(Named::new("top_k", "5".into())),
            metadata: Some(Named::new("metadata", r#"{"a":"b"}"#.into())),
            store: Some(Named::new("store", false)),
            ..request()
        };
        let show = super::super::super::request::ReasoningShow::Summary;
        request.reasoning.show = Some(Named::new("reasoning.summary", show));
        let expected = ["top_k", "reasoning.summary", "metadata"].map(str::to_owned).to_vec();
        assert_eq!(written(&request).unwrap(), (String::new(), expected));
        assert!(write_request(&request, &TARGET, &mut Dropped::new(true)).is_err());
        let stop = vec!["a".into(); 5];
        let request = Request { stop: Some(Named::new("stop_sequences", stop)), ..self::request() };
        assert_eq!(written(&request).unwrap_err().field(), "stop_sequences");
        let top_logprobs = Some(Named::new("top_logprobs", "2".into()));
        let request = Request { top_logprobs, ..self::request() };
        assert_eq!(written(&request).unwrap_err().field(), "top_logprobs");
    }

    #[test]
    fn long_users_are_digested() {
        let short = "x".repeat(64);
        assert_eq!(fitting_user(&short), short);
        let long = fitting_user(&"x".repeat(65)).into_owned();
        assert_eq!(long.len(), 64);
        assert_eq!(long, fitting_user(&"x".repeat(65)));
    }
}
