//! `POST /v1/messages`.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::error::UpstreamError;
use super::reply::{Reply, content_text, last_message, stream_events};
use super::{MODEL, RequestBody, Responder};

pub(super) async fn create(
    responder: web::Data<Responder>,
    body: web::Bytes,
) -> Result<HttpResponse, UpstreamError> {
    let RequestBody { body, stream } = RequestBody::parse(&body)?;
    let messages = body["messages"].as_array().filter(|messages| !messages.is_empty());
    let (message, words) = last_message(messages.ok_or(UpstreamError::Missing("messages"))?);
    let max_words = body["max_tokens"].as_u64().ok_or(UpstreamError::Missing("max_tokens"))?;
    let input_words = words + content_text(&body["system"]).split_whitespace().count();
    let reply = Reply::to(&message, input_words, Some(max_words));
    let id = responder.id("msg_");
    if stream {
        return Ok(stream_events(events(&reply, &id), responder.pause));
    }
    let content = json!([{"type": "text", "text": reply.text()}]);
    let usage = usage(&reply, reply.output_words());
    Ok(HttpResponse::Ok().json(answer(&id, &content, stop_reason(&reply).into(), &usage)))
}

/// The events of a stream, each with whether to pause before it.
fn events(reply: &Reply, id: &str) -> Vec<(bool, String)> {
    let event = |kind: &str, mut data: Value| {
        data["type"] = kind.into();
        format!("event: {kind}\ndata: {data}\n\n")
    };
    let begun = answer(id, &json!([]), Value::Null, &usage(reply, 0));
    let block = json!({"type": "text", "text": ""});
    let mut events = vec![
        (false, event("message_start", json!({"message": begun}))),
        (false, event("content_block_start", json!({"index": 0, "content_block": block}))),
    ];
    events.extend(reply.words.iter().map(|word| {
        let delta = json!({"type": "text_delta", "text": word});
        (true, event("content_block_delta", json!({"index": 0, "delta": delta})))
    }));
    let stop = json!({"stop_reason": stop_reason(reply), "stop_sequence": null});
    let used = json!({"output_tokens": reply.output_words()});
    events.extend([
        (false, event("content_block_stop", json!({"index": 0}))),
        (false, event("message_delta", json!({"delta": stop, "usage": used}))),
        (false, event("message_stop", json!({}))),
    ]);
    events
}

fn answer(id: &str, content: &Value, stop_reason: Value, usage: &Value) -> Value {
    json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": usage,
    })
}

fn stop_reason(reply: &Reply) -> &'static str {
    if reply.is_truncated { "max_tokens" } else { "end_turn" }
}

fn usage(reply: &Reply, output: usize) -> Value {
    json!({
        "input_tokens": reply.input_words,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
    })
}
