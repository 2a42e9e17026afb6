//! Reading the caller's body, within its limits of size, time and memory.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::content_coding::{codings, decode};
use super::error::ProxyError;
use crate::accounting::budget::{Budget, Share};
use crate::json::object::JsonBody;
use crate::llm::format::Format;
use crate::llm::limits::BodyFacts;

/// The limits of one body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Maximum length in bytes, both as it is sent and decoded.
    pub bytes: usize,
    /// Maximum time from the head of the request to the last byte of its body.
    pub time: Duration,
}

/// A caller's body, parsed once. It is kept until the last attempt.
pub struct CallerBody {
    pub json: JsonBody,
    pub facts: BodyFacts,
}

impl CallerBody {
    /// Reads and parses the body. Its share of the memory budget has to be held as long as the body.
    pub async fn read(
        format: Format,
        headers: &HeaderMap,
        payload: Payload,
        limits: BodyLimits,
        memory: &Budget,
    ) -> Result<(Box<Self>, Share), ProxyError> {
        let (bytes, share) = read_whole(headers, payload, limits, memory).await?;
        let (json, facts) = BodyFacts::parse_in(format, bytes).map_err(ProxyError::Body)?;
        Ok((Box::new(Self { json, facts }), share))
    }
}

/// Space that is set aside before the first byte has come, whatever length was declared: a caller who
/// only announces a large body holds no memory.
const INITIAL_CAPACITY: usize = 128 * 1024;

/// Reads the whole body, and decodes it if it is compressed. The share of the memory budget has to be
/// held as long as the body.
pub async fn read_whole(
    headers: &HeaderMap,
    payload: Payload,
    limits: BodyLimits,
    memory: &Budget,
) -> Result<(Bytes, Share), ProxyError> {
    let declared: Option<usize> =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length| length > limits.bytes) {
        return Err(ProxyError::BodyTooLarge { limit: limits.bytes });
    }
    let codings = codings(headers)?;
    let deadline = Instant::now() + limits.time;
    let collecting = unwoken_at_first(collect(payload, declared, limits.bytes, memory));
    let (body, mut share) =
        timeout_at(deadline, collecting).await.map_err(|_| ProxyError::BodyTooSlow)??;
    if codings.is_empty() {
        return Ok((body, share));
    }
    let encoded = body.len();
    let decoding = decode(body, &codings, limits.bytes, &mut share);
    let body = timeout_at(deadline, decoding).await.map_err(|_| ProxyError::BodyTooSlow)??;
    share.shrink(encoded);
    Ok((body, share))
}

/// The same future, whose first poll registers no waker. actix-web polls a handler before it gives it the
/// body that has come with the head, and polls it again at once after that. A waker would have it polled
/// once more, for nothing. No wake-up is lost: the dispatcher of HTTP/1 is the same task, and polls the
/// handler whenever the connection has bytes or ends. This does not hold for HTTP/2.
async fn unwoken_at_first<F: Future>(reading: F) -> F::Output {
    let mut reading = pin!(reading);
    let mut is_first = true;
    poll_fn(|cx| match std::mem::take(&mut is_first) {
        true => reading.as_mut().poll(&mut Context::from_waker(Waker::noop())),
        false => reading.as_mut().poll(cx),
    })
    .await
}

async fn collect(
    mut payload: Payload,
    declared: Option<usize>,
    limit: usize,
    memory: &Budget,
) -> Result<(Bytes, Share), ProxyError> {
    let mut share = memory.take(0).ok_or(ProxyError::Overloaded)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| ProxyError::IncompleteBody)?;
        if body.len() + chunk.len() > limit {
            return Err(ProxyError::BodyTooLarge { limit });
        }
        if !share.grow(chunk.len()) {
            return Err(ProxyError::Overloaded);
        }
        if body.is_empty() && declared == Some(chunk.len()) {
            // All of it came at once, as small bodies do: no copy.
            return Ok((chunk, share));
        }
        if body.capacity() == 0 {
            body.reserve(declared.unwrap_or(0).min(INITIAL_CAPACITY).max(chunk.len()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body.freeze(), share))
}
