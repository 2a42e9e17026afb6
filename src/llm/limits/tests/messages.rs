//! Requests of Anthropic's API.

use super::*;

fn messages(body: &Value) -> Bound {
    bound_of(Format::Messages, body, MODEL)
}

#[test]
fn the_texts_of_messages_are_bounded_by_their_bytes() {
    for content in [
        json!([{"type": "text", "text": "t", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]),
        json!([{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "t"}}]),
        json!([{"type": "document", "citations": {"enabled": true},
            "source": {"type": "content", "content": [{"type": "text", "text": "t"}]}}]),
        json!([{"type": "search_result", "source": "https://a", "title": "t",
            "content": [{"type": "text", "text": "t"}]}]),
        json!([{"type": "thinking", "thinking": "t", "signature": "AAAA"}]),
        json!([{"type": "redacted_thinking", "data": "AAAA"}]),
        json!([{"type": "tool_use", "id": "t", "name": "f", "input": {"type": "file", "file_id": 1}}]),
        json!([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "t"}]}]),
        json!([{"type": "text", "text": "t", "citations": [{"type": "char_location",
            "cited_text": "t", "document_index": 0}]}]),
    ] {
        let body = json!({"max_tokens": 10, "system": content,
            "messages": [{"role": "user", "content": content}]});
        let bound = messages(&body);
        let length = body.to_string().len() as u64;
        assert_eq!((bound.input_tokens, bound.output_tokens), (length, 10), "{body}");
        assert!(bound.hard, "{body}");
    }
}

#[test]
fn images_and_documents_of_messages_are_bounded_as_in_other_formats() {
    let image = |source: Value| json!([{"source": source, "type": "image"}]);
    let document = |source: Value| json!([{"type": "document", "source": source}]);
    let base64 = |data: &str| json!({"type": "base64", "media_type": "a/b", "data": data});
    for (content, tokens) in [
        (image(base64("AAAA")), 1_000),
        (image(json!({"type": "url", "url": "https://a"})), 1_000),
        (image(json!({"type": "file", "file_id": "f"})), 1_000),
        (document(base64(&"A".repeat(4_000))), 750),
        (json!([{"type": "tool_result", "content": image(base64("AAAA"))}]), 1_000),
        // No size is known of these.
        (document(json!({"type": "url", "url": "https://a"})), 200_000),
        (document(json!({"type": "file", "file_id": "f"})), 200_000),
        (document(json!({"type": "new"})), 200_000),
        (document(json!({"type": 7})), 200_000),
        (json!([{"type": "document"}]), 200_000),
        (json!([{"type": "container_upload", "file_id": "f"}]), 200_000),
        (json!([{"type": "text", "source": {"type": "url", "url": "a"}}]), 200_000),
    ] {
        let bound = messages(&json!({"messages": [{"role": "user", "content": content}]}));
        assert_eq!((bound.input_tokens, bound.hard), (200_000, true), "{content}");
        assert_eq!(bound.unseen_tokens, tokens, "{content}");
    }
}

