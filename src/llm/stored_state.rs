//! References to what a provider stores for an account: earlier responses, conversations, files, caches.
//! Where workspaces share an account, one could read with them what another one stored.

use crate::json::case_fold::FoldBuffer;
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};

/// The member that names the response which a request continues.
pub const PREVIOUS_RESPONSE: &str = "previous_response_id";

/// Members that refer to stored state if they hold a text, or an array of texts. Folded.
const REFERENCES: [(&[u8], &str); 14] = [
    (b"skill_id", "skill_id"),
    (PREVIOUS_RESPONSE.as_bytes(), PREVIOUS_RESPONSE),
    (b"conversation", "conversation"),
    (b"file_id", "file_id"),
    (b"file_ids", "file_ids"),
    (b"file_uri", "file_uri"),
    (b"fileuri", "fileUri"),
    (b"vector_store_ids", "vector_store_ids"),
    (b"container", "container"),
    (b"container_id", "container_id"),
    (b"cached_content", "cached_content"),
    (b"cachedcontent", "cachedContent"),
    (b"prompt_id", "prompt_id"),
    (b"batch_id", "batch_id"),
];

/// Members whose objects refer to stored state if they have an id, at the top of the body.
const OBJECTS: [(&[u8], &str); 4] = [
    (b"conversation", "conversation"),
    (b"prompt", "prompt"),
    (b"container", "container"),
    (b"thread", "thread"),
];

/// Members whose objects are the caller's own data: arguments and results of tools, labels.
const DATA: [&[u8]; 4] = [b"input", b"args", b"response", b"metadata"];

/// What a body refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredState {
    /// The response that the body continues: its `previous_response_id`.
    pub previous_response: Option<String>,
    /// The other references, by the names of their members, each once.
    others: Vec<&'static str>,
}

/// Whether the member refers to a file that the caller has stored.
pub fn is_file(name: &str) -> bool {
    matches!(name, "file_id" | "file_ids" | "file_uri" | "fileUri" | "s3Location")
}

