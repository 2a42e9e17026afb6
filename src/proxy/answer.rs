//! An upstream's answer, before anything of it is relayed.

use std::sync::Arc;

use actix_web::http::header::HeaderValue;

use super::answer_reader::AnswerReader;
use super::concurrency::ConcurrencyPermit;
use super::shared_account::ResponseOwner;
use crate::crypto::SecretBytes;
use crate::llm::convert::answer_conversion::Conversion;
use crate::llm::format::{Format, Operation};
use crate::upstream::UpstreamResponse;

/// The upstream's answer, its body still to come, and what relaying it takes.
pub struct Answer {
    pub response: UpstreamResponse,
    /// As which it is read.
    pub operation: Operation,
    /// The format of the caller's errors.
    pub error_format: Format,
    /// How it becomes the caller's, if it is not as it comes.
    pub conversion: Option<Arc<Conversion>>,
    /// The caller's fields that the upstream did not get.
    pub dropped: Option<HeaderValue>,
    /// The caller asked for a stream.
    pub is_stream_expected: bool,
    /// Usage was asked for by the gateway alone, so the event is not the caller's.
    pub withhold_usage: bool,
    /// It was looked at whether the answer begins with a failure.
    pub is_prologue_read: bool,
    /// What must not reach the caller.
    pub secrets: Vec<SecretBytes>,
    /// The place among the upstream's requests.
    pub permit: ConcurrencyPermit,
    /// Who notes whose response it is.
    pub response_owner: Option<Box<ResponseOwner>>,
    /// Which target of a chain it is of.
    pub served_by: Option<String>,
}

impl Answer {
    /// How it is to be read.
    pub fn reader(&self) -> AnswerReader {
        AnswerReader {
            format: self.operation.answer_format().unwrap_or(Format::Chat),
            binary_events: self.operation.binary_events(),
            is_stream_expected: self.is_stream_expected,
            withhold_usage: self.withhold_usage,
        }
    }
}
