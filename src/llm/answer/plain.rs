//! Plain answers: one JSON object.

use super::event::is_error;
use super::members::{MODEL_BYTES, STATE_BYTES, USAGE_BYTES};
use super::plain_contents::PlainContents;
use super::search_calls::OutputItems;
use super::{AnswerContent, ObservedAnswer};
use crate::domain::pricing::ToolCalls;
use crate::json::scanner::{Keep, Member, TopLevelScanner};
use crate::llm::format::Format;
use crate::llm::text_sample::{BodyBeginning, TextSample};
use crate::llm::usage::{ReportedUsage, model_name};

/// How much of an answer's id is kept: only those of responses are used.
pub(super) fn id_bytes(format: Format) -> usize {
    if format == Format::Responses { 300 } else { 0 }
}

/// Reads a plain answer while it passes. Keeps nothing of it but its usage and its model, and, for an
/// estimate, its beginning, as long as no usage has been reported.
#[derive(Debug)]
pub struct PlainAnswer {
    format: Format,
    scanner: Box<TopLevelScanner>,
    beginning: BodyBeginning,
    /// Set once the usage has passed.
    usage: Option<Option<ReportedUsage>>,
    /// Of OpenAI's responses: the items of their output, for calls of tools that have a fee.
    items: Option<Box<OutputItems>>,
}

impl PlainAnswer {
    /// At the beginning of an answer.
    pub fn new(format: Format) -> Self {
        let keep = Keep {
            names: format.member_names(),
            usage: USAGE_BYTES,
            model: MODEL_BYTES,
            id: id_bytes(format),
            choices: STATE_BYTES,
            kind: 0,
            state: STATE_BYTES,
            response: false,
        };
        Self {
            format,
            scanner: Box::new(TopLevelScanner::new(keep)),
            beginning: BodyBeginning::default(),
            usage: None,
            items: (format == Format::Responses).then(|| Box::new(OutputItems::new())),
        }
    }

    /// With the usage that was reported outside of the answer.
    pub fn with_usage(mut self, usage: Option<ReportedUsage>) -> Self {
        self.usage = usage.map(Some);
        self
    }

