//! What OpenAI gets.

use serde_json::json;

use super::super::super::opaque::{Family, Opaque, OpaqueKind};
use super::super::super::request::{
    Block, CacheMark, Media, MediaKind, MediaSource, Named, OutputFormat, ReasoningBlock,
    ReasoningShow, ReasoningWish, Role, SystemPart, TextBlock, Tool, ToolCall, ToolChoice,
    ToolResult, Turn,
};
use super::super::super::sample_blocks::{assistant, opaque, text, user};
use super::*;

fn tool_call(id: &'static str, arguments: &'static str) -> Block<'static> {
    let opaque = vec![opaque(Family::Google, OpaqueKind::Signature, "sig")];
    let (name, arguments) = ("f".into(), arguments.into());
    Block::ToolCall(ToolCall { id: id.into(), name, arguments, opaque, cache: None })
}

fn tool_result(id: &'static str, content: Vec<Block<'static>>) -> Block<'static> {
    Block::ToolResult(ToolResult {
        id: id.into(),
        name: None,
        content,
        is_error: false,
        cache: None,
    })
}

fn reasoning(opaque: Opaque<'static>) -> Block<'static> {
    let (text, opaque) = ("thoughts".into(), vec![opaque]);
    Block::Reasoning(ReasoningBlock { text, is_summary: true, opaque })
}

fn own_reasoning() -> Block<'static> {
    let own = opaque(Family::OpenAi, OpaqueKind::Encrypted, "gAAA");
    reasoning(Opaque { id: Some("rs_1".into()), ..own })
}

fn system(is_developer: bool, text: &'static str, cache: Option<CacheMark>) -> SystemPart<'static> {
    SystemPart { is_developer, text: text.into(), cache }
}

fn media(kind: MediaKind, source: MediaSource<'static>) -> Block<'static> {
    Block::Media(Media { kind, source, name: None, detail: None, cache: None })
}

fn input_of(turns: Vec<Turn<'static>>) -> Value {
    written(&Request { turns, ..Request::default() }).unwrap().0["input"].clone()
}

#[test]
fn nothing_is_stored_and_reasoning_comes_back_encrypted() {
    let request = Request { turns: vec![user(vec![text("hi")])], ..Request::default() };
    let json = write_request(&request, &TARGET, &mut Dropped::new(true)).unwrap();
    let expected = r#"{"model":"gpt-5","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}],"store":false,"include":["reasoning.encrypted_content"]}"#;
    assert_eq!(json, expected);
}

#[test]
fn one_plain_instruction_is_instructions_and_more_keep_their_places() {
    let part = |text: &str| json!({"type": "input_text", "text": text});
    let request = |system| Request { system, ..Request::default() };
    let (alone, _) = written(&request(vec![system(true, "a", None)])).unwrap();
    let expected = json!([{"type": "message", "role": "developer", "content": [part("a")]}]);
    assert_eq!((alone.get("instructions"), &alone["input"]), (None, &expected));
    let turns = vec![user(vec![text("hi")])];
    let (one, _) = written(&Request { turns, ..request(vec![system(true, "a", None)]) }).unwrap();
    assert_eq!((&one["instructions"], one["input"].as_array().unwrap().len()), (&json!("a"), 1));
    let parts = vec![system(false, "a", None), system(false, "b", None), system(true, "c", None)];
    let (more, _) = written(&request(parts)).unwrap();
    let expected = json!([
        {"type": "message", "role": "system", "content": [part("a"), part("b")]},
        {"type": "message", "role": "developer", "content": [part("c")]},
    ]);
    assert_eq!((more.get("instructions"), &more["input"]), (None, &expected));
    let marked = vec![system(false, "a", Some(CacheMark::OneHour))];
    let (marked, _) = written(&request(marked)).unwrap();
    let mark =
        json!({"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}});
    assert_eq!(marked["input"][0]["content"], json!([mark]));
}

#[test]
fn marks_are_left_out_where_the_model_has_none() {
    let target = Target { takes_cache_breakpoints: false, ..TARGET };
    let request = Request {
        system: vec![system(false, "a", Some(CacheMark::FiveMinutes))],
        turns: vec![user(vec![text("hi")])],
        ..Request::default()
    };
    let mut dropped = Dropped::new(false);
    let json = write_request(&request, &target, &mut dropped).unwrap();
    assert!(json.contains(r#""instructions":"a""#), "{json}");
    assert_eq!(dropped.fields(), ["cache_control"]);
    assert!(write_request(&request, &target, &mut Dropped::new(true)).is_err());
}

#[test]
fn a_turn_becomes_items_in_order() {
    let phase = |phase: &'static str, text: &'static str| {
        let phase = Some(phase.into());
        Block::Text(TextBlock { text: text.into(), phase, ..TextBlock::default() })
    };
    let input = input_of(vec![
        assistant(vec![
            own_reasoning(),
            phase("commentary", "a"),
            phase("commentary", "b"),
            phase("final_answer", "c"),
            tool_call("c1", r#"{"x": 1e400}"#),
            tool_call("c2", ""),
            Block::Refusal("no".into()),
        ]),
        // Results come first, whatever the caller's order is.
        user(vec![
            text("go on"),
            tool_result("c1", vec![text("1")]),
            tool_result("c2", Vec::new()),
        ]),
        Turn { role: Role::Developer, blocks: vec![text("hurry")] },
    ]);
    let said = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
    let expected = json!([
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "thoughts"}],
            "encrypted_content": "gAAA"},
        {"type": "message", "role": "assistant", "content": [said("a"), said("b")], "phase": "commentary"},
        {"type": "message", "role": "assistant", "content": "c", "phase": "final_answer"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"x\": 1e400}"},
        {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2", "output": ""},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go on"}]},
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "hurry"}]},
    ]);
    assert_eq!(input, expected);
}

