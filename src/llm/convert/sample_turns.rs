//! Conversations that are made up, for tests of writers.

use proptest::prelude::*;
use serde_json::Value;

use super::opaque::{Family, Opaque, OpaqueKind};
use super::request::{
    Block, CacheMark, Media, MediaKind, MediaSource, ReasoningBlock, Role, TextBlock, ToolCall,
    ToolResult, Turn,
};

/// Up to eight turns, each with a text.
pub(super) fn turns() -> impl Strategy<Value = Vec<Turn<'static>>> {
    prop::collection::vec(turn(), 1..8)
}

fn turn() -> impl Strategy<Value = Turn<'static>> {
    let spoken = prop::collection::vec(said(), 0..3);
    (prop::bool::ANY, any::<prop::sample::Index>(), text(), spoken, 0..4_u8).prop_map(
        |(is_user, place, text, mut blocks, kind)| {
            // What each side may say.
            blocks.retain(|block| match block {
                Block::ToolResult(_) | Block::Media(_) => is_user,
                Block::ToolCall(_) | Block::Reasoning(_) | Block::Refusal(_) => !is_user,
                Block::Text(_) => true,
            });
            blocks.insert(place.index(blocks.len() + 1), text);
            let is_instruction = blocks.iter().all(|block| matches!(block, Block::Text(_)));
            let role = match (is_user, kind) {
                (true, 0) if is_instruction => Role::System,
                (true, 1) if is_instruction => Role::Developer,
                (true, _) => Role::User,
                (false, _) => Role::Assistant,
            };
            Turn { role, blocks }
        },
    )
}

fn text() -> impl Strategy<Value = Block<'static>> {
    ("[a\"\\\\é\n]{1,3}", any::<bool>(), any::<bool>()).prop_map(|(text, is_signed, is_cached)| {
        let opaque = if is_signed { vec![opaque(Family::Google)] } else { Vec::new() };
        let cache = is_cached.then_some(CacheMark::FiveMinutes);
        Block::Text(TextBlock { text: text.into(), cache, opaque, phase: None })
    })
}

fn opaque(family: Family) -> Opaque<'static> {
    Opaque { family, kind: OpaqueKind::Signature, id: None, data: "c2ln".into() }
}

fn said() -> impl Strategy<Value = Block<'static>> {
    let family = prop::sample::select(vec![
        Family::Google,
        Family::Bedrock,
        Family::Anthropic,
        Family::OpenAi,
    ]);
    let id = || prop::sample::select(vec!["1", "2", "3"]);
    let arguments = prop::sample::select(vec!["{}", "", "{\"a\":1e400}", "{\"a\":", "[1]"]);
    prop_oneof![
        text(),
        Just(Block::Text(TextBlock::default())),
        Just(Block::Refusal("no".into())),
        Just(Block::Refusal("".into())),
        ("[a-z]{0,2}", family).prop_map(|(text, family)| {
            let opaque = vec![opaque(family)];
            Block::Reasoning(ReasoningBlock { text: text.into(), is_summary: false, opaque })
        }),
        (id(), arguments, any::<bool>()).prop_map(|(id, arguments, is_signed)| {
            let opaque = if is_signed { vec![opaque(Family::Google)] } else { Vec::new() };
            let (name, arguments) = ("f".into(), arguments.into());
            Block::ToolCall(ToolCall { id: id.into(), name, arguments, opaque, cache: None })
        }),
        (id(), prop::option::of(text()), any::<bool>()).prop_map(|(id, content, is_error)| {
            let (name, content) = (Some("f".into()), content.into_iter().collect());
            Block::ToolResult(ToolResult { id: id.into(), name, content, is_error, cache: None })
        }),
        (0..3_u8).prop_map(|kind| {
            let (kind, mime) = match kind {
                0 => (MediaKind::Image, "image/png"),
                1 => (MediaKind::Document, "application/pdf"),
                _ => (MediaKind::Audio, "audio/wav"),
            };
            let source = MediaSource::Inline { mime: mime.into(), data: "AAAA".into() };
            let name = Some("n.pdf".into());
            Block::Media(Media { kind, source, name, detail: None, cache: None })
        }),
    ]
}

/// Checks that the turns up to a change of sides are written as they are when more follow. `write` gives
/// the messages.
pub(super) fn check_prefixes(turns: &[Turn<'_>], write: impl Fn(&[Turn<'_>]) -> Vec<Value>) {
    let whole = write(turns);
    let is_model = |place: usize| turns.get(place).map(|turn| turn.role == Role::Assistant);
    for end in (1..turns.len()).filter(|end| is_model(end - 1) != is_model(*end)) {
        let begun = write(&turns[..end]);
        assert_eq!(begun[..], whole[..begun.len()], "{turns:?}");
    }
}
