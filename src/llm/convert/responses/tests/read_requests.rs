//! What callers send.

use serde_json::{Value, json};

use super::super::super::opaque::{Family, Opaque, OpaqueKind};
use super::super::super::request::{
    Block, CacheMark, MediaKind, MediaSource, OutputFormat, ReasoningShow, ReasoningWish, Role,
    ToolChoice,
};
use super::*;

/// The members besides a model and an input.
fn body(members: &Value) -> String {
    let mut body = json!({"model": "m", "input": "hi"});
    let members = members.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(members);
    body.to_string()
}

fn tool() -> Value {
    json!({"type": "function", "name": "f", "parameters": {"type": "object"}})
}

#[test]
fn neutral_values_vanish() {
    let plain = body(&json!({}));
    for members in [
        json!({"temperature": 1, "top_p": 1.0, "store": false, "background": false}),
        json!({"tools": [], "tool_choice": "auto", "parallel_tool_calls": true}),
        json!({"tool_choice": "none", "truncation": "disabled", "top_logprobs": 0}),
        json!({"metadata": {}, "service_tier": "auto", "include": [], "context_management": []}),
        json!({"include": ["reasoning.encrypted_content"], "instructions": ""}),
        json!({"text": {"format": {"type": "text"}, "verbosity": "medium"}}),
        json!({"reasoning": {"effort": null, "summary": null, "context": "auto"}}),
        json!({"stream_options": {"include_obfuscation": false}, "user": "", "stream": false}),
        json!({"previous_response_id": null, "conversation": null, "prompt": null, "store": null,
               "max_tool_calls": null, "max_output_tokens": null, "moderation": null}),
        json!({"presence_penalty": 0.0, "frequency_penalty": 0}),
    ] {
        assert_eq!(read_request(&body(&members)), read_request(&plain), "{members}");
    }
}

