//! The conversation: turns of the user and the model in `contents`.

use std::collections::HashMap;

use super::super::error::ConvertError;
use super::super::merged_turns::{MergedTurn, merged_turns};
use super::super::request::{Block, Request};
use super::model_turn::{ModelTurn, signature};
use super::part::Part;
use super::thinking::Model;
use crate::json::writer::JsonWriter;

pub(super) fn write_contents(
    request: &Request<'_>,
    model: Model<'_>,
    takes_ids: bool,
    json: &mut JsonWriter,
) -> Result<(), ConvertError> {
    let runs = merged_turns(&request.turns, is_written);
    if runs.is_empty() {
        return Err(ConvertError::invalid("messages", "must hold a message that is not empty"));
    }
    let mut calls = HashMap::new();
    json.key("contents").array(|json| {
        for run in &runs {
            let contents = if run.is_model {
                calls = places(run);
                vec![model_parts(run, model)?]
            } else {
                user_contents(run, model, &calls)?
            };
            let role = if run.is_model { "model" } else { "user" };
            for parts in contents.into_iter().filter(|parts| !parts.is_empty()) {
                json.object(|json| {
                    json.key("role").string(role);
                    json.key("parts").array(|json| {
                        parts.iter().for_each(|part| part.write(takes_ids, json));
                    });
                });
            }
        }
        Ok::<_, ConvertError>(())
    })
}

/// Whether something is written for the block. Google refuses empty texts without a signature, and
/// reasoning goes back only with one.
fn is_written(block: &Block<'_>) -> bool {
    match block {
        Block::Text(text) => !text.text.is_empty() || signature(&text.opaque).is_some(),
        Block::Refusal(text) => !text.is_empty(),
        Block::Reasoning(reasoning) => signature(&reasoning.opaque).is_some(),
        Block::Media(_) | Block::ToolCall(_) | Block::ToolResult(_) => true,
    }
}

/// The place of each call in a turn of the model's, by its id.
fn places<'r>(run: &'r MergedTurn<'_, '_>) -> HashMap<&'r str, usize> {
    let calls = run.blocks.iter().filter_map(|block| match &**block {
        Block::ToolCall(call) => Some(&*call.id),
        _ => None,
    });
    let mut places = HashMap::new();
    for (place, id) in calls.enumerate() {
        places.entry(id).or_insert(place);
    }
    places
}

fn model_parts<'r>(
    run: &'r MergedTurn<'_, '_>,
    model: Model<'_>,
) -> Result<Vec<Part<'r>>, ConvertError> {
    let mut turn = ModelTurn::new(model.may_need_signatures());
    for block in &run.blocks {
        match turn.take(block) {
            Some(Block::Media(media)) => turn.push(Part::media(media)?),
            Some(Block::ToolResult(result)) => {
                let mut beside = Vec::new();
                turn.push(Part::result(result, model, &mut beside)?);
                beside.into_iter().for_each(|part| turn.push(part));
            }
            _ => {}
        }
    }
    Ok(turn.finish())
}

/// What the user says, in two parts: Google wants the results of calls in the order of the calls, and
/// nothing else with them.
fn user_contents<'r>(
    run: &'r MergedTurn<'_, '_>,
    model: Model<'_>,
    calls: &HashMap<&str, usize>,
) -> Result<Vec<Vec<Part<'r>>>, ConvertError> {
    let (mut results, mut media, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for block in &run.blocks {
        match &**block {
            Block::ToolResult(result) => {
                let place = calls.get(&*result.id).copied().unwrap_or(usize::MAX);
                results.push((place, Part::result(result, model, &mut media)?));
            }
            Block::Text(text) => others.push(Part::text(&text.text)),
            Block::Refusal(text) => others.push(Part::text(text)),
            Block::Media(one) => others.push(Part::media(one)?),
            Block::ToolCall(call) => others.push(Part::Call { call, signature: None }),
            Block::Reasoning(_) => {}
        }
    }
    results.sort_by_key(|(place, _)| *place);
    media.append(&mut others);
    Ok(vec![results.into_iter().map(|(_, part)| part).collect(), media])
}
