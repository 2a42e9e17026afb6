//! An event with a gap for a piece of text. What is held back of a block is sent in a copy of the block's
//! last event that has nothing else in it: a call of a tool or a count would come twice.

use std::ops::Range;
use std::sync::Arc;

use super::keys::unescaped;
use super::quoted;
use super::stream::ExtraEvent;
use crate::json::tokenizer::{Token, Tokenizer};

/// The longest event that is kept as it is, and the longest copy, in bytes.
pub(super) const MAX_TEMPLATE: usize = 16 * 1024;

/// An event with a gap for a piece of text.
#[derive(Debug)]
pub(super) struct Template {
    name: String,
    data: Arc<[u8]>,
    /// The string that is replaced, with its quotes.
    gap: Range<usize>,
}

impl Template {
    /// Of an event with this data; `None` if its copy is too long to be kept.
    pub(super) fn new(name: &str, data: &Arc<[u8]>, gap: Range<usize>) -> Option<Self> {
        let name = name.to_owned();
        if data.len() <= MAX_TEMPLATE {
            return Some(Self { name, data: Arc::clone(data), gap });
        }
        let (copy, gap) = pruned(data, &gap).filter(|(copy, _)| copy.len() <= MAX_TEMPLATE)?;
        Some(Self { name, data: copy.into(), gap })
    }

