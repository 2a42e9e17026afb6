//! Scripts that answer like OpenAI's API, and those of Anthropic's that go with them.

use serde_json::{Value, json};

use super::{
    script::{Pause, Script, data},
    upstream::RecordedRequest,
};

/// The text of [`answer`], in the pieces it is streamed in. Not all of it is ASCII.
pub(crate) const PARTS: [&str; 4] = ["Good", " morning", ", Zoë", " ☕"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt: u64,
    pub(crate) completion: u64,
    /// Included in `prompt`.
    pub(crate) cached: u64,
    /// Included in `completion`.
    pub(crate) reasoning: u64,
}

impl Usage {
    /// The usage of [`answer`].
    pub(crate) const USUAL: Self = Self { prompt: 11, completion: 7, cached: 3, reasoning: 2 };

    /// In the form of a chat completion.
    pub(crate) fn chat(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        })
    }

    pub(crate) fn response(self) -> Value {
        json!({
            "input_tokens": self.prompt,
            "input_tokens_details": {"cached_tokens": self.cached},
            "output_tokens": self.completion,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.prompt + self.completion,
        })
    }
}

pub(crate) fn answer(request: &RecordedRequest) -> Script {
    let body = request.json();
    let streamed = body["stream"] == true;
    let path = request.path();
    match (request.method.as_str(), path) {
        ("POST", "/v1/chat/completions") if streamed => {
            chat_stream(&PARTS, Usage::USUAL, body["stream_options"]["include_usage"] == true)
        }
        ("POST", "/v1/chat/completions") => chat_completion(&PARTS.concat(), Usage::USUAL),
        ("POST", "/v1/responses") if streamed => response_stream(&PARTS, Usage::USUAL),
        ("POST", "/v1/responses") => response(&PARTS.concat(), Usage::USUAL),
        ("POST", "/v1/responses/compact") => Script::json(200, &compaction_object(Usage::USUAL)),
        ("POST", "/v1/embeddings") => Script::json(200, &embeddings_object(5)),
        ("POST", "/v1/messages") => message(&PARTS.concat(), Usage::USUAL),
        ("POST", "/v1/messages/count_tokens") => Script::json(200, &json!({"input_tokens": 1})),
        ("GET", "/v1/models") => models(&["gpt-test", "org/other model"]),
        ("GET", _) if path.starts_with("/v1/models/") => {
            Script::json(200, &model(&path["/v1/models/".len()..]))
        }
        _ => error(
            404,
            "invalid_request_error",
            "unknown_url",
            &format!("Unknown request URL: {path}"),
        ),
    }
}

pub(crate) fn chat_completion(text: &str, usage: Usage) -> Script {
    Script::json(200, &chat_object(text, usage))
}

/// The body of [`chat_completion`].
pub(crate) fn chat_object(text: &str, usage: Usage) -> Value {
    let choice = json!({
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": null},
        "logprobs": null,
        "finish_reason": "stop",
    });
    json!({
        "id": "chatcmpl-test", "object": "chat.completion", "created": 1_700_000_000,
        "model": "gpt-test-2025", "choices": [choice], "usage": usage.chat(),
        "service_tier": "default",
    })
}

/// A streamed chat completion, one write per event. With `include_usage`, as OpenAI does, every event
/// but the last has `"usage": null`, and the last has no choices.
pub(crate) fn chat_stream(parts: &[&str], usage: Usage, include_usage: bool) -> Script {
    Script::sse(chat_events(parts, usage, include_usage))
}

/// The stream of [`answer`], which waits at `pause` after its first event.
pub(crate) fn paused_chat_stream(pause: &Pause) -> Script {
    let events = chat_events(&PARTS, Usage::USUAL, false);
    Script::sse_head().chunk(events[0].clone()).wait(pause).chunks(events[1..].to_vec()).end()
}

