//! A request as its provider reads it, in a form that all formats have in common.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

use super::{Speaks, shape::Checked};

#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) system: Vec<String>,
    pub(super) tools: Vec<ToolSeen>,
    /// The sides take turns.
    pub(super) turns: Vec<Turn>,
    pub(super) is_stream: bool,
}

#[derive(Debug)]
pub(super) struct ToolSeen {
    pub(super) name: String,
    pub(super) schema: Value,
}

#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) is_model: bool,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Text {
        text: String,
        proof: Option<String>,
    },
    Image(String),
    /// A thought with its text, and what signs or stands for it.
    Thought {
        text: String,
        proof: Option<String>,
    },
    Call {
        id: Option<String>,
        name: String,
        arguments: Value,
        proof: Option<String>,
    },
    Result {
        id: Option<String>,
        name: Option<String>,
        text: String,
        image: Option<String>,
        is_error: Option<bool>,
    },
}

/// Adds a part to the last turn of this side, or begins one.
pub(super) fn push(turns: &mut Vec<Turn>, is_model: bool, part: Part) {
    match turns.last_mut() {
        Some(turn) if turn.is_model == is_model => turn.parts.push(part),
        _ => turns.push(Turn { is_model, parts: vec![part] }),
    }
}

/// The beginning of the prompt, which a provider's cache compares byte for byte.
#[derive(Clone, Debug)]
pub(super) struct Prefix {
    /// Tools and instructions.
    fixed: String,
    /// The list of messages.
    growing: String,
    /// How much is to be thought: Anthropic's cache of the messages misses if it changes.
    thinking: String,
}

impl Prefix {
    pub(super) fn of(body: &str, speaks: Speaks) -> Checked<Self> {
        let members: BTreeMap<&str, &RawValue> =
            serde_json::from_str(body).map_err(|error| format!("the body is no JSON: {error}"))?;
        let raw = |key| members.get(key).map_or("", |raw| raw.get());
        let (fixed, growing) = match speaks {
            Speaks::Chat(_) => (["tools", "response_format"], "messages"),
            Speaks::Responses => (["tools", "instructions"], "input"),
            Speaks::Messages | Speaks::Invoke => (["tools", "system"], "messages"),
            Speaks::Gemini => (["tools", "systemInstruction"], "contents"),
            Speaks::Converse => (["toolConfig", "system"], "messages"),
        };
        let thinking = raw("thinking").to_owned();
        Ok(Self { fixed: fixed.map(raw).concat(), growing: raw(growing).to_owned(), thinking })
    }

    /// `is_own`: all thoughts so far are the model's own, and are there.
    pub(super) fn continues(&self, before: &Self, is_own: bool) -> Checked<()> {
        if is_own && self.thinking != before.thinking {
            return Err(format!("the cache misses: {} was {}", self.thinking, before.thinking));
        }
        if self.fixed != before.fixed {
            return Err(format!("the cache misses: {} was {}", self.fixed, before.fixed));
        }
        let beginning = before.growing.trim_end_matches(']');
        if self.growing.starts_with(beginning) {
            return Ok(());
        }
        let same =
            beginning.bytes().zip(self.growing.bytes()).take_while(|(one, other)| one == other);
        let at = same.count();
        let shown = |text: &str| {
            String::from_utf8_lossy(&text.as_bytes()[at.min(text.len())..]).into_owned()
        };
        Err(format!(
            "the cache misses after {at} bytes: {}\n  was: {}",
            shown(&self.growing),
            shown(beginning)
        ))
    }
}
