//! Requests.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::write_request;
use crate::llm::convert::Target;
use crate::llm::convert::error::{ConvertError, Dropped};
use crate::llm::convert::opaque::{Family, Opaque, OpaqueKind};
use crate::llm::convert::request::{
    Block, CacheMark, Media, MediaKind, MediaSource, Named, OutputFormat, ReasoningBlock, Request,
    Role, SystemPart, TextBlock, Tool, ToolCall, ToolChoice, Turn,
};
use crate::llm::convert::sample_blocks::{assistant, result, text, tool, user};
use crate::llm::convert::sample_turns::{check_prefixes, turns};

fn target(model: &str) -> Target<'_> {
    Target::new(model, 8192)
}

fn call<'a>(id: &'a str, name: &'a str) -> Block<'a> {
    Block::ToolCall(ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: r#"{"b": 1e400, "a": 1}"#.into(),
        opaque: Vec::new(),
        cache: None,
    })
}

fn media<'a>(kind: MediaKind, source: MediaSource<'a>, name: Option<&'a str>) -> Block<'a> {
    let name = name.map(Into::into);
    Block::Media(Media { kind, source, name, detail: None, cache: None })
}

fn inline(mime: &str) -> MediaSource<'_> {
    MediaSource::Inline { mime: mime.into(), data: "AAAA".into() }
}

fn request() -> Request<'static> {
    Request { turns: vec![user(vec![text("hi")])], ..Request::default() }
}

fn written(request: &Request<'_>, dropped: &mut Dropped) -> Result<Value, ConvertError> {
    let json = write_request(request, &target("meta.llama"), dropped)?;
    Ok(serde_json::from_str(&json).unwrap())
}

fn messages(turns: Vec<Turn<'_>>) -> Value {
    let request = Request { turns, ..Request::default() };
    written(&request, &mut Dropped::new(true)).unwrap()["messages"].take()
}

fn unsupported(turns: Vec<Turn<'_>>) -> String {
    let request = Request { turns, ..Request::default() };
    match written(&request, &mut Dropped::new(false)).unwrap_err() {
        ConvertError::Unsupported { field, .. } => field,
        other => panic!("{other}"),
    }
}

#[test]
fn every_field_has_its_place_and_raw_values_stay() {
    let number = |field, value: &'static str| Some(Named::new(field, value.into()));
    let schema = r#"{"type": "object", "properties": {"b": {"const": 1e400}, "a": {}}}"#;
    let request = Request {
        system: vec![
            SystemPart { is_developer: true, text: "a".into(), cache: None },
            SystemPart { is_developer: false, text: "".into(), cache: None },
            SystemPart { is_developer: false, text: "b".into(), cache: Some(CacheMark::OneHour) },
        ],
        tools: vec![
            Tool {
                description: Some("Searches".into()),
                parameters: Some(schema.into()),
                strict: Some(true),
                cache: Some(CacheMark::FiveMinutes),
                ..tool("search")
            },
            Tool { description: Some("".into()), ..tool("stop") },
        ],
        tool_choice: Some(Named::new("tool_choice", ToolChoice::Tool("stop".into()))),
        parallel_tool_calls: Some(Named::new("parallel_tool_calls", true)),
        output_format: Some(Named::new(
            "response_format",
            OutputFormat::Schema {
                name: Some("n".into()),
                description: None,
                schema: r#"{"type":"object"}"#.into(),
                strict: Some(true),
            },
        )),
        max_tokens: number("max_tokens", "10"),
        temperature: number("temperature", "1.0"),
        top_p: number("top_p", "0.1"),
        presence_penalty: number("presence_penalty", "0.0"),
        stop: Some(Named::new("stop", vec!["x".into()])),
        service_tier: Some(Named::new("service_tier", "flex".into())),
        store: Some(Named::new("store", false)),
        ..request()
    };
    let json = write_request(&request, &target("meta.llama"), &mut Dropped::new(true)).unwrap();
    let expected = [
        r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}],"#,
        r#""system":[{"text":"a"},{"text":"b"},{"cachePoint":{"type":"default","ttl":"1h"}}],"#,
        r#""inferenceConfig":{"maxTokens":10,"temperature":1.0,"topP":0.1,"stopSequences":["x"]},"#,
        r#""toolConfig":{"tools":[{"toolSpec":{"name":"search","description":"Searches","#,
        r#""inputSchema":{"json":"#,
        schema,
        r#"},"strict":true}},{"cachePoint":{"type":"default"}},{"toolSpec":{"name":"stop","#,
        r#""inputSchema":{"json":{"type":"object","properties":{}}}}}],"#,
        r#""toolChoice":{"tool":{"name":"stop"}}},"#,
        r#""outputConfig":{"textFormat":{"type":"json_schema","structure":{"jsonSchema":{"#,
        r#""schema":"{\"type\":\"object\"}","name":"n"}}}},"serviceTier":{"type":"flex"}}"#,
    ];
    assert_eq!(json, expected.concat());
}