/// The events of [`chat_stream`], including `[DONE]`.
pub(crate) fn chat_events(parts: &[&str], usage: Usage, include_usage: bool) -> Vec<String> {
    let event = |choices: Value, usage: Value| {
        let mut event = json!({
            "id": "chatcmpl-test", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": "gpt-test-2025", "choices": choices,
        });
        if include_usage {
            event["usage"] = usage;
        }
        data(event)
    };
    let delta = |delta: Value, finish: Value| {
        event(
            json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]),
            Value::Null,
        )
    };
    let mut events = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
    events.extend(parts.iter().map(|part| delta(json!({"content": part}), Value::Null)));
    events.push(delta(json!({}), json!("stop")));
    if include_usage {
        events.push(event(json!([]), usage.chat()));
    }
    events.push(data("[DONE]"));
    events
}

pub(crate) fn response(text: &str, usage: Usage) -> Script {
    Script::json(200, &response_object("completed", Some(text), Some(usage)))
}

/// A streamed response, one write per event.
pub(crate) fn response_stream(parts: &[&str], usage: Usage) -> Script {
    Script::sse(response_events(parts, usage))
}

/// The events of [`response_stream`], which ends with `response.completed` and has no `[DONE]`.
pub(crate) fn response_events(parts: &[&str], usage: Usage) -> Vec<String> {
    events_of_response(parts, Some(usage))
}

/// The same without usage.
pub(crate) fn response_events_without_usage(parts: &[&str]) -> Vec<String> {
    events_of_response(parts, None)
}

fn events_of_response(parts: &[&str], usage: Option<Usage>) -> Vec<String> {
    let mut number = 0;
    let mut event = |kind: &str, mut fields: Value| {
        fields["type"] = kind.into();
        fields["sequence_number"] = number.into();
        number += 1;
        format!("event: {kind}\n{}", data(fields))
    };
    let begun = response_object("in_progress", None, None);
    let mut events = vec![event("response.created", json!({"response": begun}))];
    for part in parts {
        let delta =
            json!({"item_id": "msg_test", "output_index": 0, "content_index": 0, "delta": part});
        events.push(event("response.output_text.delta", delta));
    }
    let done = response_object("completed", Some(&parts.concat()), usage);
    events.push(event("response.completed", json!({"response": done})));
    events
}

pub(crate) fn response_object(status: &str, text: Option<&str>, usage: Option<Usage>) -> Value {
    let message = |text| {
        json!({
            "id": "msg_test", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        })
    };
    json!({
        "id": "resp_test", "object": "response", "created_at": 1_700_000_000, "status": status,
        "model": "gpt-test-2025", "error": null,
        "output": text.map(message).into_iter().collect::<Vec<_>>(),
        "usage": usage.map(Usage::response),
    })
}

/// A compacted conversation.
fn compaction_object(usage: Usage) -> Value {
    json!({
        "id": "resp_test", "object": "response.compaction", "created_at": 1_700_000_000,
        "output": [{"id": "cmp_test", "type": "compaction", "encrypted_content": "gAAAAA"}],
        "usage": usage.response(),
    })
}

/// One vector for so many tokens.
fn embeddings_object(tokens: u64) -> Value {
    json!({
        "object": "list", "model": "gpt-test-2025",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.0023, -0.0093]}],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}

/// A plain answer in Anthropic's format.
fn message(text: &str, usage: Usage) -> Script {
    Script::json(
        200,
        &json!({
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "gpt-test-2025",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": usage.prompt, "output_tokens": usage.completion},
        }),
    )
}

pub(crate) fn models(ids: &[&str]) -> Script {
    let models: Vec<_> = ids.iter().map(|id| model(id)).collect();
    Script::json(200, &json!({"object": "list", "data": models}))
}

fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "tests"})
}

pub(crate) fn error(status: u16, kind: &str, code: &str, message: &str) -> Script {
    let error = json!({"message": message, "type": kind, "param": null, "code": code});
    Script::json(status, &json!({"error": error}))
}
