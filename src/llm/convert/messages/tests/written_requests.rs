//! What is sent to Anthropic's API, and what is refused or left out on the way.

use serde_json::{Value, json};

use super::super::{read_request, write_request};
use crate::llm::convert::Target;
use crate::llm::convert::error::{ConvertError, Dropped};
use crate::llm::convert::opaque::{Family, Opaque, OpaqueKind};
use crate::llm::convert::request::{
    Block, CacheMark, Media, MediaKind, MediaSource, Named, OutputFormat, ReasoningBlock,
    ReasoningShow, ReasoningWish, Request, Role, SystemPart, TextBlock, Tool, ToolCall, ToolChoice,
    ToolResult, Turn,
};

/// Takes budgets, efforts and instructions in the middle, as its name says.
const OLD: &str = "claude-sonnet-4-5";
const NEW: &str = "claude-opus-4-8";

fn text(text: &'static str) -> Block<'static> {
    Block::Text(TextBlock { text: text.into(), ..TextBlock::default() })
}

fn turn(role: Role, blocks: Vec<Block<'static>>) -> Turn<'static> {
    Turn { role, blocks }
}

fn call(id: &'static str) -> Block<'static> {
    let (name, arguments) = ("f".into(), r#"{"b": 1.50, "a": 2}"#.into());
    Block::ToolCall(ToolCall { id: id.into(), name, arguments, opaque: Vec::new(), cache: None })
}

fn result(id: &'static str) -> Block<'static> {
    let content = vec![text("r")];
    let (name, is_error, cache) = (None, false, None);
    Block::ToolResult(ToolResult { id: id.into(), name, content, is_error, cache })
}

fn thoughts(family: Family, kind: OpaqueKind) -> Block<'static> {
    let opaque = vec![Opaque { family, kind, id: None, data: "sig".into() }];
    Block::Reasoning(ReasoningBlock { text: "hm".into(), is_summary: false, opaque })
}

fn tool() -> Tool<'static> {
    Tool { name: "f".into(), description: None, parameters: None, strict: None, cache: None }
}

fn hi() -> Request<'static> {
    Request { turns: vec![turn(Role::User, vec![text("hi")])], ..Request::default() }
}

fn write_raw(
    request: &Request<'_>,
    model: &str,
    is_strict: bool,
) -> Result<(String, Vec<String>), ConvertError> {
    let target = Target { model, default_max_tokens: 8192, takes_call_ids: false };
    let mut dropped = Dropped::new(is_strict);
    let json = write_request(request, &target, &mut dropped)?;
    Ok((json, dropped.fields().to_vec()))
}

fn write(request: &Request<'_>, model: &str) -> (Value, Vec<String>) {
    let (json, dropped) = write_raw(request, model, false).unwrap();
    (serde_json::from_str(&json).unwrap(), dropped)
}

fn messages(turns: Vec<Turn<'static>>, model: &str) -> Value {
    let request = Request { turns, ..Request::default() };
    write(&request, model).0["messages"].take()
}

/// Roles, and for each block its text, or its type and id.
fn outline(messages: &Value) -> String {
    let mut outline = String::new();
    for message in messages.as_array().unwrap() {
        let role = message["role"].as_str().unwrap();
        let blocks: Vec<String> = message["content"]
            .as_array()
            .unwrap()
            .iter()
            .map(|block| match block["type"].as_str().unwrap() {
                "text" => block["text"].as_str().unwrap().to_owned(),
                "tool_use" => format!("call {}", block["id"].as_str().unwrap()),
                "tool_result" => format!("result {}", block["tool_use_id"].as_str().unwrap()),
                other => other.to_owned(),
            })
            .collect();
        outline.push_str(&format!("{role}[{}] ", blocks.join(", ")));
    }
    outline.trim_end().to_owned()
}

#[test]
fn a_small_request_holds_what_is_required() {
    let expected = json!({"model": OLD, "max_tokens": 8192,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]});
    assert_eq!(write(&hi(), OLD), (expected, vec![]));
}

#[test]
fn a_request_of_the_own_format_comes_back_the_same() {
    let json = r#"{"model":"m","max_tokens":20000,"stream":true,
        "system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral","ttl":"1h"}}],
        "tools":[{"name":"f","description":"d","input_schema":{"type":"object","z":1.50},
          "strict":true,"cache_control":{"type":"ephemeral"}}],
        "tool_choice":{"type":"tool","name":"f","disable_parallel_tool_use":true},
        "messages":[
          {"role":"user","content":[{"type":"text","text":"a"},
            {"type":"image","source":{"type":"base64","media_type":"image/png","data":"QQ=="}},
            {"type":"document","source":{"type":"url","url":"https://a/b"},"title":"t"},
            {"type":"document","source":{"type":"text","media_type":"text/plain","data":"x"}}]},
          {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"Eu"},
            {"type":"redacted_thinking","data":"re"},{"type":"text","text":"b"},
            {"type":"tool_use","id":"c1","name":"f","input":{"z": 1e400, "a": "é"}}]},
          {"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":[
              {"type":"text","text":"r"}],"is_error":true,"cache_control":{"type":"ephemeral"}},
            {"type":"text","text":"go on"}]},
          {"role":"system","content":[{"type":"text","text":"be brief"}]},
          {"role":"assistant","content":[{"type":"text","text":"ok"}]},
          {"role":"user","content":[{"type":"text","text":"more"}]}],
        "temperature":0.5,"top_p":0.9,"top_k":3,"stop_sequences":["x"],
        "thinking":{"type":"adaptive","display":"summarized"},
        "output_config":{"effort":"max","format":{"type":"json_schema","schema":{"z":1,"a":2}}},
        "metadata":{"user_id":"u"},"service_tier":"standard_only"}"#;
    let request = read_request(json).unwrap();
    let (written, dropped) = write_raw(&request, NEW, true).unwrap();
    let expected = Request { model: NEW.into(), ..request };
    assert_eq!(read_request(&written).unwrap(), expected);
    assert!(dropped.is_empty());
    assert!(written.contains(r#"{"z": 1e400, "a": "é"}"#), "{written}");
}

#[test]
fn roles_take_turns_and_results_come_first() {
    use Role::{Assistant, User};
    for (turns, expected) in [
        (vec![turn(User, vec![text("a")]), turn(User, vec![text("b")])], "user[a, b]"),
        (
            vec![
                turn(User, vec![text("a")]),
                turn(Assistant, vec![text("b")]),
                turn(Assistant, vec![call("1"), call("2")]),
                turn(User, vec![result("1")]),
                turn(User, vec![result("2")]),
                turn(User, vec![text("c")]),
            ],
            "user[a] assistant[b, call 1, call 2] user[result 1, result 2, c]",
        ),
        (
            vec![
                turn(User, vec![text("a")]),
                turn(Assistant, vec![call("1")]),
                turn(User, vec![text("b")]),
                turn(User, vec![result("1")]),
            ],
            "user[a] assistant[call 1] user[result 1, b]",
        ),
        // What would be empty is not there, and its neighbours become one.
        (
            vec![
                turn(User, vec![text("a"), text(""), text(" \n")]),
                turn(Assistant, vec![text("")]),
                turn(User, vec![text("b")]),
            ],
            "user[a, b]",
        ),
        // An answer that was begun stays.
        (
            vec![turn(User, vec![text("a")]), turn(Assistant, vec![text("{")])],
            "user[a] assistant[{]",
        ),
        (
            vec![turn(User, vec![text("a")]), turn(Assistant, vec![Block::Refusal("no".into())])],
            "user[a] assistant[no]",
        ),
    ] {
        assert_eq!(outline(&messages(turns, OLD)), expected);
    }
    let empty = Request { turns: vec![turn(User, vec![text("")])], ..Request::default() };
    assert_eq!(write_raw(&empty, OLD, false).unwrap_err().field(), "messages");
}

#[test]
fn instructions_stay_where_they_are() {
    use Role::{Assistant, Developer, System, User};
    let turns = |roles: &[Role]| -> Vec<Turn<'static>> {
        let texts = ["a", "b", "c", "d"];
        roles.iter().zip(texts).map(|(role, own)| turn(*role, vec![text(own)])).collect()
    };
    for (roles, new, old) in [
        (
            &[User, System, Assistant, User][..],
            "user[a] system[b] assistant[c] user[d]",
            "user[a, <system>b</system>] assistant[c] user[d]",
        ),
        (&[User, Developer], "user[a] system[b]", "user[a, <system>b</system>]"),
        (
            &[User, System, System],
            "user[a] system[b] system[c]",
            "user[a, <system>b</system>, <system>c</system>]",
        ),
        // Places that the API does not take.
        (&[User, System, User], "user[a, <system>b</system>, c]", "user[a, <system>b</system>, c]"),
        (
            &[User, Assistant, System, User],
            "user[a] assistant[b] user[<system>c</system>, d]",
            "user[a] assistant[b] user[<system>c</system>, d]",
        ),
        (&[System, User], "user[<system>a</system>, b]", "user[<system>a</system>, b]"),
    ] {
        assert_eq!(outline(&messages(turns(roles), NEW)), new, "{roles:?}");
        assert_eq!(outline(&messages(turns(roles), OLD)), old, "{roles:?}");
    }
    let system = ["a", "", "b"].map(|text| SystemPart {
        is_developer: text == "b",
        text: text.into(),
        cache: (text == "a").then_some(CacheMark::OneHour),
    });
    let (json, _) = write(&Request { system: system.into(), ..hi() }, OLD);
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let expected = json!([{"type": "text", "text": "a", "cache_control": mark},
        {"type": "text", "text": "b"}]);
    assert_eq!(json["system"], expected);
}

