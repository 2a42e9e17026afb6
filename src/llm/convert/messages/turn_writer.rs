//! Writes the system prompt and the messages, in the order that the API wants: roles take turns, results
//! of tools come first in the message after the calls.

use super::block_writer::{is_written, write_block, write_text};
use super::claude::Claude;
use crate::json::writer::JsonWriter;
use crate::llm::convert::error::{ConvertError, Dropped};
use crate::llm::convert::merged_turns::instruction;
use crate::llm::convert::request::{Block, Role, SystemPart, TextBlock, Turn};

/// A message as it is written.
#[derive(Debug)]
pub(super) struct Message<'r, 'a> {
    role: &'static str,
    items: Vec<Item<'r, 'a>>,
}

#[derive(Debug)]
enum Item<'r, 'a> {
    Block(&'r Block<'a>),
    /// Instructions that are in a user's message.
    Instruction(&'r TextBlock<'a>),
}

/// Writes `system`, one block a part.
pub(super) fn write_system(parts: &[SystemPart<'_>], json: &mut JsonWriter) {
    let mut parts = parts.iter().filter(|part| !part.text.trim().is_empty()).peekable();
    if parts.peek().is_some() {
        json.key("system").array(|json| {
            parts.for_each(|part| write_text(&part.text, part.cache, json));
        });
    }
}

/// Puts turns together into messages.
pub(super) fn arrange<'r, 'a>(
    turns: &'r [Turn<'a>],
    claude: Claude<'_>,
) -> Result<Vec<Message<'r, 'a>>, ConvertError> {
    let mut messages: Vec<Message<'r, 'a>> = Vec::new();
    for (index, turn) in turns.iter().enumerate() {
        let blocks = turn.blocks.iter().filter(|block| is_written(block));
        let (role, items): (_, Vec<_>) = match turn.role {
            Role::User => ("user", blocks.map(Item::Block).collect()),
            Role::Assistant => ("assistant", blocks.map(Item::Block).collect()),
            Role::System | Role::Developer => {
                let has_place = claude.takes_system_messages()
                    && messages.last().is_some_and(|last| last.role != "assistant")
                    && next_role(turns, index) != Some(Role::User);
                let texts = blocks.filter_map(|block| match block {
                    Block::Text(text) => Some(text),
                    _ => None,
                });
                if has_place {
                    let blocks = turn.blocks.iter().filter(|block| is_written(block));
                    ("system", blocks.map(Item::Block).collect())
                } else {
                    ("user", texts.map(Item::Instruction).collect())
                }
            }
        };
        match messages.last_mut() {
            _ if items.is_empty() => {}
            Some(last) if last.role == role && role != "system" => last.items.extend(items),
            _ => messages.push(Message { role, items }),
        }
    }
    for message in messages.iter_mut().filter(|message| message.role == "user") {
        message.items.sort_by_key(|item| !matches!(item, Item::Block(Block::ToolResult(_))));
    }
    if messages.is_empty() {
        return Err(ConvertError::invalid("messages", "must hold a message with content"));
    }
    Ok(messages)
}

/// Whose turn is next, instructions aside: the API takes them only before the assistant's turn or at the
/// end.
fn next_role(turns: &[Turn<'_>], index: usize) -> Option<Role> {
    let mut later = turns.iter().skip(index + 1).filter(|turn| turn.blocks.iter().any(is_written));
    let next = later.find(|turn| matches!(turn.role, Role::User | Role::Assistant));
    next.map(|turn| turn.role)
}

pub(super) fn write_messages(
    messages: &[Message<'_, '_>],
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    json.array(|json| {
        messages.iter().try_for_each(|message| {
            json.object(|json| {
                json.key("role").string(message.role);
                json.key("content");
                json.array(|json| {
                    message.items.iter().try_for_each(|item| match item {
                        Item::Block(block) => write_block(block, message.role, json, dropped),
                        Item::Instruction(text) => {
                            write_text(&instruction(&text.text), text.cache, json);
                            Ok(())
                        }
                    })
                })
            })
        })
    })
}
