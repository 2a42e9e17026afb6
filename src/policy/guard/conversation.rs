//! What tells a conversation when no session header does: its first message.

use sha2::{Digest, Sha256};

use crate::json::escapes;
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};
use crate::llm::format::Format;

/// The digest of the texts of the first message that is no system prompt. It is the same for all
/// requests of a conversation: system prompts often have the time in them, and marks for the provider's
/// cache move from message to message. A body without messages has that of no text.
pub fn conversation_digest(format: Format, body: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    // What can't be read is not sent.
    let _ = read_first_message(format, body, &mut digest);
    digest.finalize().into()
}

fn read_first_message(format: Format, body: &[u8], digest: &mut Sha256) -> Result<(), SyntaxError> {
    let list: &[u8] = match format {
        Format::Chat | Format::Messages | Format::Converse | Format::Invoke => b"messages",
        Format::Responses | Format::Embeddings => b"input",
        Format::Gemini => b"contents",
        Format::GeminiEmbeddings => b"content",
    };
    let mut tokens = Tokenizer::new(body);
    tokens.next()?;
    while let Token::Key(key) = tokens.next()? {
        let first = tokens.next()?;
        if key.raw() != list {
            tokens.skip(first)?;
            continue;
        }
        if first != Token::BeginArray {
            return read_texts(&mut tokens, first, b"content", digest).map(drop);
        }
        loop {
            let message = tokens.next()?;
            if message == Token::EndArray {
                return Ok(());
            }
            let mut texts = digest.clone();
            if !read_texts(&mut tokens, message, b"content", &mut texts)? {
                *digest = texts;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Adds the texts of a value. Whether it is a system prompt.
fn read_texts<'t>(
    tokens: &mut Tokenizer<'t>,
    first: Token<'t>,
    key: &'t [u8],
    digest: &mut Sha256,
) -> Result<bool, SyntaxError> {
    let mut open = Vec::new();
    let mut member = key;
    let mut is_system = false;
    let mut token = first;
    loop {
        match token {
            Token::BeginObject | Token::BeginArray => open.push(member),
            Token::EndObject | Token::EndArray => member = open.pop().unwrap_or(key),
            Token::Key(name) => member = name.raw(),
            Token::String(text) if member == b"role" && open.len() == 1 => {
                is_system = matches!(text.raw(), b"system" | b"developer");
            }
            Token::String(text) if matches!(member, b"content" | b"text") => {
                let text =
                    escapes::unescape_bytes(text.raw()).unwrap_or_else(|| text.raw().to_vec());
                digest.update((text.len() as u64).to_le_bytes());
                digest.update(text);
            }
            Token::String(_) | Token::Literal(_) => {}
        }
        if open.is_empty() {
            return Ok(is_system);
        }
        token = tokens.next()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_turns_have_the_digest_of_the_first() {
        for (format, first, later, other) in [
            (
                Format::Chat,
                r#"{"messages":[{"role":"system","content":"at 10:00"},{"role":"user","content":"a"}]}"#,
                r#"{"model":"m","messages":[{"content":"at 10:01","role":"system"},{"role":"user","content":"\u0061"},{"role":"assistant","content":"b"}]}"#,
                r#"{"messages":[{"role":"user","content":"b"}]}"#,
            ),
            (
                Format::Messages,
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]}"#,
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":"b"}]}"#,
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":"b"}]}]}"#,
            ),
            (
                Format::Responses,
                r#"{"input":"a"}"#,
                r#"{"input":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#,
                r#"{"input":"b"}"#,
            ),
            (
                Format::Gemini,
                r#"{"contents":[{"parts":[{"text":"a"}]}]}"#,
                r#"{"contents":[{"role":"user","parts":[{"text":"a"}]},{"parts":[{"text":"b"}]}]}"#,
                r#"{"contents":[{"parts":[{"text":"b"}]}]}"#,
            ),
        ] {
            let digest = |body: &str| conversation_digest(format, body.as_bytes());
            assert_eq!(digest(first), digest(later));
            assert_ne!(digest(first), digest(other));
        }
        assert_eq!(
            conversation_digest(Format::Chat, b"{"),
            conversation_digest(Format::Chat, b"{}")
        );
    }
}