#[test]
fn what_means_something_else_elsewhere_is_refused_by_name() {
    let item = |item: Value| json!({"input": [item]});
    let part = |part: Value| json!({"input": [{"role": "user", "content": [part]}]});
    for (members, field) in [
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"prompt": {"id": "pmpt_1"}, "input": null}), "prompt"),
        (json!({"store": true}), "store"),
        (json!({"background": true}), "background"),
        (json!({"truncation": "auto"}), "truncation"),
        (json!({"context_management": [{"type": "compaction"}]}), "context_management"),
        (json!({"max_tool_calls": 3}), "max_tool_calls"),
        (json!({"moderation": {"model": "omni"}}), "moderation"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"include": ["message.output_text.logprobs"]}), "include[0]"),
        (json!({"tools": [tool(), {"type": "web_search"}]}), "tools[1].type"),
        (json!({"tools": [{"type": "local_shell"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "namespace", "name": "n", "tools": []}]}), "tools[0].type"),
        (json!({"tools": [{"type": "custom", "name": "apply_patch"}]}), "tools[0].type"),
        (json!({"tools": [tool()], "tool_choice": {"type": "mcp"}}), "tool_choice.type"),
        (json!({"text": {"format": {"type": "grammar"}}}), "text.format.type"),
        (item(json!({"type": "item_reference", "id": "msg_1"})), "input[0]"),
        (item(json!({"id": "msg_1"})), "input[0]"),
        (item(json!({"type": "custom_tool_call"})), "input[0].type"),
        (item(json!({"type": "local_shell_call"})), "input[0].type"),
        (item(json!({"type": "web_search_call"})), "input[0].type"),
        (item(json!({"type": "compaction"})), "input[0].type"),
        (part(json!({"type": "input_file", "file_id": "file_1"})), "input[0].content[0].file_id"),
        (part(json!({"type": "input_image", "file_id": "f"})), "input[0].content[0].file_id"),
        (part(json!({"type": "computer_screenshot"})), "input[0].content[0].type"),
    ] {
        match read_request(&body(&members)) {
            Err(ConvertError::Unsupported { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{members}: {other:?}"),
        }
    }
}

#[test]
fn what_breaks_the_rules_is_refused_by_path() {
    let part = |part: Value| json!({"input": [{"role": "user", "content": [part]}]});
    for (members, error) in [
        (json!({"model": null}), "'model' is required"),
        (json!({"model": 3}), "'model' must be a string"),
        (json!({"input": null}), "'input' is required"),
        (json!({"input": {}}), "'input' must be a string or an array"),
        (json!({"input": [3]}), "'input[0]' must be an object"),
        (json!({"input": [{"role": "user"}]}), "'input[0].content' is required"),
        (json!({"input": [{"content": "x"}]}), "'input[0].role' is required"),
        (
            json!({"input": [{"type": "function_call", "name": "f", "arguments": ""}]}),
            "'input[0].call_id' is required",
        ),
        (
            json!({"input": [{"type": "function_call_output", "call_id": "c"}]}),
            "'input[0].output' is required",
        ),
        (part(json!({"type": "input_text"})), "'input[0].content[0].text' is required"),
        (part(json!({"type": "input_image"})), "'input[0].content[0].image_url' is required"),
        (json!({"stream": "yes"}), "'stream' must be true or false"),
        (json!({"temperature": "hot"}), "'temperature' must be a number"),
        (json!({"tools": {}}), "'tools' must be an array"),
        (json!({"tools": [{"type": "function"}]}), "'tools[0].name' is required"),
        (json!({"tool_choice": "required"}), "'tool_choice' needs 'tools'"),
        (
            json!({"text": {"format": {"type": "json_schema", "name": "n"}}}),
            "'text.format.schema' must be an object",
        ),
        (json!({"reasoning": "high"}), "'reasoning' must be an object"),
        (json!({"metadata": []}), "'metadata' must be an object"),
    ] {
        let read = read_request(&body(&members)).unwrap_err();
        assert!(matches!(read, ConvertError::Invalid { .. }), "{members}");
        assert_eq!(read.to_string(), error, "{members}");
    }
    for content in [json!([{"type": "output_text", "text": "x"}]), json!(3)] {
        let json = body(&json!({"input": [{"role": "user", "content": content}]}));
        assert!(matches!(read_request(&json), Err(ConvertError::Invalid { .. })), "{content}");
    }
    for url in ["file:///etc/passwd", "data:image/png,x", "data:;base64,x", "", "data:image/png"] {
        let members = part(json!({"type": "input_image", "image_url": url}));
        let error = read_request(&body(&members)).unwrap_err();
        assert_eq!(error.field(), "input[0].content[0].image_url", "{url}");
    }
}

#[test]
fn harmless_fields_are_named_and_left_out() {
    for (members, expected) in [
        (
            json!({"client_metadata": {"x": "y"}, "new_field": 1}),
            &["client_metadata", "new_field"][..],
        ),
        (json!({"prompt_cache_options": {"mode": "explicit"}}), &["prompt_cache_options"]),
        (json!({"include": ["file_search_call.results", "web_search_call.results"]}), &["include"]),
        (json!({"stream_options": {"include_obfuscation": true}}), &["stream_options"]),
        (json!({"reasoning": {"context": "all_turns"}}), &["reasoning.context"]),
        (json!({"text": {"tone": "dry"}}), &["text.tone"]),
        (
            json!({"tools": [{"type": "function", "name": "f", "defer_loading": true}]}),
            &["tools.defer_loading"],
        ),
    ] {
        let members = body(&members);
        let request = read_request(&members).unwrap();
        assert_eq!(request.left_out, expected, "{members}");
    }
}

#[test]
fn parameters_are_read_as_they_were_written() {
    let json = r#"{"model": "m", "input": "hi", "stream": true, "temperature": 0.70, "top_p": 1e-1,
        "max_output_tokens": 12345678901234567890, "metadata": {"b": "1", "a": "2"},
        "parallel_tool_calls": false, "tool_choice": {"type": "function", "name": "f"},
        "tools": [{"type": "function", "name": "f", "parameters": {"z": 1.0, "a": [ ]}, "strict": true}],
        "reasoning": {"effort": "xhigh", "summary": "detailed"}, "safety_identifier": "u1", "user": "u2",
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {"b": 1}}},
        "service_tier": "flex", "prompt_cache_key": "k", "prompt_cache_retention": "24h"}"#;
    let request = read_request(json).unwrap();
    assert!(request.stream && request.include_usage);
    let raw = |named: &Option<Named<std::borrow::Cow<'_, str>>>| {
        named.clone().unwrap().value.into_owned()
    };
    assert_eq!(raw(&request.temperature), "0.70");
    assert_eq!(raw(&request.top_p), "1e-1");
    assert_eq!(raw(&request.max_tokens), "12345678901234567890");
    assert_eq!(raw(&request.metadata), r#"{"b": "1", "a": "2"}"#);
    assert_eq!(request.tools[0].parameters.as_deref(), Some(r#"{"z": 1.0, "a": [ ]}"#));
    assert_eq!(request.tools[0].strict, Some(true));
    assert_eq!(request.tool_choice.clone().unwrap().value, ToolChoice::Tool("f".into()));
    assert!(!request.parallel_tool_calls.clone().unwrap().value);
    let wish = request.reasoning.wish.clone().unwrap();
    assert_eq!(
        (wish.field, wish.value),
        ("reasoning.effort", ReasoningWish::Effort("xhigh".into()))
    );
    assert_eq!(request.reasoning.show.clone().unwrap().value, ReasoningShow::Summary);
    assert_eq!(request.user, Some(Named::new("safety_identifier", "u1".into())));
    let format = request.output_format.clone().unwrap().value;
    assert!(
        matches!(format, OutputFormat::Schema { schema, strict: None, .. } if schema == r#"{"b": 1}"#)
    );
    assert_survives(json);
}

#[test]
fn choices_of_tools() {
    for (choice, expected) in [
        (json!("none"), ToolChoice::None),
        (json!("required"), ToolChoice::Required),
        (json!({"type": "function", "name": "f"}), ToolChoice::Tool("f".into())),
        (
            json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}),
            ToolChoice::Allowed { names: vec!["f".into()], is_required: true },
        ),
    ] {
        let json = body(&json!({"tools": [tool()], "tool_choice": choice}));
        assert_eq!(read_request(&json).unwrap().tool_choice.unwrap().value, expected);
        assert_survives(&json);
    }
}

#[test]
fn items_become_turns_in_order() {
    let json = json!({"model": "m", "instructions": "Be brief.", "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "One."},
            {"type": "input_text", "text": "Two.", "prompt_cache_breakpoint": {"mode": "explicit"}}]},
        {"role": "user", "content": "q"},
        {"role": "user", "content": [{"type": "input_text", "text": "more"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "a"},
            {"type": "summary_text", "text": "b"}], "encrypted_content": "gAAA"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "commentary",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{\"a\": 1.0}"},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "x"},
            {"type": "input_image", "image_url": "data:image/PNG;base64,AAAA", "detail": "low"}]},
        {"role": "system", "content": "Now hurry."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]});
    let json = json.to_string();
    let request = read_request(&json).unwrap();
    let system: Vec<_> =
        request.system.iter().map(|part| (part.is_developer, &*part.text, part.cache)).collect();
    let expected = [
        (false, "Be brief.", None),
        (true, "One.", None),
        (true, "Two.", Some(CacheMark::FiveMinutes)),
    ];
    assert_eq!(system, expected);
    let turns: Vec<_> = request.turns.iter().map(|turn| (turn.role, turn.blocks.len())).collect();
    let (user, assistant) = (Role::User, Role::Assistant);
    assert_eq!(
        turns,
        [(user, 1), (user, 1), (assistant, 4), (user, 2), (Role::System, 1), (assistant, 1)]
    );
    let [Block::Reasoning(reasoning), Block::Text(text), Block::ToolCall(call), _] =
        &request.turns[2].blocks[..]
    else {
        panic!("{:?}", request.turns[2])
    };
    assert_eq!((&*reasoning.text, reasoning.is_summary), ("a\n\nb", true));
    let own = Opaque {
        family: Family::OpenAi,
        kind: OpaqueKind::Encrypted,
        id: Some("rs_1".into()),
        data: "gAAA".into(),
    };
    assert_eq!(reasoning.opaque, [own]);
    assert_eq!((&*text.text, text.phase.as_deref()), ("I look.", Some("commentary")));
    assert_eq!((&*call.id, &*call.name, &*call.arguments), ("c1", "f", "{\"a\": 1.0}"));
    let Block::ToolResult(result) = &request.turns[3].blocks[1] else { panic!() };
    let Block::Media(image) = &result.content[1] else { panic!() };
    assert_eq!((image.kind, image.detail.as_deref()), (MediaKind::Image, Some("low")));
    let inline = MediaSource::Inline { mime: "image/png".into(), data: "AAAA".into() };
    assert_eq!(image.source, inline);
}