    /// Of messages: a piece of the text of a block whose beginning was the last event.
    pub(super) fn after_start(index: u32) -> Self {
        let head = format!(
            r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"text_delta","text":"#
        );
        let gap = head.len()..head.len() + 2;
        let data = format!(r#"{head}""}}}}"#).into_bytes().into();
        Self { name: "content_block_delta".to_owned(), data, gap }
    }

    /// Its bytes, without its name.
    pub(super) fn length(&self) -> usize {
        self.data.len()
    }

    /// The event with this text.
    pub(super) fn fill(self, text: &str) -> Option<ExtraEvent> {
        let (copy, gap) = pruned(&self.data, &self.gap)?;
        let mut data = copy.get(..gap.start)?.to_vec();
        data.extend_from_slice(quoted(text).as_bytes());
        data.extend_from_slice(copy.get(gap.end..)?);
        Some(ExtraEvent { name: self.name, data })
    }
}

/// An object or array that is being copied.
struct Frame {
    /// Where the copy of it begins, with the key and a comma.
    begin: usize,
    key: Vec<u8>,
    is_array: bool,
    /// The members or elements that were copied, and those that were read.
    copied: usize,
    read: usize,
    has_index: bool,
    has_gap: bool,
}

/// The event without what is not needed around the gap, and the gap in it. Kept are the values of the event
/// itself, and numbers and types of what is around the gap.
fn pruned(data: &[u8], gap: &Range<usize>) -> Option<(Vec<u8>, Range<usize>)> {
    let mut copy = Vec::with_capacity(data.len().min(MAX_TEMPLATE));
    let mut tokens = Tokenizer::new(data);
    let mut frames: Vec<Frame> = Vec::new();
    let mut member: &[u8] = b"";
    let mut key: Vec<u8> = Vec::new();
    let mut place = None;
    loop {
        let token = tokens.next().ok()?;
        let value = tokens.token_start()..tokens.position();
        let begin = copy.len();
        match token {
            Token::Key(name) => {
                member = data.get(value.start..value.start + name.raw().len() + 2)?;
                key = unescaped(name).into_owned();
                continue;
            }
            Token::BeginObject | Token::BeginArray => {
                let is_array = token == Token::BeginArray;
                let key = match frames.last() {
                    Some(outer) if outer.is_array => outer.key.clone(),
                    _ => key.clone(),
                };
                begin_value(&mut copy, frames.last_mut(), member);
                copy.push(if is_array { b'[' } else { b'{' });
                frames.push(Frame {
                    begin,
                    key,
                    is_array,
                    copied: 0,
                    read: 0,
                    has_index: false,
                    has_gap: false,
                });
            }
            Token::EndObject | Token::EndArray => {
                let frame = frames.pop()?;
                let Some(outer) = frames.last_mut() else {
                    copy.push(b'}');
                    break;
                };
                outer.read += 1;
                let is_empty = frame.read == 0 && frames.len() == 1;
                if !frame.has_gap && !is_empty {
                    copy.truncate(frame.begin);
                    if let Some(outer) = frames.last_mut() {
                        outer.copied -= 1;
                    }
                    continue;
                }
                let number = frames.last()?.read - 1;
                let is_numbered = matches!(&*frame.key, b"choices" | b"candidates" | b"tool_calls");
                if !frame.is_array && is_numbered && !frame.has_index && number > 0 {
                    copy.extend_from_slice(format!(r#","index":{number}"#).as_bytes());
                }
                copy.push(if frame.is_array { b']' } else { b'}' });
                if let Some(outer) = frames.last_mut() {
                    outer.has_gap |= frame.has_gap;
                }
            }
            Token::String(_) | Token::Literal(_) => {
                let depth = frames.len();
                let outer = frames.last_mut()?;
                outer.read += 1;
                let is_gap = value == *gap;
                let is_kept = match token {
                    _ if is_gap || depth == 1 => true,
                    _ if outer.is_array => false,
                    Token::Literal(_) => true,
                    _ => match &*key {
                        b"type" => *outer.key != *b"tool_calls",
                        b"role" => *outer.key != *b"delta",
                        b"jsonPath" | b"json_path" => true,
                        _ => false,
                    },
                };
                if !is_kept {
                    continue;
                }
                outer.has_gap |= is_gap;
                outer.has_index |= *key == *b"index";
                begin_value(&mut copy, Some(outer), member);
                if is_gap {
                    place = Some(copy.len()..copy.len() + 2);
                    copy.extend_from_slice(b"\"\"");
                } else {
                    copy.extend_from_slice(data.get(value)?);
                }
            }
        }
    }
    Some((copy, place?))
}

/// Writes what stands before a value: a comma, and the key with its quotes.
fn begin_value(copy: &mut Vec<u8>, outer: Option<&mut Frame>, member: &[u8]) {
    let Some(outer) = outer else { return };
    if outer.copied > 0 {
        copy.push(b',');
    }
    outer.copied += 1;
    if !outer.is_array {
        copy.extend_from_slice(member);
        copy.push(b':');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_only_what_a_piece_needs() {
        for (event, expected) in [
            (
                r#"{"id":"c" , "x":{},"choices":[{"index":0,"delta":{"role":"assistant","content":"@","refusal":null,"reasoning":"w","tool_calls":[{"id":"t"}]},"finish_reason":null}],"usage":{"n":1}}"#,
                r#"{"id":"c","x":{},"choices":[{"index":0,"delta":{"content":"@","refusal":null},"finish_reason":null}]}"#,
            ),
            // Elements without a number have it by their place.
            (
                r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"tool_calls":[{"function":{}},{"id":"t","type":"function","function":{"name":"f","arguments":"@"}}]}}]}"#,
                r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"@"},"index":1}]},"index":1}]}"#,
            ),
            (
                r#"{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"args":{}}},{"text":"@","thought":true}]}}],"usageMetadata":{"n":1}}"#,
                r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"@","thought":true}]}}]}"#,
            ),
            (
                r#"{"candidates":[{"content":{"parts":[{"function_call":{"name":"f","partial_args":[{"json_path":"$.a","string_value":"@"}]}}]}}]}"#,
                r#"{"candidates":[{"content":{"parts":[{"function_call":{"partial_args":[{"json_path":"$.a","string_value":"@"}]}}]}}]}"#,
            ),
            (
                r#"{"type":"response.output_text.delta","logprobs":[],"delta":"@","output_index":2}"#,
                r#"{"type":"response.output_text.delta","logprobs":[],"delta":"@","output_index":2}"#,
            ),
        ] {
            let gap = event.find("\"@\"").unwrap();
            for padding in [0, MAX_TEMPLATE] {
                // What is long is in the text.
                let text = "y".repeat(padding);
                let event = event.replace("\"@\"", &format!("\"{text}\""));
                let data = event.into_bytes().into();
                let template = Template::new("n", &data, gap..gap + 2 + padding).unwrap();
                assert!(template.data.len() <= MAX_TEMPLATE);
                let ExtraEvent { name, data } = template.fill("z\"").unwrap();
                let expected = expected.replace('@', "z\\\"");
                assert_eq!((name.as_str(), String::from_utf8(data).unwrap()), ("n", expected));
            }
        }
        let long = format!(r#"{{"id":"{}","delta":"@"}}"#, "y".repeat(MAX_TEMPLATE));
        let gap = long.len() - 4..long.len() - 1;
        assert!(Template::new("", &long.into_bytes().into(), gap).is_none());
    }

    #[test]
    fn the_text_that_a_block_begins_with_goes_on_in_a_delta() {
        let event = Template::after_start(3).fill("x").unwrap();
        assert_eq!(event.name, "content_block_delta");
        let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        let delta = serde_json::json!({"type": "text_delta", "text": "x"});
        assert_eq!(data["delta"], delta);
        assert_eq!((&data["type"], &data["index"]), (&"content_block_delta".into(), &3.into()));
    }
}
