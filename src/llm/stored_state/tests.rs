//! What refers to stored state, and what does not.

use super::*;
use serde_json::{Value, json};

fn found(body: &Value) -> Option<&'static str> {
    let found = StoredState::of(body.to_string().as_bytes());
    assert_eq!(found.previous_response, None, "{body}");
    found.other()
}

#[test]
fn references_are_found_in_every_format() {
    for (body, name) in [
        (json!({"input": [{"previous_response_id": "resp_1"}]}), "previous_response_id"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"conversation": {"id": "conv_1"}}), "conversation"),
        (json!({"prompt": {"id": "pmpt_1"}}), "prompt"),
        (json!({"input": [{"type": "item_reference", "id": "msg_1"}]}), "item_reference"),
        (json!({"input": ["x", {"id": "msg_1"}]}), "item_reference"),
        (
            json!({"tools": [{"type": "collections_search", "collection_ids": ["c"]}]}),
            "collection_ids",
        ),
        (json!({"tools": [{"type": "document_library", "library_ids": ["l"]}]}), "library_ids"),
        (
            json!({"tools": [{"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/1"]}}]}),
            "fileSearchStoreNames",
        ),
        (
            json!({"tools": [{"file_search": {"file_search_store_names": ["fileSearchStores/1"]}}]}),
            "file_search_store_names",
        ),
        (
            json!({"tools": [{"retrieval": {"vertexAiSearch": {"datastore": "d"}}}]}),
            "vertexAiSearch",
        ),
        (
            json!({"tools": [{"retrieval": {"vertex_ai_search": {"engine": "e"}}}]}),
            "vertex_ai_search",
        ),
        (
            json!({"tools": [{"retrieval": {"vertexRagStore": {"ragResources": [{"ragCorpus": "c"}]}}}]}),
            "vertexRagStore",
        ),
        (
            json!({"tools": [{"retrieval": {"vertex_rag_store": {"rag_corpora": ["c"]}}}]}),
            "vertex_rag_store",
        ),
        (
            json!({"data_sources": [{"type": "azure_search", "parameters": {"index_name": "i"}}]}),
            "data_sources",
        ),
        (json!({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}), "audio"),
        (json!({"container": {"skills": [{"type": "custom", "skill_id": "skill_1"}]}}), "skill_id"),
        (json!({"container": {"skills": [{"skill_id": "skill_1"}]}}), "skill_id"),
        (json!({"container": {"id": "container_1", "skills": []}}), "container"),
        (
            json!({"tools": [{"type": "shell", "environment": {"type": "container_auto",
                "skills": [{"type": "skill_reference", "skill_id": "skill_1"}]}}]}),
            "skill_id",
        ),
        (json!({"input": [{"ID": "msg_1", "type": null}]}), "item_reference"),
        (json!({"input": [{"id": "msg_1", "role": "user"}]}), "item_reference"),
        (json!({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}), "item_reference"),
        (
            json!({"messages": [{"role": "user", "content": [
                {"type": "document", "source": {"type": "file", "file_id": "file_1"}}]}]}),
            "file_id",
        ),
        (
            json!({"messages": [{"content": [{"type": "file", "file": {"file_id": "f"}}]}]}),
            "file_id",
        ),
        (
            json!({"tools": [{"type": "file_search", "vector_store_ids": ["vs"]}]}),
            "vector_store_ids",
        ),
        (json!({"contents": [{"parts": [{"fileData": {"fileUri": "files/1"}}]}]}), "fileUri"),
        (json!({"cachedContent": "cachedContents/1"}), "cachedContent"),
        (json!({"Previous_Response_Id": "resp_1"}), "previous_response_id"),
        (json!({"container": "container_1"}), "container"),
        (json!({"thread": {"type": "continue", "previous_message_id": "msg_1"}}), "thread"),
        (
            json!({"messages": [{"content": [{"document": {"source": {"s3Location": {"uri": "s3://b/k"}}}}]}]}),
            "s3Location",
        ),
    ] {
        assert_eq!(found(&body), Some(name), "{body}");
    }
}

