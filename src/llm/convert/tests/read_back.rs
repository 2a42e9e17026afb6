//! Reads what was written with the reader of its own format.

use serde_json::{Value, json};

use super::super::answer::{Answer, AnswerEvent};
use super::super::test_rendering::fold;
use super::super::{chat, converse, gemini, messages, responses};
use super::conversion;
use crate::llm::format::Format;

/// The whole of a plain answer.
pub(super) fn plain(format: Format, json: &str) -> Answer {
    let events = match format {
        Format::Responses => responses::read_answer(json),
        Format::Messages => messages::read_answer(json),
        Format::Gemini => gemini::read_answer(json),
        Format::Converse => converse::read_answer(json),
        _ => chat::read_answer(json),
    };
    let events = events.unwrap();
    assert_eq!(events.last(), Some(&AnswerEvent::End), "{json}");
    fold(events)
}

/// The events of a stream.
pub(super) fn stream(format: Format, body: &[u8]) -> Vec<AnswerEvent> {
    conversion(format, Format::Chat).events(body, true).unwrap()
}

/// The member of a request that holds the conversation.
pub(super) fn conversation(format: Format, request: &Value) -> &Vec<Value> {
    let key = match format {
        Format::Responses => "input",
        Format::Gemini => "contents",
        _ => "messages",
    };
    request[key].as_array().unwrap()
}

/// What the model said last in a request, read as if it were an answer.
pub(super) fn last_said(format: Format, request: &Value) -> Answer {
    let conversation = conversation(format, request);
    let is_said = |one: &&Value| match format {
        Format::Responses => {
            one["role"] == "assistant"
                || one["type"] == "reasoning"
                || one["type"] == "function_call"
        }
        _ => one["role"] == "assistant" || one["role"] == "model",
    };
    let rest = conversation.iter().rev().skip_while(|one| !is_said(one));
    let mut said: Vec<Value> = rest.take_while(is_said).cloned().collect();
    said.reverse();
    let answer = match format {
        Format::Responses => {
            for item in said.iter_mut().filter(|item| item["content"].is_string()) {
                let text = item["content"].take();
                item["content"] = json!([{"type": "output_text", "text": text}]);
            }
            json!({"status": "completed", "output": said})
        }
        Format::Messages => json!({"content": said[0]["content"], "stop_reason": "end_turn"}),
        Format::Gemini => json!({"candidates": [{"content": said[0], "finishReason": "STOP"}]}),
        Format::Converse => json!({"output": {"message": said[0]}, "stopReason": "end_turn"}),
        _ => json!({"choices": [{"index": 0, "message": said[0], "finish_reason": "stop"}]}),
    };
    plain(format, &answer.to_string())
}
