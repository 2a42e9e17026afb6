//! `POST /v1/chat/completions`.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::error::UpstreamError;
use super::reply::{Reply, last_message, stream_events};
use super::{MODEL, RequestBody, Responder};

pub(super) async fn complete(
    responder: web::Data<Responder>,
    body: web::Bytes,
) -> Result<HttpResponse, UpstreamError> {
    let RequestBody { body, stream } = RequestBody::parse(&body)?;
    let messages = body["messages"].as_array().filter(|messages| !messages.is_empty());
    let (message, input_words) = last_message(messages.ok_or(UpstreamError::Missing("messages"))?);
    let max_words = body["max_completion_tokens"].as_u64().or_else(|| body["max_tokens"].as_u64());
    let reply = Reply::to(&message, input_words, max_words);
    let (id, created) = (responder.id("chatcmpl-"), responder.seconds());
    if stream {
        let include_usage = body["stream_options"]["include_usage"] == true;
        return Ok(stream_events(chunks(&reply, &id, created, include_usage), responder.pause));
    }
    Ok(HttpResponse::Ok().json(json!({
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": MODEL,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": reply.text(), "refusal": null, "annotations": []},
            "logprobs": null,
            "finish_reason": finish_reason(&reply),
        }],
        "usage": usage(&reply),
        "service_tier": "default",
        "system_fingerprint": null,
    })))
}

/// The events of a stream, each with whether to pause before it.
fn chunks(reply: &Reply, id: &str, created: i64, include_usage: bool) -> Vec<(bool, String)> {
    let event = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": MODEL,
            "system_fingerprint": null,
            "choices": choices,
        });
        if include_usage {
            chunk["usage"] = usage.unwrap_or_default();
        }
        format!("data: {chunk}\n\n")
    };
    let choice = |delta: Value, finish: Option<&str>| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
    let opening = json!({"role": "assistant", "content": "", "refusal": null});
    let mut events = vec![(false, event(choice(opening, None), None))];
    events.extend(
        reply.words.iter().map(|word| (true, event(choice(json!({"content": word}), None), None))),
    );
    events.push((false, event(choice(json!({}), Some(finish_reason(reply))), None)));
    if include_usage {
        events.push((false, event(json!([]), Some(usage(reply)))));
    }
    events.push((false, "data: [DONE]\n\n".to_owned()));
    events
}

fn finish_reason(reply: &Reply) -> &'static str {
    if reply.is_truncated { "length" } else { "stop" }
}

fn usage(reply: &Reply) -> Value {
    json!({
        "prompt_tokens": reply.input_words,
        "completion_tokens": reply.output_words(),
        "total_tokens": reply.input_words + reply.output_words(),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
