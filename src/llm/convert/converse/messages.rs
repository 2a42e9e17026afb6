//! The conversation: turns of the user and the model in `messages`.

use super::super::error::{ConvertError, Dropped};
use super::super::merged_turns::{MergedTurn, merged_turns};
use super::super::request::{Block, Request};
use super::content::{ContentWriter, is_written};
use crate::json::writer::JsonWriter;

pub(super) fn write_messages(
    request: &Request<'_>,
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    let runs = merged_turns(&request.turns, is_written);
    if runs.is_empty() {
        return Err(ConvertError::invalid("messages", "must hold a message that is not empty"));
    }
    let mut writer = ContentWriter::new(dropped);
    json.key("messages").array(|json| {
        for run in &runs {
            json.object(|json| {
                let role = if run.is_model { "assistant" } else { "user" };
                json.key("role").string(role);
                json.key("content").array(|json| {
                    ordered(run).try_for_each(|block| writer.write(block, run.is_model, json))
                })
            })?;
        }
        Ok::<_, ConvertError>(())
    })
}

/// The blocks in order; of the user's, the results of calls come first, as the models want them.
fn ordered<'r, 'a>(run: &'r MergedTurn<'_, 'a>) -> impl Iterator<Item = &'r Block<'a>> {
    let is_first = |block: &&'r Block<'a>| run.is_model || matches!(block, Block::ToolResult(_));
    let blocks = || run.blocks.iter().map(|block| &**block);
    blocks().filter(is_first).chain(blocks().filter(move |block| !is_first(block)))
}
