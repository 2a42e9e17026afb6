//! The conversation of a caller's request: items become turns.

use std::borrow::Cow;

use super::super::error::ConvertError;
use super::super::fields::{Fields, Path, array, text};
use super::super::opaque::{Family, Opaque, OpaqueKind};
use super::super::request::{
    Block, ReasoningBlock, Request, Role, SystemPart, Text, TextBlock, ToolCall, ToolResult, Turn,
};
use super::content::{Author, read_content};
use super::{OF_TEXT, PARAGRAPH, only_openai};

const REFERENCE: &str =
    "refers to an item that OpenAI stores; send the item itself, or use one of OpenAI's models";
/// How far a signature may be from its call, in items: they are written next to each other.
const NEAR: usize = 64;

/// Reads `input` into the instructions and the turns of the request.
pub(super) fn read_input<'a>(
    raw: &'a str,
    path: &Path<'_>,
    request: &mut Request<'a>,
) -> Result<(), ConvertError> {
    let mut reader = InputReader { request, waiting: Vec::new() };
    if raw.starts_with('"') {
        let text = text(raw, path)?;
        reader.push(Role::User, Block::Text(TextBlock { text, ..TextBlock::default() }));
        return Ok(());
    }
    if !raw.starts_with('[') {
        return Err(path.invalid("must be a string or an array"));
    }
    for (index, raw) in array(raw, path)?.into_iter().enumerate() {
        reader.read_item(raw, &path.index(index))?;
    }
    Ok(())
}

struct InputReader<'r, 'a> {
    request: &'r mut Request<'a>,
    /// Signatures that came before their calls, with the ids of these.
    waiting: Vec<(Text<'a>, Opaque<'a>)>,
}

