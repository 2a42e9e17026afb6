//! Parts of requests, for tests of writers.

use super::opaque::{Family, Opaque, OpaqueKind};
use super::request::{Block, Role, TextBlock, Tool, ToolResult, Turn};

pub(super) fn text(text: &str) -> Block<'_> {
    Block::Text(TextBlock { text: text.into(), ..TextBlock::default() })
}

/// The result of a call of `f`.
pub(super) fn result<'a>(id: &'a str, content: Vec<Block<'a>>) -> Block<'a> {
    Block::ToolResult(ToolResult {
        id: id.into(),
        name: Some("f".into()),
        content,
        is_error: false,
        cache: None,
    })
}

pub(super) fn opaque(family: Family, kind: OpaqueKind, data: &str) -> Opaque<'_> {
    Opaque { family, kind, id: None, data: data.into() }
}

pub(super) fn user(blocks: Vec<Block<'_>>) -> Turn<'_> {
    Turn { role: Role::User, blocks }
}

pub(super) fn assistant(blocks: Vec<Block<'_>>) -> Turn<'_> {
    Turn { role: Role::Assistant, blocks }
}

pub(super) fn turn(role: Role, blocks: Vec<Block<'_>>) -> Turn<'_> {
    Turn { role, blocks }
}

pub(super) fn tool(name: &str) -> Tool<'_> {
    Tool { name: name.into(), description: None, parameters: None, strict: None, cache: None }
}
