//! What a caller's request means, and which requests are refused.

use super::super::read_request;
use crate::llm::convert::opaque::{Family, OpaqueKind};
use crate::llm::convert::request::{
    Block, CacheMark, MediaKind, MediaSource, ReasoningShow, ReasoningWish, Request, Role,
    ToolChoice,
};

/// A request with these members, and these messages.
fn body(members: &str, messages: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{"model":"m","max_tokens":9{comma}{members},"messages":{messages}}}"#)
}

const HI: &str = r#"[{"role":"user","content":"hi"}]"#;

/// Reads a request with these members.
fn with<T>(members: &str, look: impl FnOnce(Request<'_>) -> T) -> T {
    look(read_request(&body(members, HI)).unwrap())
}

fn error(members: &str, messages: &str) -> String {
    read_request(&body(members, messages)).unwrap_err().to_string()
}

/// The content of a single message, with an assistant's role if it begins with a call or thoughts.
fn block(json: &str) -> Block<'static> {
    let role = match json {
        json if json.contains("tool_use\"") || json.contains("thinking\"") => "assistant",
        _ => "user",
    };
    let json = body("", &format!(r#"[{{"role":"{role}","content":[{json}]}}]"#));
    let mut request = read_request(Box::leak(json.into_boxed_str())).unwrap();
    assert_eq!(request.turns.len(), 1);
    request.turns.remove(0).blocks.remove(0)
}

#[test]
fn defaults_vanish() {
    let json = r#""stream":false,"temperature":1.0,"top_p":1,"stop_sequences":[],"tools":[],
        "tool_choice":{"type":"auto"},"metadata":{},"service_tier":"auto","system":null,
        "thinking":null,"output_config":{},"mcp_servers":[],"speed":"standard","container":null,
        "inference_geo":"global","anthropic_version":"bedrock-2023-05-31","anthropic_beta":[],
        "context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]}"#;
    let plain = body("", HI);
    let expected = read_request(&plain).unwrap();
    with(json, |request| assert_eq!(request, expected));
    assert!(expected.left_out.is_empty() && expected.include_usage && !expected.stream);
}

#[test]
fn parameters_are_read_as_they_were_written() {
    let json = r#""stream":true,"temperature":0.30,"top_p":9e-1,"top_k":40,
        "stop_sequences":["a","\u0062"],"service_tier":"standard_only",
        "metadata":{"user_id":"u"}"#;
    with(json, |request| {
        assert!(request.stream);
        assert_eq!(request.temperature.unwrap().value, "0.30");
        assert_eq!(request.top_p.unwrap().value, "9e-1");
        assert_eq!(request.top_k.unwrap().value, "40");
        assert_eq!(request.stop.unwrap().value, ["a", "b"]);
        assert_eq!(request.service_tier.unwrap().value, "default");
        assert_eq!(request.user.unwrap().value, "u");
        assert_eq!(request.max_tokens.unwrap().value, "9");
    });
}

#[test]
fn harmless_fields_are_left_out_by_name() {
    for (members, field) in [
        (r#""speed":"fast""#, "speed"),
        (r#""cache_control":{"type":"ephemeral"}"#, "cache_control"),
        (r#""betas":["x"]"#, "betas"),
        (r#""something_new":1"#, "something_new"),
        (r#""metadata":{"team":"a"}"#, "metadata.team"),
        (r#""output_config":{"task_budget":{"total":1}}"#, "output_config.task_budget"),
        (r#""thinking":{"type":"adaptive","display":"new"}"#, "thinking.display"),
        (r#""thinking":{"type":"new"}"#, "thinking.type"),
        (
            r#""tools":[{"type":"tool_search_tool_bm25_20251119","name":"tool_search_tool_bm25"}]"#,
            "tools.tool_search_tool",
        ),
        (
            r#""context_management":{"edits":[{"type":"clear_thinking_20251015"}]}"#,
            "context_management",
        ),
        (
            r#""tools":[{"name":"f","input_schema":{},"defer_loading":true,"strict":false}]"#,
            "tools.defer_loading",
        ),
        (
            r#""tools":[{"name":"f","input_schema":{},"input_examples":[{}]}]"#,
            "tools.input_examples",
        ),
    ] {
        with(members, |request| assert_eq!(request.left_out, [field], "{members}"));
    }
}

#[test]
fn what_changes_the_answer_is_refused() {
    for (members, field) in [
        (r#""mcp_servers":[{"url":"x"}]"#, "mcp_servers"),
        (r#""container":"c_1""#, "container"),
        (r#""inference_geo":"us""#, "inference_geo"),
        (r#""fallbacks":[{"model":"x"}]"#, "fallbacks"),
        (
            r#""context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}"#,
            "context_management.edits[0]",
        ),
        (r#""tools":[{"type":"web_search_20250305","name":"web_search"}]"#, "tools[0].type"),
        (r#""thread":{"type":"create"}"#, "thread"),
        (r#""output_format":{"type":"grammar"}"#, "output_format.type"),
    ] {
        let json = body(members, HI);
        let error = read_request(&json).unwrap_err();
        assert_eq!(error.field(), field, "{members}");
    }
    let json = r#"{"model":"m","max_tokens":0,"messages":[]}"#;
    assert_eq!(read_request(json).unwrap_err().field(), "max_tokens");
}

#[test]
fn errors_name_the_field() {
    for (json, message) in [
        ("{}", "'model' is required"),
        (r#"{"model":"m"}"#, "'max_tokens' is required"),
        (r#"{"model":"m","max_tokens":9}"#, "'messages' is required"),
        (r#"{"model":7}"#, "'model' must be a string"),
    ] {
        assert_eq!(read_request(json).unwrap_err().to_string(), message);
    }
    for (members, messages, message) in [
        ("", "{}", "'messages' must be an array"),
        ("", "[]", "'messages' must hold a message with content"),
        ("", r#"[{"role":"user","content":[]}]"#, "'messages' must hold a message with content"),
        ("", "[7]", "'messages[0]' must be an object"),
        ("", r#"[{"content":"x"}]"#, "'messages[0].role' is required"),
        ("", r#"[{"role":"user"}]"#, "'messages[0].content' is required"),
        (
            "",
            r#"[{"role":"user","content":5}]"#,
            "'messages[0].content' must be a string or an array",
        ),
        (
            "",
            r#"[{"role":"user","content":[{"type":"text"}]}]"#,
            "'messages[0].content[0].text' is required",
        ),
        (
            "",
            r#"[{"role":"assistant","content":[{"type":"tool_use","id":"a"}]}]"#,
            "'messages[0].content[0].name' is required",
        ),
        (
            "",
            r#"[{"role":"user","content":[{"type":"tool_result"}]}]"#,
            "'messages[0].content[0].tool_use_id' is required",
        ),
        (
            "",
            r#"[{"role":"user","content":[{"type":"image","source":{"type":"file"}}]}]"#,
            "'messages[0].content[0].source.type' can't be \"file\": files belong to an account at \
             Anthropic; send the content",
        ),
        (
            "",
            r#"[{"role":"assistant","content":[{"type":"server_tool_use"}]}]"#,
            "'messages[0].content[0].type' can't be \"server_tool_use\" in this message for this \
             model",
        ),
        (r#""temperature":"hot""#, HI, "'temperature' must be a number"),
        (r#""stop_sequences":[1]"#, HI, "'stop_sequences[0]' must be a string"),
        (r#""thinking":{"type":"enabled"}"#, HI, "'thinking.budget_tokens' must be a whole number"),
        (r#""tools":[{"name":"f"}]"#, HI, "'tools[0].input_schema' is required"),
        (r#""tool_choice":{"type":"any"}"#, HI, "'tool_choice' needs 'tools'"),
    ] {
        assert_eq!(error(members, messages), message);
    }
}

#[test]
fn thinking_and_effort_are_one_wish() {
    let budget = |budget| ReasoningWish::Budget(budget);
    let effort = |word: &'static str| ReasoningWish::Effort(word.into());
    for (members, field, wish) in [
        (r#""thinking":{"type":"enabled","budget_tokens":2048}"#, "thinking", budget(2048)),
        (r#""thinking":{"type":"disabled"}"#, "thinking", ReasoningWish::Off),
        (r#""thinking":{"type":"adaptive"}"#, "thinking", ReasoningWish::Adaptive(None)),
        (
            r#""thinking":{"type":"adaptive"},"output_config":{"effort":"max"}"#,
            "thinking",
            ReasoningWish::Adaptive(Some("max".into())),
        ),
        (
            r#""thinking":{"type":"new"},"output_config":{"effort":"low"}"#,
            "output_config.effort",
            effort("low"),
        ),
        (r#""output_config":{"effort":"low"}"#, "output_config.effort", effort("low")),
    ] {
        with(members, |request| {
            let read = request.reasoning.wish.unwrap();
            assert_eq!((read.field, read.value), (field, wish));
        });
    }
    with(r#""thinking":{"type":"adaptive","display":"summarized"}"#, |request| {
        assert_eq!(request.reasoning.show.unwrap().value, ReasoningShow::Summary);
    });
}

#[test]
fn tools_and_their_choice() {
    let tools = r#""tools":[{"type":"custom","name":"f","description":"d",
        "input_schema":{"type":"object","z":1,"a":1.50},"strict":true,
        "cache_control":{"type":"ephemeral","ttl":"1h"}}]"#;
    with(tools, |request| {
        let tool = &request.tools[0];
        assert_eq!(tool.parameters.as_deref(), Some(r#"{"type":"object","z":1,"a":1.50}"#));
        assert_eq!((tool.strict, tool.cache), (Some(true), Some(CacheMark::OneHour)));
        assert_eq!((&*tool.name, tool.description.as_deref()), ("f", Some("d")));
    });
    for (choice, expected, parallel) in [
        (r#"{"type":"auto","disable_parallel_tool_use":true}"#, None, Some(false)),
        (r#"{"type":"any"}"#, Some(ToolChoice::Required), None),
        (r#"{"type":"none"}"#, Some(ToolChoice::None), None),
        (r#"{"type":"tool","name":"f"}"#, Some(ToolChoice::Tool("f".into())), None),
    ] {
        with(&format!(r#"{tools},"tool_choice":{choice}"#), |request| {
            assert_eq!(request.tool_choice.map(|choice| choice.value), expected, "{choice}");
            let read = request.parallel_tool_calls;
            assert_eq!(read.map(|parallel| parallel.value), parallel, "{choice}");
        });
    }
}

#[test]
fn media_are_read() {
    let media = |json: &str| match block(json) {
        Block::Media(media) => media,
        other => panic!("{other:?}"),
    };
    let image = media(
        r#"{"type":"image","source":{"type":"base64","media_type":"Image/PNG;x=y","data":"QQ=="}}"#,
    );
    let inline =
        |mime: &'static str| MediaSource::Inline { mime: mime.into(), data: "QQ==".into() };
    assert_eq!((image.kind, image.source), (MediaKind::Image, inline("image/png")));
    let url = media(r#"{"type":"image","source":{"type":"url","url":"https://a/b"}}"#);
    assert_eq!(url.source, MediaSource::Url("https://a/b".into()));
    let pdf = media(
        r#"{"type":"document","title":"t","cache_control":{"type":"ephemeral"},
            "source":{"type":"base64","media_type":"application/pdf","data":"QQ=="}}"#,
    );
    assert_eq!(pdf.name.as_deref(), Some("t"));
    assert_eq!((pdf.source, pdf.cache), (inline("application/pdf"), Some(CacheMark::FiveMinutes)));
    for source in [
        r#"{"type":"text","media_type":"text/plain","data":"ab"}"#,
        r#"{"type":"content","content":"ab"}"#,
        r#"{"type":"content","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#,
    ] {
        let json = format!(r#"{{"type":"document","source":{source}}}"#);
        assert_eq!(media(&json).source, MediaSource::Text("ab".into()));
    }
}

#[test]
fn results_come_first_and_hold_text_and_media() {
    let json = body(
        "",
        r#"[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"x": 1}},
              {"type":"tool_use","id":"b","name":"g","caller":{"type":"direct"}}]},
            {"role":"user","content":[{"type":"text","text":"and"},
              {"type":"tool_result","tool_use_id":"b","is_error":true},
              {"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"1"},
                {"type":"image","source":{"type":"url","url":"https://u"}},
                {"type":"search_result","source":"s","title":"t",
                 "content":[{"type":"text","text":"2"},{"type":"text","text":"3"}]},
                {"type":"tool_reference","tool_name":"h"}]}]}]"#,
    );
    let request = read_request(&json).unwrap();
    let [calls, results] = &request.turns[..] else { panic!("{request:?}") };
    let [Block::ToolCall(first), Block::ToolCall(second)] = &calls.blocks[..] else { panic!() };
    assert_eq!((&*first.arguments, &*second.arguments), (r#"{"x": 1}"#, "{}"));
    let [Block::ToolResult(b), Block::ToolResult(a), Block::Text(and)] = &results.blocks[..] else {
        panic!("{results:?}")
    };
    assert_eq!((&*b.id, b.is_error, b.content.len()), ("b", true, 0));
    assert_eq!(and.text, "and");
    let texts: Vec<&str> = a
        .content
        .iter()
        .map(|block| match block {
            Block::Text(text) => &*text.text,
            Block::Media(_) => "media",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, ["1", "media", "2", "3", "h"]);
}

/// The blocks of a search for tools say nothing where all tools are there.
#[test]
fn searches_for_tools_are_left_out() {
    let json = body(
        "",
        r#"[{"role":"user","content":"hi"},{"role":"assistant","content":[
            {"type":"server_tool_use","id":"s","name":"tool_search_tool_bm25","input":{}},
            {"type":"tool_search_tool_result","tool_use_id":"s","content":{}},
            {"type":"text","text":"found"}]},
          {"role":"system","content":[{"type":"tool_addition","tool":{"name":"f"}}]}]"#,
    );
    let request = read_request(&json).unwrap();
    assert_eq!(request.turns.len(), 2);
    assert!(matches!(&request.turns[1].blocks[..], [Block::Text(_)]));
    let (search, addition) = ("messages.content.tool_search", "messages.content.tool_addition");
    assert_eq!(request.left_out, [search, search, addition]);
}

#[test]
fn thoughts_keep_whose_they_are() {
    let opaque = |json: &str| match block(json) {
        Block::Reasoning(mut reasoning) => {
            let opaque = reasoning.opaque.pop().map(|one| (one.family, one.kind, one.data));
            (reasoning.text, reasoning.is_summary, opaque)
        }
        other => panic!("{other:?}"),
    };
    let own = opaque(r#"{"type":"thinking","thinking":"hm","signature":"EuY"}"#);
    let signed = (Family::Anthropic, OpaqueKind::Signature, "EuY".into());
    assert_eq!(own, ("hm".into(), false, Some(signed)));
    let redacted = opaque(r#"{"type":"redacted_thinking","data":"xx"}"#);
    let data = (Family::Anthropic, OpaqueKind::Redacted, "xx".into());
    assert_eq!(redacted, ("".into(), false, Some(data)));
    let foreign = opaque(
        r#"{"type":"thinking","thinking":"s","signature":"tollgate.1.openai.encrypted.cnNfMQ.gAA"}"#,
    );
    let encrypted = (Family::OpenAi, OpaqueKind::Encrypted, "gAA".into());
    assert_eq!(foreign, ("s".into(), true, Some(encrypted)));
    let unsigned = opaque(r#"{"type":"thinking","thinking":"s","signature":"tollgate.1.none"}"#);
    assert_eq!(unsigned, ("s".into(), false, None));
}

/// The members that Claude Code sends: a header that changes with every request, marks for the cache,
/// instructions in the middle, adaptive thinking, an effort, and edits of the context.
#[test]
fn a_request_of_claude_code_is_read() {
    let json = r#"{"model":"openai/gpt","max_tokens":32000,"stream":true,
        "metadata":{"user_id":"user_0_account__session_1"},
        "thinking":{"type":"adaptive","display":"summarized"},
        "output_config":{"effort":"high"},
        "context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},
        "system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2; cch=0a1b2;"},
          {"type":"text","text":"You are an agent.","cache_control":{"type":"ephemeral","ttl":"1h"}}],
        "tools":[{"name":"Bash","description":"Runs","input_schema":{"$schema":"x","type":"object"},
          "strict":true,"defer_loading":true,"eager_input_streaming":true}],
        "messages":[{"role":"user","content":[{"type":"text","text":"<system-reminder>a"},
            {"type":"text","text":"do it","cache_control":{"type":"ephemeral"}}]},
          {"role":"system","content":[{"type":"text","text":"Available agent types: none"}]},
          {"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"EuY"},
            {"type":"text","text":"I will."},
            {"type":"tool_use","id":"toolu_1","name":"Bash","input":{"command":"ls"},
             "caller":{"type":"direct"}}]},
          {"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"a.rs",
            "is_error":false,"cache_control":{"type":"ephemeral"}}]}]}"#;
    let request = read_request(json).unwrap();
    assert_eq!(request.system.len(), 1);
    assert_eq!(request.system[0].cache, Some(CacheMark::OneHour));
    let roles: Vec<Role> = request.turns.iter().map(|turn| turn.role).collect();
    assert_eq!(roles, [Role::User, Role::System, Role::Assistant, Role::User]);
    assert_eq!(request.turns[2].blocks.len(), 3);
    assert_eq!(request.left_out, ["tools.defer_loading", "tools.eager_input_streaming"]);
    let wish = request.reasoning.wish.unwrap().value;
    assert_eq!(wish, ReasoningWish::Adaptive(Some("high".into())));
}
