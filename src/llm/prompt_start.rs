//! The part of a request that all requests of a conversation begin with: the instructions and the messages up
//! to the first one of the user. Providers' prompt caches work on common beginnings.

use smallvec::SmallVec;

use super::format::Format;
use crate::json::object::JsonBody;
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};

/// The most of each part that counts, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// The parts as the body has them; none if the format has no prompt, or the body has none.
pub fn prompt_start(format: Format, body: &JsonBody) -> SmallVec<[&str; 2]> {
    let (instructions, messages): (&[&str], &str) = match format {
        Format::Chat => (&[], "messages"),
        Format::Responses => (&["instructions"], "input"),
        Format::Messages | Format::Converse => (&["system"], "messages"),
        Format::Gemini => (&["systemInstruction", "system_instruction"], "contents"),
        Format::Embeddings | Format::GeminiEmbeddings | Format::Invoke => return SmallVec::new(),
    };
    let instructions = instructions.iter().filter_map(|key| body.get(key));
    let messages = body.get(messages).map(|raw| up_to_first_user(raw).unwrap_or(raw));
    let parts = instructions.chain(messages).filter(|part| !is_empty(part));
    parts.map(|part| part.get(..floor(part)).unwrap_or(part)).collect()
}

fn is_empty(raw: &str) -> bool {
    matches!(raw, "null" | "\"\"" | "[]" | "{}")
}

/// The end of what counts of a part.
fn floor(part: &str) -> usize {
    let mut end = part.len().min(MAX_BYTES);
    while !part.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// The array up to the end of its first message of a user. In Gemini's format a message may name no role,
/// and is then the user's.
fn up_to_first_user(raw: &str) -> Option<&str> {
    let end = end_of_first_user(raw).ok().flatten()?;
    raw.get(..end)
}

fn end_of_first_user(raw: &str) -> Result<Option<usize>, SyntaxError> {
    let mut tokens = Tokenizer::new(raw.as_bytes());
    if tokens.next()? != Token::BeginArray {
        return Ok(None);
    }
    loop {
        match tokens.next()? {
            Token::EndArray => return Ok(None),
            Token::BeginObject => {
                let mut is_user = None;
                while let Token::Key(key) = tokens.next()? {
                    let value = tokens.next()?;
                    match (key.raw(), value) {
                        (b"role", Token::String(role)) => is_user = Some(role.raw() == b"user"),
                        // What is no message has a type: a call of a tool, its result.
                        (b"type", Token::String(kind)) if kind.raw() != b"message" => {
                            is_user.get_or_insert(false);
                        }
                        _ => tokens.skip(value)?,
                    }
                }
                if is_user.unwrap_or(true) {
                    return Ok(Some(tokens.position()));
                }
            }
            other => tokens.skip(other)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(format: Format, body: &'static str) -> Vec<String> {
        let body = JsonBody::parse(body.into()).unwrap();
        prompt_start(format, &body).iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn the_start_ends_with_the_first_user_message() {
        let chat = r#"{"model":"m","messages":[{"role":"system","content":"S"},{"content":[{"role":"x"}],"role":"user"},{"role":"assistant"}]}"#;
        assert_eq!(
            start(Format::Chat, chat),
            [r#"[{"role":"system","content":"S"},{"content":[{"role":"x"}],"role":"user"}"#]
        );
        let messages = r#"{"system":"S","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}]}"#;
        assert_eq!(
            start(Format::Messages, messages),
            [r#""S""#, r#"[{"role":"user","content":"Hi"}"#]
        );
        assert_eq!(start(Format::Responses, r#"{"instructions":null,"input":"Hi"}"#), [r#""Hi""#]);
        let items = r#"{"input":[{"type":"reasoning"},{"type":"message","role":"user","content":"Hi"},{"role":"user"}]}"#;
        assert_eq!(
            start(Format::Responses, items),
            [r#"[{"type":"reasoning"},{"type":"message","role":"user","content":"Hi"}"#]
        );
        let gemini = r#"{"system_instruction":{"parts":[]},"contents":[{"parts":[{"text":"Hi"}]},{"role":"model"}]}"#;
        assert_eq!(
            start(Format::Gemini, gemini),
            [r#"{"parts":[]}"#, r#"[{"parts":[{"text":"Hi"}]}"#]
        );
        for (format, body) in [
            (Format::Chat, "{}"),
            (Format::Chat, r#"{"messages":[]}"#),
            (Format::Embeddings, r#"{"input":"Hi"}"#),
        ] {
            assert_eq!(start(format, body), Vec::<String>::new(), "{body}");
        }
    }

    #[test]
    fn only_the_beginning_of_a_long_part_counts() {
        let body = format!(r#"{{"input":"a{}"}}"#, "é".repeat(MAX_BYTES));
        let body = JsonBody::parse(body.into()).unwrap();
        let [part] = prompt_start(Format::Responses, &body)[..] else { panic!("one part") };
        assert_eq!(part.len(), MAX_BYTES);
    }
}
