//! Finds the text in a request's JSON body that a model reads.
//!
//! The caller chooses the keys, their order and the blanks, and may want to be charged less. So a
//! string counts unless its key says that no model reads it as text.

use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};

/// Maximum length of a name or id, in bytes; what is longer counts as text.
const MAX_NAME: usize = 128;

/// The pieces of text in a body, escapes included, in their order.
#[derive(Debug)]
pub(super) struct PromptText<'a> {
    tokens: Tokenizer<'a>,
    depth: u32,
    /// Of the value that comes next.
    key: &'a [u8],
    /// Everything is text until this depth is reached again.
    verbatim: Option<u32>,
}

impl<'a> PromptText<'a> {
    /// The pieces of the value that `json` begins with, up to where it stops being JSON.
    pub(super) fn new(json: &'a [u8]) -> Self {
        Self { tokens: Tokenizer::new(json), depth: 0, key: b"", verbatim: None }
    }

    fn text(&mut self, token: Token<'a>) -> Option<&'a [u8]> {
        let key = match token {
            Token::Key(_) => b"",
            _ => std::mem::take(&mut self.key),
        };
        let is_verbatim = self.verbatim.is_some();
        match token {
            Token::BeginObject | Token::BeginArray => {
                if !is_verbatim && is_verbatim_key(key) {
                    self.verbatim = Some(self.depth);
                }
                self.depth = self.depth.saturating_add(1);
                None
            }
            Token::EndObject | Token::EndArray => {
                self.depth = self.depth.saturating_sub(1);
                self.verbatim = self.verbatim.filter(|depth| *depth != self.depth);
                None
            }
            Token::Key(name) => {
                self.key = name.raw();
                is_verbatim.then_some(name.raw())
            }
            Token::String(text) => (is_verbatim || is_text(key, text.raw())).then_some(text.raw()),
            Token::Literal(literal) => is_verbatim.then_some(literal),
        }
    }
}

impl<'a> Iterator for PromptText<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let token = self.tokens.next().ok()?;
            if let Some(text) = self.text(token) {
                return Some(text);
            }
        }
    }
}

/// The tokens in a request for embeddings whose `input` is one array of tokens, or several; zero for
/// other requests.
pub(super) fn count_input_tokens(json: &[u8]) -> u64 {
    // Most bodies have no such field, and need not be read.
    let has_input = memchr::memmem::find(json, b"\"input\"").is_some();
    if has_input { count_tokens(json).unwrap_or(0) } else { 0 }
}

fn count_tokens(json: &[u8]) -> Result<u64, SyntaxError> {
    let mut tokens = Tokenizer::new(json);
    let mut count = 0;
    tokens.next()?;
    while let Token::Key(key) = tokens.next()? {
        let first = tokens.next()?;
        if key.raw() != b"input" || first != Token::BeginArray {
            tokens.skip(first)?;
            continue;
        }
        let mut open = 1_u32;
        while open > 0 {
            match tokens.next()? {
                Token::BeginArray => open += 1,
                Token::EndArray => open -= 1,
                Token::Literal(_) => count += 1,
                _ => return Ok(0),
            }
        }
    }
    Ok(count)
}

/// Whether models get to see everything under this key, names and numbers included: schemas,
/// and what templates write out as JSON.
fn is_verbatim_key(key: &[u8]) -> bool {
    matches!(
        key,
        b"args"
            | b"arguments"
            | b"chat_template_kwargs"
            | b"documents"
            | b"functions"
            | b"json"
            | b"response"
            | b"responseJsonSchema"
            | b"responseSchema"
            | b"response_format"
            | b"response_json_schema"
            | b"response_schema"
            | b"text"
            | b"tool_choice"
            | b"tools"
    )
}

/// Whether the model reads the string that is the value of this key as text.
fn is_text(key: &[u8], raw: &[u8]) -> bool {
    match key {
        // An id is short; text may be put in its place.
        b"cachedContent"
        | b"cached_content"
        | b"call_id"
        | b"file_id"
        | b"id"
        | b"media_type"
        | b"mimeType"
        | b"mime_type"
        | b"model"
        | b"previous_response_id"
        | b"previous_message_id"
        | b"prompt_cache_key"
        | b"safety_identifier"
        | b"service_tier"
        | b"toolUseId"
        | b"tool_call_id"
        | b"tool_use_id"
        | b"type"
        | b"user" => raw.len() > MAX_NAME,
        b"fileUri" | b"file_uri" | b"file_url" | b"image_url" => {
            raw.len() > MAX_NAME && !is_encoded(raw)
        }
        b"b64_json" | b"bytes" | b"data" | b"encrypted_content" | b"file_data" | b"signature"
        | b"thoughtSignature" | b"thought_signature" | b"url" => !is_encoded(raw),
        _ => true,
    }
}

/// Whether a string is a file in base64, by its beginning.
fn is_encoded(raw: &[u8]) -> bool {
    let head = raw.get(..MAX_NAME).unwrap_or(raw);
    // A slash may be escaped.
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(byte);
    let is_data_url =
        raw.starts_with(b"data:") && memchr::memmem::find(head, b";base64,").is_some();
    is_data_url || (raw.len() > MAX_NAME && head.iter().all(is_digit))
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
    fn contents_are_read_in_both_spellings() {
        let long = "A".repeat(200);
        let camel = format!(
            r#"{{"systemInstruction":{{"parts":[{{"text":"a"}}]}},"contents":[{{"role":"user","parts":[{{"text":"b"}},
            {{"inlineData":{{"mimeType":"image/png","data":"{long}"}}}},
            {{"functionCall":{{"name":"f","args":{{"x":1}}}},"thoughtSignature":"{long}"}},
            {{"functionResponse":{{"name":"f","response":{{"y":true}}}}}},
            {{"fileData":{{"fileUri":"https://a","mimeType":"a/b"}}}}]}}],
            "tools":[{{"functionDeclarations":[{{"name":"g"}}]}}],"cachedContent":"cachedContents/1"}}"#
        );
        let mut snake = camel.clone();
        for (key, other) in [
            ("systemInstruction", "system_instruction"),
            ("inlineData", "inline_data"),
            ("mimeType", "mime_type"),
            ("thoughtSignature", "thought_signature"),
            ("fileUri", "file_uri"),
            ("cachedContent\"", "cached_content\""),
        ] {
            snake = snake.replace(key, other);
        }
        let read = ["a", "user", "b", "f", "x", "1", "f", "y", "true"];
        for json in [camel, snake] {
            let expected = [&read[..], &["functionDeclarations", "name", "g"]].concat();
            assert_eq!(text(&json), expected, "{json}");
        }
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
