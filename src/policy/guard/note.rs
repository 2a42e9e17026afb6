//! The system note: a sentence in the system prompt that tells the model to copy placeholders. It is the
//! same for every request, so that the provider's prompt cache still hits.

use std::ops::Range;

use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};
use crate::llm::format::Format;

/// The sentence. It has no character that JSON escapes.
const NOTE: &str = "Words that begin with TG_ and end with twelve letters or digits stand for values that are left out here. Copy them exactly wherever the value belongs; do not change, explain or invent any.";

/// The body with the sentence at the end of its system prompt; `None` for a format without one, and for
/// what is not of the format.
pub fn with_note(format: Format, body: &[u8]) -> Option<Vec<u8>> {
    let block = format!("{{\"text\":\"{NOTE}\"}}");
    let typed = format!("{{\"type\":\"text\",\"text\":\"{NOTE}\"}}");
    let (place, text) = match format {
        Format::Messages => add_to(body, &[b"system"], &typed, &format!("\"{NOTE}\""))?,
        Format::Converse => add_to(body, &[b"system"], &block, &format!("[{block}]"))?,
        Format::Responses => add_to(body, &[b"instructions"], &typed, &format!("\"{NOTE}\""))?,
        Format::Gemini => {
            let names: [&[u8]; 2] = [b"systemInstruction", b"system_instruction"];
            let new = format!("{{\"parts\":[{block}]}}");
            match member(body, &names) {
                Some((Token::BeginObject, value)) => {
                    let inner = body.get(value.clone())?;
                    let new = format!("[{block}]");
                    let (place, text) = add_to(inner, &[b"parts"], &block, &new)?;
                    (value.start + place.start..value.start + place.end, text)
                }
                _ => add_to(body, &names, &block, &new)?,
            }
        }
        Format::Chat => add_to_messages(body, &typed)?,
        Format::Embeddings | Format::GeminiEmbeddings | Format::Invoke => return None,
    };
    let mut new = Vec::with_capacity(body.len() + text.len());
    new.extend_from_slice(body.get(..place.start)?);
    new.extend_from_slice(text.as_bytes());
    new.extend_from_slice(body.get(place.end..)?);
    Some(new)
}

/// What goes where: the sentence into the text that is the value of a member, `block` into the array that
/// is, or a new member with `new`. `names` are the member's; a new one has the first.
fn add_to(
    object: &[u8],
    names: &[&[u8]],
    block: &str,
    new: &str,
) -> Option<(Range<usize>, String)> {
    match member(object, names) {
        Some((first, value)) => add_to_value(object, first, value, block, new),
        None => {
            let start = object.iter().position(|byte| *byte == b'{')? + 1;
            let is_empty = object.get(start..)?.trim_ascii_start().starts_with(b"}");
            let (name, comma) =
                (String::from_utf8_lossy(names.first()?), if is_empty { "" } else { "," });
            Some((start..start, format!("\"{name}\":{new}{comma}")))
        }
    }
}

fn add_to_value(
    json: &[u8],
    first: Token<'_>,
    value: Range<usize>,
    block: &str,
    new: &str,
) -> Option<(Range<usize>, String)> {
    let end = value.end.checked_sub(1)?;
    match first {
        Token::String(text) => {
            let gap = if text.raw().is_empty() { "" } else { "\\n\\n" };
            Some((end..end, format!("{gap}{NOTE}")))
        }
        Token::BeginArray => {
            let is_empty = json.get(value.start + 1..end)?.trim_ascii().is_empty();
            Some((end..end, format!("{}{block}", if is_empty { "" } else { "," })))
        }
        Token::Literal(b"null") => Some((value, new.to_owned())),
        _ => None,
    }
}

