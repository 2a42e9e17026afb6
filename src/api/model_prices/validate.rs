//! Validates the names of a price. The price itself is validated when it is read.

use super::ModelPriceFields;
use crate::api::error::{ApiError, FieldError};
use crate::domain::pricing::ANY;

/// The longest provider's name, in characters.
const MAX_PROVIDER: usize = 64;
/// The longest model's name or pattern, in characters.
const MAX_MODEL: usize = 256;
/// The largest number of stars in a pattern.
const MAX_STARS: usize = 8;

/// The fields, or every error in them.
pub(super) fn check(fields: ModelPriceFields) -> Result<ModelPriceFields, ApiError> {
    let mut errors = Vec::new();
    let mut add = |field: &str, message: String| {
        errors.push(FieldError { field: field.to_owned(), message });
    };
    if !is_provider(&fields.provider) {
        add(
            "provider",
            format!(
                "must be a provider's name, 1 to {MAX_PROVIDER} lower-case letters, digits, '_', \
                 '-' and '.', or * for all"
            ),
        );
    }
    if !is_model(&fields.model) {
        add(
            "model",
            format!(
                "must be 1 to {MAX_MODEL} characters long, without control characters, with \
                 at most {MAX_STARS} stars"
            ),
        );
    }
    if errors.is_empty() { Ok(fields) } else { Err(ApiError::Invalid(errors)) }
}

/// Whether the text can be a provider's name, or `*`.
fn is_provider(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b);
    text == ANY || ((1..=MAX_PROVIDER).contains(&text.len()) && text.bytes().all(fits))
}

/// Whether the text can be a model's name or a pattern.
pub(super) fn is_model(text: &str) -> bool {
    (1..=MAX_MODEL).contains(&text.chars().take(MAX_MODEL + 1).count())
        && !text.chars().any(char::is_control)
        && text.matches(ANY).count() <= MAX_STARS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns() {
        for good in ["openai", "openai_compatible", "z.ai", "a-1", "*"] {
            assert!(is_provider(good), "{good}");
        }
        for bad in ["", "OpenAI", "a b", "open*", "é", &"a".repeat(65)] {
            assert!(!is_provider(bad), "{bad}");
        }
        for good in ["gpt-4o", "*", "a*b*c", "meta-llama/Llama 3", &"é".repeat(256)] {
            assert!(is_model(good), "{good}");
        }
        for bad in ["", "a\nb", &"*".repeat(9), &"a".repeat(257)] {
            assert!(!is_model(bad), "{bad}");
        }
    }
}