#[test]
fn media_is_read() {
    for (part, kind, source, name) in [
        (
            json!({"type": "input_image", "image_url": "HTTPS://a.b/c.png"}),
            MediaKind::Image,
            MediaSource::Url("HTTPS://a.b/c.png".into()),
            None,
        ),
        (
            json!({"type": "input_file", "file_url": "https://a.b/c.pdf"}),
            MediaKind::Document,
            MediaSource::Url("https://a.b/c.pdf".into()),
            None,
        ),
        (
            json!({"type": "input_file", "filename": "c.pdf", "file_data": "data:application/pdf;base64,JVBE"}),
            MediaKind::Document,
            MediaSource::Inline { mime: "application/pdf".into(), data: "JVBE".into() },
            Some("c.pdf"),
        ),
        (
            json!({"type": "input_file", "file_data": "data:Text/Plain;charset=utf-8;BASE64,aGk="}),
            MediaKind::Document,
            MediaSource::Inline { mime: "text/plain".into(), data: "aGk=".into() },
            None,
        ),
        (
            json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}),
            MediaKind::Audio,
            MediaSource::Inline { mime: "audio/mpeg".into(), data: "AAAA".into() },
            None,
        ),
    ] {
        let json = body(&json!({"input": [{"role": "user", "content": [part]}]}));
        let request = read_request(&json).unwrap();
        let Block::Media(media) = &request.turns[0].blocks[0] else { panic!("{part}") };
        assert_eq!((media.kind, &media.source, media.name.as_deref()), (kind, &source, name));
    }
}