impl<'a> InputReader<'_, 'a> {
    fn read_item(&mut self, raw: &'a str, path: &Path<'_>) -> Result<(), ConvertError> {
        let fields = Fields::parse(raw, path)?;
        let kind = fields.text("type", path)?;
        match kind.as_deref() {
            None if fields.get("role").is_none() && fields.get("id").is_some() => {
                Err(path.unsupported(REFERENCE))
            }
            None | Some("message") => self.read_message(&fields, path),
            Some("function_call") => self.read_call(&fields, path),
            Some("function_call_output") => self.read_output(&fields, path),
            Some("reasoning") => self.read_reasoning(&fields, path),
            Some("item_reference") => Err(path.unsupported(REFERENCE)),
            Some(other) => Err(path.key("type").unsupported(only_openai(other, "item"))),
        }
    }

    fn read_message(&mut self, fields: &Fields<'a>, path: &Path<'_>) -> Result<(), ConvertError> {
        let role = match &*fields.required_text("role", path)? {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            "developer" => Role::Developer,
            _ => {
                let problem = "must be 'user', 'assistant', 'system' or 'developer'";
                return Err(path.key("role").invalid(problem));
            }
        };
        let content = path.key("content");
        let raw = fields.get("content").ok_or_else(|| content.invalid("is required"))?;
        match role {
            Role::User => {
                let blocks = read_content(raw, &content, Author::Input)?;
                self.push_turn(Turn { role, blocks });
            }
            Role::Assistant => {
                let phase = fields.text("phase", path)?;
                for mut block in read_content(raw, &content, Author::Assistant)? {
                    if let Block::Text(text) = &mut block {
                        text.phase.clone_from(&phase);
                    }
                    self.push(role, block);
                }
            }
            Role::System | Role::Developer => {
                let blocks = read_content(raw, &content, Author::Input)?;
                let is_text = |block: &Block<'_>| matches!(block, Block::Text(_));
                if !blocks.iter().all(is_text) {
                    return Err(content.unsupported("may hold text only"));
                }
                if self.request.turns.is_empty() {
                    let is_developer = role == Role::Developer;
                    self.request.system.extend(blocks.into_iter().filter_map(
                        |block| match block {
                            Block::Text(TextBlock { text, cache, .. }) => {
                                Some(SystemPart { is_developer, text, cache })
                            }
                            _ => None,
                        },
                    ));
                } else {
                    self.push_turn(Turn { role, blocks });
                }
            }
        }
        Ok(())
    }

    fn read_call(&mut self, fields: &Fields<'a>, path: &Path<'_>) -> Result<(), ConvertError> {
        let id = fields.required_text("call_id", path)?;
        let mut opaque = Vec::new();
        self.waiting.retain_mut(|(call, signature)| {
            let is_own = *call == id;
            if is_own {
                opaque.push(signature.clone());
            }
            !is_own
        });
        let call = ToolCall {
            id,
            name: fields.required_text("name", path)?,
            arguments: fields.required_text("arguments", path)?,
            opaque,
            cache: None,
        };
        self.push(Role::Assistant, Block::ToolCall(call));
        Ok(())
    }

    fn read_output(&mut self, fields: &Fields<'a>, path: &Path<'_>) -> Result<(), ConvertError> {
        let place = path.key("output");
        let raw = fields.get("output").ok_or_else(|| place.invalid("is required"))?;
        let content = match raw {
            "\"\"" => Vec::new(),
            _ => read_content(raw, &place, Author::Input)?,
        };
        let id = fields.required_text("call_id", path)?;
        let result = ToolResult { id, name: None, content, is_error: false, cache: None };
        self.push(Role::User, Block::ToolResult(result));
        Ok(())
    }

    fn read_reasoning(&mut self, fields: &Fields<'a>, path: &Path<'_>) -> Result<(), ConvertError> {
        let summary = read_texts(fields, "summary", path)?;
        let is_summary = !summary.is_empty();
        let text = if is_summary { summary } else { read_texts(fields, "content", path)? };
        let encrypted = fields.text("encrypted_content", path)?;
        let mut opaque = encrypted
            .and_then(|field| Opaque::from_field(field, Family::OpenAi, OpaqueKind::Encrypted));
        if let Some(opaque) = &mut opaque
            && opaque.is_of(Family::OpenAi)
            && opaque.id.is_none()
        {
            opaque.id = fields.text("id", path)?;
        }
        match opaque {
            Some(mut signature) if !signature.is_of(Family::OpenAi) && signature.id.is_some() => {
                let owner = signature.id.take().unwrap_or_default();
                self.attach(owner, signature);
            }
            None if text.is_empty() => {}
            opaque => {
                let opaque = opaque.into_iter().collect();
                let block = ReasoningBlock { text, is_summary, opaque };
                self.push(Role::Assistant, Block::Reasoning(block));
            }
        }
        Ok(())
    }

    /// Puts a signature to what it belongs to, which may come later.
    fn attach(&mut self, owner: Text<'a>, signature: Opaque<'a>) {
        let turn = self.request.turns.last_mut().filter(|turn| turn.role == Role::Assistant);
        let mut blocks = turn.map(|turn| &mut turn.blocks).into_iter().flatten().rev().take(NEAR);
        let place = blocks.find_map(|block| match block {
            Block::ToolCall(call) if call.id == owner => Some(&mut call.opaque),
            Block::Text(text) if owner == OF_TEXT => Some(&mut text.opaque),
            _ => None,
        });
        match place {
            Some(place) => place.push(signature),
            None if owner == OF_TEXT => {}
            None if self.waiting.len() < NEAR => self.waiting.push((owner, signature)),
            None => {}
        }
    }

    /// Adds to the model's turn, or to the results of its calls; begins a turn otherwise.
    fn push(&mut self, role: Role, block: Block<'a>) {
        let is_result = |block: &Block<'_>| matches!(block, Block::ToolResult(_));
        match self.request.turns.last_mut() {
            Some(turn)
                if turn.role == role
                    && (role == Role::Assistant
                        || (is_result(&block) && turn.blocks.last().is_some_and(is_result))) =>
            {
                turn.blocks.push(block);
            }
            _ => self.push_turn(Turn { role, blocks: vec![block] }),
        }
    }

    fn push_turn(&mut self, turn: Turn<'a>) {
        if turn.role != Role::Assistant {
            // The calls that these belong to are gone.
            self.waiting.clear();
        }
        if !turn.blocks.is_empty() {
            self.request.turns.push(turn);
        }
    }
}

/// The texts of a list of parts, as one.
fn read_texts<'a>(
    fields: &Fields<'a>,
    key: &str,
    path: &Path<'_>,
) -> Result<Text<'a>, ConvertError> {
    let list = path.key(key);
    let mut whole = Cow::Borrowed("");
    for (index, raw) in fields.array(key, path)?.into_iter().enumerate() {
        let path = list.index(index);
        let text = Fields::parse(raw, &path)?.required_text("text", &path)?;
        if whole.is_empty() {
            whole = text;
        } else if !text.is_empty() {
            let whole = whole.to_mut();
            whole.push_str(PARAGRAPH);
            whole.push_str(&text);
        }
    }
    Ok(whole)
}
