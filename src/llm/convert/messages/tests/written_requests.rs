//! The prompt as it is sent to Anthropic's API.

use serde_json::{Value, json};

use super::super::{read_request, write_request};
use crate::llm::convert::Target;
use crate::llm::convert::error::{ConvertError, Dropped};
use crate::llm::convert::opaque::{Family, OpaqueKind};
use crate::llm::convert::request::{
    Block, CacheMark, Media, MediaKind, MediaSource, ReasoningBlock, Request, Role, SystemPart,
    ToolCall, ToolResult, Turn,
};
use crate::llm::convert::sample_blocks::{assistant, opaque, text, tool, turn, user};

/// Takes budgets for thinking, and instructions only before the conversation.
pub(super) const OLD: &str = "claude-sonnet-4-5";
/// Takes efforts, and instructions in the middle of the conversation.
pub(super) const NEW: &str = "claude-opus-4-8";

pub(super) fn call(id: &'static str) -> Block<'static> {
    let (name, arguments) = ("f".into(), r#"{"b": 1.50, "a": 2}"#.into());
    Block::ToolCall(ToolCall { id: id.into(), name, arguments, opaque: Vec::new(), cache: None })
}

pub(super) fn result(id: &'static str) -> Block<'static> {
    let content = vec![text("r")];
    let (name, is_error, cache) = (None, false, None);
    Block::ToolResult(ToolResult { id: id.into(), name, content, is_error, cache })
}

pub(super) fn thoughts(family: Family, kind: OpaqueKind) -> Block<'static> {
    let opaque = vec![opaque(family, kind, "sig")];
    Block::Reasoning(ReasoningBlock { text: "hm".into(), is_summary: false, opaque })
}

pub(super) fn hi() -> Request<'static> {
    Request { turns: vec![user(vec![text("hi")])], ..Request::default() }
}

/// A request with one change.
pub(super) fn changed(change: impl FnOnce(&mut Request<'static>)) -> Request<'static> {
    let mut request = hi();
    change(&mut request);
    request
}

pub(super) fn write_raw(
    request: &Request<'_>,
    model: &str,
    is_strict: bool,
) -> Result<(String, Vec<String>), ConvertError> {
    let target = Target::new(model, 8192);
    let mut dropped = Dropped::new(is_strict);
    let json = write_request(request, &target, &mut dropped)?;
    Ok((json, dropped.fields().to_vec()))
}

pub(super) fn write(request: &Request<'_>, model: &str) -> (Value, Vec<String>) {
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
    let turns = vec![user(vec![text("q")]), assistant(blocks)];
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
        let request =
            Request { turns: vec![assistant(vec![Block::ToolCall(call)])], ..Request::default() };
        let (json, _) = write_raw(&request, OLD, true).unwrap();
        assert!(json.contains(&format!(r#""input":{input}}}"#)), "{json}");
    }
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
    let turns = [
        user(vec![text("a")]),
        turn(Role::System, vec![text("s")]),
        assistant(vec![text("b"), call("1"), call("2")]),
        user(vec![result("1"), result("2")]),
        assistant(vec![thoughts(Family::OpenAi, OpaqueKind::Encrypted), text("c")]),
        user(vec![text("d")]),
        assistant(vec![text("e")]),
    ];
    for model in [OLD, NEW] {
        let prompt = |count: usize| {
            let turns = turns[..count].to_vec();
            let request = Request { turns, tools: vec![tool("f")], ..Request::default() };
            let (json, _) = write_raw(&request, model, true).unwrap();
            json.strip_suffix("]}").unwrap().to_owned()
        };
        for count in [2, 4, 6] {
            assert!(prompt(count + 1).starts_with(&prompt(count)), "{model} {count}");
        }
    }
}
