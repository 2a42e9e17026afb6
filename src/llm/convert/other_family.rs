//! A conversation that goes on with another family's model in the caller's own format. Such a request is
//! not converted, but what the gateway put into it for models of other families has to be taken out: their
//! provider would refuse it.

use std::borrow::Cow;

use memchr::memmem;

use super::IdRule;
use super::error::{ConvertError, Dropped};
use super::fields::{parse_array, parse_text};
use super::opaque::CONTAINER;
use crate::json::members::Members;
use crate::json::writer::JsonWriter;
use crate::llm::format::Format;

/// Which members with reasoning a provider of chats takes in the messages of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatReasoning {
    /// Any is an error.
    None,
    /// `reasoning`.
    Plain,
    /// `reasoning_content`.
    Text,
    /// `reasoning_details`, too.
    Details,
    /// It is not known what it takes.
    Unknown,
}

impl ChatReasoning {
    /// Members of a message that are an error.
    fn refused(self) -> &'static [&'static str] {
        match self {
            Self::None => &["reasoning", "reasoning_details", "extra_content", "reasoning_content"],
            Self::Plain => &["reasoning_details", "extra_content", "reasoning_content"],
            Self::Text => &["reasoning", "reasoning_details", "extra_content"],
            Self::Details | Self::Unknown => &[],
        }
    }
}

/// What the target takes, where formats leave that to the provider.
#[derive(Debug, Clone, Copy)]
pub struct FamilyRules {
    /// For chats.
    pub reasoning: ChatReasoning,
    pub ids: IdRule,
}

/// Whether [`without_foreign`] may find something: a search for a few words.
pub fn may_hold_foreign(json: &str, format: Format, rules: FamilyRules) -> bool {
    let holds = |word: &str| memmem::find(json.as_bytes(), word.as_bytes()).is_some();
    match format {
        Format::Chat => {
            // The beginnings of all the members that are refused.
            let has_refused = || holds("\"reasoning") || holds("\"extra_content\"");
            (rules.ids.is_exact() && holds("\"tool_calls\""))
                || (!rules.reasoning.refused().is_empty() && has_refused())
        }
        Format::Responses | Format::Messages => holds(CONTAINER),
        _ => false,
    }
}

/// Takes out of a body what its target, which is asked in the same format, can't read; `None` if there is
/// nothing of the kind, or if the body can't be read. What the caller asked for and does not get is noted in
/// `dropped`.
pub fn without_foreign(
    json: &str,
    format: Format,
    rules: FamilyRules,
    dropped: &mut Dropped,
) -> Result<Option<String>, ConvertError> {
    Ok(match format {
        Format::Chat => with_list(json, "messages", |messages| {
            let own: Vec<String> =
                messages.iter().map(|message| own_chat_message(message, rules)).collect();
            own.iter().zip(messages).any(|(own, old)| own != old).then_some(own)
        }),
        Format::Responses => {
            with_list(json, "input", |items| kept(items, |item| !is_foreign_item(item)))
        }
        Format::Messages => match own_messages(json) {
            Some(own) if goes_on_without_thoughts(&own) => {
                dropped.drop("thinking")?;
                Members::parse(&own).and_then(|body| write_without(&body, &["thinking"], None))
            }
            own => own,
        },
        _ => None,
    })
}

/// Whether a request asks for thoughts within a budget, and goes on after calls of tools in a turn that does
/// not begin with thoughts any more. The API refuses that.
fn goes_on_without_thoughts(json: &str) -> bool {
    let Some(body) = Members::parse(json) else { return false };
    let has_budget = member(&body, "thinking")
        .and_then(Members::parse)
        .is_some_and(|thinking| text_member(&thinking, "type").as_deref() == Some("enabled"));
    let messages = member(&body, "messages").filter(|_| has_budget).and_then(parse_array);
    let mut begins = None;
    for message in messages.unwrap_or_default().into_iter().rev().filter_map(Members::parse) {
        let blocks = member(&message, "content").and_then(parse_array).unwrap_or_default();
        let kinds: Vec<_> = blocks
            .into_iter()
            .filter_map(|block| Some(text_member(&Members::parse(block)?, "type")?.into_owned()))
            .collect();
        let is_model = text_member(&message, "role").as_deref() == Some("assistant");
        match is_model {
            true if begins.is_none() && kinds.is_empty() => return false,
            true => begins = kinds.into_iter().next(),
            false if kinds.iter().any(|kind| kind == "tool_result") => {}
            false => break,
        }
    }
    begins.is_some_and(|kind| !matches!(&*kind, "thinking" | "redacted_thinking"))
}

