//! Members of an answer's objects: how they are read, and how much of each is kept.

use serde::Deserialize;

/// Known `usage` objects have some hundred bytes.
pub(super) const USAGE_BYTES: usize = 16 * 1024;
pub(super) const MODEL_BYTES: usize = 1024;
/// Enough to distinguish an empty array from others, and an object from `null`, however they are indented.
pub(super) const STATE_BYTES: usize = 64;

/// Reads some members of an object. serde takes an array for a struct as well, which is refused here.
pub(in crate::llm) fn parse_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(json).ok()
}
