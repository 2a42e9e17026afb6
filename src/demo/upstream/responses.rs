//! `POST /v1/responses`.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::error::UpstreamError;
use super::reply::{Reply, last_message, stream_events};
use super::{MODEL, RequestBody, Responder};

pub(super) async fn create(
    responder: web::Data<Responder>,
    body: web::Bytes,
) -> Result<HttpResponse, UpstreamError> {
    let RequestBody { body, stream } = RequestBody::parse(&body)?;
    let (message, input_words) = match &body["input"] {
        Value::String(text) => (text.clone(), text.split_whitespace().count()),
        Value::Array(items) => last_message(items),
        _ => return Err(UpstreamError::Missing("input")),
    };
    let reply = Reply::to(&message, input_words, body["max_output_tokens"].as_u64());
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

/// The parts of an answer, plain or streamed.
struct Answer {
    id: String,
    item_id: String,
    created_at: i64,
    body: Value,
    reply: Reply,
}

impl Answer {
    fn status(&self) -> &'static str {
        if self.reply.is_truncated { "incomplete" } else { "completed" }
    }

    fn finished(&self) -> Value {
        let mut response = self.response(self.status(), json!([self.item(self.status(), true)]));
        if self.reply.is_truncated {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        let (input_words, output_words) = (self.reply.input_words, self.reply.output_words());
        response["usage"] = json!({
            "input_tokens": input_words,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output_words,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_words + output_words,
        });
        response
    }

    fn response(&self, status: &str, output: Value) -> Value {
        let given_or = |field: &str, default: Value| match &self.body[field] {
            Value::Null => default,
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
            "metadata": given_or("metadata", json!({})),
            "model": MODEL,
            "output": output,
            "parallel_tool_calls": given_or("parallel_tool_calls", json!(true)),
            "previous_response_id": self.body["previous_response_id"],
            "reasoning": {"effort": null, "summary": null},
            "store": false,
            "temperature": given_or("temperature", json!(1.0)),
            "text": {"format": {"type": "text"}},
            "tool_choice": given_or("tool_choice", json!("auto")),
            "tools": given_or("tools", json!([])),
            "top_p": given_or("top_p", json!(1.0)),
            "truncation": "disabled",
            "usage": null,
            "user": self.body["user"],
        })
    }

    fn item(&self, status: &str, with_content: bool) -> Value {
        let content = if with_content { json!([self.part(&self.reply.text())]) } else { json!([]) };
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

    /// The events of a stream, each with whether to pause before it.
    fn events(&self) -> Vec<(bool, String)> {
        let response = self.response("in_progress", json!([]));
        let text = self.reply.text();
        let at = |mut fields: Value| {
            fields["item_id"] = json!(self.item_id);
            fields["output_index"] = json!(0);
            fields["content_index"] = json!(0);
            fields
        };
        let item = |status, with_content| json!({"output_index": 0, "item": self.item(status, with_content)});
        let last =
            if self.reply.is_truncated { "response.incomplete" } else { "response.completed" };
        let mut events = vec![
            ("response.created", json!({"response": response})),
            ("response.in_progress", json!({"response": response})),
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
