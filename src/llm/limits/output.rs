//! What a body says about the length of the answer.

use super::TargetLimits;
use super::limit::Limit;
use super::thinking::ThinkingFacts;
use crate::domain::pricing::Extras;
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};
use crate::llm::format::Format;

/// Choices that are assumed where their number can't be read, as in `100.0` or `"100"`, which lenient
/// upstreams take: the most that OpenAI's API allows.
pub(super) const MAX_CHOICES: u64 = 128;

/// Fields that some servers take for a limit in addition to OpenAI's, or instead of it, under case folding.
/// None of them makes a request cheaper, since other servers ignore it; each may make it dearer.
const OTHER_LIMITS: &[&str] = &[
    "max_decoded_tokens",
    "max_gen_len",
    "max_gen_toks",
    "max_generated_tokens",
    "max_generation_tokens",
    "max_length",
    "max_new_tokens",
    "max_output_length",
    "max_response_tokens",
    "max_tokens_to_generate",
    "max_tokens_to_sample",
    "maxcompletiontokens",
    "maxgenlen",
    "maxlength",
    "maxnewtokens",
    "maxoutputtokens",
    "maxtokens",
    "n_predict",
    "num_predict",
    "num_tokens_to_generate",
];

const CHOICES: &[&str] = &[
    "best_of",
    "candidate_count",
    "candidatecount",
    "n",
    "n_cmpl",
    "num_completions",
    "num_return_sequences",
];

/// What bounds the tokens of the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct OutputFacts {
    max_tokens: Limit,
    max_completion_tokens: Limit,
    max_output_tokens: Limit,
    other: Limit,
    /// Gemini's `thinkingBudget`.
    gemini_thinking: Limit,
    thinking: ThinkingFacts,
    choices: Limit,
    /// Whether the operation has no limits on the answer, so that none is kept to.
    ignores_limits: bool,
    /// What was asked for that changes the price.
    pub(super) extras: Extras,
    /// Bytes of a prediction, whose rejected tokens are charged as output.
    prediction_bytes: u64,
}

impl OutputFacts {
    /// A top-level field, its key folded.
    pub(super) fn read_field(&mut self, key: &[u8], value: Token<'_>) {
        match key {
            b"max_tokens" => self.max_tokens.note(value),
            b"max_completion_tokens" => self.max_completion_tokens.note(value),
            b"max_output_tokens" => self.max_output_tokens.note(value),
            // Other tiers cost more, or less, than what is priced.
            b"service_tier" if is_one_of(value, &["priority", "fast"]) => {
                self.extras.is_priority = true;
            }
            b"service_tier" => {
                let usual = ["auto", "default", "standard", "standard_only", "flex"];
                self.note_tier("service_tier", value, &usual);
            }
            b"inference_geo" if is_one_of(value, &["us"]) => self.extras.is_us_inference = true,
            b"inference_geo" => self.note_tier("inference_geo", value, &["global"]),
            b"speed" if is_one_of(value, &["fast"]) => self.extras.is_fast = true,
            b"speed" => self.note_tier("speed", value, &["standard"]),
            // OpenRouter's; it is about images as output.
            b"image_config" => self.note_tier("image_config", value, &[]),
            _ if CHOICES.iter().any(|name| name.as_bytes() == key) => {
                self.note_choices(value);
            }
            _ if is_other_limit(key) => self.other.note(value),
            _ => self.thinking.read_field(key, value),
        }
    }

