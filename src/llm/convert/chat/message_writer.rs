//! The messages of a request to a provider of chats.

use std::borrow::Cow;

use super::super::error::{ConvertError, Dropped};
use super::super::request::{Block, ReasoningBlock, Request, Role, ToolCall, ToolResult, Turn};
use super::part_writer::{check_media, write_media, write_text};
use super::reasoning::{find_google, write_details, write_extra_content};
use crate::json::writer::JsonWriter;

/// Leaves out what messages have nothing for, and refuses what they can't do without.
pub(super) fn check_messages(
    request: &Request<'_>,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    let has_mark = request.system.iter().any(|part| part.cache.is_some())
        || request.tools.iter().any(|tool| tool.cache.is_some())
        || request.turns.iter().flat_map(|turn| &turn.blocks).any(has_cache_mark);
    if has_mark {
        dropped.drop("cache_control")?;
    }
    for turn in &request.turns {
        for block in &turn.blocks {
            match block {
                Block::Media(_) if turn.role != Role::User => {
                    let problem = "holds an image or a file outside of a user's message, which \
                                   this model's provider does not take";
                    return Err(ConvertError::unsupported("content", problem));
                }
                Block::Media(media) => check_media(media)?,
                Block::ToolResult(result) => {
                    if result.is_error {
                        dropped.drop("is_error")?;
                    }
                    for block in &result.content {
                        if let Block::Media(media) = block {
                            check_media(media)?;
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn has_cache_mark(block: &Block<'_>) -> bool {
    match block {
        Block::Text(block) => block.cache.is_some(),
        Block::Media(media) => media.cache.is_some(),
        Block::ToolCall(call) => call.cache.is_some(),
        Block::ToolResult(result) => {
            result.cache.is_some() || result.content.iter().any(has_cache_mark)
        }
        Block::Refusal(_) | Block::Reasoning(_) => false,
    }
}

/// Writes the array of messages.
pub(super) fn write_messages(json: &mut JsonWriter, request: &Request<'_>, takes_reasoning: bool) {
    json.array(|json| {
        if !request.system.is_empty() {
            let texts = request.system.iter().map(|part| &*part.text).collect();
            write_texts(json, texts);
        }
        // Media of results, which follow in a user's message, since a tool's has texts only.
        let mut media = Vec::new();
        let mut turns = request.turns.as_slice();
        while let Some(first) = turns.first() {
            let run = turns.iter().take_while(|turn| turn.role == first.role).count();
            let (run, rest) = turns.split_at(run);
            turns = rest;
            match first.role {
                Role::User => {
                    run.iter().for_each(|turn| write_user(json, &turn.blocks, &mut media));
                }
                Role::Assistant => {
                    flush(json, &mut media);
                    // The results have to follow the message with the calls.
                    let is_one = run.iter().any(has_calls);
                    let length = if is_one { run.len() } else { 1 };
                    for turns in run.chunks(length) {
                        write_assistant(json, turns, takes_reasoning);
                    }
                }
                Role::System | Role::Developer => {
                    flush(json, &mut media);
                    for turn in run {
                        write_texts(json, texts(&turn.blocks));
                    }
                }
            }
        }
        flush(json, &mut media);
    });
}

fn has_calls(turn: &Turn<'_>) -> bool {
    turn.blocks.iter().any(|block| matches!(block, Block::ToolCall(_)))
}

/// The role of instructions is `system` throughout: OpenAI treats it as `developer` where a model wants
/// that, and most other providers refuse `developer`.
fn write_texts(json: &mut JsonWriter, texts: Vec<&str>) {
    json.object(|json| {
        json.key("role").string("system");
        json.key("content");
        write_text_content(json, &texts);
    });
}

fn texts<'b>(blocks: &'b [Block<'_>]) -> Vec<&'b str> {
    let text = |block: &'b Block<'_>| match block {
        Block::Text(block) => Some(&*block.text),
        Block::Refusal(text) => Some(&**text),
        _ => None,
    };
    blocks.iter().filter_map(text).collect()
}

/// One text is a string, several are parts.
fn write_text_content(json: &mut JsonWriter, texts: &[&str]) {
    match texts {
        [] => json.string(""),
        [text] => json.string(text),
        texts => json.array(|json| texts.iter().for_each(|text| write_text(json, text))),
    }
}

/// Results come first, each as a message of its tool; the rest is the user's message.
fn write_user<'b, 'a>(
    json: &mut JsonWriter,
    blocks: &'b [Block<'a>],
    media: &mut Vec<&'b Block<'a>>,
) {
    let mut rest = Vec::new();
    let mut results = Vec::new();
    for block in blocks {
        match block {
            Block::ToolResult(result) => results.push(result),
            other => rest.push(other),
        }
    }
    for result in results {
        write_result(json, result);
        media.extend(result.content.iter().filter(|block| matches!(block, Block::Media(_))));
    }
    if rest.is_empty() {
        return;
    }
    let mut parts = std::mem::take(media);
    parts.extend(rest);
    write_user_message(json, &parts);
}

fn flush(json: &mut JsonWriter, media: &mut Vec<&Block<'_>>) {
    if !media.is_empty() {
        write_user_message(json, &std::mem::take(media));
    }
}

fn write_user_message(json: &mut JsonWriter, parts: &[&Block<'_>]) {
    json.object(|json| {
        json.key("role").string("user");
        json.key("content");
        if let [Block::Text(block)] = parts {
            return json.string(&block.text);
        }
        json.array(|json| {
            for part in parts {
                match part {
                    Block::Text(block) => write_text(json, &block.text),
                    Block::Refusal(text) => write_text(json, text),
                    Block::Media(media) => write_media(json, media),
                    _ => {}
                }
            }
        });
    });
}

fn write_result(json: &mut JsonWriter, result: &ToolResult<'_>) {
    json.object(|json| {
        json.key("role").string("tool");
        json.key("tool_call_id").string(&result.id);
        json.key("content");
        write_text_content(json, &texts(&result.content));
    });
}

/// Writes turns of the assistant as one message. A message that would say nothing is left out.
fn write_assistant(json: &mut JsonWriter, turns: &[Turn<'_>], takes_reasoning: bool) {
    let blocks = || turns.iter().flat_map(|turn| &turn.blocks);
    let mut text: Option<Cow<'_, str>> = None;
    let mut refusal: Option<Cow<'_, str>> = None;
    let mut calls = Vec::new();
    for block in blocks() {
        match block {
            Block::Text(block) => append(&mut text, &block.text),
            Block::Refusal(words) => append(&mut refusal, words),
            Block::ToolCall(call) => calls.push(call),
            _ => {}
        }
    }
    if text.is_none() && refusal.is_none() && calls.is_empty() {
        return;
    }
    json.object(|json| {
        json.key("role").string("assistant");
        match &text {
            Some(text) => json.key("content").string(text),
            None => json.key("content").null(),
        }
        if let Some(refusal) = &refusal {
            json.key("refusal").string(refusal);
        }
        if takes_reasoning {
            write_reasoning(json, &blocks().collect::<Vec<_>>());
        }
        if !calls.is_empty() {
            json.key("tool_calls").array(|json| {
                calls.iter().for_each(|call| write_call(json, call, takes_reasoning));
            });
        }
    });
}

fn append<'b>(whole: &mut Option<Cow<'b, str>>, text: &'b str) {
    match whole {
        Some(whole) => whole.to_mut().push_str(text),
        None => *whole = Some(text.into()),
    }
}

fn write_call(json: &mut JsonWriter, call: &ToolCall<'_>, takes_reasoning: bool) {
    json.object(|json| {
        json.key("id").string(&call.id);
        json.key("type").string("function");
        json.key("function").object(|json| {
            json.key("name").string(&call.name);
            json.key("arguments").string(&call.object());
        });
        if let Some(signature) = find_google(&call.opaque).filter(|_| takes_reasoning) {
            write_extra_content(json, signature);
        }
    });
}

/// Writes the members that carry reasoning.
fn write_reasoning(json: &mut JsonWriter, blocks: &[&Block<'_>]) {
    let mut reasoning: Vec<(u64, &ReasoningBlock<'_>)> = Vec::new();
    let mut place = 0;
    let (mut has_text, mut has_refusal) = (false, false);
    let mut signature = None;
    for block in blocks {
        let has_place = match block {
            Block::Text(block) => {
                signature = find_google(&block.opaque).or(signature);
                !std::mem::replace(&mut has_text, true)
            }
            Block::Refusal(_) => !std::mem::replace(&mut has_refusal, true),
            Block::Reasoning(block) => {
                reasoning.push((place, block));
                true
            }
            _ => true,
        };
        place += u64::from(has_place);
    }
    let text: String = reasoning.iter().map(|(_, block)| &*block.text).collect();
    if !text.is_empty() {
        json.key("reasoning_content").string(&text);
    }
    if reasoning.iter().any(|(_, block)| !block.opaque.is_empty()) {
        json.key("reasoning_details").array(|json| {
            for (index, block) in &reasoning {
                write_details(json, *index, (&block.text, block.is_summary), &block.opaque);
            }
        });
    }
    if let Some(signature) = signature {
        write_extra_content(json, signature);
    }
}
