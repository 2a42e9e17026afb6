//! Reads the system prompt and the messages.

use std::borrow::Cow;

use super::block_reader::{read_blocks, read_text};
use super::detached_signatures::{self, SignatureOwner};
use crate::llm::convert::error::ConvertError;
use crate::llm::convert::fields::{Fields, Path, array, text};
use crate::llm::convert::opaque::Opaque;
use crate::llm::convert::request::{Block, Role, SystemPart, TextBlock, Turn};

/// Begins the block that Claude Code puts first. Its content changes with every request, so that no other
/// provider's cache would ever find the prompt again.
const BILLING_HEADER: &str = "x-anthropic-billing-header";

pub(super) fn read_system<'a>(
    body: &Fields<'a>,
    path: &Path<'_>,
    left_out: &mut Vec<Cow<'a, str>>,
) -> Result<Vec<SystemPart<'a>>, ConvertError> {
    let place = path.key("system");
    let Some(raw) = body.get("system") else { return Ok(Vec::new()) };
    let part = |text, cache| SystemPart { is_developer: false, text, cache };
    if raw.starts_with('"') {
        return Ok(vec![part(text(raw, &place)?, None)]);
    }
    let mut parts = Vec::new();
    for (index, raw) in array_or_text(raw, &place)?.into_iter().enumerate() {
        let place = place.index(index);
        let fields = Fields::parse(raw, &place)?;
        if fields.required_text("type", &place)? != "text" {
            return Err(place.key("type").invalid("must be \"text\""));
        }
        let block = read_text(&fields, &place, left_out)?;
        if index > 0 || !block.text.starts_with(BILLING_HEADER) {
            parts.push(part(block.text, block.cache));
        }
    }
    Ok(parts)
}

/// Reads `messages`. A message without content is left out.
pub(super) fn read_turns<'a>(
    body: &Fields<'a>,
    path: &Path<'_>,
    left_out: &mut Vec<Cow<'a, str>>,
) -> Result<Vec<Turn<'a>>, ConvertError> {
    let place = path.key("messages");
    let messages = body.get("messages").ok_or_else(|| place.invalid("is required"))?;
    let mut turns = Vec::new();
    for (index, raw) in array(messages, &place)?.into_iter().enumerate() {
        let place = place.index(index);
        let turn = read_turn(raw, &place, left_out)?;
        if !turn.blocks.is_empty() {
            turns.push(turn);
        }
    }
    if turns.is_empty() {
        return Err(place.invalid("must hold a message with content"));
    }
    Ok(turns)
}

fn read_turn<'a>(
    raw: &'a str,
    path: &Path<'_>,
    left_out: &mut Vec<Cow<'a, str>>,
) -> Result<Turn<'a>, ConvertError> {
    let fields = Fields::parse(raw, path)?;
    let role = match &*fields.required_text("role", path)? {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => {
            let problem = "must be \"user\", \"assistant\" or \"system\"";
            return Err(path.key("role").invalid(problem));
        }
    };
    for (key, _) in fields.iter().filter(|(key, _)| !matches!(*key, "role" | "content")) {
        left_out.push(Cow::Owned(format!("messages.{key}")));
    }
    let place = path.key("content");
    let content = fields.get("content").ok_or_else(|| place.invalid("is required"))?;
    if content.starts_with('"') {
        let text = text(content, &place)?;
        let block = Block::Text(TextBlock { text, ..TextBlock::default() });
        return Ok(Turn { role, blocks: vec![block] });
    }
    let mut blocks = read_blocks(&array_or_text(content, &place)?, role, &place, left_out)?;
    if role == Role::Assistant {
        put_in_place(&mut blocks);
    } else {
        // Anthropic's API wants them first, and so do others.
        blocks.sort_by_key(|block| !matches!(block, Block::ToolResult(_)));
    }
    Ok(Turn { role, blocks })
}

fn array_or_text<'a>(raw: &'a str, path: &Path<'_>) -> Result<Vec<&'a str>, ConvertError> {
    array(raw, path).map_err(|_| path.invalid("must be a string or an array"))
}

/// Gives signatures back to the texts and calls that they belong to; those whose text or call is gone have
/// no use.
fn put_in_place(blocks: &mut Vec<Block<'_>>) {
    let mut index = 0;
    while index < blocks.len() {
        let is_placed = matches!(blocks.get(index), Some(Block::Reasoning(reasoning))
            if reasoning.opaque.iter().any(|opaque| detached_signatures::of_opaque(opaque).is_some()));
        if !is_placed {
            index += 1;
            continue;
        }
        let Block::Reasoning(reasoning) = blocks.remove(index) else { continue };
        for opaque in reasoning.opaque {
            let own = Opaque { id: None, ..opaque.clone() };
            match detached_signatures::of_opaque(&opaque) {
                Some(SignatureOwner::Call(id)) => {
                    let call = blocks.iter_mut().find_map(|block| match block {
                        Block::ToolCall(call) if call.id == id => Some(call),
                        _ => None,
                    });
                    call.into_iter().for_each(|call| call.opaque.push(own.clone()));
                }
                Some(SignatureOwner::Text) => {
                    let before = index.checked_sub(1).and_then(|before| blocks.get_mut(before));
                    if let Some(Block::Text(text)) = before {
                        text.opaque.push(own);
                    }
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_is_a_text_or_parts() {
        let read = |json: &'static str| {
            let fields = Fields::parse(json, &Path::ROOT).unwrap();
            read_system(&fields, &Path::ROOT, &mut Vec::new())
                .map(|parts| parts.into_iter().map(|part| part.text.into_owned()).collect())
        };
        let header = r#"{"type":"text","text":"x-anthropic-billing-header: cch=1;"}"#;
        let json = format!(r#"{{"system":[{header},{{"type":"text","text":"a"}},{header}]}}"#);
        let parts: Vec<String> = read(json.leak()).unwrap();
        assert_eq!(parts, ["a", "x-anthropic-billing-header: cch=1;"]);
        assert_eq!(read(r#"{"system":"b"}"#).unwrap(), ["b"]);
        assert!(read(r#"{"system":null}"#).unwrap().is_empty());
        for (json, message) in [
            (r#"{"system":1}"#, "'system' must be a string or an array"),
            (r#"{"system":["a"]}"#, "'system[0]' must be an object"),
            (r#"{"system":[{"type":"image"}]}"#, "'system[0].type' must be \"text\""),
        ] {
            assert_eq!(read(json).unwrap_err().to_string(), message);
        }
    }
}