/// The body with another list under `key`; `None` if the list stays as it is.
fn with_list(
    json: &str,
    key: &str,
    change: impl FnOnce(&[&str]) -> Option<Vec<String>>,
) -> Option<String> {
    let body = Members::parse(json)?;
    let changed = change(&parse_array(member(&body, key)?)?)?;
    Some(with_member(&body, key, &array(&changed)))
}

/// The elements that are kept; `None` if all are.
fn kept(elements: &[&str], is_kept: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let kept: Vec<String> =
        elements.iter().filter(|one| is_kept(one)).map(|one| (*one).to_owned()).collect();
    (kept.len() < elements.len()).then_some(kept)
}

fn member<'a>(object: &Members<'a>, key: &str) -> Option<&'a str> {
    object.0.iter().find(|(own, _)| own == key).map(|(_, raw)| raw.get())
}

fn text_member<'a>(object: &Members<'a>, key: &str) -> Option<Cow<'a, str>> {
    member(object, key).and_then(parse_text)
}

/// The object with another value of a member.
fn with_member(object: &Members<'_>, key: &str, value: &str) -> String {
    let mut json = JsonWriter::new();
    json.object(|json| {
        for (own, raw) in &object.0 {
            json.key(own).raw(if own == key { value } else { raw.get() });
        }
    });
    json.finish()
}

fn array(elements: &[String]) -> String {
    let mut json = JsonWriter::new();
    json.array(|json| elements.iter().for_each(|element| json.raw(element)));
    json.finish()
}

fn is_container(text: Option<Cow<'_, str>>) -> bool {
    text.is_some_and(|text| text.starts_with(CONTAINER))
}

/// Whether an item is the reasoning of another family.
fn is_foreign_item(item: &str) -> bool {
    Members::parse(item).is_some_and(|item| {
        text_member(&item, "type").as_deref() == Some("reasoning")
            && is_container(text_member(&item, "encrypted_content"))
    })
}

/// Whether a block holds the thoughts of another family.
fn is_foreign_block(block: &str) -> bool {
    Members::parse(block).is_some_and(|block| match text_member(&block, "type").as_deref() {
        Some("thinking") => is_container(text_member(&block, "signature")),
        Some("redacted_thinking") => is_container(text_member(&block, "data")),
        _ => false,
    })
}

fn own_messages(json: &str) -> Option<String> {
    with_list(json, "messages", |messages| {
        let changed: Vec<Option<String>> = messages.iter().map(|one| own_message(one)).collect();
        changed.iter().any(Option::is_some).then(|| {
            let pairs = changed.into_iter().zip(messages);
            let all = pairs.map(|(own, old)| own.unwrap_or_else(|| (*old).to_owned()));
            all.filter(|message| !message.is_empty()).collect()
        })
    })
}

/// The message without foreign thoughts, empty if it holds nothing else; `None` if it has none.
fn own_message(message: &str) -> Option<String> {
    if !message.contains(CONTAINER) {
        return None;
    }
    let message = Members::parse(message)?;
    let blocks = kept(&parse_array(member(&message, "content")?)?, |one| !is_foreign_block(one))?;
    if blocks.is_empty() {
        return Some(String::new());
    }
    Some(with_member(&message, "content", &array(&blocks)))
}