#[test]
fn sides_alternate_with_results_first() {
    let mut failed = result("2", vec![text(""), text("b")]);
    let Block::ToolResult(one) = &mut failed else { panic!() };
    one.is_error = true;
    one.cache = Some(CacheMark::FiveMinutes);
    let turns = vec![
        user(vec![text("a"), text("")]),
        assistant(vec![text(""), call("1", "f")]),
        assistant(vec![call("2", "f"), Block::Refusal("no".into())]),
        user(vec![text("c"), result("1", vec![])]),
        Turn { role: Role::Developer, blocks: vec![text("d")] },
        user(vec![failed]),
        assistant(vec![text("")]),
        user(vec![text("e")]),
    ];
    let call = |id: &str| {
        let input: Value = serde_json::from_str(r#"{"b": 1e400, "a": 1}"#).unwrap();
        json!({"toolUse": {"toolUseId": id, "name": "f", "input": input}})
    };
    let expected = json!([
        {"role": "user", "content": [{"text": "a"}]},
        {"role": "assistant", "content": [call("1"), call("2"), {"text": "no"}]},
        {"role": "user", "content": [
            {"toolResult": {"toolUseId": "1", "content": []}},
            {"toolResult": {"toolUseId": "2", "content": [{"text": "b"}], "status": "error"}},
            {"cachePoint": {"type": "default"}},
            {"text": "c"},
            {"text": "<system>d</system>"},
            {"text": "e"},
        ]},
    ]);
    assert_eq!(messages(turns), expected);
    let empty = Request { turns: vec![user(vec![text("")])], ..Request::default() };
    assert!(matches!(written(&empty, &mut Dropped::new(false)), Err(ConvertError::Invalid { .. })));
}

#[test]
fn reasoning_returns_to_bedrock_alone() {
    let block = |text: &'static str, family, kind| {
        let opaque = vec![Opaque { family, kind, id: None, data: "c2ln".into() }];
        Block::Reasoning(ReasoningBlock { text: text.into(), is_summary: false, opaque })
    };
    let turns = vec![assistant(vec![
        block("a", Family::Bedrock, OpaqueKind::Signature),
        block("", Family::Bedrock, OpaqueKind::Redacted),
        block("b", Family::Anthropic, OpaqueKind::Signature),
        Block::Reasoning(ReasoningBlock { text: "c".into(), ..ReasoningBlock::default() }),
        text("d"),
    ])];
    let expected = json!([
        {"reasoningContent": {"reasoningText": {"text": "a", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "c2ln"}},
        {"text": "d"},
    ]);
    assert_eq!(messages(turns)[0]["content"], expected);
}

#[test]
fn media_have_formats_and_documents_have_names() {
    let name = Some("Q1_report.pdf");
    let pdf = || media(MediaKind::Document, inline("application/pdf"), name);
    let turns = vec![
        user(vec![
            media(MediaKind::Image, inline("image/jpeg"), None),
            pdf(),
            media(MediaKind::Document, MediaSource::Text("hé".into()), None),
            media(MediaKind::Audio, inline("audio/wav"), None),
            media(MediaKind::Video, inline("video/quicktime"), None),
        ]),
        assistant(vec![call("1", "f")]),
        user(vec![result("1", vec![pdf()])]),
    ];
    let written = messages(turns);
    let expected = json!([
        {"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}},
        {"document": {"format": "pdf", "name": "Q1-report-pdf", "source": {"bytes": "AAAA"}}},
        {"document": {"format": "txt", "name": "document", "source": {"bytes": "aMOp"}}},
        {"audio": {"format": "wav", "source": {"bytes": "AAAA"}}},
        {"video": {"format": "mov", "source": {"bytes": "AAAA"}}},
    ]);
    assert_eq!(written[0]["content"], expected);
    let inside = json!([
        {"document": {"format": "pdf", "name": "Q1-report-pdf 2", "source": {"bytes": "AAAA"}}},
    ]);
    assert_eq!(written[2]["content"][0]["toolResult"]["content"], inside);

    let url = |url: &'static str| MediaSource::Url(url.into());
    for turn in [
        user(vec![media(MediaKind::Image, url("https://a.example/a.png"), None)]),
        user(vec![media(MediaKind::Document, url("s3://a/b.pdf"), None)]),
        user(vec![media(MediaKind::Image, inline("image/heic"), None)]),
        user(vec![media(MediaKind::Document, inline("application/zip"), None)]),
        assistant(vec![media(MediaKind::Image, inline("image/png"), None)]),
        user(vec![result("1", vec![media(MediaKind::Audio, inline("audio/wav"), None)])]),
    ] {
        assert_eq!(unsupported(vec![turn]), "messages");
    }
}

#[test]
fn tool_choices_are_kept_where_they_can_be() {
    let with = |tools: Vec<Tool<'static>>, choice, has_history: bool| {
        let mut request =
            Request { tools, tool_choice: Some(Named::new("tool_choice", choice)), ..request() };
        if has_history {
            let turns = [assistant(vec![call("1", "f")]), user(vec![result("1", vec![])])];
            request.turns.extend(turns);
        }
        request
    };
    let config = |request: &Request<'_>| {
        let mut dropped = Dropped::new(false);
        let mut json = written(request, &mut dropped).unwrap();
        (json["toolConfig"].take(), dropped.fields().join(" "))
    };
    let spec = |name: &str| {
        let schema = json!({"type": "object", "properties": {}});
        json!({"toolSpec": {"name": name, "inputSchema": {"json": schema}}})
    };
    let tools = || vec![tool("g")];
    for (choice, expected) in [
        (ToolChoice::Auto, json!({"auto": {}})),
        (ToolChoice::Required, json!({"any": {}})),
        (ToolChoice::Tool("g".into()), json!({"tool": {"name": "g"}})),
    ] {
        let (written, _) = config(&with(tools(), choice, false));
        assert_eq!(written, json!({"tools": [spec("g")], "toolChoice": expected}));
    }
    let (none, dropped) = config(&with(tools(), ToolChoice::None, false));
    assert_eq!((none, dropped.as_str()), (Value::Null, ""));
    let (none, dropped) = config(&with(tools(), ToolChoice::None, true));
    assert_eq!((none, dropped.as_str()), (json!({"tools": [spec("g")]}), "tool_choice"));
    // The conversation needs its tools, even if the request has none any more.
    for choice in [ToolChoice::None, ToolChoice::Auto] {
        let (old, dropped) = config(&with(Vec::new(), choice, true));
        assert_eq!((old, dropped.as_str()), (json!({"tools": [spec("f")]}), ""));
    }
    let allowed = ToolChoice::Allowed { names: vec!["g".into()], is_required: false };
    for request in [
        with(tools(), allowed, false),
        with(Vec::new(), ToolChoice::Required, false),
        with(Vec::new(), ToolChoice::Required, true),
    ] {
        let error = written(&request, &mut Dropped::new(false)).unwrap_err();
        assert_eq!(error.field(), "tool_choice");
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
        ("seed", |r| r.seed = Some(Named::new("seed", "1".into()))),
        ("presence_penalty", |r| {
            r.presence_penalty = Some(Named::new("presence_penalty", "0.1".into()));
        }),
        ("frequency_penalty", |r| {
            r.frequency_penalty = Some(Named::new("frequency_penalty", "-1".into()));
        }),
        ("store", |r| r.store = Some(Named::new("store", true))),
        ("prompt_cache_key", |r| {
            r.prompt_cache_key = Some(Named::new("prompt_cache_key", "k".into()));
        }),
        ("service_tier", |r| r.service_tier = Some(Named::new("service_tier", "scale".into()))),
        ("parallel_tool_calls", |r| {
            r.tools = vec![tool("f")];
            r.parallel_tool_calls = Some(Named::new("parallel_tool_calls", false));
        }),
        ("top_k", |r| r.top_k = Some(Named::new("top_k", "5".into()))),
        ("detail", |r| {
            let (kind, source) = (MediaKind::Image, inline("image/png"));
            let detail = Some("low".into());
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
    let refusing: [(&str, Change); 3] = [
        ("top_logprobs", |r| r.top_logprobs = Some(Named::new("top_logprobs", "0".into()))),
        ("temperature", |r| r.temperature = Some(Named::new("temperature", "1.01".into()))),
        ("response_format", |r| {
            r.output_format = Some(Named::new("response_format", OutputFormat::Json));
        }),
    ];
    for (field, set) in refusing {
        let mut request = request();
        set(&mut request);
        let error = written(&request, &mut Dropped::new(false)).unwrap_err();
        assert!(matches!(error, ConvertError::Unsupported { .. }) && error.field() == field);
    }
}

proptest! {
    #[test]
    fn any_conversation_is_written_in_the_same_way_however_it_goes_on(turns in turns()) {
        check_prefixes(&turns, |turns| {
            let request = Request { turns: turns.to_vec(), ..Request::default() };
            let json = written(&request, &mut Dropped::new(true)).unwrap();
            let messages = json["messages"].as_array().unwrap();
            for (place, message) in messages.iter().enumerate() {
                let blocks = message["content"].as_array().unwrap();
                assert!(!blocks.is_empty());
                assert!(place == 0 || messages[place - 1]["role"] != message["role"]);
                assert!(!blocks.iter().any(|block| block["text"] == ""));
                // Only results and their marks come before results.
                let is_result = |block: &Value| block.get("toolResult").is_some();
                let is_mark = |block: &Value| block.get("cachePoint").is_some();
                let others = blocks.iter().skip_while(|block| is_result(block) || is_mark(block));
                assert!(message["role"] == "assistant" || !others.clone().any(is_result));
            }
            let has_tools = request.turns.iter().flat_map(|turn| &turn.blocks).any(|block| {
                matches!(block, Block::ToolCall(_) | Block::ToolResult(_))
            });
            assert_eq!(json.get("toolConfig").is_some(), has_tools);
            messages.clone()
        });
    }
}
