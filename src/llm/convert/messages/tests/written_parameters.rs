//! How parameters are written, and what is refused or left out of them.

use serde_json::json;

use super::written_requests::{NEW, OLD, call, changed, hi, result, thoughts, write, write_raw};
use crate::llm::convert::opaque::{Family, OpaqueKind};
use crate::llm::convert::request::{
    Block, Media, MediaKind, MediaSource, Named, OutputFormat, Reasoning, ReasoningShow,
    ReasoningWish, Request, ToolChoice,
};
use crate::llm::convert::sample_blocks::{assistant, text, tool, user};

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
        turns: vec![user(vec![text("a")]), assistant(blocks), user(vec![result("1")])],
        reasoning: Reasoning {
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
    let mut own = with_call(vec![thoughts(Family::Anthropic, OpaqueKind::Signature), call("1")]);
    let (json, dropped) = write(&own, OLD);
    assert_eq!((&json["thinking"]["type"], dropped.len()), (&json!("enabled"), 0));
    // It does not think between calls.
    own.turns.push(assistant(vec![call("2")]));
    own.turns.push(user(vec![result("2")]));
    let (json, dropped) = write(&own, OLD);
    assert_eq!((&json["thinking"]["type"], dropped.len()), (&json!("enabled"), 0));
    // What was said before the question is no matter.
    let mut later = foreign;
    later.turns.push(assistant(vec![text("c")]));
    later.turns.push(user(vec![text("b")]));
    assert_eq!(write(&later, OLD).0["thinking"]["type"], "enabled");
    later.turns.extend(own.turns.drain(1..));
    assert_eq!(write(&later, OLD).0["thinking"]["type"], "enabled");
}

#[test]
fn tools_and_their_choice_are_written() {
    let request = |choice: Option<ToolChoice<'static>>, parallel: Option<bool>| Request {
        tools: vec![tool("f")],
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
                r.turns.push(assistant(vec![Block::Media(media)]));
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
    let (json, dropped) = write_raw(&request, OLD, false).unwrap();
    let written =
        format!(r#""output_config":{{"format":{{"type":"json_schema","schema":{schema}}}}}"#);
    assert!(json.contains(&written), "{json}");
    assert_eq!(dropped, ["response_format.description"]);
}
