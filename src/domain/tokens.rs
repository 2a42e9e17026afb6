//! Tokens, by kind.

use serde::{Deserialize, Serialize};

/// The tokens of one answer, by kind, as the provider reported them; `None` is "not reported".
///
/// `cached_input`, `cache_write` and `audio_input` are parts of `input`; `reasoning` and
/// `audio_output` are parts of `output`. Nothing here makes a provider keep to that, so whoever
/// subtracts has to saturate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenUsage {
    /// Everything that was read: prompt, tools, images, audio.
    pub input: Option<u64>,
    /// Input that came from the provider's cache.
    pub cached_input: Option<u64>,
    /// Input that was written to the provider's cache.
    pub cache_write: Option<u64>,
    /// Everything that was generated, what the caller does not see included.
    pub output: Option<u64>,
    /// Output that the model spent on reasoning.
    pub reasoning: Option<u64>,
    /// Input that was audio.
    pub audio_input: Option<u64>,
    /// Output that was audio.
    pub audio_output: Option<u64>,
}