#[test]
fn only_own_thoughts_go_back() {
    let blocks = vec![
        thoughts(Family::OpenAi, OpaqueKind::Encrypted),
        thoughts(Family::Google, OpaqueKind::Signature),
        Block::Reasoning(ReasoningBlock { text: "x".into(), ..ReasoningBlock::default() }),
        thoughts(Family::Anthropic, OpaqueKind::Signature),
        thoughts(Family::Anthropic, OpaqueKind::Redacted),
        text("a"),
    ];
    let turns = vec![turn(Role::User, vec![text("q")]), turn(Role::Assistant, blocks)];
    let expected = json!([
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "sig"},
        {"type": "text", "text": "a"},
    ]);
    assert_eq!(messages(turns, OLD)[1]["content"], expected);
}

#[test]
fn arguments_are_always_an_object() {
    for (arguments, input) in [
        ("", "{}"),
        (r#"{"b": 1.50, "a": 2}"#, r#"{"b": 1.50, "a": 2}"#),
        (r#"{"cut": "sho"#, r#"{"INVALID_JSON":"{\"cut\": \"sho"}"#),
        ("[1]", r#"{"INVALID_JSON":"[1]"}"#),
    ] {
        let Block::ToolCall(mut call) = call("1") else { panic!() };
        call.arguments = arguments.into();
        let request = Request {
            turns: vec![turn(Role::Assistant, vec![Block::ToolCall(call)])],
            ..Request::default()
        };
        let (json, _) = write_raw(&request, OLD, true).unwrap();
        assert!(json.contains(&format!(r#""input":{input}}}"#)), "{json}");
    }
}

#[test]
fn the_wish_to_think_follows_the_model() {
    let effort = |word: &'static str| ReasoningWish::Effort(word.into());
    let adaptive = |effort: &str| json!([{"type": "adaptive"}, {"effort": effort}, 8192]);
    let budget =
        |budget: u64| json!([{"type": "enabled", "budget_tokens": budget}, null, 8192 + budget]);
    let none = json!([null, null, 8192]);
    for (wish, new, old) in [
        (ReasoningWish::Off, json!([{"type": "disabled"}, null, 8192]), none),
        (effort("minimal"), adaptive("low"), budget(1024)),
        (effort("low"), adaptive("low"), budget(1024)),
        (effort("medium"), adaptive("medium"), budget(2048)),
        (effort("high"), adaptive("high"), budget(4096)),
        (effort("xhigh"), adaptive("xhigh"), budget(8192)),
        (effort("max"), adaptive("max"), budget(16384)),
        (effort("ultra"), adaptive("ultra"), budget(4096)),
        (ReasoningWish::Budget(2047), adaptive("low"), budget(2047)),
        (ReasoningWish::Budget(2048), adaptive("medium"), budget(2048)),
        (ReasoningWish::Budget(8192), adaptive("high"), budget(8192)),
        (ReasoningWish::Adaptive(Some("low".into())), adaptive("low"), budget(1024)),
        (
            ReasoningWish::Adaptive(None),
            json!([{"type": "adaptive"}, null, 8192]),
            json!([{"type": "adaptive"}, null, 8192]),
        ),
    ] {
        let mut request = hi();
        request.reasoning.wish = Some(Named::new("reasoning_effort", wish));
        for (model, expected) in [(NEW, new), (OLD, old)] {
            let (json, dropped) = write(&request, model);
            let read = json!([json["thinking"], json["output_config"], json["max_tokens"]]);
            assert_eq!(read, expected, "{model} {request:?}");
            assert!(dropped.is_empty());
        }
    }
}

#[test]
fn thoughts_are_shown_as_asked() {
    for (show, model, display) in [
        (Some(ReasoningShow::Summary), NEW, json!("summarized")),
        (Some(ReasoningShow::Omit), NEW, json!("omitted")),
        (Some(ReasoningShow::Summary), OLD, json!(null)),
        (None, NEW, json!(null)),
    ] {
        let mut request = hi();
        request.reasoning.show = show.map(|show| Named::new("include_reasoning", show));
        assert_eq!(write(&request, model).0["thinking"], json!(null));
        request.reasoning.wish = Some(Named::new("r", ReasoningWish::Effort("low".into())));
        assert_eq!(write(&request, model).0["thinking"]["display"], display);
    }
}

#[test]
fn a_budget_stays_below_the_callers_limit() {
    let mut request = hi();
    request.reasoning.wish = Some(Named::new("r", ReasoningWish::Effort("max".into())));
    for (limit, budget) in [("2000", 1999), ("20000", 16384), ("1025", 1024)] {
        request.max_tokens = Some(Named::new("max_completion_tokens", limit.into()));
        let (json, _) = write(&request, OLD);
        assert_eq!(json["thinking"]["budget_tokens"], budget);
        assert_eq!(json["max_tokens"].to_string(), limit);
    }
    request.max_tokens = Some(Named::new("max_completion_tokens", "1024".into()));
    let error = write_raw(&request, OLD, false).unwrap_err();
    assert_eq!(error.field(), "max_completion_tokens");
    assert!(write_raw(&request, NEW, false).is_ok());
}

#[test]
fn a_call_without_own_thoughts_goes_on_without_thinking() {
    let with_call = |blocks| Request {
        turns: vec![
            turn(Role::User, vec![text("a")]),
            turn(Role::Assistant, blocks),
            turn(Role::User, vec![result("1")]),
        ],
        reasoning: crate::llm::convert::request::Reasoning {
            wish: Some(Named::new("reasoning_effort", ReasoningWish::Effort("low".into()))),
            show: None,
        },
        ..Request::default()
    };
    let foreign = with_call(vec![thoughts(Family::OpenAi, OpaqueKind::Encrypted), call("1")]);
    let (json, dropped) = write(&foreign, OLD);
    assert_eq!(json["thinking"], json!(null));
    assert_eq!(dropped, ["reasoning_effort"]);
    assert!(write_raw(&foreign, OLD, true).is_err());
    let (json, dropped) = write(&foreign, NEW);
    assert_eq!((&json["thinking"]["type"], dropped.len()), (&json!("adaptive"), 0));
    let own = with_call(vec![thoughts(Family::Anthropic, OpaqueKind::Signature), call("1")]);
    let (json, dropped) = write(&own, OLD);
    assert_eq!((&json["thinking"]["type"], dropped.len()), (&json!("enabled"), 0));
}

#[test]
fn tools_and_their_choice_are_written() {
    let request = |choice: Option<ToolChoice<'static>>, parallel: Option<bool>| Request {
        tools: vec![tool()],
        tool_choice: choice.map(|choice| Named::new("tool_choice", choice)),
        parallel_tool_calls: parallel.map(|is| Named::new("parallel_tool_calls", is)),
        ..hi()
    };
    let (json, _) = write(&request(None, None), OLD);
    let schema = json!({"type": "object", "properties": {}});
    assert_eq!(json["tools"], json!([{"name": "f", "input_schema": schema}]));
    let tool = || ToolChoice::Tool("f".into());
    for (choice, parallel, expected) in [
        (None, None, json!(null)),
        (Some(ToolChoice::Auto), Some(true), json!(null)),
        (None, Some(false), json!({"type": "auto", "disable_parallel_tool_use": true})),
        (Some(ToolChoice::Required), None, json!({"type": "any"})),
        (Some(ToolChoice::None), Some(false), json!({"type": "none"})),
        (
            Some(tool()),
            Some(false),
            json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true}),
        ),
    ] {
        let (json, dropped) = write(&request(choice, parallel), OLD);
        assert_eq!(json["tool_choice"], expected);
        assert!(dropped.is_empty());
    }
    let allowed = ToolChoice::Allowed { names: vec!["f".into()], is_required: false };
    let refused = |request: &Request<'_>, model| {
        write_raw(request, model, false).unwrap_err().field().to_owned()
    };
    assert_eq!(refused(&request(Some(allowed), None), OLD), "tool_choice");
    let mut thinking = request(Some(tool()), None);
    thinking.reasoning.wish = Some(Named::new("r", ReasoningWish::Effort("low".into())));
    assert_eq!(refused(&thinking, OLD), "tool_choice");
    // Seen to be taken with adaptive thinking.
    assert!(write_raw(&thinking, NEW, false).is_ok());
    let mut without = request(Some(tool()), None);
    without.tools.clear();
    assert_eq!(refused(&without, OLD), "tool_choice");
    without.tool_choice = Some(Named::new("tool_choice", ToolChoice::Auto));
    without.parallel_tool_calls = Some(Named::new("parallel_tool_calls", false));
    assert_eq!(write(&without, OLD).0["tool_choice"], json!(null));
}

/// A request with one change.
fn changed(change: impl FnOnce(&mut Request<'static>)) -> Request<'static> {
    let mut request = hi();
    change(&mut request);
    request
}

#[test]
fn what_the_api_has_not_is_left_out() {
    for (field, request) in [
        ("seed", changed(|r| r.seed = Some(Named::new("seed", "1".into())))),
        ("p", changed(|r| r.presence_penalty = Some(Named::new("p", "0.5".into())))),
        ("f", changed(|r| r.frequency_penalty = Some(Named::new("f", "-1".into())))),
        ("verbosity", changed(|r| r.verbosity = Some(Named::new("verbosity", "low".into())))),
        ("metadata", changed(|r| r.metadata = Some(Named::new("metadata", r#"{"a":"b"}"#.into())))),
        ("store", changed(|r| r.store = Some(Named::new("store", true)))),
        ("key", changed(|r| r.prompt_cache_key = Some(Named::new("key", "a".into())))),
        ("keep", changed(|r| r.prompt_cache_retention = Some(Named::new("keep", "24h".into())))),
        ("tier", changed(|r| r.service_tier = Some(Named::new("tier", "flex".into())))),
    ] {
        let (json, dropped) = write(&request, OLD);
        assert_eq!(dropped, [field]);
        assert_eq!(json, write(&hi(), OLD).0);
        assert_eq!(write_raw(&request, OLD, true).unwrap_err().field(), field);
    }
}

#[test]
fn neutral_values_vanish() {
    let request = changed(|r| {
        r.temperature = Some(Named::new("temperature", "1.0".into()));
        r.top_p = Some(Named::new("top_p", "1".into()));
        r.presence_penalty = Some(Named::new("p", "0.0".into()));
        r.frequency_penalty = Some(Named::new("f", "0".into()));
        r.verbosity = Some(Named::new("verbosity", "medium".into()));
        r.metadata = Some(Named::new("metadata", "{}".into()));
        r.store = Some(Named::new("store", false));
        r.service_tier = Some(Named::new("tier", "auto".into()));
        r.stop = Some(Named::new("stop", Vec::new()));
    });
    let (json, dropped) = write_raw(&request, OLD, true).unwrap();
    assert_eq!(json, write_raw(&hi(), OLD, true).unwrap().0);
    assert!(dropped.is_empty());
}

#[test]
fn what_would_change_the_answer_is_refused() {
    let media = |kind, source| {
        let media = Media { kind, source, name: None, detail: None, cache: None };
        changed(|r| r.turns[0].blocks.push(Block::Media(media)))
    };
    let inline =
        |mime: &'static str| MediaSource::Inline { mime: mime.into(), data: "QQ==".into() };
    for (field, request) in [
        ("t", changed(|r| r.temperature = Some(Named::new("t", "1.1".into())))),
        ("logprobs", changed(|r| r.top_logprobs = Some(Named::new("logprobs", "0".into())))),
        (
            "response_format",
            changed(|r| {
                r.output_format = Some(Named::new("response_format", OutputFormat::Json));
            }),
        ),
        ("messages", media(MediaKind::Audio, inline("audio/wav"))),
        ("messages", media(MediaKind::Video, inline("video/mp4"))),
        ("messages", media(MediaKind::Document, inline("application/msword"))),
        (
            "messages",
            changed(|r| {
                let source = MediaSource::Url("u".into());
                let kind = MediaKind::Image;
                let media = Media { kind, source, name: None, detail: None, cache: None };
                r.turns.push(turn(Role::Assistant, vec![Block::Media(media)]));
            }),
        ),
    ] {
        assert_eq!(write_raw(&request, OLD, false).unwrap_err().field(), field);
    }
}

#[test]
fn a_schema_is_native_and_raw() {
    let schema = r#"{"type":"object","z":{"const":1.0},"a":1e400}"#;
    let request = changed(|r| {
        let format = OutputFormat::Schema {
            name: Some("n".into()),
            description: Some("d".into()),
            schema: schema.into(),
            strict: Some(true),
        };
        r.output_format = Some(Named::new("response_format", format));
    });
    let (json, dropped) = write_raw(&request, OLD, true).unwrap();
    let written =
        format!(r#""output_config":{{"format":{{"type":"json_schema","schema":{schema}}}}}"#);
    assert!(json.contains(&written), "{json}");
    assert!(dropped.is_empty());
}

#[test]
fn media_are_written() {
    let write = |media: Media<'static>| {
        let (mut json, dropped) =
            write(&changed(|r| r.turns[0].blocks.push(Block::Media(media))), OLD);
        (json["messages"][0]["content"][1].take(), dropped)
    };
    let media = |kind, source| Media { kind, source, name: None, detail: None, cache: None };
    let inline =
        |mime: &'static str| MediaSource::Inline { mime: mime.into(), data: "YWI=".into() };
    let image = Media {
        detail: Some("high".into()),
        cache: Some(CacheMark::FiveMinutes),
        ..media(MediaKind::Image, inline("image/png"))
    };
    let source = json!({"type": "base64", "media_type": "image/png", "data": "YWI="});
    let mark = json!({"type": "ephemeral"});
    let expected = json!({"type": "image", "source": source, "cache_control": mark});
    assert_eq!(write(image), (expected, vec!["detail".to_owned()]));
    let pdf = Media {
        name: Some("a.pdf".into()),
        ..media(MediaKind::Document, inline("application/pdf"))
    };
    let (json, dropped) = write(pdf);
    assert_eq!((&json["title"], dropped.len()), (&json!("a.pdf"), 0));
    let plain = json!({"type": "text", "media_type": "text/plain", "data": "ab"});
    for source in [inline("text/plain"), MediaSource::Text("ab".into())] {
        let (json, _) = write(media(MediaKind::Document, source));
        assert_eq!(json, json!({"type": "document", "source": plain}));
    }
}

/// Turn n is a prefix of turn n + 1, so that the provider's cache is hit.
#[test]
fn a_longer_conversation_begins_with_the_shorter_one() {
    let turns = vec![
        turn(Role::User, vec![text("a")]),
        turn(Role::System, vec![text("s")]),
        turn(Role::Assistant, vec![text("b"), call("1"), call("2")]),
        turn(Role::User, vec![result("1"), result("2")]),
        turn(Role::Assistant, vec![thoughts(Family::OpenAi, OpaqueKind::Encrypted), text("c")]),
        turn(Role::User, vec![text("d")]),
        turn(Role::Assistant, vec![text("e")]),
    ];
    for model in [OLD, NEW] {
        let prompt = |count: usize| {
            let turns = turns[..count].to_vec();
            let request = Request { turns, tools: vec![tool()], ..Request::default() };
            let (json, _) = write_raw(&request, model, true).unwrap();
            json.strip_suffix("]}").unwrap().to_owned()
        };
        for count in [2, 4, 6] {
            assert!(prompt(count + 1).starts_with(&prompt(count)), "{model} {count}");
        }
    }
}
