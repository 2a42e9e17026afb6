//! Answers of hosts of chats.

use serde_json::{Value, json};

use super::plan::pieces;
use super::{Answer, ChatRules, Family, Said, Tokens};
use crate::support::script::{Script, data};

pub(super) fn answer(answer: Answer<'_>, rules: ChatRules, wants_usage: bool) -> Script {
    let finish = if answer.has_calls() { "tool_calls" } else { "stop" };
    let usage = usage(answer.tokens());
    if !answer.is_stream {
        let message = message(answer, rules);
        let choice =
            json!({"index": 0, "message": message, "finish_reason": finish, "logprobs": null});
        return Script::json(
            200,
            &json!({"id": "chatcmpl-strict", "object": "chat.completion", "created": 1_700_000_000,
                "model": "as-served", "choices": [choice], "usage": usage}),
        );
    }
    let chunk = |choices: Value, usage: Value| {
        data(
            json!({"id": "chatcmpl-strict", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": "as-served", "choices": choices, "usage": usage}),
        )
    };
    let delta = |delta: Value, finish: Value| {
        chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}]), Value::Null)
    };
    let mut events = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
    events.extend(deltas(answer, rules).into_iter().map(|one| delta(one, Value::Null)));
    events.push(delta(json!({}), json!(finish)));
    if wants_usage {
        events.push(chunk(json!([]), usage));
    }
    events.push(data("[DONE]"));
    Script::sse(events)
}

/// The id of a call. DeepSeek's are here as some hosts make them: with characters that others refuse, and
/// the same in every turn.
fn call_id(answer: Answer<'_>, rules: ChatRules, place: usize) -> String {
    let number = answer.number;
    match rules {
        ChatRules::OpenAi => format!("call_Abcdefghijklmnopqrst{number}{place}"),
        ChatRules::Mistral => format!("Abc0Mi{number}x{place}"),
        ChatRules::DeepSeek => format!("functions.weather:{place}"),
        ChatRules::OpenRouter => format!("toolu_vrtx_01Abcdefghijklmnop_{number}{place}"),
    }
}

fn calls(answer: Answer<'_>, rules: ChatRules) -> Vec<Value> {
    let called = answer.says.iter().filter_map(|said| match said {
        Said::Call { tool, arguments } => Some((*tool, *arguments)),
        _ => None,
    });
    let call = |(place, (tool, arguments)): (usize, (usize, &str))| {
        json!({"id": call_id(answer, rules, place), "type": "function",
            "function": {"name": answer.tools[tool], "arguments": arguments}})
    };
    called.enumerate().map(call).collect()
}

/// What OpenRouter tells of a thought.
fn detail(said: &Said, index: usize) -> Option<Value> {
    let family = Family::Anthropic;
    let format = "anthropic-claude-v1";
    match said {
        Said::Thought(text) => Some(json!({"type": "reasoning.text", "text": text,
            "signature": family.sign(text), "format": format, "index": index})),
        Said::Hidden(text) => Some(json!({"type": "reasoning.encrypted", "index": index,
            "data": family.sign(&format!("hidden {text}")), "format": format})),
        _ => None,
    }
}

fn message(answer: Answer<'_>, rules: ChatRules) -> Value {
    let mut message = json!({"role": "assistant", "content": null});
    let mut details = Vec::new();
    for said in answer.says {
        match said {
            Said::Text(text) => message["content"] = (*text).into(),
            Said::Thought(text) if rules == ChatRules::DeepSeek => {
                message["reasoning_content"] = (*text).into();
            }
            Said::Thought(text) if rules == ChatRules::OpenRouter => {
                message["reasoning"] = (*text).into();
                details.extend(detail(said, details.len()));
            }
            Said::Hidden(_) if rules == ChatRules::OpenRouter => {
                details.extend(detail(said, details.len()));
            }
            _ => {}
        }
    }
    if !details.is_empty() {
        message["reasoning_details"] = details.into();
    }
    let calls = calls(answer, rules);
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

fn deltas(answer: Answer<'_>, rules: ChatRules) -> Vec<Value> {
    let (mut deltas, mut index) = (Vec::new(), 0);
    for said in answer.says {
        match said {
            Said::Text(text) => {
                deltas.extend(pieces(text).into_iter().map(|piece| json!({"content": piece})));
            }
            Said::Thought(text) if rules == ChatRules::DeepSeek => {
                let pieces = pieces(text).into_iter();
                deltas.extend(
                    pieces.map(|piece| json!({"reasoning_content": piece, "content": null})),
                );
            }
            Said::Thought(text) if rules == ChatRules::OpenRouter => {
                deltas.extend(pieces(text).into_iter().map(|piece| {
                    let detail = json!({"type": "reasoning.text", "text": piece, "index": index,
                        "format": "anthropic-claude-v1"});
                    json!({"content": "", "reasoning": piece, "reasoning_details": [detail]})
                }));
                let signature = json!({"type": "reasoning.text", "index": index,
                    "signature": Family::Anthropic.sign(text), "format": "anthropic-claude-v1"});
                deltas.push(json!({"content": "", "reasoning_details": [signature]}));
                index += 1;
            }
            Said::Hidden(_) if rules == ChatRules::OpenRouter => {
                deltas.push(json!({"reasoning_details": [detail(said, index)]}));
                index += 1;
            }
            _ => {}
        }
    }
    for (place, mut call) in calls(answer, rules).into_iter().enumerate() {
        let arguments = std::mem::replace(&mut call["function"]["arguments"], "".into());
        call["index"] = place.into();
        deltas.push(json!({"tool_calls": [call]}));
        deltas.extend(pieces(arguments.as_str().unwrap()).into_iter().map(
            |piece| json!({"tool_calls": [{"index": place, "function": {"arguments": piece}}]}),
        ));
    }
    deltas
}

fn usage(tokens: Tokens) -> Value {
    let Tokens { input, cached, output, reasoning } = tokens;
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning}})
}
