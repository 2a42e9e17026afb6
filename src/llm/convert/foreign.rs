//! Takes out of a request what another family's model made, where the request goes up without being
//! converted: a conversation that was led with one provider goes on with another.

use std::borrow::Cow;

use memchr::memmem;

use super::fields::{Fields, Path, parse_array};
use super::opaque::CONTAINER;
use crate::json::writer::JsonWriter;
use crate::llm::format::Format;

/// The members of a chat's message or call that hold what providers want back.
const CHAT_MEMBERS: [&str; 4] =
    ["reasoning_details", "extra_content", "thinking_blocks", "provider_specific_fields"];
/// What stands beside them and means nothing alone.
const CHAT_THOUGHTS: [&str; 2] = ["reasoning_content", "reasoning"];

/// The value of the member that holds the conversation, without what is in a container of the gateway's;
/// `None` if nothing is. `conversation` is that of [`member`].
pub fn without_foreign(format: Format, conversation: &str) -> Option<String> {
    if memmem::find(conversation.as_bytes(), CONTAINER.as_bytes()).is_none() {
        return None;
    }
    let elements = parse_array(conversation)?;
    let mut json = JsonWriter::new();
    json.array(|json| {
        for element in elements {
            let kept = match format {
                Format::Messages => message(element),
                Format::Responses => item(element),
                _ => Some(chat_message(element)),
            };
            if let Some(kept) = kept {
                json.raw(&kept);
            }
        }
    });
    Some(json.finish())
}

/// The member of a body that holds the conversation.
pub fn member(format: Format) -> Option<&'static str> {
    match format {
        Format::Chat | Format::Messages => Some("messages"),
        Format::Responses => Some("input"),
        _ => None,
    }
}

fn is_foreign(fields: &Fields<'_>, key: &str) -> bool {
    let text = fields.text(key, &Path::ROOT).ok().flatten();
    text.is_some_and(|text| text.starts_with(CONTAINER))
}

/// A message of Anthropic's without thoughts in containers; nothing if that leaves it empty.
fn message(raw: &str) -> Option<Cow<'_, str>> {
    let fields = Fields::parse(raw, &Path::ROOT).ok().filter(|_| raw.contains(CONTAINER));
    let Some(fields) = fields else { return Some(Cow::Borrowed(raw)) };
    let Some(blocks) = fields.get("content").and_then(parse_array) else {
        return Some(Cow::Borrowed(raw));
    };
    let stays = |block: &&str| match Fields::parse(block, &Path::ROOT) {
        Ok(fields) => !is_foreign(&fields, "signature") && !is_foreign(&fields, "data"),
        Err(_) => true,
    };
    let kept: Vec<&str> = blocks.into_iter().filter(stays).collect();
    if kept.is_empty() {
        return None;
    }
    let mut json = JsonWriter::new();
    json.object(|json| {
        for (key, value) in fields.iter() {
            match key {
                "content" => json.key(key).array(|json| kept.iter().for_each(|raw| json.raw(raw))),
                _ => json.key(key).raw(value),
            }
        }
    });
    Some(Cow::Owned(json.finish()))
}

/// An item of a response, unless it is reasoning in a container.
fn item(raw: &str) -> Option<Cow<'_, str>> {
    let fields = Fields::parse(raw, &Path::ROOT).ok();
    let is_left_out = fields.is_some_and(|fields| is_foreign(&fields, "encrypted_content"));
    (!is_left_out).then_some(Cow::Borrowed(raw))
}

/// A message of a chat without members that hold containers, its calls of tools likewise.
fn chat_message(raw: &str) -> Cow<'_, str> {
    let fields = Fields::parse(raw, &Path::ROOT).ok().filter(|_| raw.contains(CONTAINER));
    let Some(fields) = fields else { return Cow::Borrowed(raw) };
    let holds =
        |(key, value): (&str, &str)| CHAT_MEMBERS.contains(&key) && value.contains(CONTAINER);
    let has_thoughts = fields.iter().any(holds);
    let mut json = JsonWriter::new();
    json.object(|json| {
        for (key, value) in fields.iter() {
            if holds((key, value)) || (has_thoughts && CHAT_THOUGHTS.contains(&key)) {
                continue;
            }
            match parse_array(value).filter(|_| key == "tool_calls") {
                Some(calls) => json.key(key).array(|json| {
                    calls.into_iter().for_each(|call| json.raw(&chat_message(call)));
                }),
                None => json.key(key).raw(value),
            }
        }
    });
    Cow::Owned(json.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_in_containers_are_taken_out_and_the_rest_stays_as_it_is() {
        let own = r#"{"role":"user", "content" : "tollgate.1.is just text"}"#;
        for (format, conversation, expected) in [
            (
                Format::Messages,
                r#"[{"role":"assistant","content":[{"type":"thinking","thinking":"a","signature":"tollgate.1.google.signature..x"},{"type":"text","text":"b","x":1.0}]},{"role":"assistant","content":[{"type":"redacted_thinking","data":"tollgate.1.openai.encrypted..x"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"c","signature":"own"}]}]"#,
                r#"[{"role":"assistant","content":[{"type":"text","text":"b","x":1.0}]},{"role":"assistant","content":[{"type":"thinking","thinking":"c","signature":"own"}]}]"#,
            ),
            (
                Format::Responses,
                r#"[{"type":"reasoning","summary":[],"encrypted_content":"tollgate.1.anthropic.signature..x"},{"type":"reasoning","summary":[],"encrypted_content":"own"},{"role":"user","content":"Hi"}]"#,
                r#"[{"type":"reasoning","summary":[],"encrypted_content":"own"},{"role":"user","content":"Hi"}]"#,
            ),
            (
                Format::Chat,
                r#"[{"role":"assistant","content":null,"reasoning_content":"a","reasoning_details":[{"data":"tollgate.1.google.signature..x"}],"tool_calls":[{"id":"1","extra_content":{"a":"tollgate.1.google.signature..x"}}]},{"role":"user","content":"Hi"}]"#,
                r#"[{"role":"assistant","tool_calls":[{"id":"1"}]},{"role":"user","content":"Hi"}]"#,
            ),
        ] {
            let found = without_foreign(format, conversation);
            assert_eq!(found.as_deref(), Some(expected), "{format:?}");
            let other = format!("[{own}]");
            let kept = without_foreign(format, &other);
            assert!(kept.is_none_or(|kept| kept.contains("just text")), "{format:?}");
        }
        assert_eq!(without_foreign(Format::Chat, r#"[{"role":"user","content":"Hi"}]"#), None);
        assert_eq!(without_foreign(Format::Responses, r#""tollgate.1. text""#), None);
    }
}
