//! OpenAI's tools that search the web and files.

use bytes::Bytes;
use serde_json::{Value, json};

use super::target;
use crate::domain::pricing::ToolCalls;
use crate::llm::format::Format;
use crate::llm::limits::{BodyFacts, Bound, ModelLimits};

#[test]
fn openais_searches_are_bounded_by_max_tool_calls() {
    let bound = |body: Value| {
        let text = Bytes::from(body.to_string());
        let (body, facts) = BodyFacts::parse_in(Format::Responses, text).unwrap();
        let model = ModelLimits { context_window: Some(1_000), max_output_tokens: None };
        Bound::of_request(&facts, body.text().len(), &target(Format::Responses, model))
    };
    let web = json!({"type": "web_search", "filters": {"allowed_domains": ["a.example"]}});
    let files = json!({"type": "file_search", "vector_store_ids": ["vs_1"]});
    let calls = |web_searches, file_searches| ToolCalls { web_searches, file_searches };
    for (tools, most, expected) in [
        (json!([web]), 2, calls(2, 0)),
        (json!([files]), 3, calls(0, 3)),
        (json!([web, files, {"type": "function", "name": "f"}]), 4, calls(4, 4)),
        (json!([web]), 0, calls(0, 0)),
    ] {
        let bound = bound(json!({"tools": tools, "max_tool_calls": most}));
        assert_eq!((bound.extras.max_calls, bound.extras.unpriced), (expected, None), "{tools}");
        assert_eq!((bound.input_tokens, bound.hard), (1_000 * (most + 1), false), "{tools}");
    }
    for (body, field) in [
        (json!({"tools": [web]}), "max_tool_calls"),
        (json!({"tools": [files], "max_tool_calls": null}), "max_tool_calls"),
        (json!({"tools": [web, {"type": "code_interpreter"}], "max_tool_calls": 1}), "tools"),
        (json!({"tools": [{"type": "web_search_preview"}], "max_tool_calls": 1}), "tools"),
        (json!({"tools": [{"type": "web_search_20250305", "max_uses": 1}]}), "tools"),
    ] {
        let bound = bound(body.clone());
        assert_eq!(bound.extras.unpriced, Some(field), "{body}");
        assert_eq!(bound.extras.max_calls, ToolCalls::NONE, "{body}");
    }
}
