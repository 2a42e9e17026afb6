//! What the gateway reads out of one event of a stream, whatever its format, and the searches that
//! formats share. Every event of every stream comes by here, so most are searched and not parsed.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;

use crate::json::strings::after_colon;
use crate::llm::usage::ReportedUsage;

/// An event that was kept whole.
#[derive(Debug, Clone, Copy)]
pub(in crate::llm) struct Event<'a> {
    /// The `event` field, or nothing.
    pub(in crate::llm) name: &'a str,
    /// Its data without blanks around it.
    pub(in crate::llm) data: &'a [u8],
    /// Whether the model that answers is not known yet.
    pub(in crate::llm) wants_model: bool,
}

/// What an event says.
#[derive(Debug, Default)]
pub(in crate::llm) struct EventContent {
    /// It ends the stream.
    pub(in crate::llm) is_terminal: bool,
    /// It is a part of an answer.
    pub(in crate::llm) is_answer: bool,
    /// It reports an error.
    pub(in crate::llm) is_error: bool,
    /// It was added because usage was asked for.
    pub(in crate::llm) is_usage_event: bool,
    pub(in crate::llm) usage: Option<ReportedUsage>,
    pub(in crate::llm) model: Option<String>,
}

/// Whether the text holds a key `usage` with an object, at whatever level. Streams with usage asked
/// for say `"usage":null` in every other event.
pub(in crate::llm) fn mentions_usage(data: &[u8]) -> bool {
    static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
    KEY.find_iter(data).any(|at| {
        let after = data.get(at + 7..).and_then(after_colon);
        after.is_some_and(|value| value.trim_ascii_start().starts_with(b"{"))
    })
}

/// Whether the text holds `error` as a key or as a value, at whatever level.
pub(in crate::llm) fn mentions_error(data: &[u8]) -> bool {
    static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
    ERROR.find(data).is_some()
}

/// What follows the key `delta` and its colon. The key can't be part of a string, in which its quotes
/// would be escaped.
pub(in crate::llm) fn after_delta(data: &[u8]) -> Option<&[u8]> {
    static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\""));
    let mut rest = data;
    loop {
        let at = DELTA.find(rest)?;
        rest = rest.get(at + DELTA.needle().len()..)?;
        if let Some(value) = after_colon(rest) {
            return Some(value.trim_ascii_start());
        }
    }
}

/// Whether the raw value of a member `error` says that there is one, by its first two characters that
/// are not blank.
pub(in crate::llm) fn is_error(value: impl IntoIterator<Item = u8>) -> bool {
    let mut characters = value.into_iter().filter(|byte| !byte.is_ascii_whitespace());
    match (characters.next(), characters.next()) {
        (None | Some(b'n' | b'f' | b'0'), _) => false,
        (Some(b'{'), second) => second != Some(b'}'),
        (Some(b'['), second) => second != Some(b']'),
        (Some(b'"'), second) => second != Some(b'"'),
        _ => true,
    }
}

/// Reads some members of an object. serde takes an array for a struct as well, which is refused here.
pub(in crate::llm) fn parse_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(json).ok()
}