/// What the model said, without the members that are refused; ids of calls that are refused are replaced.
fn own_chat_message(raw: &str, FamilyRules { reasoning, ids }: FamilyRules) -> String {
    let refused = reasoning.refused();
    let unchanged = || raw.to_owned();
    let Some(message) = Members::parse(raw) else { return unchanged() };
    let fitting = |object: &Members<'_>, key: &str| {
        let id = text_member(object, key).filter(|id| ids.is_exact() && !ids.takes(id))?;
        let mut json = JsonWriter::new();
        json.string(&ids.fitting(&id));
        Some(json.finish())
    };
    match text_member(&message, "role").as_deref() {
        Some("assistant") => {}
        Some("tool") => {
            let id = fitting(&message, "tool_call_id");
            return id.map_or_else(unchanged, |id| with_member(&message, "tool_call_id", &id));
        }
        _ => return unchanged(),
    }
    let own_call = |raw: &&str| {
        let Some(call) = Members::parse(raw) else { return (*raw).to_owned() };
        let id = fitting(&call, "id");
        write_without(&call, refused, id.as_deref().map(|id| ("id", id)))
            .unwrap_or_else(|| (*raw).to_owned())
    };
    let calls = member(&message, "tool_calls")
        .and_then(parse_array)
        .map(|calls| array(&calls.iter().map(own_call).collect::<Vec<_>>()));
    let calls = calls.filter(|calls| Some(&**calls) != member(&message, "tool_calls"));
    write_without(&message, refused, calls.as_deref().map(|calls| ("tool_calls", calls)))
        .unwrap_or_else(unchanged)
}

