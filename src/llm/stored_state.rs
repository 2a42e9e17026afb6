//! References to what a provider stores for an account: earlier responses, conversations, files, caches.
//! Where workspaces share an account, one could read with them what another one stored.

use crate::json::case_fold::FoldBuffer;
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};

/// Members that refer to stored state if they hold a text, or an array of texts. Folded.
const REFERENCES: [(&[u8], &str); 14] = [
    (b"skill_id", "skill_id"),
    (b"previous_response_id", "previous_response_id"),
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

/// The first reference in a body, by the name of its member. What can't be read may be one.
pub fn stored_state(body: &[u8]) -> Option<&'static str> {
    let mut tokens = Tokenizer::new(body);
    let mut found = None;
    let whole = tokens.next().and_then(|first| read(&mut tokens, first, true, &mut found));
    match whole {
        Ok(()) => found,
        Err(_) => Some("body"),
    }
}

/// Reads a value and notes the first reference in it.
fn read<'a>(
    tokens: &mut Tokenizer<'a>,
    first: Token<'a>,
    is_top: bool,
    found: &mut Option<&'static str>,
) -> Result<(), SyntaxError> {
    match first {
        Token::BeginArray => loop {
            match tokens.next()? {
                Token::EndArray => return Ok(()),
                element => read(tokens, element, false, found)?,
            }
        },
        Token::BeginObject => {
            while let Token::Key(key) = tokens.next()? {
                let value = tokens.next()?;
                let mut buffer = FoldBuffer::default();
                let key = key.folded(&mut buffer).unwrap_or_default();
                let named = |list: &[(&[u8], &'static str)]| {
                    list.iter().find(|(name, _)| *name == key).map(|(_, name)| *name)
                };
                match (named(&REFERENCES), value) {
                    (Some(name), Token::String(_)) => {
                        found.get_or_insert(name);
                    }
                    (Some(name), Token::BeginArray) => loop {
                        match tokens.next()? {
                            Token::EndArray => break,
                            Token::String(_) => {
                                found.get_or_insert(name);
                            }
                            element => read(tokens, element, false, found)?,
                        }
                    },
                    (_, Token::BeginObject) if is_top && named(&OBJECTS).is_some() => {
                        if has_id(tokens)?
                            && let Some(name) = named(&OBJECTS)
                        {
                            found.get_or_insert(name);
                        }
                    }
                    (_, Token::BeginObject) if key == b"s3location" => {
                        found.get_or_insert("s3Location");
                        tokens.skip(value)?;
                    }
                    (_, Token::BeginObject)
                        if DATA.contains(&key) && (!is_top || key == b"metadata") =>
                    {
                        tokens.skip(value)?;
                    }
                    (_, Token::String(kind)) if key == b"type" => {
                        if kind.text().as_deref() == Some("item_reference") {
                            found.get_or_insert("item_reference");
                        }
                    }
                    _ => read(tokens, value, false, found)?,
                }
            }
            Ok(())
        }
        _ => Ok(()),
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
        stored_state(body.to_string().as_bytes())
    }

    #[test]
    fn references_are_found_in_every_format() {
        for (body, name) in [
            (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
            (json!({"conversation": "conv_1"}), "conversation"),
            (json!({"conversation": {"id": "conv_1"}}), "conversation"),
            (json!({"prompt": {"id": "pmpt_1"}}), "prompt"),
            (json!({"input": [{"type": "item_reference", "id": "msg_1"}]}), "item_reference"),
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
            json!({"thread": {"type": "create"}, "diagnostics": {"previous_message_id": "msg_1"}}),
        ] {
            assert_eq!(found(&body), None, "{body}");
        }
    }
}