impl StoredState {
    /// The first reference that is no `previous_response_id`, by the name of its member.
    pub fn other(&self) -> Option<&'static str> {
        self.others.first().copied()
    }

    /// The references that are no `previous_response_id`, by the names of their members, each once.
    pub fn others(&self) -> impl Iterator<Item = &'static str> {
        self.others.iter().copied()
    }

    /// Reads a body. What can't be read may be a reference.
    pub fn of(body: &[u8]) -> Self {
        let mut tokens = Tokenizer::new(body);
        let mut found = Self::default();
        let whole = tokens.next().and_then(|first| found.read(&mut tokens, first, true));
        if whole.is_err() {
            found.note("body");
        }
        found
    }

    fn note(&mut self, name: &'static str) {
        if !self.others.contains(&name) {
            self.others.push(name);
        }
    }

    /// Reads a value and notes the references in it.
    fn read<'a>(
        &mut self,
        tokens: &mut Tokenizer<'a>,
        first: Token<'a>,
        is_top: bool,
    ) -> Result<(), SyntaxError> {
        match first {
            Token::BeginArray => loop {
                match tokens.next()? {
                    Token::EndArray => return Ok(()),
                    element => self.read(tokens, element, false)?,
                }
            },
            Token::BeginObject => self.read_object(tokens, is_top).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// The items that a response is asked for with. Of one without a type that is no message OpenAI takes
    /// the `id` for a reference.
    fn read_items<'a>(&mut self, tokens: &mut Tokenizer<'a>) -> Result<(), SyntaxError> {
        loop {
            match tokens.next()? {
                Token::EndArray => return Ok(()),
                Token::BeginObject => {
                    let has = self.read_object(tokens, false)?;
                    let is_message = has.role && has.content;
                    let is_untyped = !has.kind && !is_message;
                    // OpenAI looks for its own copy of reasoning that comes without what it holds.
                    let is_kept_reasoning = has.is_reasoning && !has.encrypted_content;
                    if has.id && (is_untyped || is_kept_reasoning) {
                        self.note("item_reference");
                    }
                }
                element => self.read(tokens, element, false)?,
            }
        }
    }

    /// Reads an object whose beginning was read. Tells which members it has.
    fn read_object<'a>(
        &mut self,
        tokens: &mut Tokenizer<'a>,
        is_top: bool,
    ) -> Result<Members, SyntaxError> {
        let mut has = Members::default();
        while let Token::Key(key) = tokens.next()? {
            let is_exact = key.raw() == PREVIOUS_RESPONSE.as_bytes();
            let value = tokens.next()?;
            let mut buffer = FoldBuffer::default();
            let key = key.folded(&mut buffer).unwrap_or_default();
            has.note(key, value);
            let named = |list: &[(&[u8], &'static str)]| {
                list.iter().find(|(name, _)| *name == key).map(|(_, name)| *name)
            };
            match (named(&REFERENCES), value) {
                (_, Token::String(id))
                    if is_top && is_exact && self.previous_response.is_none() =>
                {
                    match id.text() {
                        Some(id) => self.previous_response = Some(id.into_owned()),
                        None => self.note(PREVIOUS_RESPONSE),
                    }
                }
                (Some(name), Token::String(_)) => self.note(name),
                (Some(name), Token::BeginArray) => loop {
                    match tokens.next()? {
                        Token::EndArray => break,
                        Token::String(_) => self.note(name),
                        element => self.read(tokens, element, false)?,
                    }
                },
                (_, Token::BeginObject) if is_top && named(&OBJECTS).is_some() => {
                    if has_id(tokens)?
                        && let Some(name) = named(&OBJECTS)
                    {
                        self.note(name);
                    }
                }
                (_, Token::BeginObject) if key == b"s3location" => {
                    self.note("s3Location");
                    tokens.skip(value)?;
                }
                (_, Token::BeginObject)
                    if DATA.contains(&key) && (!is_top || key == b"metadata") =>
                {
                    tokens.skip(value)?;
                }
                (_, Token::BeginArray) if is_top && key == b"input" => self.read_items(tokens)?,
                (_, Token::String(kind)) if key == b"type" => {
                    if kind.text().as_deref() == Some("item_reference") {
                        self.note("item_reference");
                    }
                }
                _ => self.read(tokens, value, false)?,
            }
        }
        Ok(has)
    }
}

/// Which members an object has that are not null.
#[derive(Default)]
struct Members {
    id: bool,
    kind: bool,
    role: bool,
    content: bool,
    encrypted_content: bool,
    is_reasoning: bool,
}

impl Members {
    fn note(&mut self, key: &[u8], value: Token<'_>) {
        if let (b"type", Token::String(kind)) = (key, value) {
            self.is_reasoning = kind.text().as_deref() == Some("reasoning");
        }
        let member = match key {
            b"id" => &mut self.id,
            b"type" => &mut self.kind,
            b"role" => &mut self.role,
            b"content" => &mut self.content,
            b"encrypted_content" => &mut self.encrypted_content,
            _ => return,
        };
        *member |= !value.is_null();
    }
}