#[test]
fn reasoning_of_others_and_reasoning_that_nothing_follows_is_left_out() {
    let foreign = [
        opaque(Family::Anthropic, OpaqueKind::Signature, "EuY="),
        opaque(Family::Anthropic, OpaqueKind::Redacted, "EuY="),
        opaque(Family::Google, OpaqueKind::Signature, "sig"),
        opaque(Family::Bedrock, OpaqueKind::Signature, "sig"),
    ];
    let mut blocks: Vec<_> = foreign.into_iter().map(reasoning).collect();
    blocks.extend([text("a"), own_reasoning(), own_reasoning()]);
    let input = input_of(vec![assistant(blocks), user(vec![text("b")])]);
    let kinds: Vec<_> = input.as_array().unwrap().iter().map(|item| item["type"].clone()).collect();
    assert_eq!(kinds, ["message", "message"]);
}

#[test]
fn reasoning_goes_back_as_it_came() {
    for item in [
        json!({"id": "rs_1", "summary": [{"type": "summary_text", "text": "a\n\n\n\nb"}]}),
        json!({"id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "a"}]}),
        json!({"summary": []}),
    ] {
        let mut item = item.clone();
        item["type"] = json!("reasoning");
        item["encrypted_content"] = json!("gAAA");
        let said = json!({"role": "assistant", "content": "x"});
        let json = json!({"model": "m", "input": [item, said]}).to_string();
        let (written, _) = written(&read_request(&json).unwrap()).unwrap();
        assert_eq!(written["input"][0], item);
        assert_survives(&json);
    }
}

#[test]
fn media_becomes_parts_that_openai_has() {
    let inline =
        |mime: &'static str| MediaSource::Inline { mime: mime.into(), data: "AAAA".into() };
    for (kind, source, expected) in [
        (
            MediaKind::Image,
            MediaSource::Url("https://a.b/c".into()),
            json!({"type": "input_image", "image_url": "https://a.b/c", "detail": "auto"}),
        ),
        (
            MediaKind::Image,
            inline("image/png"),
            json!({"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}),
        ),
        (
            MediaKind::Document,
            MediaSource::Url("https://a.b/c.pdf".into()),
            json!({"type": "input_file", "file_url": "https://a.b/c.pdf"}),
        ),
        (
            MediaKind::Document,
            inline("application/pdf"),
            json!({"type": "input_file", "filename": "document.pdf",
                "file_data": "data:application/pdf;base64,AAAA"}),
        ),
        (
            MediaKind::Document,
            MediaSource::Text("hé".into()),
            json!({"type": "input_file", "filename": "document.txt",
                "file_data": "data:text/plain;base64,aMOp"}),
        ),
    ] {
        let block = media(kind, source);
        let input = input_of(vec![user(vec![block.clone(), tool_result("c", vec![block])])]);
        assert_eq!(input[0]["output"], json!([expected]));
        assert_eq!(input[1]["content"], json!([expected]));
    }
    for (turn, what) in [
        (user(vec![media(MediaKind::Audio, inline("audio/wav"))]), "audio"),
        (user(vec![media(MediaKind::Video, inline("video/mp4"))]), "video"),
        (assistant(vec![media(MediaKind::Image, inline("image/png"))]), "an image of the model's"),
    ] {
        let request = Request { turns: vec![turn], ..Request::default() };
        assert!(matches!(written(&request), Err(ConvertError::Unsupported { .. })), "{what}");
    }
}

#[test]
fn tools_are_strict_only_if_asked() {
    let tool = |strict, parameters: Option<&'static str>| Tool {
        name: "f".into(),
        description: None,
        parameters: parameters.map(Into::into),
        strict,
        cache: None,
    };
    let request = Request {
        tools: vec![tool(None, Some(r#"{"b":1,"a":2}"#)), tool(Some(true), None)],
        tool_choice: Some(Named::new("tool_choice", ToolChoice::Required)),
        parallel_tool_calls: Some(Named::new("disable_parallel_tool_use", false)),
        ..Request::default()
    };
    let json = write_request(&request, &TARGET, &mut Dropped::new(true)).unwrap();
    let expected = r#""tools":[{"type":"function","name":"f","parameters":{"b":1,"a":2},"strict":false},{"type":"function","name":"f","parameters":null,"strict":true}],"tool_choice":"required","parallel_tool_calls":false"#;
    assert!(json.contains(expected), "{json}");
    let request = Request { tools: Vec::new(), ..request };
    let request = Request { tool_choice: Some(Named::new("t", ToolChoice::None)), ..request };
    let (json, _) = written(&request).unwrap();
    assert!(
        ["tools", "tool_choice", "parallel_tool_calls"].iter().all(|key| json.get(key).is_none())
    );
}

#[test]
fn efforts_follow_the_table() {
    let effort = |wish| {
        let reasoning = Reasoning { wish: Some(Named::new("thinking", wish)), show: None };
        let request = Request { reasoning, ..Request::default() };
        written(&request).unwrap().0["reasoning"]["effort"].as_str().map(str::to_owned)
    };
    for (wish, expected) in [
        (ReasoningWish::Off, Some("none")),
        (ReasoningWish::Effort("minimal".into()), Some("minimal")),
        (ReasoningWish::Effort("max".into()), Some("max")),
        (ReasoningWish::Budget(1024), Some("low")),
        (ReasoningWish::Budget(2047), Some("low")),
        (ReasoningWish::Budget(2048), Some("medium")),
        (ReasoningWish::Budget(8191), Some("medium")),
        (ReasoningWish::Budget(8192), Some("high")),
        (ReasoningWish::Adaptive(None), None),
        (ReasoningWish::Adaptive(Some("low".into())), Some("low")),
    ] {
        assert_eq!(effort(wish.clone()).as_deref(), expected, "{wish:?}");
    }
    for (show, expected) in
        [(ReasoningShow::Summary, json!({"summary": "auto"})), (ReasoningShow::Omit, Value::Null)]
    {
        let reasoning = Reasoning { wish: None, show: Some(Named::new("display", show)) };
        let request = Request { reasoning, ..Request::default() };
        assert_eq!(written(&request).unwrap().0["reasoning"], expected);
    }
}

#[test]
fn parameters_are_written_refused_or_left_out() {
    let number = |field| Some(Named::new(field, "1.50".into()));
    let word = |value: &'static str| Some(Named::new("service_tier", value.into()));
    let request = Request {
        temperature: number("temperature"),
        top_p: number("top_p"),
        max_tokens: Some(Named::new("max_tokens", "16".into())),
        top_k: number("top_k"),
        seed: number("seed"),
        presence_penalty: number("presence_penalty"),
        frequency_penalty: number("frequency_penalty"),
        store: Some(Named::new("store", true)),
        metadata: Some(Named::new("metadata", r#"{"b":"1","a":"2"}"#.into())),
        verbosity: Some(Named::new("verbosity", "low".into())),
        output_format: Some(Named::new(
            "output_config.format",
            OutputFormat::Schema {
                name: None,
                description: None,
                schema: r#"{"type":"object"}"#.into(),
                strict: None,
            },
        )),
        prompt_cache_key: Some(Named::new("prompt_cache_key", "k".into())),
        stream: true,
        ..Request::default()
    };
    let mut dropped = Dropped::new(false);
    let json = write_request(&request, &TARGET, &mut dropped).unwrap();
    let expected = r#""text":{"format":{"type":"json_schema","name":"response","schema":{"type":"object"}},"verbosity":"low"},"max_output_tokens":16,"temperature":1.50,"top_p":1.50,"metadata":{"b":"1","a":"2"},"prompt_cache_key":"k","store":false,"include":["reasoning.encrypted_content"],"stream":true}"#;
    assert!(json.ends_with(expected), "{json}");
    let names = ["top_k", "seed", "presence_penalty", "frequency_penalty", "store"];
    assert_eq!(dropped.fields(), names);

    for (tier, expected) in [
        ("standard_only", json!("default")),
        ("priority", json!("priority")),
        ("brand_new", json!("brand_new")),
        ("auto", Value::Null),
    ] {
        let request = Request { service_tier: word(tier), ..Request::default() };
        assert_eq!(written(&request).unwrap().0["service_tier"], expected);
    }
    let stop = Some(Named::new("stop_sequences", vec!["END".into()]));
    let refused = written(&Request { stop, ..Request::default() }).unwrap_err();
    assert_eq!(refused.field(), "stop_sequences");
    let top_logprobs = Some(Named::new("logprobs", "0".into()));
    let refused = written(&Request { top_logprobs, ..Request::default() }).unwrap_err();
    assert_eq!(refused.field(), "logprobs");
}

#[test]
fn identifiers_of_users_fit() {
    let user = |field, value: &str| {
        let user = Some(Named::new(field, value.to_owned().into()));
        written(&Request { user, ..Request::default() }).unwrap().0
    };
    assert_eq!(user("user", "u")["user"], "u");
    assert_eq!(user("metadata.user_id", "u")["safety_identifier"], "u");
    let long = user("metadata.user_id", &"u".repeat(65));
    let long = long["safety_identifier"].as_str().unwrap();
    assert!(long.len() == 64 && long.bytes().all(|byte| byte.is_ascii_hexdigit()), "{long}");
}

#[test]
fn errors_of_tools_lose_their_flag_alone() {
    let failed = Block::ToolResult(ToolResult {
        id: "c".into(),
        name: None,
        content: vec![text("it broke")],
        is_error: true,
        cache: None,
    });
    let request = Request { turns: vec![user(vec![failed])], ..Request::default() };
    let (json, dropped) = written(&request).unwrap();
    assert_eq!(
        (&json["input"][0]["output"], &dropped[..]),
        (&json!("it broke"), &["is_error".to_owned()][..])
    );
}

#[test]
fn a_turn_more_leaves_the_beginning_as_it_was() {
    let mut turns = vec![
        user(vec![text("q")]),
        assistant(vec![own_reasoning(), tool_call("c1", "{}")]),
        user(vec![tool_result("c1", vec![text("1")])]),
    ];
    let before = input_of(turns.clone());
    turns.push(assistant(vec![own_reasoning(), text("a")]));
    turns.push(user(vec![text("and?")]));
    let after = input_of(turns);
    let before = before.as_array().unwrap();
    assert_eq!(after.as_array().unwrap()[..before.len()], before[..]);
}

#[test]
fn recorded_requests_survive() {
    for recording in [
        include_str!("../../../../../tests/fixtures/responses/tool_turns.json"),
        include_str!("../../../../../tests/fixtures/responses/tool_stream.json"),
    ] {
        let recording: Value = serde_json::from_str(recording).unwrap();
        let exchanges = recording["exchanges"].as_array().unwrap();
        assert!(!exchanges.is_empty());
        for exchange in exchanges {
            let request = &exchange["request"]["json"];
            assert_survives(&request.to_string());
        }
    }
}
