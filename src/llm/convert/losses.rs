//! What a request holds that several formats have nothing for.

use super::error::{ConvertError, Dropped};
use super::request::{Block, Named, OutputFormat, Request};

/// Leaves out what only OpenAI's APIs have. A default says nothing.
pub(super) fn drop_openais(
    request: &Request<'_>,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    for field in [
        request.verbosity.as_ref().filter(|one| one.value != "medium").map(|one| one.field),
        request.metadata.as_ref().filter(|one| one.value != "{}").map(|one| one.field),
        request.store.as_ref().filter(|one| one.value).map(|one| one.field),
        request.prompt_cache_key.as_ref().map(|one| one.field),
        request.prompt_cache_retention.as_ref().map(|one| one.field),
    ]
    .into_iter()
    .flatten()
    {
        dropped.drop(field)?;
    }
    drop_phase(request, dropped)
}

/// Leaves out OpenAI's `phase` of what the model said.
pub(super) fn drop_phase(request: &Request<'_>, dropped: &mut Dropped) -> Result<(), ConvertError> {
    let has_phase = |block: &Block<'_>| matches!(block, Block::Text(text) if text.phase.is_some());
    if blocks(request).any(has_phase) { dropped.drop("phase") } else { Ok(()) }
}

/// Leaves out what the caller says of the form of the answer besides its schema. Its name is only told to
/// the model, and that the form is kept is what other providers do anyway.
pub(super) fn drop_format_description(
    request: &Request<'_>,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    match &request.output_format {
        Some(Named { field, value: OutputFormat::Schema { description: Some(_), .. } }) => {
            dropped.drop(&format!("{field}.description"))
        }
        _ => Ok(()),
    }
}

/// Whether anything is marked for the provider's cache.
pub(super) fn has_cache_mark(request: &Request<'_>) -> bool {
    request.system.iter().any(|part| part.cache.is_some())
        || request.tools.iter().any(|tool| tool.cache.is_some())
        || blocks(request).any(|block| match block {
            Block::Text(text) => text.cache.is_some(),
            Block::Media(media) => media.cache.is_some(),
            Block::ToolCall(call) => call.cache.is_some(),
            Block::ToolResult(result) => result.cache.is_some(),
            Block::Refusal(_) | Block::Reasoning(_) => false,
        })
}

/// All blocks of the conversation, with those within the results of tools.
pub(super) fn blocks<'r, 'a>(request: &'r Request<'a>) -> impl Iterator<Item = &'r Block<'a>> {
    let inner = |block: &'r Block<'a>| match block {
        Block::ToolResult(result) => &result.content[..],
        _ => &[],
    };
    let outer = request.turns.iter().flat_map(|turn| &turn.blocks);
    outer.flat_map(move |block| std::iter::once(block).chain(inner(block)))
}