#[test]
fn tools_of_messages_are_the_callers_or_the_providers() {
    let own = json!({"name": "f", "description": "d",
        "input_schema": {"type": "object", "properties": {"model": {"type": "string"}}}});
    for (tool, added) in [
        (own.clone(), 1_060),
        (json!({"type": "custom", "name": "f", "input_schema": {}}), 1_060),
        (json!({"type": "bash_20250124", "name": "bash"}), 2_294),
        (json!({"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}), 2_294),
    ] {
        let body = json!({"max_tokens": 10, "tools": [tool], "messages": []});
        let bound = messages(&body);
        let length = body.to_string().len() as u64;
        assert_eq!((bound.input_tokens, bound.hard), (length + added, true), "{body}");
        assert_eq!(facts(&body.to_string()).nested_model_field(), None, "{body}");
    }
    // Without a type it may be hosted in another format.
    assert!(!chat(json!({"tools": [own]})).hard);
    for fields in [
        json!({"tools": [own, {"type": "web_search_20250305", "name": "web_search"}]}),
        json!({"tools": [{"name": "f"}]}),
        json!({"mcp_servers": [{"type": "url", "url": "https://a", "name": "a"}]}),
        json!({"container": "c"}),
    ] {
        let bound = messages(&fields);
        assert_eq!((bound.input_tokens, bound.hard), (200_000, false), "{fields}");
    }
    let search = |more: Value| {
        let mut tool = json!({"type": "web_search_20250305", "name": "web_search"});
        tool.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        messages(&json!({"tools": [own, tool]}))
    };
    let bound = search(json!({"max_uses": 3}));
    assert_eq!((bound.input_tokens, bound.hard), (4 * 200_000, true));
    assert_eq!((bound.extras.max_calls.web_searches, bound.extras.unpriced), (3, None));
    for (tool, searches, unpriced) in [
        (r#"{"type":"web_search_20250305","max_uses":9,"max_uses":1}"#, 9, None),
        (r#"{"type":"web_search_20250305","max_uses":1,"type":"mcp"}"#, 0, Some("tools")),
        (r#"{"type":"web_search_20250305","max_uses":1,"type":"custom"}"#, 0, Some("tools")),
    ] {
        let body = format!(r#"{{"tools":[{tool}]}}"#);
        let target = target(Format::Messages, MODEL);
        let extras = Bound::of_request(&facts(&body), body.len(), &target).extras;
        assert_eq!(
            (extras.max_calls.web_searches, extras.unpriced),
            (searches, unpriced),
            "{tool}"
        );
    }
    for more in [json!({}), json!({"max_uses": "3"}), json!({"max_uses": -1})] {
        assert_eq!(search(more).extras.unpriced, Some("tools.max_uses"));
    }
    let advisor = json!({"tools": [{"type": "advisor_20260301", "name": "a", "model": "dear"}]});
    assert_eq!(facts(&advisor.to_string()).nested_model_field(), Some("tools.model"));
}

#[test]
fn the_answer_of_messages_is_bounded_by_max_tokens_alone() {
    for (fields, tokens, hard) in [
        (json!({"max_tokens": 100}), 100, true),
        (
            json!({"max_tokens": 5_000, "thinking": {"type": "enabled", "budget_tokens": 4_000}}),
            5_000,
            true,
        ),
        (json!({}), 16_384, true),
        (json!({"max_completion_tokens": 7}), 16_384, true),
        (json!({"max_tokens": 100, "service_tier": "standard_only"}), 100, true),
        (json!({"max_tokens": 100, "speed": "fast"}), 100, true),
    ] {
        let bound = messages(&fields);
        assert_eq!((bound.output_tokens, bound.hard), (tokens, hard), "{fields}");
    }
}

#[test]
fn a_compaction_reads_the_input_once_more_and_writes_a_summary() {
    let compact = json!({"edits": [{"keep": "all", "type": "clear_thinking_20251015"},
        {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 50_000}}]});
    for fields in [
        json!({"context_management": compact}),
        json!({"compaction": {"type": "summarize"}}),
        json!({"Context_Management": [{"type": "compaction", "compact_threshold": 1_000}]}),
        json!({"extra_body": {"context_management": compact}}),
    ] {
        let mut body = json!({"max_tokens": 100, "messages": []});
        body.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
        let length = body.to_string().len() as u64;
        let bound = messages(&body);
        assert_eq!(bound.input_tokens, 2 * length + 16_384, "{body}");
        assert_eq!((bound.output_tokens, bound.hard), (100 + 16_384, true), "{body}");
        let bound = bound_of(Format::Messages, &body, ModelLimits::default());
        assert_eq!((bound.output_tokens, bound.hard), (100 + 32_768, false), "{body}");
    }
    for fields in [
        json!({"context_management": {"edits": [{"type": "clear_tool_uses_20250919",
            "trigger": {"type": "input_tokens", "value": 1}}]}, "compaction": null}),
        json!({"context_management": {"edits": [], "instructions": "compact"}}),
        json!({"context_management": null}),
        json!({"messages": [{"role": "user", "content": [{"type": "compaction", "content": "t"}]}]}),
    ] {
        let bound = messages(&fields);
        assert_eq!(bound.input_tokens, fields.to_string().len() as u64, "{fields}");
    }
    // Before each pass over the window there may be one.
    let searching = messages(&json!({"max_tokens": 100, "context_management": compact,
        "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]}));
    assert_eq!(searching.input_tokens, 2 * 3 * 200_000 + 3 * 16_384);
    assert_eq!((searching.output_tokens, searching.hard), (100 + 3 * 16_384, true));
}