    /// Takes the next chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        match &mut self.items {
            Some(items) => self.scanner.feed_with(chunk, &mut |part| items.feed(part)),
            None => self.scanner.feed(chunk),
        }
        if self.usage.is_none()
            && let Some(raw) = self.scanner.usage.value()
        {
            self.usage = Some(self.format.parse_usage(raw));
        }
        if !self.is_silent() {
            self.beginning.clear();
        } else if self.format.writes_text() {
            self.beginning.take(chunk);
        }
    }

    /// The text to estimate the output from; empty when the output has been reported, or when there is
    /// none. Handed over: later calls give nothing.
    pub fn take_text(&mut self) -> TextSample {
        // What is not read, or not kept, is counted by its length.
        let is_unread = self.format == Format::Invoke || !self.beginning.is_whole();
        let has_text = match self.content() {
            AnswerContent::Nothing => false,
            AnswerContent::Pending => true,
            AnswerContent::Error => self.beginning.has_generated_text(),
            AnswerContent::Answer => is_unread || self.beginning.has_generated_text(),
        };
        if self.reports_output() || !has_text {
            TextSample::default()
        } else {
            self.beginning.sample()
        }
    }

    /// What has been read so far.
    pub fn observed(&self) -> ObservedAnswer {
        ObservedAnswer {
            usage: self.usage(),
            model: self.scanner.model.value().and_then(model_name),
            content: self.content(),
            calls: self.items.as_deref().map_or(ToolCalls::NONE, OutputItems::count),
            response_id: self.scanner.id.value().and_then(model_name),
        }
    }

    fn usage(&self) -> Option<ReportedUsage> {
        self.usage.flatten()
    }

    fn reports_output(&self) -> bool {
        self.usage().is_some_and(|usage| usage.counts.output.is_some())
    }

    /// Whether no output was reported, or none was used.
    fn is_silent(&self) -> bool {
        self.usage().is_none_or(|usage| usage.counts.output.is_none_or(|output| output == 0))
    }

    /// What the answer has inside, if all of it is there and can be read.
    fn contents(&self) -> Option<PlainContents> {
        let is_readable = self.format.writes_text()
            && self.format != Format::Invoke
            && self.beginning.is_whole()
            && self.is_silent();
        let read = || PlainContents::read(self.beginning.kept(), self.format.member_names()).ok();
        is_readable.then(read).flatten()
    }

    fn content(&self) -> AnswerContent {
        let begins_with = |member: &Member, first| member.beginning().next() == Some(first);
        let is_filled = |member: &Member| {
            begins_with(member, b'[') && member.beginning().nth(1).is_some_and(|next| next != b']')
        };
        let scanner = &self.scanner;
        if is_error(scanner.error.beginning()) {
            return AnswerContent::Error;
        }
        let contents = self.contents();
        // A response that has failed may have no error.
        let has_failed = self.format == Format::Responses
            && self.is_silent()
            && scanner.status.value() == Some(r#""failed""#);
        if has_failed || contents.is_some_and(|contents| contents.has_error) {
            return AnswerContent::Error;
        }
        if self.usage().is_some() {
            return AnswerContent::Answer;
        }
        if matches!(scanner.status.value(), Some(r#""queued""# | r#""in_progress""#)) {
            return AnswerContent::Pending;
        }
        if let Some(contents) = contents.filter(|contents| contents.has_container) {
            let is_written = contents.is_written;
            return if is_written { AnswerContent::Answer } else { AnswerContent::Nothing };
        }
        let is_vector = || !self.format.writes_text() && begins_with(&scanner.output, b'{');
        // In a format that is not read, anything is one.
        let is_unread = self.format == Format::Invoke && !self.beginning.is_empty();
        let is_answer = is_unread
            || is_filled(&scanner.choices)
            || is_filled(&scanner.output)
            || is_vector()
            || self.beginning.has_generated_text();
        if is_answer { AnswerContent::Answer } else { AnswerContent::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::text_sample::MAX_SAMPLE_BYTES;

    #[test]
    fn usage_of_a_long_answer_in_constant_memory() {
        let mut answer = PlainAnswer::new(Format::Chat);
        answer.push(br#"{"id":"1","model":"m","choices":[{"message":{"content":""#);
        for _ in 0..1000 {
            answer.push(&[b'x'; 1000]);
        }
        assert_eq!(answer.observed().usage, None);
        answer.push(br#""}}],"usage":{"prompt_tokens":3,"comple"#);
        answer.push(br#"tion_tokens":4}}"#);
        let observed = answer.observed();
        let usage = observed.usage.unwrap().counts;
        assert_eq!((usage.input, usage.output), (Some(3), Some(4)));
        assert_eq!(observed.model.as_deref(), Some("m"));
    }

    #[test]
    fn the_beginning_is_kept_until_the_usage_has_passed() {
        let mut answer = PlainAnswer::new(Format::Chat);
        answer.push(br#"{"choices":[{"message":{"content":"hello world"}}]"#);
        assert!(answer.beginning.capacity() > 0);
        answer.push(br#","usage":{"completion_tokens":3}}"#);
        assert_eq!(answer.beginning.capacity(), 0);
        assert!(answer.take_text().is_empty());

        let mut answer = PlainAnswer::new(Format::Chat);
        answer.push(br#"{"usage":{"completion_tokens":3},"choices":[]}"#);
        assert_eq!(answer.beginning.capacity(), 0, "never taken");

        for useless in [
            r#"{"usage":{},"choices":[{"text":"a"}]}"#,
            r#"{"usage":{"prompt_tokens":3},"choices":[{"text":"a"}]}"#,
        ] {
            let mut answer = PlainAnswer::new(Format::Chat);
            answer.push(useless.as_bytes());
            assert_eq!(answer.take_text().length(), useless.len() as u64);
        }

        let mut answer = PlainAnswer::new(Format::Chat);
        answer.push(br#"{"choices":[""#);
        for _ in 0..100 {
            answer.push(&[b'x'; 1000]);
        }
        answer.push(br#""],"usage":null}"#);
        assert!(answer.beginning.capacity() <= MAX_SAMPLE_BYTES);
        assert_eq!(answer.take_text().length(), 100_029);
        assert!(answer.take_text().is_empty());
    }

    #[test]
    fn errors_and_missing_answers_are_told_from_answers() {
        let text = r#"[{"message":{"content":"hi"}}]"#;
        for (body, content, is_relayed) in [
            (String::new(), AnswerContent::Nothing, false),
            ("{}".to_owned(), AnswerContent::Nothing, false),
            ("<html></html>".to_owned(), AnswerContent::Nothing, false),
            (
                r#"{"choices":[ ],"usage":null,"error":null}"#.to_owned(),
                AnswerContent::Nothing,
                false,
            ),
            (
                r#"{"base_resp":{"status_code":1008},"choices":null}"#.to_owned(),
                AnswerContent::Nothing,
                false,
            ),
            (
                r#"{"error":{"message":"overloaded","name":"e"}}"#.to_owned(),
                AnswerContent::Error,
                false,
            ),
            (r#"{"error":"overloaded"}"#.to_owned(), AnswerContent::Error, false),
            (
                r#"{"choices":[{"message":{"content":""}}],"error":{"a":1}}"#.to_owned(),
                AnswerContent::Error,
                false,
            ),
            (format!(r#"{{"choices":{text},"error":{{"code":502}}}}"#), AnswerContent::Error, true),
            (format!(r#"{{"error":null,"choices":{text}}}"#), AnswerContent::Answer, true),
            (format!(r#"{{"error":{{}},"choices":{text}}}"#), AnswerContent::Answer, true),
            (
                r#"{"choices":[{"message":{"content":""}}]}"#.to_owned(),
                AnswerContent::Nothing,
                false,
            ),
            (
                r#"{"choices":[{"message":{"content":null}}]}"#.to_owned(),
                AnswerContent::Nothing,
                false,
            ),
            (r#"{"choices":[{}]}"#.to_owned(), AnswerContent::Nothing, false),
            (r#"{"choices":[null]}"#.to_owned(), AnswerContent::Nothing, false),
            (
                r#"{"choices":[{"error":{"code":502},"message":{"content":""}}]}"#.to_owned(),
                AnswerContent::Error,
                false,
            ),
            (
                r#"{"choices":[{"error":{"code":502},"message":{"content":"hi"}}]}"#.to_owned(),
                AnswerContent::Error,
                true,
            ),
            (
                r#"{"choices":[{"error":{"a":1}}],"usage":{"prompt_tokens":3,"completion_tokens":0}}"#
                    .to_owned(),
                AnswerContent::Error,
                false,
            ),
            (
                r#"{"choices":[],"usage":{"prompt_tokens":3}}"#.to_owned(),
                AnswerContent::Answer,
                false,
            ),
            (r#"{"message":{"content":"hi"}}"#.to_owned(), AnswerContent::Answer, true),
            (
                r#"{"status":"queued","output":[],"usage":null}"#.to_owned(),
                AnswerContent::Pending,
                true,
            ),
        ] {
            for size in [1, 1000] {
                let mut answer = PlainAnswer::new(Format::Chat);
                body.as_bytes().chunks(size).for_each(|chunk| answer.push(chunk));
                assert_eq!(answer.observed().content, content, "{body}");
                assert_eq!(!answer.take_text().is_empty(), is_relayed, "{body}");
            }
        }
    }

    #[test]
    fn searches_of_responses_are_read_from_their_output() {
        let body = r#"{"id":"resp_1","tools":[{"type":"web_search"}],"output" : [
            {"type":"web_search_call","id":"ws_1","action":{"type":"search"}},
            {"action":{"type":"open_page"},"id":"ws_2","type":"web_search_call"},
            {"type":"file_search_call","id":"fs_1"},{"type":"message","content":[
            {"text":"}],\"web_search_call\""}]}],"x":[{"type":"web_search_call","id":"ws_3"}]}"#;
        let found = ToolCalls { web_searches: 1, file_searches: 1 };
        for (format, calls) in [(Format::Responses, found), (Format::Chat, ToolCalls::NONE)] {
            for size in [1, 5, 1000] {
                let mut answer = PlainAnswer::new(format);
                body.as_bytes().chunks(size).for_each(|chunk| answer.push(chunk));
                assert_eq!(answer.observed().calls, calls, "by {size}");
            }
        }
    }

    #[test]
    fn what_is_no_json_reports_nothing() {
        for body in [&b"<html>\"usage\": {}"[..], b"", b"\x1f\x8b\x08", b"{\"usage\":{]}"] {
            let mut answer = PlainAnswer::new(Format::Chat);
            answer.push(body);
            assert_eq!(answer.observed(), ObservedAnswer::default());
        }
    }
}
