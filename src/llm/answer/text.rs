//! Finds the text that a stream's event adds to the answer, for an estimate of its tokens.
//!
//! Every event comes by here, so nothing is parsed: keys are searched for, and what stands between
//! the quotes after them is taken as it is.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::strings::{StringValues, after_colon, split_string};
use crate::llm::sample::is_generated;
use crate::llm::spread::Spread;

static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\""));

/// What follows the key `delta` and its colon. The key can't be part of a string, in which its quotes
/// would be escaped.
fn after_delta(data: &[u8]) -> Option<&[u8]> {
    let mut rest = data;
    loop {
        let at = DELTA.find(rest)?;
        rest = rest.get(at + DELTA.needle().len()..)?;
        if let Some(value) = after_colon(rest) {
            return Some(value.trim_ascii_start());
        }
    }
}

/// An event of a chat stream: the text in every choice's `delta`.
pub(super) fn relayed_by_chat(data: &[u8], relayed: &mut Spread) {
    let mut rest = data;
    while let Some(delta) = after_delta(rest) {
        rest = delta;
        if !delta.starts_with(b"{") {
            continue;
        }
        let mut reasoned = false;
        let mut values = StringValues::new(delta);
        for value in &mut values {
            if value.raw.is_empty() || !is_generated(value.key) {
                continue;
            }
            // Some providers say their reasoning under both names.
            if value.key.starts_with(b"reasoning") && std::mem::replace(&mut reasoned, true) {
                continue;
            }
            relayed.take(value.raw);
        }
        rest = values.rest();
    }
}

/// An event of a responses stream: its `delta`, if it is of text.
pub(super) fn relayed_by_responses(name: &str, data: &[u8], relayed: &mut Spread) {
    if !name.ends_with(".delta") || name.ends_with("audio.delta") {
        return;
    }
    if let Some(value) = after_delta(data).and_then(|value| value.strip_prefix(b"\"")) {
        relayed.take(split_string(value).0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(data: &str) -> (u64, String) {
        let mut relayed = Spread::default();
        relayed_by_chat(data.as_bytes(), &mut relayed);
        kept(relayed)
    }

    fn kept(mut relayed: Spread) -> (u64, String) {
        let sample = relayed.strings();
        (sample.whole(), sample.text().unwrap_or_default())
    }

    #[test]
    fn text_of_chat_events() {
        for (data, expected) in [
            (r#"{"choices":[{"index":0,"delta":{"content":" a\"b"},"logprobs":null}]}"#, " a\"b"),
            (r#"{"choices": [{"delta" : {"role": "assistant", "content": "delta"}}]}"#, "delta"),
            (r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"refusal":"b"}}],"x":"y"}"#, "ab"),
            (r#"{"choices":[{"delta":{"reasoning":"a","reasoning_content":"a"}}]}"#, "a"),
            (
                r#"{"choices":[{"delta":{"reasoning":"a","reasoning_details":[{"text":"a"}]}}]}"#,
                "a",
            ),
            (
                r#"{"choices":[{"delta":{"content":null,"tool_calls":[{"index":0,"id":"i","type":"function",
                  "function":{"name":"f","arguments":"{\"delta\":"}}]},"finish_reason":"stop"}]}"#,
                "f{\"delta\":",
            ),
            (r#"{"choices":[{"delta":{"content":[{"type":"text","text":"m"}]}}]}"#, "m"),
            (r#"{"content":"no","choices":[{"delta":{},"name":"no"}],"usage":null}"#, ""),
            (r#"{"choices":[{"delta":null,"name":"no"}]}"#, ""),
            ("[DONE]", ""),
            ("\"delta\":{", ""),
            ("\"delta\"", ""),
        ] {
            assert_eq!(chat(data).1, expected, "{data}");
        }
    }

    #[test]
    fn text_of_responses_events() {
        for (name, data, expected) in [
            ("response.output_text.delta", r#"{"type":"x","delta":"a\"b","logprobs":[]}"#, "a\"b"),
            ("response.output_text.done", r#"{"text":"ab"}"#, ""),
            ("response.audio.delta", r#"{"delta":"AAAA"}"#, ""),
            ("response.audio.transcript.delta", r#"{"delta" : "hi"}"#, "hi"),
            ("x.delta", r#"{"delta":{"text":"a"}}"#, ""),
        ] {
            let mut relayed = Spread::default();
            relayed_by_responses(name, data.as_bytes(), &mut relayed);
            assert_eq!(kept(relayed).1, expected, "{data}");
        }
    }

    #[test]
    fn without_text_nothing_is_allocated() {
        let mut relayed = Spread::default();
        relayed_by_chat(br#"{"choices":[{"delta":{"role":"a","content":""}}]}"#, &mut relayed);
        assert_eq!((relayed.capacity(), relayed.strings().whole()), (0, 0));
    }
}
