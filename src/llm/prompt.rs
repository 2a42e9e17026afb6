//! Finds what a model reads of a request's JSON body, without parsing it.
//!
//! Whoever sends a request chooses its keys, its order and its blanks, and may have reasons to be
//! counted low. So a string counts unless its place says that no model reads it as text.

use crate::json::strings::{after_colon, split_string};

/// The longest name or id that is taken for one, in bytes.
const LONGEST_NAME: usize = 128;

/// The pieces of text in a body, escapes and all, in their order.
#[derive(Debug)]
pub(super) struct PromptText<'a> {
    rest: &'a [u8],
    depth: u32,
    /// Of the value that comes next.
    key: &'a [u8],
    /// Everything is text until this depth is reached again.
    verbatim: Option<u32>,
}

impl<'a> PromptText<'a> {
    /// The pieces of the value that `json` begins with.
    pub(super) fn new(json: &'a [u8]) -> Self {
        Self { rest: json, depth: 0, key: b"", verbatim: None }
    }

    fn open(&mut self) {
        if self.verbatim.is_none() && is_verbatim(self.key) {
            self.verbatim = Some(self.depth);
        }
        self.depth = self.depth.saturating_add(1);
        self.key = b"";
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.verbatim == Some(self.depth) {
            self.verbatim = None;
        }
    }

    /// A key or a string, whose opening quote is past; given if it is text.
    fn string(&mut self) -> Option<&'a [u8]> {
        let (raw, rest) = split_string(self.rest);
        if let Some(after) = after_colon(rest) {
            self.rest = after;
            self.key = raw;
            return self.verbatim.map(|_| raw);
        }
        self.rest = rest;
        let key = std::mem::take(&mut self.key);
        (self.verbatim.is_some() || is_text(key, raw)).then_some(raw)
    }

    /// A number or a word, as far as it goes from its beginning `at`; given if it is text.
    fn scalar(&mut self, at: &'a [u8]) -> Option<&'a [u8]> {
        self.key = b"";
        self.verbatim?;
        let is_end =
            |byte: &u8| matches!(byte, b',' | b']' | b'}' | b'"') || byte.is_ascii_whitespace();
        // One byte at the least: in odd text, it may itself be an end.
        let length = at.iter().position(is_end).unwrap_or(at.len()).max(1).min(at.len());
        let (scalar, rest) = at.split_at(length);
        self.rest = rest;
        Some(scalar)
    }
}

impl<'a> Iterator for PromptText<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let at = self.rest;
            let (byte, after) = at.split_first()?;
            self.rest = after;
            let text = match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => None,
                b'{' | b'[' => {
                    self.open();
                    None
                }
                b'}' | b']' => {
                    self.close();
                    None
                }
                b'"' => self.string(),
                _ => self.scalar(at),
            };
            if text.is_some() {
                return text;
            }
        }
    }
}

/// Whether models get to see all that stands under this key, names and numbers included: schemas,
/// and what templates write out as JSON.
fn is_verbatim(key: &[u8]) -> bool {
    matches!(
        key,
        b"arguments"
            | b"chat_template_kwargs"
            | b"documents"
            | b"functions"
            | b"response_format"
            | b"text"
            | b"tool_choice"
            | b"tools"
    )
}

/// Whether the model reads the string that is the value of this key as text.
fn is_text(key: &[u8], raw: &[u8]) -> bool {
    match key {
        // An id is short; text may be put in its place.
        b"call_id"
        | b"file_id"
        | b"id"
        | b"model"
        | b"previous_response_id"
        | b"prompt_cache_key"
        | b"safety_identifier"
        | b"service_tier"
        | b"tool_call_id"
        | b"type"
        | b"user" => raw.len() > LONGEST_NAME,
        b"file_url" | b"image_url" => raw.len() > LONGEST_NAME && !is_encoded(raw),
        b"b64_json" | b"data" | b"encrypted_content" | b"file_data" | b"url" => !is_encoded(raw),
        _ => true,
    }
}

