//! The parts of a streamed answer. Each is an answer of its own, with what has come of each candidate
//! since the part before, and with the usage so far. There is no mark at the end: a stream is complete
//! when every candidate that has begun has a reason for its end, or when the prompt was blocked.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::parse_usage;
use crate::llm::answer::event::{Event, EventContent, LongEvent, is_error};
use crate::llm::answer::members::parse_object;
use crate::llm::text_sample::TextSampler;
use crate::llm::usage::model_name;

/// The last candidate that is distinguished from others; Google's API has at most 8.
const LAST_CANDIDATE: u32 = u64::BITS - 1;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow)]
    candidates: Option<&'a RawValue>,
    usage_metadata: Option<&'a RawValue>,
    model_version: Option<&'a RawValue>,
    prompt_feedback: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    finish_reason: Option<&'a RawValue>,
    index: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<&'a RawValue>,
}

/// What a model can write.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Written<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    function_call: Option<&'a RawValue>,
    executable_code: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PromptFeedback<'a> {
    #[serde(borrow)]
    block_reason: Option<&'a RawValue>,
}

pub(in crate::llm) fn read_event(event: Event<'_>, text: &mut TextSampler) -> EventContent {
    let Some(part) = parse_object::<Part<'_>>(event.data) else { return EventContent::default() };
    let mut content = EventContent {
        is_error: part.error.is_some_and(|raw| is_error(raw.get().bytes())),
        usage: part.usage_metadata.and_then(|raw| parse_usage(raw.get())),
        model: part.model_version.and_then(|raw| model_name(raw.get())),
        ..EventContent::default()
    };
    for candidate in elements(part.candidates) {
        content.is_answer = true;
        read_candidate(candidate, &mut content, text);
    }
    let feedback = object::<PromptFeedback<'_>>(part.prompt_feedback);
    content.is_terminal = content.ended_choices > 0 || is_reason(feedback.block_reason);
    if !content.is_terminal {
        // An output of nothing is not reported, so a part may seem to say that there is none yet.
        content.usage.iter_mut().for_each(|usage| {
            usage.counts.output = usage.counts.output.filter(|output| *output > 0);
        });
    }
    content
}

fn read_candidate(raw: &RawValue, content: &mut EventContent, text: &mut TextSampler) {
    let candidate = object::<Candidate<'_>>(Some(raw));
    let index = candidate.index.and_then(|raw| raw.get().parse::<u32>().ok()).unwrap_or(0);
    let choice = 1 << index.min(LAST_CANDIDATE);
    if is_reason(candidate.finish_reason) {
        content.ended_choices |= choice;
    } else if candidate.content.is_some() {
        content.open_choices |= choice;
    }
    for part in elements(object::<Content<'_>>(candidate.content).parts) {
        let Written { text: written, function_call, executable_code } = object(Some(part));
        let written = written.map(|raw| inside(raw.get()));
        let others = [function_call, executable_code].into_iter().flatten().map(RawValue::get);
        written.into_iter().chain(others).for_each(|part| text.take(part.as_bytes()));
    }
}

/// The same for a part that was too long to be kept, as those with images are. It tells whether some
/// candidate has ended, and not which.
pub(in crate::llm) fn read_long_event(
    event: LongEvent<'_>,
    text: &mut TextSampler,
) -> EventContent {
    let LongEvent { members, length, .. } = event;
    let is_answer = members.choices.beginning().next().is_some();
    let is_terminal = is_answer && members.has_end_key();
    if is_answer {
        text.count_unseen(length);
    }
    let mut content = EventContent {
        is_terminal,
        is_answer,
        open_choices: u64::from(is_answer && !is_terminal),
        ended_choices: if is_terminal { u64::MAX } else { 0 },
        ..EventContent::default()
    };
    content.add_members(members, parse_usage);
    content
}

/// Whether it is the name of a reason.
fn is_reason(raw: Option<&RawValue>) -> bool {
    raw.is_some_and(|raw| {
        let name = inside(raw.get());
        !matches!(name, "" | "null" | "0") && !name.ends_with("_UNSPECIFIED")
    })
}

/// A string without its quotes; anything else as it is.
fn inside(raw: &str) -> &str {
    raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw)
}

fn object<'a, T: Default + Deserialize<'a>>(raw: Option<&'a RawValue>) -> T {
    raw.and_then(|raw| parse_object(raw.get().as_bytes())).unwrap_or_default()
}

fn elements(raw: Option<&RawValue>) -> Vec<&RawValue> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}