#[test]
fn what_belongs_to_the_caller_is_none() {
    for body in [
        json!({"model": "m", "messages": [{"role": "user", "content": "my file_id is 5"}]}),
        json!({"previous_response_id": null, "conversation": null, "prompt": "Once"}),
        json!({"tools": [{"type": "function", "function": {"parameters": {
            "properties": {"file_id": {"type": "string"}}}}}]}),
        json!({"messages": [{"content": [
            {"type": "tool_use", "id": "t", "name": "n", "input": {"file_id": "mine"}}]}]}),
        json!({"contents": [{"parts": [{"functionCall": {"args": {"file_id": "mine"}}}]}]}),
        json!({"metadata": {"conversation": "of our own"}, "input": "text"}),
        json!({"vector_store_ids": []}),
        json!({"input": [{"id": "msg_1", "role": "user", "content": "Hi"},
            {"type": "message", "id": "msg_2", "role": "assistant", "content": []},
            {"type": "function_call", "id": "fc_1", "arguments": "{}"}, {"id": null}, "x"]}),
        json!({"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}]}),
        json!({"messages": [{"id": "msg_1"}]}),
        json!({"audio": {"voice": "alloy", "format": "wav"}, "messages": [
            {"role": "assistant", "audio": null},
            {"role": "user", "content": [{"audio": {"format": "wav", "source": {"bytes": "AA"}}}]}]}),
        json!({"container": {"skills": [
            {"type": "anthropic", "skill_id": "pptx", "version": "latest"}]}}),
        json!({"container": null, "data_sources": [], "tools": [
            {"type": "collections_search", "collection_ids": []}, {"googleSearch": {}},
            {"type": "code_interpreter", "container": {"type": "auto"}}]}),
        json!({"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"properties": {
            "skill_id": {"type": "string"}, "library_ids": {"type": "array"},
            "collection_ids": {"type": "array", "items": {"type": "string"}}}}}]}]}),
        json!({"messages": [{"content": [{"toolResult": {"toolUseId": "t", "content": [
            {"json": {"collection_ids": ["mine"], "file_id": "mine"}}]}}]}]}),
        json!({"contents": [{"parts": [{"functionCall": {"args": {"library_ids": ["mine"]}}},
            {"functionResponse": {"response": {"vertexAiSearch": {"datastore": "mine"}}}}]}]}),
        json!({"thread": {"type": "create"}, "diagnostics": {"previous_message_id": "msg_1"}}),
    ] {
        assert_eq!(found(&body), None, "{body}");
    }
}

/// An item of each type with what it holds itself.
fn whole_items() -> Vec<Value> {
    let action = json!({"type": "exec", "command": ["ls"], "env": {}});
    let items = json!([
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]},
        {"type": "reasoning", "summary": [], "encrypted_content": "e"},
        {"type": "compaction", "encrypted_content": "e"},
        {"type": "function_call", "call_id": "c", "name": "n", "arguments": ""},
        {"type": "function_call_output", "call_id": "c", "output": ""},
        {"type": "custom_tool_call", "call_id": "c", "name": "n", "input": ""},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "o"},
        {"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {}},
        {"type": "tool_search_output", "call_id": "c", "execution": "client", "tools": []},
        {"type": "image_generation_call", "result": "iVBORw0KGgo="},
        {"type": "web_search_call", "action": {"type": "search", "query": "q"}},
        {"type": "file_search_call", "queries": ["q"], "results": null},
        {"type": "code_interpreter_call", "code": "c", "outputs": null},
        {"type": "mcp_list_tools", "server_label": "s", "tools": []},
        {"type": "mcp_call", "server_label": "s", "name": "n", "arguments": "{}", "output": null},
        {"type": "mcp_approval_request", "server_label": "s", "name": "n", "arguments": "{}"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": false},
        {"type": "computer_call", "call_id": "c", "action": {"type": "wait"}},
        {"type": "computer_call", "call_id": "c", "actions": [{"type": "wait"}]},
        {"type": "computer_call_output", "call_id": "c",
            "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA"}},
        {"type": "local_shell_call", "call_id": "c", "action": action},
        {"type": "local_shell_call_output", "output": "o"},
        {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
        {"type": "shell_call_output", "call_id": "c", "output": []},
        {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "delete_file", "path": "p"}},
        {"type": "apply_patch_call_output", "call_id": "c"},
        {"type": "program", "call_id": "c", "code": "c", "fingerprint": "f"},
        {"type": "program_output", "call_id": "c", "result": ""},
        {"type": "additional_tools", "role": "developer", "tools": []},
        {"type": "of_another_provider", "query": "q"},
    ]);
    let mut items = items.as_array().unwrap().clone();
    for item in &mut items {
        item["id"] = "item_1".into();
        item["status"] = "completed".into();
    }
    items
}

