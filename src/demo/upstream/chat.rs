//! `POST /v1/chat/completions`.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::error::UpstreamRefusal;
use super::reply::{Reply, last_words, stream_events};
use super::{Asked, MODEL, Responder};

pub(super) async fn complete(
    responder: web::Data<Responder>,
    body: web::Bytes,
) -> Result<HttpResponse, UpstreamRefusal> {
    let Asked { body, stream } = Asked::read(&body)?;
    let messages = body["messages"].as_array().filter(|messages| !messages.is_empty());
    let (said, asked) = last_words(messages.ok_or(UpstreamRefusal::Missing("messages"))?);
    let most = body["max_completion_tokens"].as_u64().or_else(|| body["max_tokens"].as_u64());
    let reply = Reply::to(&said, asked, most);
    let (id, created) = (responder.id("chatcmpl-"), responder.seconds());
    if stream {
        let tell_usage = body["stream_options"]["include_usage"] == true;
        return Ok(stream_events(chunks(&reply, &id, created, tell_usage), responder.pause));
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

/// The events of a stream, and before which of them to wait.
fn chunks(reply: &Reply, id: &str, created: i64, tell_usage: bool) -> Vec<(bool, String)> {
    let event = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": MODEL,
            "system_fingerprint": null,
            "choices": choices,
        });
        if tell_usage {
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
    if tell_usage {
        events.push((false, event(json!([]), Some(usage(reply)))));
    }
    events.push((false, "data: [DONE]\n\n".to_owned()));
    events
}

fn finish_reason(reply: &Reply) -> &'static str {
    if reply.cut { "length" } else { "stop" }
}

fn usage(reply: &Reply) -> Value {
    json!({
        "prompt_tokens": reply.asked,
        "completion_tokens": reply.answered(),
        "total_tokens": reply.asked + reply.answered(),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
