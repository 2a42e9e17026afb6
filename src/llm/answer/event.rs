//! What the gateway reads out of one event of a stream, whatever its format, and the searches that
//! formats share. Every event of every stream comes by here, so most are searched and not parsed.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::members::parse_object;
use super::search_calls::SearchCall;
use crate::json::scanner::TopLevelScanner;
use crate::json::strings::after_colon;
use crate::llm::usage::{ReportedUsage, model_name};

/// An event that was kept whole.
#[derive(Debug, Clone, Copy)]
pub(in crate::llm) struct Event<'a> {
    /// The `event` field, or nothing.
    pub(in crate::llm) name: &'a str,
    /// Its data without blanks around it.
    pub(in crate::llm) data: &'a [u8],
    /// Whether the model that answers is not known yet.
    pub(in crate::llm) wants_model: bool,
}

/// An event that was too long to be kept.
#[derive(Debug, Clone, Copy)]
pub(in crate::llm) struct LongEvent<'a> {
    /// The `event` field, or nothing.
    pub(in crate::llm) name: &'a str,
    /// What was read of it as it passed.
    pub(in crate::llm) members: &'a TopLevelScanner,
    /// Its length in bytes.
    pub(in crate::llm) length: u64,
}

/// What an event says.
#[derive(Debug, Default)]
pub(in crate::llm) struct EventContent {
    /// It ends the stream.
    pub(in crate::llm) is_terminal: bool,
    pub(in crate::llm) is_answer: bool,
    pub(in crate::llm) is_error: bool,
    /// A bit for each choice that it is a part of, and that goes on after it, where choices end one by
    /// one.
    pub(in crate::llm) open_choices: u64,
    /// A bit for each choice that it ends.
    pub(in crate::llm) ended_choices: u64,
    /// It was added because usage was asked for.
    pub(in crate::llm) is_usage_event: bool,
    pub(in crate::llm) usage: Option<ReportedUsage>,
    pub(in crate::llm) model: Option<String>,
    pub(in crate::llm) response_id: Option<String>,
    /// Calls of OpenAI's tools that it shows as ended.
    pub(in crate::llm) searches: Vec<SearchCall>,
}

impl EventContent {
    /// Adds what the members of a long event, or of the answer in it, say of an error, usage and model.
    pub(in crate::llm) fn add_members(
        &mut self,
        members: &TopLevelScanner,
        parse_usage: fn(&str) -> Option<ReportedUsage>,
    ) {
        self.is_error |= is_error(members.error.beginning());
        self.usage = members.usage.value().and_then(parse_usage).or(self.usage);
        let model = || members.model.value().and_then(model_name);
        self.model = self.model.take().or_else(model);
    }
}

/// Whether the text holds a key `usage` with an object, at whatever level. Streams with usage asked
/// for say `"usage":null` in every other event.
pub(in crate::llm) fn mentions_usage(data: &[u8]) -> bool {
    static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
    KEY.find_iter(data).any(|at| {
        let after = data.get(at + 7..).and_then(after_colon);
        after.is_some_and(|value| value.trim_ascii_start().starts_with(b"{"))
    })
}

/// Whether the text holds `error` as a key or as a value, at whatever level.
pub(in crate::llm) fn mentions_error(data: &[u8]) -> bool {
    static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
    ERROR.find(data).is_some()
}

/// What follows the key `delta` and its colon. The key can't be part of a string, in which its quotes
/// would be escaped.
pub(in crate::llm) fn after_delta(data: &[u8]) -> Option<&[u8]> {
    static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\""));
    let mut rest = data;
    loop {
        let at = DELTA.find(rest)?;
        rest = rest.get(at + DELTA.needle().len()..)?;
        if let Some(value) = after_colon(rest) {
            return Some(value.trim_ascii_start());
        }
    }
}

/// Whether the raw value of a member `error` says that there is one, by its first two characters that
/// are not blank.
pub(in crate::llm) fn is_error(value: impl IntoIterator<Item = u8>) -> bool {
    let mut characters = value.into_iter().filter(|byte| !byte.is_ascii_whitespace());
    match (characters.next(), characters.next()) {
        (None | Some(b'n' | b'f' | b'0'), _) => false,
        (Some(b'{'), second) => second != Some(b'}'),
        (Some(b'['), second) => second != Some(b']'),
        (Some(b'"'), second) => second != Some(b'"'),
        _ => true,
    }
}

/// The members of an event that has a name, in `event` or in `type`: those that formats share, and the
/// answer that some events carry.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::llm) struct NamedEvent<'a> {
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
    usage: Option<&'a RawValue>,
    model: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    /// The answer, in responses.
    response: Option<&'a RawValue>,
    /// The answer, in messages.
    message: Option<&'a RawValue>,
    /// A part of the answer as it begins, in messages.
    pub(in crate::llm) content_block: Option<&'a RawValue>,
}

impl<'a> NamedEvent<'a> {
    /// The name: that of the `event` field, if there is one.
    pub(in crate::llm) fn name<'n>(&self, field: &'n str) -> &'n str
    where
        'a: 'n,
    {
        named(field, self.r#type.map(RawValue::get))
    }

    /// Adds what the event and the answer in it say of an error, usage and model, and the id of an answer
    /// in `response`.
    pub(in crate::llm) fn add_to(
        self,
        content: &mut EventContent,
        parse_usage: fn(&str) -> Option<ReportedUsage>,
    ) {
        let answer = self.response.or(self.message);
        let answer: Option<Self> = answer.and_then(|raw| parse_object(raw.get().as_bytes()));
        if self.response.is_some() {
            let id = answer.as_ref().and_then(|answer| answer.id);
            content.response_id = id.and_then(|raw| model_name(raw.get()));
        }
        for part in [Some(self), answer].into_iter().flatten() {
            content.is_error |= part.error.is_some_and(|raw| is_error(raw.get().bytes()));
            let usage = part.usage.and_then(|raw| parse_usage(raw.get()));
            content.usage = usage.or(content.usage);
            let model = || part.model.and_then(|raw| model_name(raw.get()));
            content.model = content.model.take().or_else(model);
        }
    }
}

/// The name of an event: of its `event` field, or else of its `type`, as raw JSON.
pub(in crate::llm) fn named<'n>(field: &'n str, kind: Option<&'n str>) -> &'n str {
    let kind = kind.map(|raw| raw.trim_matches('"'));
    kind.filter(|_| field.is_empty()).unwrap_or(field)
}
