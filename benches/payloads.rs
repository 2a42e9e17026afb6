//! Requests and answers, encoded once before any load.

use serde_json::{Value, json};

/// The upstream's key, which only the targets may present to it.
pub(crate) const UPSTREAM_KEY: &str = "sk-bench-upstream-key-0123456789abcdef";

/// The kind of a request. The upstream answers each below a base path of its own, and in Tollgate
/// each is a model configuration of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 1 KB up, 1 KB down.
    Small,
    /// 100 KB up, 1 KB down: a long conversation.
    LongQuestion,
    /// 1 KB up, 100 KB down.
    LongAnswer,
    /// An event stream.
    Stream,
    /// An event stream that sends one event and stays open.
    Idle,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Small, Self::LongQuestion, Self::LongAnswer, Self::Stream, Self::Idle];
    /// Those that are sent as often as the target can answer.
    pub(crate) const LOADS: [Self; 4] =
        [Self::Small, Self::LongQuestion, Self::LongAnswer, Self::Stream];

    /// The path segment, and the configuration's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::LongQuestion => "long-question",
            Self::LongAnswer => "long-answer",
            Self::Stream => "stream",
            Self::Idle => "idle",
        }
    }

    /// The name in the table.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Small => "1 KB up, 1 KB down",
            Self::LongQuestion => "100 KB up, 1 KB down",
            Self::LongAnswer => "1 KB up, 100 KB down",
            Self::Stream => "streams",
            Self::Idle => "idle streams",
        }
    }

    /// Clients that keep the target's core busy.
    pub(crate) fn clients(self) -> usize {
        if self == Self::Small { 32 } else { 16 }
    }

    pub(crate) fn streams(self) -> bool {
        matches!(self, Self::Stream | Self::Idle)
    }

    /// The JSON body of the question.
    pub(crate) fn question(self) -> Vec<u8> {
        let wanted = if self == Self::LongQuestion { 100 * 1024 } else { 1024 };
        let mut messages = vec![json!({"role": "system", "content": "Answer in one word."})];
        while encoded_size(self, &messages) + 700 < wanted {
            let role = if messages.len() % 2 == 1 { "user" } else { "assistant" };
            messages.push(json!({"role": role, "content": prose(600)}));
        }
        let filler = wanted.saturating_sub(encoded_size(self, &messages) + 32);
        messages.push(json!({"role": "user", "content": "x".repeat(filler)}));
        body(self, &messages).to_string().into_bytes()
    }

    /// The whole plain answer, head included.
    pub(crate) fn answer(self) -> Vec<u8> {
        let size = if self == Self::LongAnswer { 100 * 1024 } else { 1024 };
        let text = prose(size - 330);
        let body = json!({
            "id": "chatcmpl-bench", "object": "chat.completion", "created": 1_700_000_000,
            "model": "bench-model",
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 120, "completion_tokens": 80, "total_tokens": 200,
                      "prompt_tokens_details": {"cached_tokens": 0}},
        })
        .to_string();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// One event of a stream as one HTTP chunk, about the size that OpenAI's are.
pub(crate) fn stream_chunk() -> Vec<u8> {
    http_chunk(&format!(
        "data: {}\n\n",
        json!({"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_700_000_000,
               "model": "bench-model", "system_fingerprint": "fp_bench", "service_tier": "default",
               "choices": [{"index": 0, "delta": {"content": " word"}, "logprobs": null,
                            "finish_reason": null}]})
    ))
}

/// The event with the usage, sent to those who ask for it, as one HTTP chunk.
pub(crate) fn usage_chunk() -> Vec<u8> {
    http_chunk(&format!(
        "data: {}\n\n",
        json!({"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_700_000_000,
               "model": "bench-model", "choices": [],
               "usage": {"prompt_tokens": 120, "completion_tokens": 80, "total_tokens": 200}})
    ))
}

/// The last event and the end of the body.
pub(crate) fn stream_end() -> Vec<u8> {
    let mut end = http_chunk("data: [DONE]\n\n");
    end.extend_from_slice(b"0\r\n\r\n");
    end
}

fn http_chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

fn body(kind: Kind, messages: &[Value]) -> Value {
    let mut body = json!({"model": "bench-model", "messages": messages, "temperature": 0.2});
    if let Some(fields) = body.as_object_mut().filter(|_| kind.streams()) {
        fields.insert("stream".into(), Value::Bool(true));
    }
    body
}

fn encoded_size(kind: Kind, messages: &[Value]) -> usize {
    body(kind, messages).to_string().len()
}

/// Text with what JSON has to escape in it now and then, as prompts have.
fn prose(length: usize) -> String {
    let mut text = "The gate opens for \"those\" who pay.\nThe road goes on, mile after mile. "
        .repeat(length / 70 + 1);
    text.truncate(length);
    text
}
