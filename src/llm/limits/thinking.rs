//! What a body says about thoughts that the limit on the answer may not include.

use super::limit::Limit;
use crate::json::tokenizer::Token;
use crate::llm::format::Format;

/// Fields that limit thoughts, under case folding. At some hosts `max_tokens` limits the final answer alone,
/// and the two add up (SiliconFlow, "Reasoning models"; Alibaba, "Deep thinking", for some models of Qwen).
/// At others it limits both (vLLM, llama.cpp, NVIDIA), which makes the sum more than is used.
const BUDGETS: &[&str] = &[
    "max_reasoning_tokens",
    "max_thinking_tokens",
    "maxreasoningtokens",
    "maxthinkingtokens",
    "reasoning_budget",
    "reasoning_budget_tokens",
    "reasoning_max_tokens",
    "reasoningbudget",
    "reasoningbudgettokens",
    "thinking_budget",
    "thinking_budget_tokens",
    "thinking_max_tokens",
    "thinking_token_budget",
    "thinkingbudget",
    "thinkingbudgettokens",
    "thinkingtokenbudget",
];

/// Objects whose `max_tokens` limits thoughts, under case folding, such as OpenRouter's `reasoning`.
const OBJECTS: &[&str] = &[
    "reasoning",
    "reasoning_config",
    "reasoningconfig",
    "thinking",
    "thinking_config",
    "thinkingconfig",
];

/// Whether the object of this key, folded, is about thoughts.
pub(super) fn is_thinking(key: &[u8]) -> bool {
    OBJECTS.iter().any(|name| name.as_bytes() == key)
}

/// The limits on thoughts.
#[derive(Clone, Debug, Default)]
pub(super) struct ThinkingFacts {
    budget: Limit,
    /// Anthropic's `budget_tokens`. Anthropic's `max_tokens` includes the thoughts ("Extended thinking"); a
    /// server of another format may translate it into any of the others.
    budget_tokens: Limit,
    /// Thoughts are asked for, in a way that is known from hosts that count them apart.
    is_enabled: bool,
}

impl ThinkingFacts {
    /// A field at any place, its key folded.
    pub(super) fn read_field(&mut self, key: &[u8], value: Token<'_>) {
        match key {
            b"enable_thinking" | b"enablethinking" => self.is_enabled |= !is_off(value),
            b"budget_tokens" | b"budgettokens" => note(&mut self.budget_tokens, value),
            _ if BUDGETS.iter().any(|name| name.as_bytes() == key) => self.note_budget(value),
            _ => {}
        }
    }

    /// The most tokens of thoughts.
    pub(super) fn note_budget(&mut self, value: Token<'_>) {
        note(&mut self.budget, value);
    }

    /// The most tokens of thoughts that are a part of the answer.
    pub(super) fn within_answer(&self, format: Format) -> Option<u64> {
        self.budget_tokens.largest.filter(|_| is_of_anthropic(format))
    }

    /// The most tokens of thoughts that may come in addition to the answer, and whether there can't be more.
    /// Without a number that can be read they are assumed to be as long as an answer, `most`.
    pub(super) fn beside_answer(&self, format: Format, most: u64) -> (u64, bool) {
        let elsewhere = !is_of_anthropic(format);
        let foreign = if elsewhere { self.budget_tokens } else { Limit::default() };
        let largest = self.budget.largest.max(foreign.largest);
        let is_unreadable = self.budget.is_unreadable || foreign.is_unreadable;
        let is_unbounded = is_unreadable || (self.is_enabled && largest.is_none());
        let assumed = if is_unbounded { most } else { 0 };
        (largest.unwrap_or(0).max(assumed), !is_unbounded)
    }
}

/// Bedrock's Converse has Anthropic's models, which read the fields of their own API there.
fn is_of_anthropic(format: Format) -> bool {
    matches!(format, Format::Messages | Format::Converse)
}

/// Nothing is limited by zero: there are no thoughts then.
fn note(limit: &mut Limit, value: Token<'_>) {
    if !is_off(value) {
        limit.note(value);
    }
}

fn is_off(value: Token<'_>) -> bool {
    matches!(value, Token::Literal(b"null" | b"false" | b"0"))
}
