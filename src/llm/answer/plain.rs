//! Plain answers: one JSON object.

use super::Observed;
use crate::json::scanner::{Keep, TopLevelScanner};
use crate::llm::sample::{Collector, Sample};
use crate::llm::usage::{Report, model_name};

/// Known `usage` objects have some hundred bytes.
pub(super) const USAGE_BYTES: usize = 16 * 1024;
pub(super) const MODEL_BYTES: usize = 1024;

/// Reads usage and model out of a plain answer while it passes, keeping nothing else of it, however
/// long it is, but the beginning for an estimate as long as there is no usage.
#[derive(Debug)]
pub struct BodyWatch {
    scanner: Box<TopLevelScanner>,
    beginning: Collector,
    /// Whether the usage, which has passed, tells the output.
    reported: Option<bool>,
}

impl Default for BodyWatch {
    fn default() -> Self {
        let keep =
            Keep { usage: USAGE_BYTES, model: MODEL_BYTES, choices: 0, kind: 0, response: false };
        Self {
            scanner: Box::new(TopLevelScanner::new(keep)),
            beginning: Collector::default(),
            reported: None,
        }
    }
}

impl BodyWatch {
    /// Looks at the next chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.scanner.feed(chunk);
        if self.reported.is_none() && self.scanner.usage.value().is_some() {
            self.reported = Some(self.reports_output());
        }
        match self.reported {
            Some(true) => self.beginning.clear(),
            _ => self.beginning.take(chunk),
        }
    }

    fn reports_output(&self) -> bool {
        self.observed().usage.is_some_and(|usage| usage.counts.output.is_some())
    }

    /// What of the answer has been relayed, for an estimate; nothing when the output's tokens have
    /// been reported. It is handed over, so asking again gives nothing.
    pub fn relayed(&mut self) -> Sample {
        if self.reports_output() { Sample::default() } else { self.beginning.body() }
    }

    /// What has been seen so far.
    pub fn observed(&self) -> Observed {
        Observed {
            usage: self.scanner.usage.value().and_then(Report::from_json),
            model: self.scanner.model.value().and_then(model_name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::sample::LONGEST_SAMPLE;

    #[test]
    fn usage_of_a_long_answer_in_constant_memory() {
        let mut watch = BodyWatch::default();
        watch.push(br#"{"id":"1","model":"m","choices":[{"message":{"content":""#);
        for _ in 0..1000 {
            watch.push(&[b'x'; 1000]);
        }
        assert_eq!(watch.observed().usage, None);
        watch.push(br#""}}],"usage":{"prompt_tokens":3,"comple"#);
        watch.push(br#"tion_tokens":4}}"#);
        let observed = watch.observed();
        let usage = observed.usage.unwrap().counts;
        assert_eq!((usage.input, usage.output), (Some(3), Some(4)));
        assert_eq!(observed.model.as_deref(), Some("m"));
    }

    #[test]
    fn the_beginning_is_kept_until_the_usage_has_passed() {
        let mut watch = BodyWatch::default();
        watch.push(br#"{"choices":[{"message":{"content":"hello world"}}]"#);
        assert!(watch.beginning.capacity() > 0);
        watch.push(br#","usage":{"completion_tokens":3}}"#);
        assert_eq!(watch.beginning.capacity(), 0);
        assert!(watch.relayed().is_empty());

        let mut watch = BodyWatch::default();
        watch.push(br#"{"usage":{"completion_tokens":3},"choices":[]}"#);
        assert_eq!(watch.beginning.capacity(), 0, "never taken");

        for useless in [r#"{"usage":{}}"#, r#"{"usage":{"prompt_tokens":3}}"#] {
            let mut watch = BodyWatch::default();
            watch.push(useless.as_bytes());
            assert_eq!(watch.relayed().whole(), useless.len() as u64);
        }

        let mut watch = BodyWatch::default();
        for _ in 0..100 {
            watch.push(&[b'x'; 1000]);
        }
        watch.push(br#","usage":null}"#);
        assert!(watch.beginning.capacity() <= LONGEST_SAMPLE);
        assert_eq!(watch.relayed().whole(), 100_014);
        assert!(watch.relayed().is_empty());
    }

    #[test]
    fn what_is_no_json_reports_nothing() {
        for body in [&b"<html>\"usage\": {}"[..], b"", b"\x1f\x8b\x08", b"{\"usage\":{]}"] {
            let mut watch = BodyWatch::default();
            watch.push(body);
            assert_eq!(watch.observed(), Observed::default());
        }
    }
}
