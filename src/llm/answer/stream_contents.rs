//! What the events of a stream say, read as they pass.

use super::ObservedAnswer;
use super::event::{Event, EventContent, LongEvent};
use super::partial_event::PartialEvent;
use super::search_calls::SearchCalls;
use crate::llm::format::Format;
use crate::llm::sse::{Block, BlockKind};
use crate::llm::text_sample::TextSampler;
use crate::llm::usage::ReportedUsage;

/// A stream's first event names the model; if none of the first few does, none will.
const EVENTS_WITH_MODEL: u64 = 4;

/// What the events so far say.
#[derive(Debug)]
pub(super) struct StreamContents {
    pub(super) format: Format,
    pub(super) observed: ObservedAnswer,
    pub(super) events: u64,
    pub(super) is_terminal: bool,
    /// A bit for each choice that has begun and not ended, where choices end one by one.
    open_choices: u64,
    searches: SearchCalls,
    /// What has been relayed since the last report of usage.
    pub(super) text: TextSampler,
    /// Whether the model has written anything: text, reasoning, or a call of a tool.
    pub(super) has_written: bool,
}

impl StreamContents {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            observed: ObservedAnswer::default(),
            events: 0,
            is_terminal: false,
            open_choices: 0,
            searches: SearchCalls::default(),
            text: TextSampler::default(),
            has_written: false,
        }
    }

    /// Reads a block; whether it is the usage event.
    pub(super) fn read(&mut self, block: &Block<'_>, partial: Option<&PartialEvent>) -> bool {
        if matches!(block.kind, BlockKind::Filler | BlockKind::LineFeed) {
            return false;
        }
        let name = block.event;
        match (block.kind, partial) {
            (BlockKind::TooLong, Some(event)) => {
                let length = block.range.end - block.range.start;
                self.read_long_event(LongEvent { name, members: event.members(), length })
            }
            _ => self.read_event(name, block.data.unwrap_or_default().trim_ascii()),
        }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Reads an event; whether it is the usage event.
    pub(super) fn read_event(&mut self, name: &str, data: &[u8]) -> bool {
        self.events += 1;
        let wants_model = self.observed.model.is_none() && self.events <= EVENTS_WITH_MODEL;
        let event = Event { name, data, wants_model };
        let content = self.format.read_event(event, &mut self.text);
        self.has_written |= !self.text.is_empty();
        self.add(content)
    }

    /// The same for an event that was too long to be kept.
    pub(super) fn read_long_event(&mut self, event: LongEvent<'_>) -> bool {
        self.events += 1;
        let content = self.format.read_long_event(event, &mut self.text);
        self.has_written |= !self.text.is_empty();
        self.add(content)
    }

    /// Takes in what an event says; whether it is the usage event.
    fn add(&mut self, content: EventContent) -> bool {
        self.open_choices = (self.open_choices | content.open_choices) & !content.ended_choices;
        self.is_terminal = (self.is_terminal || content.is_terminal) && self.open_choices == 0;
        if content.is_terminal && self.format.begins_with_usage() && !self.text.is_empty() {
            // What the beginning of the message says of its output is no count of it.
            self.observed.usage.iter_mut().for_each(|usage| usage.counts.output = None);
        }
        let is_answer = content.is_answer || content.usage.is_some();
        self.observed.content.add(is_answer, content.is_error);
        if let Some(reported) = content.usage {
            self.add_usage(reported);
        }
        if self.observed.model.is_none() {
            self.observed.model = content.model;
        }
        if !content.searches.is_empty() {
            content.searches.into_iter().for_each(|call| self.searches.note(call));
            self.observed.calls = self.searches.count();
        }
        if self.observed.response_id.is_none() {
            self.observed.response_id = content.response_id;
        }
        content.is_usage_event
    }

    fn add_usage(&mut self, reported: ReportedUsage) {
        let usage = &mut self.observed.usage;
        *usage = Some(usage.unwrap_or_default().updated(reported));
        if reported.counts.output.is_some() {
            self.text.clear();
        }
    }
}