/// The same for a list of messages: into the first one if that is a system prompt, or in a new one.
fn add_to_messages(body: &[u8], block: &str) -> Option<(Range<usize>, String)> {
    let (_, messages) = member(body, &[b"messages"])?;
    let start = messages.start + 1;
    let rest = body.get(start..messages.end)?;
    let blanks = rest.len() - rest.trim_ascii_start().len();
    let (first, length) = value_at(rest.get(blanks..)?).ok()?;
    if first != Token::BeginObject {
        return None;
    }
    let place = start + blanks;
    let message = body.get(place..place + length)?;
    let is_system = match member(message, &[b"role"]) {
        Some((Token::String(role), _)) => matches!(role.raw(), b"system" | b"developer"),
        _ => false,
    };
    if is_system && let Some((first, value)) = member(message, &[b"content"]) {
        let (at, text) = add_to_value(message, first, value, block, &format!("\"{NOTE}\""))?;
        return Some((place + at.start..place + at.end, text));
    }
    let message = format!("{{\"role\":\"system\",\"content\":\"{NOTE}\"}},");
    Some((start..start, message))
}

/// The last member of an object with one of these names: the first token of its value, and its place.
fn member<'j>(object: &'j [u8], names: &[&[u8]]) -> Option<(Token<'j>, Range<usize>)> {
    let mut tokens = Tokenizer::new(object);
    tokens.next().ok().filter(|first| *first == Token::BeginObject)?;
    let mut found = None;
    while let Ok(Token::Key(key)) = tokens.next() {
        let first = tokens.next().ok()?;
        let start = tokens.token_start();
        tokens.skip(first).ok()?;
        if names.contains(&key.raw()) {
            found = Some((first, start..tokens.position()));
        }
    }
    found
}

/// The first token of the value that a text begins with, and the value's length.
fn value_at(json: &[u8]) -> Result<(Token<'_>, usize), SyntaxError> {
    let mut tokens = Tokenizer::new(json);
    let first = tokens.next()?;
    tokens.skip(first)?;
    Ok((first, tokens.position()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_sentence_ends_the_system_prompt() {
        let typed = json!({"type": "text", "text": NOTE});
        let block = json!({"text": NOTE});
        let appended = format!("Be kind.\n\n{NOTE}");
        let user = json!({"role": "user", "content": "x"});
        let note = json!({"role": "system", "content": NOTE});
        for (format, body, expected) in [
            (Format::Messages, json!({"messages": []}), json!({"messages": [], "system": NOTE})),
            (Format::Messages, json!({"system": "Be kind."}), json!({"system": appended})),
            (Format::Messages, json!({"system": [block]}), json!({"system": [block, typed]})),
            (Format::Messages, json!({"system": []}), json!({"system": [typed]})),
            (Format::Responses, json!({"instructions": null}), json!({"instructions": NOTE})),
            (Format::Responses, json!({}), json!({"instructions": NOTE})),
            (Format::Converse, json!({}), json!({"system": [block]})),
            (Format::Converse, json!({"system": [{}]}), json!({"system": [{}, block]})),
            (Format::Gemini, json!({}), json!({"systemInstruction": {"parts": [block]}})),
            (
                Format::Gemini,
                json!({"system_instruction": {"role": "user", "parts": [{"text": "x"}]}}),
                json!({"system_instruction": {"role": "user", "parts": [{"text": "x"}, block]}}),
            ),
            (Format::Chat, json!({"messages": [user]}), json!({"messages": [note, user]})),
            (
                Format::Chat,
                json!({"messages": [{"role": "developer", "content": "Be kind."}, user]}),
                json!({"messages": [{"role": "developer", "content": appended}, user]}),
            ),
            (
                Format::Chat,
                json!({"messages": [{"content": [typed], "role": "system"}]}),
                json!({"messages": [{"content": [typed, typed], "role": "system"}]}),
            ),
        ] {
            let new = with_note(format, body.to_string().as_bytes()).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&new).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn bodies_without_a_system_prompt_stay() {
        assert_eq!(with_note(Format::Embeddings, b"{\"input\":\"x\"}"), None);
        assert_eq!(with_note(Format::Chat, b"{\"messages\":[]}"), None);
        assert_eq!(with_note(Format::Messages, b"{\"system\":5}"), None);
    }
}