#[test]
fn an_item_by_its_id_alone_is_a_reference() {
    for item in whole_items() {
        let kind = &item["type"];
        for item in [
            json!({"type": kind, "id": "item_1"}),
            json!({"type": kind, "ID": "item_1", "status": "completed"}),
        ] {
            let body = json!({"input": [{"role": "user", "content": "Hi"}, item]});
            assert_eq!(found(&body), Some("item_reference"), "{body}");
        }
    }
    for item in [
        r#"{"type":"message","id":"msg_1","role":"assistant"}"#,
        r#"{"type":"message","id":"msg_1","role":"assistant","content":null}"#,
        r#"{"type":"image_generation_call","id":"ig_1","result":""}"#,
        r#"{"type":"image_generation_call","id":"ig_1","Result":"iVBORw0KGgo="}"#,
        r#"{"type":"image_generation_call","id":"ig_1","content":"c"}"#,
        r#"{"type":"image_generation_call","id":"ig_1","result":"iVBORw0KGgo=","result":null}"#,
        r#"{"type":"compaction","id":"cmp_1","encrypted_content":""}"#,
        r#"{"type":"function_call","id":"fc_1","call_id":"c","name":"n"}"#,
        r#"{"type":"mcp_call","id":"mcp_1","output":"o"}"#,
        r#"{"Type":"compaction","id":"cmp_1","encrypted_content":"e"}"#,
    ] {
        let found = StoredState::of(format!(r#"{{"input":[{item}]}}"#).as_bytes());
        assert_eq!(found.other(), Some("item_reference"), "{item}");
    }
}

#[test]
fn an_item_with_its_content_is_none() {
    for item in whole_items() {
        let body = json!({"input": [item]});
        assert_eq!(found(&body), None, "{body}");
    }
}

#[test]
fn a_stored_prompt_has_an_arn() {
    for arn in [
        "arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ",
        "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:prompt/ABCDEFGHIJ:1",
    ] {
        assert!(is_stored_prompt(arn), "{arn}");
    }
    for model in [
        "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1",
        "arn:aws:bedrock:us-east-1:123456789012:prompt-router/abc",
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc",
        "us.amazon.nova-lite-v1:0",
    ] {
        assert!(!is_stored_prompt(model), "{model}");
    }
}

#[test]
fn the_response_before_is_told() {
    let found = StoredState::of(br#"{"previous_response_id":"resp_\u0031"}"#);
    assert_eq!(found.previous_response.as_deref(), Some("resp_1"));
    assert_eq!(found.other(), None);
    let twice = br#"{"previous_response_id":"a","previous_response_id":"b"}"#;
    assert_eq!(StoredState::of(twice).other(), Some("previous_response_id"));
    let both = br#"{"previous_response_id":"a","conversation":"b"}"#;
    assert_eq!(StoredState::of(both).other(), Some("conversation"));
    assert_eq!(StoredState::of(b"{").other(), Some("body"));
}