    /// A field of parameters that some upstreams merge into the request, its key folded.
    pub(super) fn read_nested_field(&mut self, key: &[u8], value: Token<'_>) {
        match key {
            b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens" => {
                self.other.note(value);
            }
            _ => self.read_field(key, value),
        }
    }

    /// A field of an object about thoughts, its key folded.
    pub(super) fn read_thinking_field(&mut self, key: &[u8], value: Token<'_>) {
        match key {
            b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens" => {
                self.thinking.note_budget(value);
            }
            _ => self.read_field(key, value),
        }
    }

    /// Converse's `maxTokens`.
    pub(super) fn note_max_tokens(&mut self, value: Token<'_>) {
        self.max_tokens.note(value);
    }

    /// Gemini's `maxOutputTokens`.
    pub(super) fn note_max_output_tokens(&mut self, value: Token<'_>) {
        self.max_output_tokens.note(value);
    }

    /// Gemini's `thinkingBudget`; a negative one leaves it to the model. It comes on top of the limit.
    /// As far as has been measured, `maxOutputTokens` bounds thoughts and answer together
    /// (googleapis/python-genai, issues 811 and 2062), but Google does not say so ("Gemini thinking").
    pub(super) fn note_gemini_thinking(&mut self, value: Token<'_>) {
        self.gemini_thinking.note(value);
    }

    /// The kinds of output that a field asks for, its value read to the end. Images have a price of their
    /// own, which is not known.
    pub(super) fn read_modalities<'a>(
        &mut self,
        field: &'static str,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        match first {
            Token::BeginArray => {
                tokens.elements(|element, tokens| self.read_modalities(field, element, tokens))
            }
            Token::String(_) if !is_one_of(first, &["TEXT", "AUDIO", "text", "audio"]) => {
                self.extras.unpriced.get_or_insert(field);
                Ok(())
            }
            _ => tokens.skip(first),
        }
    }

    pub(super) fn ignore_limits(&mut self) {
        self.ignores_limits = true;
    }

    pub(super) fn note_prediction(&mut self, bytes: usize) {
        self.prediction_bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    pub(super) fn note_choices(&mut self, value: Token<'_>) {
        match value {
            Token::Literal(b"0") => self.choices.raise(1),
            _ => self.choices.note(value),
        }
    }

    /// A field whose value has no known price unless it is one of the usual ones.
    pub(super) fn note_tier(&mut self, field: &'static str, value: Token<'_>, usual: &[&str]) {
        if !value.is_null() && !is_one_of(value, usual) {
            self.extras.unpriced.get_or_insert(field);
        }
    }

    /// Tokens, and whether there can't be more.
    pub(super) fn tokens(&self, target: &TargetLimits<'_>) -> (u64, bool) {
        if !target.format.writes_text() {
            return (0, true);
        }
        let own = [
            ("max_tokens", self.max_tokens),
            ("max_completion_tokens", self.max_completion_tokens),
            ("max_output_tokens", self.max_output_tokens),
        ];
        let within = self.thinking.within_answer(target.format);
        let (mut largest, mut has_limit) = (self.other.largest.max(within), false);
        let mut is_unreadable = self.other.is_unreadable;
        for (name, limit) in own {
            let is_heeded = match target.format {
                Format::Chat => name != "max_output_tokens",
                Format::Responses => name == "max_output_tokens",
                Format::Messages | Format::Converse => name == "max_tokens",
                Format::Gemini => name == "max_output_tokens",
                Format::Embeddings | Format::GeminiEmbeddings | Format::Invoke => false,
            } && !self.ignores_limits
                && !target.ignored_limits.contains(&name);
            largest = largest.max(limit.largest);
            has_limit |= is_heeded && limit.largest.is_some();
            is_unreadable |= is_heeded && limit.is_unreadable;
        }
        let (one, hard) = match (largest, target.model.max_output_tokens) {
            (Some(largest), _) if has_limit && !is_unreadable => {
                (largest.saturating_add(self.gemini_thinking.largest.unwrap_or(0)), true)
            }
            // A limit that should be ignored may still be heeded by the upstream.
            (largest, Some(max)) => (max.max(largest.unwrap_or(0)), true),
            (largest, None) => (target.assumed.output_tokens.max(largest.unwrap_or(0)), false),
        };
        let most = target.longest_answer();
        let (thoughts, is_bounded) = self.thinking.beside_answer(target.format, most);
        let (one, hard) = (one.saturating_add(thoughts), hard && is_bounded);
        let unread = if self.choices.is_unreadable { MAX_CHOICES } else { 1 };
        let choices = self.choices.largest.unwrap_or(1).max(unread);
        let tokens = one.saturating_add(self.prediction_bytes).saturating_mul(choices);
        (tokens, hard && !self.choices.is_unreadable)
    }
}

fn is_one_of(value: Token<'_>, texts: &[&str]) -> bool {
    let Token::String(text) = value else { return false };
    texts.iter().any(|one| one.as_bytes() == text.raw())
}

fn is_other_limit(key: &[u8]) -> bool {
    OTHER_LIMITS.iter().any(|name| name.as_bytes() == key)
}
