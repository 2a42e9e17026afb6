//! A caller's request.

use std::borrow::Cow;

use super::super::error::ConvertError;
use super::super::fields::{Fields, Path, array, text};
use super::super::request::{Named, OutputFormat, Raw, ReasoningWish, Request, Text, ToolChoice};
use super::message_reader::read_messages;
use super::tools::{read_choice, read_tools};

const UNSUPPORTED: &str = "is not supported by this model's provider";

/// Reads a request. Fields with their default are as if they were not there.
pub(in super::super) fn read_request(json: &str) -> Result<Request<'_>, ConvertError> {
    let root = Path::ROOT;
    let fields = Fields::parse(json, &root)?;
    let mut request =
        Request { model: fields.required_text("model", &root)?, ..Request::default() };
    let messages = fields.get("messages");
    let messages = messages.ok_or_else(|| root.key("messages").invalid("is required"))?;
    read_messages(&mut request, messages, &root.key("messages"))?;
    for (key, raw) in fields.iter() {
        read_field(&mut request, &fields, key, raw)?;
    }
    settle_tools(&mut request)?;
    Ok(request)
}

fn read_field<'a>(
    request: &mut Request<'a>,
    fields: &Fields<'a>,
    key: &str,
    raw: &'a str,
) -> Result<(), ConvertError> {
    let root = Path::ROOT;
    let path = root.key(key);
    let number = |default: f64| -> Result<Option<Raw<'a>>, ConvertError> {
        let number = fields.number(key, &root)?;
        Ok(number.filter(|raw| raw.parse() != Ok(default)))
    };
    let whole = || -> Result<Raw<'a>, ConvertError> {
        match raw.parse::<i64>() {
            Ok(_) => Ok(raw.into()),
            Err(_) => Err(path.invalid("must be a whole number")),
        }
    };
    let words = |default: &str| -> Result<Option<Text<'a>>, ConvertError> {
        Ok(Some(text(raw, &path)?).filter(|word| word != default))
    };
    let is_true = || Ok(fields.boolean(key, &root)? == Some(true));
    match key {
        "model" | "messages" => {}
        "stream" => request.stream = is_true()?,
        "stream_options" => read_stream_options(request, raw, &path)?,
        "max_tokens" => set_max_tokens(request, named("max_tokens", fields.limit(key, &root)?))?,
        "max_completion_tokens" => {
            set_max_tokens(request, named("max_completion_tokens", fields.limit(key, &root)?))?;
        }
        "temperature" => request.temperature = named("temperature", number(1.0)?),
        "top_p" => request.top_p = named("top_p", number(1.0)?),
        "top_k" => request.top_k = Some(Named::new("top_k", whole()?)),
        "seed" => request.seed = Some(Named::new("seed", whole()?)),
        "presence_penalty" => request.presence_penalty = named("presence_penalty", number(0.0)?),
        "frequency_penalty" => {
            request.frequency_penalty = named("frequency_penalty", number(0.0)?);
        }
        "n" => {
            if number(1.0)?.is_some() {
                return Err(path.unsupported("must be 1 for this model's provider"));
            }
        }
        "logprobs" => {
            if is_true()? && request.top_logprobs.is_none() {
                request.top_logprobs = Some(Named::new("logprobs", "0".into()));
            }
        }
        "top_logprobs" => {
            if let Some(count) = number(0.0)? {
                if fields.get("logprobs") != Some("true") {
                    return Err(path.invalid("needs 'logprobs' to be true"));
                }
                request.top_logprobs = Some(Named::new("top_logprobs", count));
            }
        }
        "stop" => request.stop = named("stop", read_stop(raw, &path)?),
        "tools" => request.tools = read_tools(raw, &path)?,
        "tool_choice" => {
            request.tool_choice = Some(Named::new("tool_choice", read_choice(raw, &path)?));
        }
        "parallel_tool_calls" => {
            if !fields.boolean(key, &root)?.unwrap_or(true) {
                request.parallel_tool_calls = Some(Named::new("parallel_tool_calls", false));
            }
        }
        "reasoning_effort" => {
            let wish = match text(raw, &path)? {
                none if none == "none" => ReasoningWish::Off,
                effort => ReasoningWish::Effort(effort),
            };
            request.reasoning.wish = Some(Named::new("reasoning_effort", wish));
        }
        "response_format" => {
            request.output_format = named("response_format", read_output_format(raw, &path)?);
        }
        "verbosity" => request.verbosity = named("verbosity", words("medium")?),
        "service_tier" => request.service_tier = named("service_tier", words("auto")?),
        "safety_identifier" => {
            request.user = named("safety_identifier", words("")?);
        }
        // The older name of the same.
        "user" if fields.get("safety_identifier").is_none() => {
            request.user = named("user", words("")?);
        }
        "prompt_cache_key" => request.prompt_cache_key = named("prompt_cache_key", words("")?),
        "prompt_cache_retention" => {
            request.prompt_cache_retention = named("prompt_cache_retention", words("")?);
        }
        "metadata" => {
            if !is_empty(raw) {
                Fields::parse(raw, &path)?;
                request.metadata = Some(Named::new("metadata", raw.into()));
            }
        }
        "store" => {
            if is_true()? {
                request.store = Some(Named::new("store", true));
            }
        }
        "modalities" => {
            if array(raw, &path)?.iter().any(|one| *one != "\"text\"") {
                return Err(path.unsupported("must be [\"text\"] for this model's provider"));
            }
        }
        "logit_bias" | "functions" => {
            if !is_empty(raw) {
                return Err(path.unsupported(UNSUPPORTED));
            }
        }
        "function_call" => {
            if !matches!(raw, "\"auto\"" | "\"none\"") {
                return Err(path.unsupported("is not supported here; use 'tool_choice'"));
            }
        }
        "audio" | "web_search_options" | "moderation" => {
            return Err(path.unsupported(UNSUPPORTED));
        }
        other => request.left_out.push(Cow::Owned(other.to_owned())),
    }
    Ok(())
}

