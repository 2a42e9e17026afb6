//! The turns of one side in a row, for formats in which two sides take turns.

use std::borrow::Cow;

use super::request::{Block, Role, TextBlock, Turn};

/// Turns of one side in a row.
#[derive(Debug)]
pub(super) struct MergedTurn<'r, 'a> {
    pub(super) is_model: bool,
    pub(super) blocks: Vec<Cow<'r, Block<'a>>>,
}

/// The turns by side, without blocks of which nothing is written. Instructions in the middle of a
/// conversation are given to the model by the user, with a mark that they are instructions: moved to the
/// front they would change what the provider has cached.
pub(super) fn merged_turns<'r, 'a>(
    turns: &'r [Turn<'a>],
    is_written: impl Fn(&Block<'_>) -> bool,
) -> Vec<MergedTurn<'r, 'a>> {
    let mut runs: Vec<MergedTurn<'r, 'a>> = Vec::new();
    for turn in turns {
        let mut blocks = turn.blocks.iter().filter(|block| is_written(block)).peekable();
        if blocks.peek().is_none() {
            continue;
        }
        let is_model = turn.role == Role::Assistant;
        if runs.last().is_none_or(|run| run.is_model != is_model) {
            runs.push(MergedTurn { is_model, blocks: Vec::new() });
        }
        let Some(run) = runs.last_mut() else { continue };
        let is_instruction = matches!(turn.role, Role::System | Role::Developer);
        run.blocks.extend(blocks.map(|block| match block {
            Block::Text(text) if is_instruction => Cow::Owned(Block::Text(marked(text))),
            other => Cow::Borrowed(other),
        }));
    }
    runs
}

fn marked<'a>(block: &TextBlock<'a>) -> TextBlock<'a> {
    let text = Cow::Owned(instruction(&block.text));
    TextBlock { text, cache: block.cache, ..TextBlock::default() }
}

/// An instruction as the user gives it to the model: marked from its begin to its end, since the user's own
/// texts are in the same message.
pub(super) fn instruction(text: &str) -> String {
    format!("<system>{text}</system>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_take_turns_and_instructions_are_marked() {
        let turn = |role, text: &'static str| {
            let text = TextBlock { text: text.into(), ..TextBlock::default() };
            Turn { role, blocks: vec![Block::Text(text)] }
        };
        let turns = [
            turn(Role::User, "a"),
            turn(Role::System, "b"),
            turn(Role::Assistant, "c"),
            turn(Role::User, ""),
            turn(Role::Assistant, "d"),
            turn(Role::Developer, "e"),
        ];
        let is_written = |block: &Block<'_>| *block != Block::Text(TextBlock::default());
        let shown: Vec<(bool, Vec<String>)> = merged_turns(&turns, is_written)
            .into_iter()
            .map(|run| {
                let texts = run.blocks.iter().map(|block| match &**block {
                    Block::Text(text) => text.text.to_string(),
                    other => panic!("{other:?}"),
                });
                (run.is_model, texts.collect())
            })
            .collect();
        let expected = [
            (false, vec!["a".to_owned(), "<system>b</system>".to_owned()]),
            (true, vec!["c".to_owned(), "d".to_owned()]),
            (false, vec!["<system>e</system>".to_owned()]),
        ];
        assert_eq!(shown, expected);
    }
}