#[test]
fn signatures_find_what_they_belong_to() {
    let signature = |owner: &str, data: &str| {
        let id = Some(owner.to_owned().into());
        let (family, kind) = (Family::Google, OpaqueKind::Signature);
        let opaque = Opaque { family, kind, id, data: data.to_owned().into() };
        json!({"type": "reasoning", "summary": [], "encrypted_content": opaque.to_container()})
    };
    let call =
        |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let json = body(&json!({"input": [
        {"role": "assistant", "content": [{"type": "output_text", "text": "t"}]},
        signature("text", "of the text"),
        signature("c1", "before"), call("c1"),
        call("c2"), signature("c2", "after"),
        signature("gone", "of a call that is gone"),
        {"type": "function_call_output", "call_id": "c1", "output": ""},
        call("gone"),
    ]}));
    let request = read_request(&json).unwrap();
    let opaque: Vec<Vec<&str>> = request
        .turns
        .iter()
        .flat_map(|turn| &turn.blocks)
        .map(|block| {
            let opaque = match block {
                Block::Text(text) => &text.opaque,
                Block::ToolCall(call) => &call.opaque,
                Block::ToolResult(_) => return Vec::new(),
                other => panic!("{other:?}"),
            };
            assert!(opaque.iter().all(|one| one.id.is_none() && one.is_of(Family::Google)));
            opaque.iter().map(|one| &*one.data).collect()
        })
        .collect();
    assert_eq!(opaque, [vec!["of the text"], vec!["before"], vec!["after"], vec![], vec![]]);
}

#[test]
fn foreign_reasoning_keeps_its_family_and_what_is_not_understood_is_left_out() {
    let thinking = Opaque {
        family: Family::Anthropic,
        kind: OpaqueKind::Signature,
        id: None,
        data: "EuY=".into(),
    };
    let item = |encrypted: &str, text: &str| {
        json!({"type": "reasoning", "summary": [], "encrypted_content": encrypted,
            "content": [{"type": "reasoning_text", "text": text}]})
    };
    let json = body(&json!({"input": [
        item(&thinking.to_container(), "thoughts"), item("tollgate.1.new", ""), item("", ""),
    ]}));
    let request = read_request(&json).unwrap();
    let [Block::Reasoning(reasoning)] = &request.turns[0].blocks[..] else { panic!("{request:?}") };
    assert_eq!((&*reasoning.text, reasoning.is_summary), ("thoughts", false));
    assert_eq!(reasoning.opaque, [thinking]);
}

/// As Codex sends it to a model that it has no special tools for.
#[test]
fn a_request_of_codex_is_read() {
    let json = json!({
        "model": "anthropic/claude", "instructions": "You are a coding agent.", "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<p>"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<env>"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "list files"}]},
            {"type": "reasoning", "summary": [], "content": null, "encrypted_content": "tollgate.1.anthropic.signature..EuY="},
            {"type": "function_call", "name": "exec_command", "arguments": "{\"cmd\":\"ls\"}", "call_id": "toolu_1"},
            {"type": "function_call_output", "call_id": "toolu_1", "output": "src"},
        ],
        "tools": [{"type": "function", "name": "exec_command", "description": "d", "strict": false,
            "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}}}],
        "tool_choice": "auto", "parallel_tool_calls": false, "reasoning": {"effort": "medium", "summary": "auto"},
        "store": false, "stream": true, "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199", "text": {"verbosity": "low"}, "client_metadata": {"session": "1"}
    });
    let json = json.to_string();
    let request = read_request(&json).unwrap();
    assert_eq!(request.left_out, ["client_metadata"]);
    assert_eq!((request.system.len(), request.turns.len(), request.tools.len()), (2, 4, 1));
    let Block::Reasoning(reasoning) = &request.turns[2].blocks[0] else { panic!("{request:?}") };
    assert!(reasoning.opaque[0].is_of(Family::Anthropic));
}
