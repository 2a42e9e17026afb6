//! The most that a request can use, told from its body alone.
//!
//! A token is never less than a byte, so text is bounded by its length. What the body only names
//! (earlier answers, files, images, searches) is bounded by the model's context window. Where a rule
//! has to choose between two readings of a body, it takes the one that costs more: an upstream may be
//! more lenient than its documentation.

mod fold;
mod unheeded;
mod walk;

use crate::json::object::RawField;
pub use unheeded::unheeded;
use walk::{Seen, Walk};

/// Which of the APIs a body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/responses`
    Responses,
}

/// What is known of a model, from its configuration or the catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelLimits {
    /// Tokens that it reads and writes at the most.
    pub context_window: Option<u64>,
    /// Tokens that it writes at the most.
    pub max_output_tokens: Option<u64>,
}

/// What is assumed of a model of which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssumedLimits {
    /// Tokens of input.
    pub context_tokens: u64,
    /// Tokens of output.
    pub output_tokens: u64,
}

/// Choices that are assumed where their number can't be read, as in `100.0` or `"100"`, which lenient
/// upstreams take: the most that OpenAI's API allows.
const MOST_CHOICES: u64 = 128;

/// The most that a request can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Tokens that the model reads.
    pub input_tokens: u64,
    /// Tokens that it writes, all choices together.
    pub output_tokens: u64,
    /// Whether it can't be more; otherwise a part of it is assumed.
    pub hard: bool,
    /// Tokens that token rate limits reserve: a guess, not a bound.
    pub estimate_tokens: i64,
    /// Whether the request can cost nothing at all: a listing.
    pub free: bool,
    /// Whether the body only names a part of what the model reads, so that nobody but the provider
    /// can tell how much it was.
    pub names_input: bool,
}

impl Bound {
    /// Of a request that calls no model, such as a listing.
    pub const FREE: Self = Self {
        input_tokens: 0,
        output_tokens: 0,
        hard: true,
        estimate_tokens: 0,
        free: true,
        names_input: false,
    };

    /// Of a body of so many bytes, as it goes up, with these top-level fields. `unheeded` names
    /// limits that the provider passes over.
    pub fn of_body<'a>(
        api: Api,
        unheeded: &[&str],
        body_bytes: usize,
        fields: impl Iterator<Item = RawField<'a>>,
        model: ModelLimits,
        assumed: AssumedLimits,
    ) -> Self {
        let mut output = Output::default();
        let mut seen = Seen::Text;
        for field in fields {
            output.note(api, unheeded, field.key, field.raw);
            seen = seen.max(input_of(field));
        }
        let bytes = u64::try_from(body_bytes).unwrap_or(u64::MAX);
        let (input_tokens, input_hard) = match (seen, model.context_window) {
            (Seen::Text, _) => (bytes, true),
            (Seen::Stored, Some(window)) => (window, true),
            // A hosted tool makes the model read its window again for each of its steps.
            (Seen::Hosted, Some(window)) => (window, false),
            (Seen::Stored | Seen::Hosted, None) => (assumed.context_tokens, false),
        };
        let (output_tokens, output_hard) = output.tokens(model, assumed);
        Self {
            input_tokens,
            output_tokens,
            hard: input_hard && output_hard,
            estimate_tokens: i64::try_from(bytes.div_ceil(4)).unwrap_or(i64::MAX),
            free: false,
            names_input: seen != Seen::Text,
        }
    }
}

/// What one top-level field brings into the prompt.
fn input_of(field: RawField<'_>) -> Seen {
    let RawField { key, raw, texts } = field;
    let mut buffer = [0; fold::LONGEST];
    let Some(key) = fold::folded(key, &mut buffer) else { return Seen::Text };
    let given = |seen: Seen| match raw {
        "null" | "false" | "[]" => Seen::Text,
        _ => seen,
    };
    match key {
        b"messages" | b"instructions" | b"prediction" | b"system" | b"extra_body"
        | b"documents" => Walk::new(raw, texts).content(),
        b"input" => Walk::new(raw, texts).items(),
        b"tools" => Walk::new(raw, texts).tools(),
        // Text in the older API, a stored template in the newer one.
        b"prompt" if raw.starts_with('"') => Seen::Text,
        b"prompt"
        | b"previous_response_id"
        | b"conversation"
        | b"background"
        | b"file_ids"
        | b"attachments"
        | b"cached_content" => given(Seen::Stored),
        b"web_search_options"
        | b"web_search"
        | b"enable_search"
        | b"search_parameters"
        | b"data_sources"
        | b"plugins"
        | b"mcp_servers"
        | b"container" => given(Seen::Hosted),
        _ => Seen::Text,
    }
}

/// What the body says about the length of the answer.
#[derive(Default)]
struct Output {
    /// The largest limit on one choice.
    most: Option<u64>,
    /// Whether one of the limits is of a field that this API, and its provider, heeds.
    heeded: bool,
    /// Whether a limit is there that can't be read: an upstream may read anything into it.
    unreadable: bool,
    choices: Option<u64>,
    choices_unreadable: bool,
    /// Whether a tier of service is asked for that costs more than the price says.
    is_dear: bool,
    /// Bytes of a prediction, whose rejected tokens are charged as output.
    prediction: u64,
}

impl Output {
    fn note(&mut self, api: Api, unheeded: &[&str], key: &str, raw: &str) {
        if raw == "null" {
            return;
        }
        match key {
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                let heeded = match api {
                    Api::ChatCompletions => key != "max_output_tokens",
                    Api::Responses => key == "max_output_tokens",
                } && !unheeded.contains(&key);
                // Zero is "not set" to some.
                match raw.parse::<u64>().ok().filter(|most| *most > 0) {
                    Some(most) => {
                        self.most = self.most.max(Some(most));
                        self.heeded |= heeded;
                    }
                    None => self.unreadable |= heeded,
                }
            }
            "n" | "best_of" => match raw.parse::<u64>() {
                Ok(n) => self.choices = self.choices.max(Some(n)),
                Err(_) => {
                    self.choices = self.choices.max(Some(MOST_CHOICES));
                    self.choices_unreadable = true;
                }
            },
            // Other tiers cost more, or less, than what is priced.
            "service_tier" => {
                let usual =
                    matches!(raw, r#""auto""# | r#""default""# | r#""standard""# | r#""flex""#);
                self.is_dear |= !usual;
            }
            "prediction" => self.prediction = u64::try_from(raw.len()).unwrap_or(u64::MAX),
            _ => {}
        }
    }

    /// Tokens, and whether there can't be more.
    fn tokens(&self, model: ModelLimits, assumed: AssumedLimits) -> (u64, bool) {
        let said = self.most.filter(|_| self.heeded && !self.unreadable);
        let (one, hard) = match (said, model.max_output_tokens) {
            (Some(most), _) => (most, true),
            // A limit that should not be heeded may still be heeded by the upstream.
            (None, Some(most)) => (most.max(self.most.unwrap_or(0)), true),
            (None, None) => (assumed.output_tokens.max(self.most.unwrap_or(0)), false),
        };
        let tokens =
            one.saturating_add(self.prediction).saturating_mul(self.choices.unwrap_or(1).max(1));
        (tokens, hard && !self.choices_unreadable && !self.is_dear)
    }
}

#[cfg(test)]
mod tests;