/// Whether a string is a file in base64, by its beginning.
fn is_encoded(raw: &[u8]) -> bool {
    let head = raw.get(..LONGEST_NAME).unwrap_or(raw);
    // A slash may be escaped.
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(byte);
    let is_data_url =
        raw.starts_with(b"data:") && memchr::memmem::find(head, b";base64,").is_some();
    is_data_url || (raw.len() > LONGEST_NAME && head.iter().all(is_digit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(json: &str) -> Vec<&str> {
        PromptText::new(json.as_bytes()).map(|piece| std::str::from_utf8(piece).unwrap()).collect()
    }

    #[test]
    fn messages_are_read_and_names_are_not() {
        let json = r#"{"model":"m","user":"u","messages":[{"role":"user","content":"a\"b"},
            {"role":"tool","tool_call_id":"call_1","content":[{"type":"text","text":"c"}]}],
            "n":1,"stop":["d"],"service_tier":"flex","temperature":0.5}"#;
        assert_eq!(text(json), ["user", "a\\\"b", "tool", "c", "d"]);
    }

    #[test]
    fn schemas_are_read_with_all_their_names_and_numbers() {
        let json = r#"{"tools":[{"type":"function","function":{"name":"f","parameters":
            {"properties":{"city":{"enum":["x", 1.5 ,null]}}}}}],
            "messages":[{"tool_calls":[{"id":"i","function":{"arguments":{"id":"y"}}}]}],"id":"z"}"#;
        let schema = ["type", "function", "function", "name", "f", "parameters", "properties"];
        let rest = ["city", "enum", "x", "1.5", "null", "id", "y"];
        assert_eq!(text(json), [&schema[..], &rest].concat());
        let json = r#"{"text":{"format":{"id":7}},"input":[{"type":"message","text":"t"}]}"#;
        assert_eq!(text(json), ["format", "id", "7", "t"]);
    }

    #[test]
    fn files_are_not_read_as_text() {
        let long = "UklGR\\/".repeat(100);
        for (json, is_read) in [
            (r#"{"image_url":{"url":"data:image/png;base64,AAAA"}}"#.to_owned(), false),
            (r#"{"image_url":"data:image/png;base64,AAAA"}"#.to_owned(), false),
            (format!(r#"{{"input_audio":{{"data":"{long}"}}}}"#), false),
            (format!(r#"{{"encrypted_content":"{long}"}}"#), false),
            (format!(r#"{{"file_data":"{long}"}}"#), false),
            (format!(r#"{{"content":"{long}"}}"#), true),
            (r#"{"content":"data:text/plain;base64,AAAA"}"#.to_owned(), true),
            (r#"{"data":"not base64"}"#.to_owned(), true),
        ] {
            assert_eq!(!text(&json).is_empty(), is_read, "{json}");
        }
    }

    #[test]
    fn a_key_speaks_for_its_own_value_and_for_ids_only() {
        assert_eq!(text(r#"{"content":[{"type":"x"},"long"]}"#), ["long"]);
        assert_eq!(text(r#"{"id":["long"],"user":{"content":"more"}}"#), ["long", "more"]);
        let long = "a b".repeat(50);
        for key in ["id", "type", "user", "model", "tool_call_id", "file_url", "data"] {
            assert_eq!(text(&format!(r#"{{"{key}":"{long}"}}"#)), [long.as_str()], "{key}");
        }
    }

    #[test]
    fn odd_text_is_no_danger() {
        for odd in [
            "",
            "}",
            "]]",
            "{]",
            "\"",
            "{\"",
            "{\"a\"",
            "{\"tools\":[",
            "{\"tools\":[1",
            "{\"tools\":[\u{c}",
        ] {
            let _ = text(odd);
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            "[a\"\\\\{}:, é\n]{0,6}".prop_map(serde_json::Value::from),
            any::<u8>().prop_map(serde_json::Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[a-z\"]{0,3}", inner, 0..4).prop_map(|map| {
                    serde_json::Value::from(map.into_iter().collect::<serde_json::Map<_, _>>())
                }),
            ]
        })
    }

    /// All that a tree says, bracket by bracket.
    fn said(value: &serde_json::Value, out: &mut Vec<String>) {
        let inside = |text: &str| {
            let quoted = serde_json::Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        };
        match value {
            serde_json::Value::String(text) => out.push(inside(text)),
            serde_json::Value::Array(parts) => parts.iter().for_each(|part| said(part, out)),
            serde_json::Value::Object(members) => members.iter().for_each(|(key, part)| {
                out.push(inside(key));
                said(part, out);
            }),
            other => out.push(other.to_string()),
        }
    }

    proptest! {
        #[test]
        fn what_a_parser_finds_in_a_schema(value in any_json(), pretty in any::<bool>()) {
            let body = serde_json::json!({"a": "b", "tools": [value], "c": "d"});
            let json = if pretty { serde_json::to_string_pretty(&body).unwrap() } else { body.to_string() };
            let mut expected = Vec::new();
            said(&body["tools"], &mut expected);
            prop_assert_eq!(text(&json), [vec!["b".to_owned()], vec!["d".to_owned()], expected].concat());
        }
    }
}
