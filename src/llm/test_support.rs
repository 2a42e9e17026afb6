//! What unit tests of the formats share.

use bytes::Bytes;

use super::answer::StreamedAnswer;
use super::error::GatewayError;
use super::usage::TokenUsage;
use crate::domain::ids::RequestId;

/// Passes a stream in chunks of these sizes and checks that nothing of it is changed.
pub(super) fn pass(mut answer: StreamedAnswer, stream: &[u8], sizes: &[usize]) -> StreamedAnswer {
    let mut rest = stream;
    let mut out = Vec::new();
    for size in sizes.iter().cycle() {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        out.extend(answer.push(Bytes::copy_from_slice(chunk)).unwrap_or_default());
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    assert_eq!(out, stream);
    answer
}

/// What the answer used.
pub(super) fn tokens(answer: &StreamedAnswer) -> TokenUsage {
    answer.observed().usage.unwrap().tokens(10_000)
}

/// The upstream's connection has broken.
pub(super) fn closed() -> GatewayError<'static> {
    GatewayError {
        message: "closed",
        kind: "upstream_error",
        code: "upstream_closed",
        param: None,
        status: 502,
        request_id: RequestId::from(uuid::Uuid::nil()),
    }
}

/// A policy refuses the request.
pub(super) fn rate_limited() -> GatewayError<'static> {
    GatewayError {
        message: "Too \"many\".",
        kind: "rate_limit_error",
        code: "rate_limit_exceeded",
        param: None,
        status: 429,
        request_id: RequestId::from(uuid::Uuid::nil()),
    }
}
