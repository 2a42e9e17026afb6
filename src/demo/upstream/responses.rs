//! `POST /v1/responses`.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::error::UpstreamRefusal;
use super::reply::{Reply, last_words, stream_events};
use super::{Asked, MODEL, Responder};

pub(super) async fn create(
    responder: web::Data<Responder>,
    body: web::Bytes,
) -> Result<HttpResponse, UpstreamRefusal> {
    let Asked { body, stream } = Asked::read(&body)?;
    let (said, asked) = match &body["input"] {
        Value::String(text) => (text.clone(), text.split_whitespace().count()),
        Value::Array(items) => last_words(items),
        _ => return Err(UpstreamRefusal::Missing("input")),
    };
    let reply = Reply::to(&said, asked, body["max_output_tokens"].as_u64());
    let answer = Answer {
        id: responder.id("resp_"),
        item_id: responder.id("msg_"),
        created_at: responder.seconds(),
        body,
        reply,
    };
    if stream {
        return Ok(stream_events(answer.events(), responder.pause));
    }
    Ok(HttpResponse::Ok().json(answer.finished()))
}

/// All that the forms of one answer have in common.
struct Answer {
    id: String,
    item_id: String,
    created_at: i64,
    body: Value,
    reply: Reply,
}

impl Answer {
    /// Whether it was said to its end.
    fn status(&self) -> &'static str {
        if self.reply.cut { "incomplete" } else { "completed" }
    }

    fn finished(&self) -> Value {
        let mut response = self.response(self.status(), json!([self.item(self.status(), true)]));
        if self.reply.cut {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        let (asked, answered) = (self.reply.asked, self.reply.answered());
        response["usage"] = json!({
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": answered,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + answered,
        });
        response
    }

    fn response(&self, status: &str, output: Value) -> Value {
        let asked_or = |field: &str, otherwise: Value| match &self.body[field] {
            Value::Null => otherwise,
            given => given.clone(),
        };
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": self.body["instructions"],
            "max_output_tokens": self.body["max_output_tokens"],
            "metadata": asked_or("metadata", json!({})),
            "model": MODEL,
            "output": output,
            "parallel_tool_calls": asked_or("parallel_tool_calls", json!(true)),
            "previous_response_id": self.body["previous_response_id"],
            "reasoning": {"effort": null, "summary": null},
            "store": false,
            "temperature": asked_or("temperature", json!(1.0)),
            "text": {"format": {"type": "text"}},
            "tool_choice": asked_or("tool_choice", json!("auto")),
            "tools": asked_or("tools", json!([])),
            "top_p": asked_or("top_p", json!(1.0)),
            "truncation": "disabled",
            "usage": null,
            "user": self.body["user"],
        })
    }

    fn item(&self, status: &str, said: bool) -> Value {
        let content = if said { json!([self.part(&self.reply.text())]) } else { json!([]) };
        json!({
            "id": self.item_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        })
    }

    fn part(&self, text: &str) -> Value {
        json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    }

    /// The events of a stream, and before which of them to wait.
    fn events(&self) -> Vec<(bool, String)> {
        let begun = self.response("in_progress", json!([]));
        let text = self.reply.text();
        let at = |mut fields: Value| {
            fields["item_id"] = json!(self.item_id);
            fields["output_index"] = json!(0);
            fields["content_index"] = json!(0);
            fields
        };
        let item = |status, said| json!({"output_index": 0, "item": self.item(status, said)});
        let last = if self.reply.cut { "response.incomplete" } else { "response.completed" };
        let mut events = vec![
            ("response.created", json!({"response": begun})),
            ("response.in_progress", json!({"response": begun})),
            ("response.output_item.added", item("in_progress", false)),
            ("response.content_part.added", at(json!({"part": self.part("")}))),
        ];
        events.extend(self.reply.words.iter().map(|word| {
            ("response.output_text.delta", at(json!({"delta": word, "logprobs": []})))
        }));
        events.extend([
            ("response.output_text.done", at(json!({"text": text, "logprobs": []}))),
            ("response.content_part.done", at(json!({"part": self.part(&text)}))),
            ("response.output_item.done", item(self.status(), true)),
            (last, json!({"response": self.finished()})),
        ]);
        let numbered = events.into_iter().enumerate().map(|(number, (kind, mut fields))| {
            fields["type"] = json!(kind);
            fields["sequence_number"] = json!(number);
            (kind == "response.output_text.delta", format!("event: {kind}\ndata: {fields}\n\n"))
        });
        numbered.collect()
    }
}
