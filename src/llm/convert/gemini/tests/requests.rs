//! The fields of requests.

use serde_json::{Value, json};

use super::super::write_request;
use crate::llm::convert::error::{ConvertError, Dropped};
use crate::llm::convert::request::{
    Block, CacheMark, Named, OutputFormat, ReasoningWish, Request, Role, SystemPart, TextBlock,
    Tool, ToolChoice, Turn,
};
use crate::llm::convert::{Target, sample_blocks};

/// A model of Google's own API.
pub(super) fn target(model: &str) -> Target<'_> {
    Target { takes_call_ids: true, ..Target::new(model, 8192) }
}

pub(super) fn user(text: &str) -> Turn<'_> {
    sample_blocks::user(vec![sample_blocks::text(text)])
}

fn request() -> Request<'static> {
    Request { turns: vec![user("hi")], ..Request::default() }
}

fn tool(name: &'static str, parameters: Option<&'static str>) -> Tool<'static> {
    Tool { parameters: parameters.map(Into::into), ..sample_blocks::tool(name) }
}

fn written(request: &Request<'_>, dropped: &mut Dropped) -> Result<Value, ConvertError> {
    let json = write_request(request, &target("gemini-2.5-flash"), dropped)?;
    Ok(serde_json::from_str(&json).unwrap())
}

/// What is written in addition to the conversation, without anything being left out.
fn rest(request: &Request<'_>) -> Value {
    let mut json = written(request, &mut Dropped::new(true)).unwrap();
    json.as_object_mut().unwrap().remove("contents");
    json
}

#[test]
fn a_bare_request_is_its_contents() {
    let json = write_request(&request(), &target("m"), &mut Dropped::new(true)).unwrap();
    assert_eq!(json, r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#);
}

#[test]
fn every_field_has_its_place_and_raw_values_stay() {
    let number = |field, value: &'static str| Some(Named::new(field, value.into()));
    let schema = r#"{"type": "object", "properties": {"b": {"const": 1e400}, "a": {}}}"#;
    let system =
        |text: &'static str| SystemPart { is_developer: false, text: text.into(), cache: None };
    let mut search = tool("search", Some(schema));
    search.description = Some("Searches".into());
    search.strict = Some(false);
    let request = Request {
        system: vec![system("a"), system(""), system("b")],
        tools: vec![search, tool("stop", None)],
        tool_choice: Some(Named::new("tool_choice", ToolChoice::Auto)),
        parallel_tool_calls: Some(Named::new("parallel_tool_calls", true)),
        output_format: Some(Named::new(
            "response_format",
            OutputFormat::Schema {
                name: Some("n".into()),
                description: None,
                schema: schema.into(),
                strict: Some(true),
            },
        )),
        max_tokens: number("max_tokens", "10"),
        temperature: number("temperature", "1.50"),
        top_p: number("top_p", "0.1"),
        top_k: number("top_k", "7"),
        seed: number("seed", "12345678901234567890"),
        presence_penalty: number("presence_penalty", "0.5"),
        frequency_penalty: number("frequency_penalty", "-0.5"),
        stop: Some(Named::new("stop", vec!["x".into()])),
        service_tier: Some(Named::new("service_tier", "flex".into())),
        store: Some(Named::new("store", false)),
        ..request()
    };
    let target = target("gemini-2.5-flash");
    let json = write_request(&request, &target, &mut Dropped::new(true)).unwrap();
    let expected = [
        r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}],"#,
        r#""systemInstruction":{"parts":[{"text":"a"},{"text":"b"}]},"#,
        r#""tools":[{"functionDeclarations":[{"name":"search","description":"Searches","#,
        r#""parametersJsonSchema":"#,
        schema,
        r#"},{"name":"stop"}]}],"toolConfig":{"functionCallingConfig":{"mode":"AUTO"}},"#,
        r#""generationConfig":{"maxOutputTokens":10,"temperature":1.50,"topP":0.1,"topK":7,"#,
        r#""seed":12345678901234567890,"presencePenalty":0.5,"frequencyPenalty":-0.5,"#,
        r#""stopSequences":["x"],"responseMimeType":"application/json","responseJsonSchema":"#,
        schema,
        r#"},"serviceTier":"flex"}"#,
    ];
    assert_eq!(json, expected.concat());
}

#[test]
fn tool_choices_are_modes() {
    let names = || vec!["f".into(), "g".into()];
    for (choice, expected) in [
        (ToolChoice::Auto, json!({"mode": "AUTO"})),
        (ToolChoice::Required, json!({"mode": "ANY"})),
        (ToolChoice::None, json!({"mode": "NONE"})),
        (ToolChoice::Tool("f".into()), json!({"mode": "ANY", "allowedFunctionNames": ["f"]})),
        (
            ToolChoice::Allowed { names: names(), is_required: true },
            json!({"mode": "ANY", "allowedFunctionNames": ["f", "g"]}),
        ),
        (
            ToolChoice::Allowed { names: names(), is_required: false },
            json!({"mode": "VALIDATED", "allowedFunctionNames": ["f", "g"]}),
        ),
    ] {
        let needs_tools = !matches!(choice, ToolChoice::Auto | ToolChoice::None);
        let tool_choice = Some(Named::new("tool_choice", choice));
        let mut request = Request { tool_choice, tools: vec![tool("f", None)], ..request() };
        let config = &rest(&request)["toolConfig"]["functionCallingConfig"];
        assert_eq!(*config, expected);
        request.tools.clear();
        match written(&request, &mut Dropped::new(true)) {
            Ok(json) => assert!(!needs_tools && json.get("toolConfig").is_none()),
            Err(error) => assert!(needs_tools && error.field() == "tool_choice"),
        }
    }
}

