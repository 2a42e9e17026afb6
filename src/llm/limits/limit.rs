//! A limit as bodies state it, which some upstream may read otherwise.

use crate::json::tokenizer::Token;

/// The limits of one kind: the largest that can be read, and whether one is there that can't.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limit {
    pub(super) largest: Option<u64>,
    pub(super) is_unreadable: bool,
}

impl Limit {
    pub(super) fn note(&mut self, value: Token<'_>) {
        if value.is_null() {
            return;
        }
        let digits = match value {
            Token::Literal(number) => number,
            Token::String(text) => text.raw(),
            _ => b"",
        };
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        // Zero is "not set" to some, and "-1" is "no limit".
        match digits.parse::<u64>().ok().filter(|limit| *limit > 0) {
            Some(limit) if matches!(value, Token::Literal(_)) => self.raise(limit),
            _ => {
                self.is_unreadable = true;
                // Whoever reads it otherwise, may read this.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "such casts saturate, which is what is wanted"
                )]
                self.raise(digits.parse::<f64>().map_or(0, |limit| limit.ceil() as u64));
            }
        }
    }

    pub(super) fn raise(&mut self, limit: u64) {
        self.largest = self.largest.max(Some(limit));
    }
}