/// The object without members, and with another value of one; `None` if it stays as it is.
fn write_without(
    object: &Members<'_>,
    refused: &[&str],
    replaced: Option<(&str, &str)>,
) -> Option<String> {
    let is_refused = |key: &str| refused.contains(&key);
    if replaced.is_none() && !object.0.iter().any(|(key, _)| is_refused(key)) {
        return None;
    }
    let mut json = JsonWriter::new();
    json.object(|json| {
        for (key, raw) in object.0.iter().filter(|(key, _)| !is_refused(key)) {
            let value = replaced.filter(|(own, _)| own == key).map_or(raw.get(), |(_, raw)| raw);
            json.key(key).raw(value);
        }
    });
    Some(json.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(reasoning: ChatReasoning, ids: IdRule) -> FamilyRules {
        FamilyRules { reasoning, ids }
    }

    /// What is left of a body in which something was found.
    fn left(json: &str, format: Format, rules: FamilyRules) -> Option<String> {
        let own = without_foreign(json, format, rules, &mut Dropped::new(true)).unwrap();
        assert!(own.is_none() || may_hold_foreign(json, format, rules), "{json}");
        own
    }

    #[test]
    fn items_of_other_families_go() {
        let rules = rules(ChatReasoning::None, IdRule::of(Format::Responses));
        let json = r#"{"model": "m","input": [{"role":"user", "content":"a"},{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"tollgate.1.google.signature.Yw.x"},
            {"type":"reasoning","id":"rs_2","summary":[],"encrypted_content":"gAAA"},{"type":"function_call","arguments":"{\"a\":1.50}"}],"x":1.50}"#;
        let expected = r#"{"model":"m","input":[{"role":"user", "content":"a"},{"type":"reasoning","id":"rs_2","summary":[],"encrypted_content":"gAAA"},{"type":"function_call","arguments":"{\"a\":1.50}"}],"x":1.50}"#;
        assert_eq!(left(json, Format::Responses, rules).unwrap(), expected);
        for other in
            [expected, r#"{"input":"tollgate.1."}"#, r#"{"input":[3,"tollgate.1."]}"#, "{}"]
        {
            assert_eq!(left(other, Format::Responses, rules), None, "{other}");
        }
    }

    #[test]
    fn thoughts_of_other_families_go() {
        let rules = rules(ChatReasoning::None, IdRule::of(Format::Messages));
        let json = r#"{"messages":[{"role":"user","content":"tollgate.1."},
            {"role":"assistant","content":[{"type":"thinking","thinking":"w","signature":"tollgate.1.none"},{"type":"text", "text":"a"}]},
            {"role":"assistant","content":[{"type":"redacted_thinking","data":"tollgate.1.bedrock.redacted..x"}]},
            {"role":"assistant","content":[{"type":"thinking","thinking":"w","signature":"EuY="}]}],"n":1.50}"#;
        let expected = concat!(
            r#"{"messages":[{"role":"user","content":"tollgate.1."},"#,
            r#"{"role":"assistant","content":[{"type":"text", "text":"a"}]},"#,
            r#"{"role":"assistant","content":[{"type":"thinking","thinking":"w","signature":"EuY="}]}],"n":1.50}"#
        );
        assert_eq!(left(json, Format::Messages, rules).as_deref(), Some(expected));
        assert_eq!(left(expected, Format::Messages, rules), None);
    }

    #[test]
    fn a_turn_that_lost_its_thoughts_goes_on_without_any() {
        let body = |first: &str, thinking: &str| {
            format!(
                r#"{{"thinking":{thinking},"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":[{first}{{"type":"tool_use","id":"a"}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"a"}}]}}]}}"#
            )
        };
        let rules = rules(ChatReasoning::None, IdRule::of(Format::Messages));
        let foreign = r#"{"type":"thinking","thinking":"w","signature":"tollgate.1.none"},"#;
        let own = r#"{"type":"thinking","thinking":"w","signature":"EuY="},"#;
        let budget = r#"{"type":"enabled","budget_tokens":2000}"#;
        let run = |json: &str, is_strict| {
            let mut dropped = Dropped::new(is_strict);
            let own = without_foreign(json, Format::Messages, rules, &mut dropped);
            own.map(|own| (own, dropped.fields().to_vec()))
        };
        let (left, dropped) = run(&body(foreign, budget), false).unwrap();
        assert_eq!(
            left.unwrap(),
            body("", budget).replace(&format!(r#""thinking":{budget},"#), "")
        );
        assert_eq!(dropped, ["thinking"]);
        assert!(run(&body(foreign, budget), true).is_err());
        // Its own thoughts come at the beginning, or none are asked for within a budget.
        for (first, thinking, expected) in [
            ([foreign, own].concat(), budget, body(own, budget)),
            (foreign.to_owned(), r#"{"type":"adaptive"}"#, body("", r#"{"type":"adaptive"}"#)),
        ] {
            let (left, dropped) = run(&body(&first, thinking), true).unwrap();
            assert_eq!((left, dropped.len()), (Some(expected), 0));
        }
        // A question of the caller's is a new turn.
        let json = body(foreign, budget).replace(
            r#""content":[{"type":"tool_result","tool_use_id":"a"}]"#,
            r#""content":"next""#,
        );
        let (left, dropped) = run(&json, true).unwrap();
        assert!(left.unwrap().contains("budget_tokens") && dropped.is_empty());
    }

    #[test]
    fn chats_lose_what_their_provider_does_not_know() {
        let call = r#"{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{}}}"#;
        let message = format!(
            r#"{{"role":"assistant","content":null,"reasoning_content":"w","reasoning_details":[{{}}],"tool_calls":[{call}]}}"#
        );
        let result = r#"{"role":"tool","tool_call_id":"call_1","content":"r"}"#;
        let body = |message: &str, result: &str| {
            format!(
                r#"{{"messages":[{{"role":"user","content":"reasoning"}},{message},{result}]}}"#
            )
        };
        let json = body(&message, result);
        let plain = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]}"#;
        let usual = IdRule::of(Format::Chat);
        let none = rules(ChatReasoning::None, usual);
        assert_eq!(left(&json, Format::Chat, none).unwrap(), body(plain, result));
        assert_eq!(left(&body(plain, result), Format::Chat, none), None);
        let text = left(&json, Format::Chat, rules(ChatReasoning::Text, usual)).unwrap();
        assert!(text.contains("reasoning_content") && !text.contains("details"), "{text}");
        for other in [ChatReasoning::Details, ChatReasoning::Unknown] {
            assert_eq!(left(&json, Format::Chat, rules(other, usual)), None);
        }
        let mistral = rules(ChatReasoning::None, IdRule::MISTRAL);
        let own = left(&json, Format::Chat, mistral).unwrap();
        let id = IdRule::MISTRAL.fitting("call_1");
        let with_id = |text: &str| text.replace("call_1", &id);
        assert_eq!(own, body(&with_id(plain), &with_id(result)));
        assert_eq!(left(&own, Format::Chat, mistral), None);
    }
}