/// Sets a field of a request.
type Change = fn(&mut Request<'static>);

#[test]
fn what_has_no_counterpart_is_left_out_or_refused() {
    let dropping: [(&str, Change); 13] = [
        ("phase", |r| {
            let phase = Some("commentary".into());
            let text = TextBlock { text: "a".into(), phase, ..TextBlock::default() };
            r.turns.push(Turn { role: Role::Assistant, blocks: vec![Block::Text(text)] });
        }),
        ("verbosity", |r| r.verbosity = Some(Named::new("verbosity", "low".into()))),
        ("user", |r| r.user = Some(Named::new("user", "u".into()))),
        ("metadata", |r| r.metadata = Some(Named::new("metadata", "{\"a\":\"b\"}".into()))),
        ("store", |r| r.store = Some(Named::new("store", true))),
        ("prompt_cache_key", |r| {
            r.prompt_cache_key = Some(Named::new("prompt_cache_key", "k".into()));
        }),
        ("prompt_cache_retention", |r| {
            r.prompt_cache_retention = Some(Named::new("prompt_cache_retention", "24h".into()));
        }),
        ("service_tier", |r| r.service_tier = Some(Named::new("service_tier", "scale".into()))),
        ("cache_control", |r| {
            let cache = Some(CacheMark::FiveMinutes);
            r.system = vec![SystemPart { is_developer: false, text: "s".into(), cache }];
        }),
        ("strict", |r| r.tools = vec![Tool { strict: Some(true), ..tool("f", None) }]),
        ("parallel_tool_calls", |r| {
            r.tools = vec![tool("f", None)];
            r.parallel_tool_calls = Some(Named::new("parallel_tool_calls", false));
        }),
        ("reasoning_effort", |r| {
            let wish = ReasoningWish::Effort("newer".into());
            r.reasoning.wish = Some(Named::new("reasoning_effort", wish));
        }),
        ("detail", |r| {
            use crate::llm::convert::request::{Media, MediaKind, MediaSource};
            let source = MediaSource::Inline { mime: "image/png".into(), data: "AA".into() };
            let (kind, detail) = (MediaKind::Image, Some("high".into()));
            let media = Media { kind, source, name: None, detail, cache: None };
            r.turns[0].blocks.push(Block::Media(media));
        }),
    ];
    for (field, set) in dropping {
        let mut request = request();
        set(&mut request);
        let mut dropped = Dropped::new(false);
        written(&request, &mut dropped).unwrap();
        assert_eq!(dropped.fields(), [field]);
        let error = written(&request, &mut Dropped::new(true)).unwrap_err();
        assert_eq!(error.field(), field);
    }
    let refusing: [(&str, Change); 2] = [
        ("top_logprobs", |r| r.top_logprobs = Some(Named::new("top_logprobs", "0".into()))),
        ("stop", |r| r.stop = Some(Named::new("stop", vec!["x".into(); 6]))),
    ];
    for (field, set) in refusing {
        let mut request = request();
        set(&mut request);
        let error = written(&request, &mut Dropped::new(false)).unwrap_err();
        assert!(matches!(error, ConvertError::Unsupported { .. }) && error.field() == field);
    }
}

#[test]
fn neutral_values_vanish() {
    let request = Request {
        store: Some(Named::new("store", false)),
        parallel_tool_calls: Some(Named::new("parallel_tool_calls", false)),
        service_tier: Some(Named::new("service_tier", "auto".into())),
        stop: Some(Named::new("stop", Vec::new())),
        presence_penalty: Some(Named::new("presence_penalty", "0".into())),
        frequency_penalty: Some(Named::new("frequency_penalty", "0.0".into())),
        include_usage: true,
        stream: true,
        ..request()
    };
    assert_eq!(rest(&request), json!({}));
}

#[test]
fn vertex_takes_no_tier_and_any_object_is_json() {
    let mut request = request();
    request.service_tier = Some(Named::new("service_tier", "priority".into()));
    request.output_format = Some(Named::new("response_format", OutputFormat::Json));
    let mut dropped = Dropped::new(false);
    let vertex = Target { takes_call_ids: false, ..target("gemini-2.5-flash") };
    let json = write_request(&request, &vertex, &mut dropped).unwrap();
    assert!(json.ends_with(r#""generationConfig":{"responseMimeType":"application/json"}}"#));
    assert_eq!(dropped.fields(), ["service_tier"]);
}