fn named<T>(field: &'static str, value: Option<T>) -> Option<Named<T>> {
    value.map(|value| Named::new(field, value))
}

/// An empty object or array.
fn is_empty(raw: &str) -> bool {
    let inside = raw.strip_prefix(['{', '[']).and_then(|rest| rest.strip_suffix(['}', ']']));
    inside.is_some_and(|inside| inside.trim_ascii().is_empty())
}

fn read_stream_options<'a>(
    request: &mut Request<'a>,
    raw: &'a str,
    path: &Path<'_>,
) -> Result<(), ConvertError> {
    let options = Fields::parse(raw, path)?;
    request.include_usage = options.boolean("include_usage", path)?.unwrap_or(false);
    // A converted stream has no obfuscation.
    if options.boolean("include_obfuscation", path)? == Some(true) {
        request.left_out.push("stream_options.include_obfuscation".into());
    }
    Ok(())
}

/// The older and the newer name may both be there, with the same limit.
fn set_max_tokens<'a>(
    request: &mut Request<'a>,
    limit: Option<Named<Raw<'a>>>,
) -> Result<(), ConvertError> {
    match (&request.max_tokens, limit) {
        (Some(before), Some(limit)) if before.value != limit.value => {
            let problem = "differs from the other limit: 'max_tokens' is an old name of \
                           'max_completion_tokens'; send one of them";
            Err(ConvertError::invalid(limit.field, problem))
        }
        (_, limit) => {
            request.max_tokens = limit.or(request.max_tokens.take());
            Ok(())
        }
    }
}

fn read_stop<'a>(raw: &'a str, path: &Path<'_>) -> Result<Option<Vec<Text<'a>>>, ConvertError> {
    let stop = match raw.starts_with('[') {
        true => {
            let texts = array(raw, path)?.into_iter().enumerate();
            texts
                .map(|(index, raw)| text(raw, &path.index(index)))
                .collect::<Result<Vec<_>, _>>()?
        }
        false => vec![text(raw, path).map_err(|_| path.invalid("must be a string or an array"))?],
    };
    Ok(Some(stop).filter(|stop| !stop.is_empty()))
}

