//! How much the model is to think, in the words that its version takes, and the limit of its answer.

use std::borrow::Cow;

use super::block_writer::is_written;
use super::claude::Claude;
use crate::llm::convert::Target;
use crate::llm::convert::error::{ConvertError, Dropped};
use crate::llm::convert::request::{Block, Raw, ReasoningWish, Request, Role, Turn, budget_effort};

/// The least that `budget_tokens` may be (Anthropic, "Extended thinking").
const LEAST_BUDGET: u64 = 1024;

/// Budgets for efforts, in tokens, for models that know no effort: those that LiteLLM uses.
const BUDGETS: [(&str, u64); 6] = [
    ("minimal", 1024),
    ("low", 1024),
    ("medium", 2048),
    ("high", 4096),
    ("xhigh", 8192),
    ("max", 16384),
];
/// For a word that is not known: that of `high`, which is Anthropic's default.
const OTHER_BUDGET: u64 = 4096;

/// What the request says of thinking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking<'r> {
    Unspecified,
    Off,
    /// At most this many tokens.
    Budget(u64),
    Adaptive(Option<&'r str>),
}

/// What is to be said of thinking, and `max_tokens`.
pub(super) fn plan_thinking<'r>(
    request: &'r Request<'_>,
    target: &Target<'_>,
    claude: Claude<'_>,
    dropped: &mut Dropped,
) -> Result<(Thinking<'r>, Raw<'r>), ConvertError> {
    let limit = request.max_tokens.as_ref();
    let default = target.default_max_tokens;
    let max_tokens = match limit {
        Some(limit) => Cow::Borrowed(&*limit.value),
        None => Cow::Owned(default.to_string()),
    };
    let thinking = wanted(request, claude);
    let (Thinking::Budget(budget), Some(wish)) = (thinking, &request.reasoning.wish) else {
        return Ok((thinking, max_tokens));
    };
    if lacks_thoughts(request) {
        // The API refuses to go on with thoughts after a call of a tool that had none of its own.
        dropped.drop(wish.field)?;
        return Ok((Thinking::Unspecified, max_tokens));
    }
    let Some(limit) = limit else {
        let max_tokens = default.saturating_add(budget).to_string();
        return Ok((thinking, Cow::Owned(max_tokens)));
    };
    // A number that is not whole is left to the provider.
    let most = limit.value.parse::<u64>().unwrap_or(u64::MAX);
    if most <= LEAST_BUDGET {
        let problem =
            "must be above 1024 for this model to reason; raise it, or turn reasoning off";
        return Err(ConvertError::unsupported(limit.field, problem));
    }
    Ok((Thinking::Budget(budget.min(most - 1)), max_tokens))
}

fn wanted<'r>(request: &'r Request<'_>, claude: Claude<'_>) -> Thinking<'r> {
    let is_adaptive = claude.takes_adaptive_thinking();
    let Some(wish) = &request.reasoning.wish else { return Thinking::Unspecified };
    match &wish.value {
        ReasoningWish::Off if is_adaptive => Thinking::Off,
        ReasoningWish::Off => Thinking::Unspecified,
        ReasoningWish::Effort(word) | ReasoningWish::Adaptive(Some(word)) if is_adaptive => {
            Thinking::Adaptive(Some(if word == "minimal" { "low" } else { word }))
        }
        ReasoningWish::Effort(word) | ReasoningWish::Adaptive(Some(word)) => {
            let budget = BUDGETS.iter().find(|(effort, _)| effort == word);
            Thinking::Budget(budget.map_or(OTHER_BUDGET, |(_, budget)| *budget))
        }
        // Refused by the API where the model does not know it.
        ReasoningWish::Adaptive(None) => Thinking::Adaptive(None),
        ReasoningWish::Budget(budget) if claude.takes_thinking_budget() => {
            Thinking::Budget(*budget)
        }
        ReasoningWish::Budget(budget) => Thinking::Adaptive(Some(budget_effort(*budget))),
    }
}

/// Whether the conversation ends with results of tools, and the model's turn that goes on with them does
/// not begin with thoughts that the API can read. A model that does not think between calls has them at
/// the beginning of the turn alone.
fn lacks_thoughts(request: &Request<'_>) -> bool {
    let is_model = |turn: &Turn<'_>| turn.role == Role::Assistant;
    let is_result = |block: &Block<'_>| matches!(block, Block::ToolResult(_));
    if request.turns.last().is_some_and(is_model) {
        return false;
    }
    let mut begins = None;
    for run in request.turns.chunk_by(|one, next| is_model(one) == is_model(next)).rev() {
        let mut blocks = run.iter().flat_map(|turn| &turn.blocks);
        if run.iter().any(is_model) {
            begins = blocks.find(|block| is_written(block));
        } else if !blocks.any(is_result) {
            break;
        }
    }
    begins.is_some_and(|block| !matches!(block, Block::Reasoning(_)))
}
