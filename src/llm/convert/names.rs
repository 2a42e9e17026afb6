//! Names of tools that the target would refuse. They are replaced by names that follow from them, and put
//! back in the answer.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::request::{Block, Request, ToolChoice};
use crate::llm::format::Format;

/// Bytes of the digest in a replaced name, as two digits each.
const DIGEST_BYTES: usize = 5;

/// The replaced names of one request, with the caller's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolNames(BTreeMap<String, String>);

impl ToolNames {
    /// Replaces the names in the request that the target's format does not take.
    pub(super) fn fit(request: &mut Request<'_>, to: Format) -> Self {
        let mut names = Self::default();
        for tool in &mut request.tools {
            names.fit_one(&mut tool.name, to);
        }
        match request.tool_choice.as_mut().map(|choice| &mut choice.value) {
            Some(ToolChoice::Tool(name)) => names.fit_one(name, to),
            Some(ToolChoice::Allowed { names: allowed, .. }) => {
                allowed.iter_mut().for_each(|name| names.fit_one(name, to));
            }
            _ => {}
        }
        for block in request.turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
            match block {
                Block::ToolCall(call) => names.fit_one(&mut call.name, to),
                Block::ToolResult(result) => {
                    if let Some(name) = &mut result.name {
                        names.fit_one(name, to);
                    }
                }
                _ => {}
            }
        }
        names
    }

    /// The caller's name for a tool that the target calls so.
    pub fn original<'n>(&'n self, name: &'n str) -> &'n str {
        self.0.get(name).map_or(name, String::as_str)
    }

    fn fit_one(&mut self, name: &mut Cow<'_, str>, to: Format) {
        if is_taken(name, to) {
            return;
        }
        let fitting = fitting(name, to);
        self.0.insert(fitting.clone(), name.to_string());
        *name = Cow::Owned(fitting);
    }
}

/// The longest name, in characters: OpenAI, "Function calling"; Anthropic, "Define tools"; Google,
/// `FunctionDeclaration`; AWS, `ToolSpecification`.
fn longest(to: Format) -> usize {
    match to {
        Format::Messages | Format::Gemini => 128,
        _ => 64,
    }
}

fn is_allowed(character: char, to: Format) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(character, '_' | '-')
        || (to == Format::Gemini && matches!(character, '.' | ':'))
}

fn is_taken(name: &str, to: Format) -> bool {
    let begins_well = to != Format::Gemini
        || name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    (1..=longest(to)).contains(&name.len())
        && begins_well
        && name.chars().all(|character| is_allowed(character, to))
}

/// A name that the format takes and that no other name becomes.
fn fitting(name: &str, to: Format) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let room = longest(to) - 2 * DIGEST_BYTES - 1;
    let mut fitting: String = name
        .chars()
        .take(room - 1)
        .map(|character| if is_allowed(character, to) { character } else { '_' })
        .collect();
    if !fitting.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        fitting.insert(0, '_');
    }
    fitting.push('_');
    for byte in digest.iter().take(DIGEST_BYTES) {
        fitting.push_str(&format!("{byte:02x}"));
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::super::request::{Named, Role, Tool, ToolCall, Turn};
    use super::*;

    fn tool(name: &str) -> Tool<'_> {
        Tool { name: name.into(), description: None, parameters: None, strict: None, cache: None }
    }

    #[test]
    fn names_that_do_not_fit_are_replaced_everywhere_and_put_back() {
        let long = "x".repeat(65);
        let call = ToolCall {
            id: "a".into(),
            name: "get.weather".into(),
            arguments: "{}".into(),
            opaque: Vec::new(),
            cache: None,
        };
        let mut request = Request {
            tools: ["get.weather", "get_weather", &long, "büro", "ok-1"].map(tool).to_vec(),
            tool_choice: Some(Named::new("tool_choice", ToolChoice::Tool("get.weather".into()))),
            turns: vec![Turn { role: Role::Assistant, blocks: vec![Block::ToolCall(call)] }],
            ..Request::default()
        };
        let names = ToolNames::fit(&mut request, Format::Chat);
        let sent: Vec<String> = request.tools.iter().map(|tool| tool.name.to_string()).collect();
        assert!(sent.iter().all(|name| is_taken(name, Format::Chat)), "{sent:?}");
        assert_eq!((sent[1].as_str(), sent[4].as_str()), ("get_weather", "ok-1"));
        assert_ne!(sent[0], sent[1]);
        let back: Vec<&str> = sent.iter().map(|name| names.original(name)).collect();
        assert_eq!(back, ["get.weather", "get_weather", &long, "büro", "ok-1"]);
        assert_eq!(request.tool_choice.unwrap().value, ToolChoice::Tool(sent[0].clone().into()));
        let Block::ToolCall(call) = &request.turns[0].blocks[0] else { panic!() };
        assert_eq!(call.name, sent[0]);
    }

    #[test]
    fn formats_differ_in_what_they_take() {
        for (name, format, expected) in [
            ("a.b:c", Format::Gemini, true),
            ("a.b", Format::Messages, false),
            ("1a", Format::Gemini, false),
            ("1a", Format::Chat, true),
            ("", Format::Chat, false),
        ] {
            assert_eq!(is_taken(name, format), expected, "{name}");
            assert!(is_taken(&fitting(name, format), format), "{name}");
        }
        let long = "x".repeat(128);
        assert!(is_taken(&long, Format::Messages) && !is_taken(&long, Format::Converse));
        assert!(is_taken(&fitting(&long, Format::Converse), Format::Converse));
    }
}