fn read_output_format<'a>(
    raw: &'a str,
    path: &Path<'_>,
) -> Result<Option<OutputFormat<'a>>, ConvertError> {
    let format = Fields::parse(raw, path)?;
    match &*format.required_text("type", path)? {
        "text" => Ok(None),
        "json_object" => Ok(Some(OutputFormat::Json)),
        "json_schema" => {
            let path = path.key("json_schema");
            let raw = format.get("json_schema").ok_or_else(|| path.invalid("is required"))?;
            let schema = Fields::parse(raw, &path)?;
            let place = path.key("schema");
            let raw = schema.get("schema").ok_or_else(|| place.invalid("is required"))?;
            Fields::parse(raw, &place)?;
            Ok(Some(OutputFormat::Schema {
                name: schema.text("name", &path)?,
                description: schema.text("description", &path)?,
                schema: raw.into(),
                strict: schema.boolean("strict", &path)?,
            }))
        }
        _ => Err(path.key("type").unsupported(UNSUPPORTED)),
    }
}

/// Without tools there is nothing to choose; with tools, the default choice says nothing.
fn settle_tools(request: &mut Request<'_>) -> Result<(), ConvertError> {
    if request.tools.is_empty() {
        request.parallel_tool_calls = None;
    }
    let Some(choice) = &request.tool_choice else { return Ok(()) };
    match &choice.value {
        ToolChoice::Auto => request.tool_choice = None,
        ToolChoice::None if request.tools.is_empty() => request.tool_choice = None,
        _ if request.tools.is_empty() => {
            return Err(ConvertError::invalid("tool_choice", "needs 'tools'"));
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a request with these members.
    fn with<T>(members: &str, see: impl FnOnce(Result<Request<'_>, ConvertError>) -> T) -> T {
        let json =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"a"}}],{members}}}"#);
        see(read_request(&json))
    }

    #[test]
    fn neutral_values_vanish() {
        let plain = with(r#""model":"m""#, |request| format!("{:?}", request.unwrap()));
        for members in [
            r#""temperature":1"#,
            r#""temperature":1.0"#,
            r#""temperature":null"#,
            r#""top_p":1,"n":1,"presence_penalty":0,"frequency_penalty":0.0"#,
            r#""logprobs":false,"top_logprobs":0,"logit_bias":{ }"#,
            r#""store":false,"metadata":{},"tools":[],"tool_choice":"auto","functions":[]"#,
            r#""tools":[],"tool_choice":"none","parallel_tool_calls":false,"function_call":"none""#,
            r#""stop":[],"response_format":{"type":"text"},"service_tier":"auto","verbosity":"medium""#,
            r#""modalities":["text"],"audio":null,"stream":false,"stream_options":{"include_obfuscation":false}"#,
            r#""user":"","reasoning_effort":null,"prediction":null,"web_search_options":null"#,
        ] {
            with(members, |request| {
                assert_eq!(format!("{:?}", request.unwrap()), plain, "{members}")
            });
        }
    }

    #[test]
    fn parameters_keep_their_names_and_numbers() {
        let members = r#""stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":50,"max_tokens":50,
            "temperature":0.70,"top_p":0.5,"top_k":3,"seed":12345678901,"presence_penalty":-1,"frequency_penalty":2.0,
            "logprobs":true,"top_logprobs":2,"stop":"x","reasoning_effort":"newer","verbosity":"low",
            "safety_identifier":"s","user":"u","metadata":{"a":"b"},"service_tier":"flex","store":true,
            "prompt_cache_key":"k","prompt_cache_retention":"24h""#;
        with(members, |request| {
            let request = request.unwrap();
            assert!(request.stream && request.include_usage);
            let raw = |named: &Option<Named<Raw<'_>>>| {
                named.as_ref().map(|one| format!("{}={}", one.field, one.value)).unwrap_or_default()
            };
            let shown = [
                raw(&request.max_tokens),
                raw(&request.temperature),
                raw(&request.top_p),
                raw(&request.top_k),
                raw(&request.seed),
                raw(&request.presence_penalty),
                raw(&request.frequency_penalty),
                raw(&request.top_logprobs),
                raw(&request.verbosity),
                raw(&request.user),
                raw(&request.metadata),
                raw(&request.service_tier),
                raw(&request.prompt_cache_key),
                raw(&request.prompt_cache_retention),
            ];
            assert_eq!(
                shown,
                [
                    "max_tokens=50",
                    "temperature=0.70",
                    "top_p=0.5",
                    "top_k=3",
                    "seed=12345678901",
                    "presence_penalty=-1",
                    "frequency_penalty=2.0",
                    "top_logprobs=2",
                    "verbosity=low",
                    "safety_identifier=s",
                    "metadata={\"a\":\"b\"}",
                    "service_tier=flex",
                    "prompt_cache_key=k",
                    "prompt_cache_retention=24h",
                ]
            );
            assert_eq!(request.stop.unwrap().value, ["x"]);
            assert!(request.store.unwrap().value);
            assert_eq!(
                request.reasoning.wish.unwrap().value,
                ReasoningWish::Effort("newer".into())
            );
            assert_eq!(request.left_out, ["user"]);
        });
        with(r#""reasoning_effort":"none""#, |request| {
            assert_eq!(request.unwrap().reasoning.wish.unwrap().value, ReasoningWish::Off);
        });
        with(r#""logprobs":true"#, |request| {
            let named = request.unwrap().top_logprobs.unwrap();
            assert_eq!((named.field, &*named.value), ("logprobs", "0"));
        });
    }

    #[test]
    fn output_formats_keep_the_schema() {
        with(r#""response_format":{"type":"json_object"}"#, |request| {
            assert_eq!(request.unwrap().output_format.unwrap().value, OutputFormat::Json);
        });
        let members = r#""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"z":1, "a":2},"strict":true}}"#;
        with(members, |request| {
            let expected = OutputFormat::Schema {
                name: Some("n".into()),
                description: None,
                schema: r#"{"z":1, "a":2}"#.into(),
                strict: Some(true),
            };
            assert_eq!(request.unwrap().output_format.unwrap().value, expected);
        });
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        for (members, field) in [
            (r#""n":2"#, "n"),
            (r#""logit_bias":{"1":2}"#, "logit_bias"),
            (r#""modalities":["text","audio"]"#, "modalities"),
            (r#""audio":{"voice":"x"}"#, "audio"),
            (r#""web_search_options":{}"#, "web_search_options"),
            (r#""functions":[{"name":"f"}]"#, "functions"),
            (r#""function_call":{"name":"f"}"#, "function_call"),
            (r#""moderation":{}"#, "moderation"),
            (r#""tools":[{"type":"custom"}]"#, "tools[0].type"),
            (r#""response_format":{"type":"grammar"}"#, "response_format.type"),
        ] {
            with(members, |request| match request {
                Err(error @ ConvertError::Unsupported { .. }) => assert_eq!(error.field(), field),
                other => panic!("{members}: {other:?}"),
            });
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (members, field) in [
            (r#""max_tokens":5,"max_completion_tokens":6"#, "max_completion_tokens"),
            (r#""max_tokens":1.5"#, "max_tokens"),
            (r#""temperature":"1""#, "temperature"),
            (r#""n":"1""#, "n"),
            (r#""stream":"yes""#, "stream"),
            (r#""stream_options":3"#, "stream_options"),
            (r#""top_logprobs":2"#, "top_logprobs"),
            (r#""stop":3"#, "stop"),
            (r#""stop":[3]"#, "stop[0]"),
            (r#""tool_choice":"required""#, "tool_choice"),
            (r#""response_format":{"type":"json_schema"}"#, "response_format.json_schema"),
            (r#""metadata":3"#, "metadata"),
            (r#""user":3"#, "user"),
        ] {
            with(members, |request| match request {
                Err(error @ ConvertError::Invalid { .. }) => assert_eq!(error.field(), field),
                other => panic!("{members}: {other:?}"),
            });
        }
        for (json, expected) in [
            ("[]", "The request body must be an object"),
            ("{}", "'model' is required"),
            (r#"{"model":"m"}"#, "'messages' is required"),
        ] {
            assert_eq!(read_request(json).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn harmless_and_unknown_fields_are_left_out() {
        let members = r#""prediction":{"type":"content"},"prompt_cache_options":{},"extra":1,"stream_options":{"include_obfuscation":true},"null":null"#;
        with(members, |request| {
            assert_eq!(
                request.unwrap().left_out,
                [
                    "prediction",
                    "prompt_cache_options",
                    "extra",
                    "stream_options.include_obfuscation"
                ]
            );
        });
    }
}
