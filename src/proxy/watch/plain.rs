//! Plain answers: one JSON object.

use super::Observed;
use super::scan::{Keep, TopLevelScanner};
use crate::metering::usage::{TokenUsage, model_name};

/// Known `usage` objects have some hundred bytes.
const USAGE_BYTES: usize = 16 * 1024;
const MODEL_BYTES: usize = 1024;

/// Reads usage and model out of a plain answer while it passes, keeping nothing else of it, however
/// long it is.
#[derive(Debug)]
pub struct BodyWatch {
    scanner: TopLevelScanner,
}

impl Default for BodyWatch {
    fn default() -> Self {
        let keep = Keep { usage: USAGE_BYTES, model: MODEL_BYTES, choices: 0 };
        Self { scanner: TopLevelScanner::new(keep) }
    }
}

impl BodyWatch {
    /// Looks at the next chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.scanner.feed(chunk);
    }

    /// What has been seen so far.
    pub fn observed(&self) -> Observed {
        Observed {
            usage: self.scanner.usage.value().and_then(TokenUsage::from_json),
            model: self.scanner.model.value().and_then(model_name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let usage = observed.usage.unwrap();
        assert_eq!((usage.input, usage.output), (Some(3), Some(4)));
        assert_eq!(observed.model.as_deref(), Some("m"));
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
