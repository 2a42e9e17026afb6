//! Reads answers, plain ones and the parts of streams: each part is an answer of its own with what has
//! come since the part before. A stream ends with the end of its bytes.

use super::super::answer::{AnswerEvent, AnswerUsage, Failure, ReadEvents, Stop};
use super::super::fields::{Fields, Path, parse_array, parse_text};
use super::candidate::CandidateReader;
use super::chunk::Chunk;
use super::stop::{blocked, is_reason};
use crate::llm::gemini::parse_usage;
use crate::llm::usage::ReportedUsage;

/// Reads a plain answer into events that end with `End`, or with `Failed` if it reports an error.
pub(in crate::llm::convert) fn read_answer(json: &str) -> Result<Vec<AnswerEvent>, Failure> {
    let mut reader = StreamReader::default();
    let mut events = Vec::new();
    if let Err(failure) = reader.read_part(json, &mut events) {
        if failure.code == Failure::UNUSABLE {
            return Err(Failure::unreadable(&failure.message));
        }
        events.push(AnswerEvent::Failed(failure));
        return Ok(events);
    }
    if !reader.has_candidate && reader.stop.is_none() {
        return Err(Failure::unreadable("it has neither candidates nor a reason for none"));
    }
    reader.end(&mut events);
    Ok(events)
}

/// Reads the parts of a stream.
#[derive(Debug, Default)]
pub(in crate::llm::convert) struct StreamReader {
    has_started: bool,
    has_candidate: bool,
    candidate: CandidateReader,
    usage: ReportedUsage,
    /// Why the model stopped, once it said so.
    stop: Option<Stop>,
    /// Nothing is read any more.
    is_over: bool,
}

impl ReadEvents for StreamReader {
    fn read(&mut self, _name: Option<&str>, data: &str, out: &mut Vec<AnswerEvent>) {
        if self.is_over || data.trim().is_empty() {
            return;
        }
        if let Err(failure) = self.read_part(data, out) {
            self.is_over = true;
            out.push(AnswerEvent::Failed(failure));
        }
    }

    /// The bytes ended, which is the proper end if the model said why it stopped.
    fn finish(&mut self, out: &mut Vec<AnswerEvent>) {
        if !self.is_over && self.stop.is_some() {
            self.end(out);
        }
    }
}

impl StreamReader {
    fn end(&mut self, out: &mut Vec<AnswerEvent>) {
        self.is_over = true;
        self.candidate.close(out);
        out.extend(self.stop.take().map(AnswerEvent::Stop));
        out.push(AnswerEvent::End);
    }

    fn read_part(&mut self, data: &str, out: &mut Vec<AnswerEvent>) -> Result<(), Failure> {
        let Some(chunk) = Chunk::parse(data) else { return Err(error_in_array(data)) };
        if let Some(error) = chunk.error {
            return Err(reported(error.get()));
        }
        if !self.has_started {
            self.has_started = true;
            out.push(AnswerEvent::Start { id: chunk.response_id, model: chunk.model_version });
        }
        if let Some(usage) = chunk.usage_metadata.and_then(|raw| parse_usage(raw.get())) {
            self.usage = self.usage.updated(usage);
            out.push(AnswerEvent::Usage(counts(self.usage)));
        }
        // No more than one is asked for.
        let mut candidates = chunk.candidates.into_iter().flatten();
        if let Some(candidate) = candidates.find(|candidate| candidate.index.unwrap_or(0) == 0) {
            self.has_candidate = true;
            if let Some(stop) = self.candidate.read(candidate, out)? {
                self.stop = Some(stop);
            }
        }
        let reason = chunk.prompt_feedback.and_then(|feedback| feedback.block_reason);
        if let Some(reason) = reason.filter(|reason| is_reason(reason)) {
            self.stop.get_or_insert_with(|| blocked(reason));
        }
        Ok(())
    }
}

/// An error that came in an array, as Google's do where the answer would have been one.
fn error_in_array(data: &str) -> Failure {
    let first = parse_array(data).and_then(|elements| Chunk::parse(elements.first()?));
    first
        .and_then(|chunk| chunk.error)
        .map_or_else(Failure::malformed, |error| reported(error.get()))
}

/// An error that is reported in place of an answer.
fn reported(error: &str) -> Failure {
    let Ok(error) = Fields::parse(error, &Path::ROOT) else {
        let message = parse_text(error).unwrap_or(error.into()).into_owned();
        return Failure { code: "INTERNAL".to_owned(), message };
    };
    let text = |key| error.find_text(key).map(|text| text.into_owned());
    let code = text("status").or_else(|| error.get("code").map(str::to_owned));
    Failure {
        code: code.unwrap_or_else(|| "INTERNAL".to_owned()),
        message: text("message").unwrap_or_else(|| "The provider reports an error.".to_owned()),
    }
}

/// The counts in parts that add up. Google's input includes what was read from a cache.
fn counts(usage: ReportedUsage) -> AnswerUsage {
    let counts = usage.counts;
    let cached = counts.cached_input.unwrap_or(0);
    AnswerUsage { input: counts.input.map(|input| input.saturating_sub(cached)), ..counts.into() }
}