/// Whether an object whose beginning was read has an `id`, or that of the message that a thread goes on from.
fn has_id(tokens: &mut Tokenizer<'_>) -> Result<bool, SyntaxError> {
    let mut has_id = false;
    while let Token::Key(key) = tokens.next()? {
        let value = tokens.next()?;
        let mut buffer = FoldBuffer::default();
        let is_id = matches!(key.folded(&mut buffer), Some(b"id" | b"previous_message_id"));
        has_id |= is_id && !value.is_null();
        tokens.skip(value)?;
    }
    Ok(has_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn found(body: &Value) -> Option<&'static str> {
        let found = StoredState::of(body.to_string().as_bytes());
        assert_eq!(found.previous_response, None, "{body}");
        found.other()
    }

    #[test]
    fn references_are_found_in_every_format() {
        for (body, name) in [
            (json!({"input": [{"previous_response_id": "resp_1"}]}), "previous_response_id"),
            (json!({"conversation": "conv_1"}), "conversation"),
            (json!({"conversation": {"id": "conv_1"}}), "conversation"),
            (json!({"prompt": {"id": "pmpt_1"}}), "prompt"),
            (json!({"input": [{"type": "item_reference", "id": "msg_1"}]}), "item_reference"),
            (json!({"input": ["x", {"id": "msg_1"}]}), "item_reference"),
            (json!({"input": [{"ID": "msg_1", "type": null}]}), "item_reference"),
            (json!({"input": [{"id": "msg_1", "role": "user"}]}), "item_reference"),
            (
                json!({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}),
                "item_reference",
            ),
            (
                json!({"messages": [{"role": "user", "content": [
                    {"type": "document", "source": {"type": "file", "file_id": "file_1"}}]}]}),
                "file_id",
            ),
            (
                json!({"messages": [{"content": [{"type": "file", "file": {"file_id": "f"}}]}]}),
                "file_id",
            ),
            (
                json!({"tools": [{"type": "file_search", "vector_store_ids": ["vs"]}]}),
                "vector_store_ids",
            ),
            (json!({"contents": [{"parts": [{"fileData": {"fileUri": "files/1"}}]}]}), "fileUri"),
            (json!({"cachedContent": "cachedContents/1"}), "cachedContent"),
            (json!({"Previous_Response_Id": "resp_1"}), "previous_response_id"),
            (json!({"container": "container_1"}), "container"),
            (json!({"thread": {"type": "continue", "previous_message_id": "msg_1"}}), "thread"),
            (
                json!({"messages": [{"content": [{"document": {"source": {"s3Location": {"uri": "s3://b/k"}}}}]}]}),
                "s3Location",
            ),
        ] {
            assert_eq!(found(&body), Some(name), "{body}");
        }
    }

    #[test]
    fn what_belongs_to_the_caller_is_none() {
        for body in [
            json!({"model": "m", "messages": [{"role": "user", "content": "my file_id is 5"}]}),
            json!({"previous_response_id": null, "conversation": null, "prompt": "Once"}),
            json!({"tools": [{"type": "function", "function": {"parameters": {
                "properties": {"file_id": {"type": "string"}}}}}]}),
            json!({"messages": [{"content": [
                {"type": "tool_use", "id": "t", "name": "n", "input": {"file_id": "mine"}}]}]}),
            json!({"contents": [{"parts": [{"functionCall": {"args": {"file_id": "mine"}}}]}]}),
            json!({"metadata": {"conversation": "of our own"}, "input": "text"}),
            json!({"vector_store_ids": []}),
            json!({"input": [{"id": "msg_1", "role": "user", "content": "Hi"},
                {"type": "message", "id": "msg_2", "role": "assistant", "content": []},
                {"type": "function_call", "id": "fc_1", "arguments": "{}"}, {"id": null}, "x"]}),
            json!({"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}]}),
            json!({"messages": [{"id": "msg_1"}]}),
            json!({"thread": {"type": "create"}, "diagnostics": {"previous_message_id": "msg_1"}}),
        ] {
            assert_eq!(found(&body), None, "{body}");
        }
    }

    #[test]
    fn the_response_before_is_told() {
        let found = StoredState::of(br#"{"previous_response_id":"resp_\u0031"}"#);
        assert_eq!(found.previous_response.as_deref(), Some("resp_1"));
        assert_eq!(found.other(), None);
        let twice = br#"{"previous_response_id":"a","previous_response_id":"b"}"#;
        assert_eq!(StoredState::of(twice).other(), Some("previous_response_id"));
        let both = br#"{"previous_response_id":"a","conversation":"b"}"#;
        assert_eq!(StoredState::of(both).other(), Some("conversation"));
        assert_eq!(StoredState::of(b"{").other(), Some("body"));
    }
}
