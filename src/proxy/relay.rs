//! The answer on its way down: relayed as it arrives, watched but not buffered, settled at its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, Sleep, timeout_at};

use super::concurrency::ConcurrencyPermit;
use super::context::RequestContext;
use super::headers::{content_length, downstream_headers};
use super::key_scrubber::{MOST_BYTES, redact, without_begun_secret};
use super::policy_headers::insert_policy_headers;
use super::route::Operation;
use super::send::error_for;
use crate::accounting::budget::Share;
use crate::crypto::SecretBytes;
use crate::llm::answer::{BodyWatch, End, Observed, StreamKind, StreamWatch};
use crate::telemetry::request_record::RequestOutcome;
use crate::upstream::{UpstreamBody, UpstreamError, UpstreamResponse};

/// How long what has come of a broken answer, its head included, has to be flushed before the body
/// is failed: on a body error actix-http gives the connection up without writing what it still holds.
const FLUSH: Duration = Duration::from_millis(100);

/// How long an upstream's error may take to arrive. The caller waits for its head meanwhile.
const ERROR_TIME: Duration = Duration::from_secs(30);

/// The upstream's answer, its body still to come, and what relaying it takes.
pub struct Answer {
    pub response: UpstreamResponse,
    pub operation: Operation,
    /// Usage was asked for by the gateway alone, so the event is not the caller's.
    pub withhold_usage: bool,
    /// What must not reach the caller.
    pub secrets: Vec<SecretBytes>,
    pub permits: Permits,
}

/// The places that the request takes for as long as it lasts.
pub struct Permits {
    pub _request: Share,
    pub _configuration: ConcurrencyPermit,
}

/// Begins the answer to the caller.
pub async fn relay(answer: Answer, mut context: RequestContext) -> HttpResponse<RelayBody> {
    let Answer { response, operation, withhold_usage, secrets, permits } = answer;
    let UpstreamResponse { status, headers, body, .. } = response;
    let exposed: Vec<&[u8]> = secrets.iter().map(SecretBytes::expose).collect();
    let watch = watch_for(&operation, status, &headers, withhold_usage);
    let is_stream = status.is_success() && is_event_stream(&headers);
    context.answered(status.as_u16(), is_stream);
    // What goes down of a stream may be an event shorter or longer than what came.
    let length = content_length(&headers).filter(|_| !is_stream);
    let mut size = length.map_or(BodySize::Stream, BodySize::Sized);
    let mut first = None;
    let mut upstream = Some(body);
    let mut state = State::Open;
    let mut down = downstream_headers(&headers, &exposed);
    if has_no_body(status, length) {
        // Nothing will be asked of such a body, so it is settled here.
        upstream = None;
        state = State::Ended;
        if length.is_none() {
            size = BodySize::None;
        }
    } else if matches!(watch, Watch::None) && is_compressed(&headers) {
        upstream = None;
        size = BodySize::Stream;
        first = Some(Bytes::from_static(UNREADABLE));
        down.remove(CONTENT_ENCODING);
        down.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    } else if matches!(watch, Watch::None)
        && let Some(mut body) = upstream.take()
    {
        let told = read_error(&mut body).await;
        let mut bytes = redact(&told.bytes, &exposed).into_owned();
        if !matches!(told.end, ErrorEnd::Whole) {
            // A key may lie across the cut.
            bytes.truncate(without_begun_secret(&bytes, &exposed));
        }
        first = Some(Bytes::from(bytes));
        size = BodySize::Stream;
        match told.end {
            ErrorEnd::BrokeOff(error) => state = State::Broken(error),
            // Nothing beyond this was looked at.
            ErrorEnd::Whole | ErrorEnd::TooLong => drop(body),
        }
    }
    let left = match (size, &watch) {
        (BodySize::Sized(length), Watch::Plain(_) | Watch::Sealed) => Some(length),
        _ => None,
    };
    insert_policy_headers(&mut down, &std::mem::take(&mut context.policy_report));
    let max_output_tokens = context.request.max_output_tokens();
    context.request.answer.is_unreadable =
        matches!(watch, Watch::Sealed) && !matches!(state, State::Ended);
    if matches!(state, State::Ended) {
        context.request.finish(RequestOutcome::Completed);
    }
    let body = RelayBody {
        upstream,
        first,
        watch,
        max_output_tokens,
        size,
        left,
        state,
        context,
        _permits: permits,
    };
    let mut response = HttpResponse::with_body(status, body);
    *response.headers_mut() = down;
    response
}

/// Stands for an upstream's error that can't be looked through for the provider's key.
const UNREADABLE: &[u8] = br#"{"error":{"message":"The provider answered with this status and a compressed body, although it was asked not to compress. The gateway does not pass such an error on, since it can't be searched for the provider's key.","type":"upstream_error","param":null,"code":"upstream_error_unreadable"}}"#;

/// Whether an answer ends with its head (RFC 9112, section 6.3).
fn has_no_body(status: StatusCode, length: Option<u64>) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || length == Some(0)
}

/// Whether the body is in one of the codings of the HTTP Content Coding Registry that hide what it
/// says. `identity`, and words that are none of them, hide nothing.
fn is_compressed(headers: &HeaderMap) -> bool {
    const CODINGS: [&str; 12] = [
        "aes128gcm",
        "br",
        "compress",
        "dcb",
        "dcz",
        "deflate",
        "exi",
        "gzip",
        "pack200-gzip",
        "x-compress",
        "x-gzip",
        "zstd",
    ];
    headers
        .get_all(CONTENT_ENCODING)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| CODINGS.contains(&coding.trim().to_ascii_lowercase().as_str()))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.trim_start().to_ascii_lowercase().starts_with("text/event-stream")
    })
}

/// What is read out of an answer while it passes.
enum Watch {
    /// Nothing: an upstream's error.
    None,
    /// Nothing, for it is compressed.
    Sealed,
    Plain(BodyWatch),
    Stream(Box<StreamWatch>),
}

fn watch_for(
    operation: &Operation,
    status: StatusCode,
    headers: &HeaderMap,
    withhold_usage: bool,
) -> Watch {
    if !status.is_success() {
        return Watch::None;
    }
    if is_compressed(headers) {
        return Watch::Sealed;
    }
    let kind = match operation {
        Operation::Responses => StreamKind::Responses,
        _ => StreamKind::Chat,
    };
    if is_event_stream(headers) {
        Watch::Stream(Box::new(StreamWatch::new(kind, withhold_usage)))
    } else {
        Watch::Plain(BodyWatch::default())
    }
}

/// An upstream's error, which may quote the provider's key.
struct ToldError {
    bytes: Vec<u8>,
    end: ErrorEnd,
}

enum ErrorEnd {
    Whole,
    TooLong,
    BrokeOff(UpstreamError),
}

/// Reads an error to its end, or as far as it is looked through.
async fn read_error(body: &mut UpstreamBody) -> ToldError {
    let deadline = Instant::now() + ERROR_TIME;
    let mut bytes = Vec::new();
    while bytes.len() < MOST_BYTES {
        let end = match timeout_at(deadline, body.next()).await {
            Ok(Some(Ok(chunk))) => {
                bytes.extend_from_slice(&chunk);
                continue;
            }
            Ok(Some(Err(error))) => ErrorEnd::BrokeOff(error),
            Ok(None) => ErrorEnd::Whole,
            Err(_) => ErrorEnd::BrokeOff(UpstreamError::IdleTimeout),
        };
        return ToldError { bytes, end };
    }
    bytes.truncate(MOST_BYTES);
    ToldError { bytes, end: ErrorEnd::TooLong }
}

enum State {
    Open,
    /// The upstream broke off; what is left is to say so.
    Broken(UpstreamError),
    /// All that the caller gets is out; the body fails when it has had time to be flushed.
    Flushing(Pin<Box<Sleep>>),
    Failed,
    Ended,
}

/// The body of an answer that is being relayed. Dropping it before its end means that the caller
/// has left, which closes the upstream's connection.
pub struct RelayBody {
    upstream: Option<UpstreamBody>,
    first: Option<Bytes>,
    watch: Watch,
    max_output_tokens: u64,
    size: BodySize,
    /// Bytes of a plain answer that are still to come, where its length was declared.
    left: Option<u64>,
    state: State,
    context: RequestContext,
    _permits: Permits,
}

/// The answer could not be relayed to its end; the connection is cut so that the caller can tell.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer broke off")]
pub struct BrokenOff;

impl RelayBody {
    /// Reads out of the answer what settling the request takes, and finishes it.
    fn finish(&mut self, outcome: RequestOutcome) {
        if self.context.request.is_finished() {
            return;
        }
        let observed = match &self.watch {
            Watch::None | Watch::Sealed => Observed::default(),
            Watch::Plain(watch) => watch.observed(),
            Watch::Stream(watch) => watch.observed().clone(),
        };
        let usage = observed.usage.map(|report| report.tokens(self.max_output_tokens));
        let is_whole = usage.is_some_and(|usage| usage.input.is_some() && usage.output.is_some());
        if !is_whole || outcome != RequestOutcome::Completed {
            self.context.request.answer.text = match &mut self.watch {
                Watch::None | Watch::Sealed => None,
                Watch::Plain(watch) => Some(watch.relayed()),
                Watch::Stream(watch) => Some(watch.relayed()),
            };
        }
        self.context.request.answer.usage = usage;
        self.context.request.record().model_used = observed.model;
        self.context.request.finish(outcome);
    }

    /// Takes a chunk from the upstream and gives what the caller gets of it now.
    fn pass(&mut self, chunk: Bytes) -> Option<Bytes> {
        let (passed, is_last) = match &mut self.watch {
            Watch::None => (Some(chunk), false),
            Watch::Sealed | Watch::Plain(_) => {
                if let Watch::Plain(watch) = &mut self.watch {
                    watch.push(&chunk);
                }
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(chunk.len() as u64);
                }
                (Some(chunk), self.left == Some(0))
            }
            Watch::Stream(watch) => {
                let passed = watch.push(chunk);
                // What comes after the mark may still tell the usage.
                (passed, watch.terminal_seen() && watch.observed().usage.is_some())
            }
        };
        if is_last {
            self.finish(RequestOutcome::Completed);
        }
        passed.filter(|chunk| !chunk.is_empty())
    }

    /// The upstream's body has ended well. Gives what is still owed to the caller.
    fn complete(&mut self) -> Option<Bytes> {
        self.upstream = None;
        self.state = State::Ended;
        let last = match &mut self.watch {
            Watch::Stream(watch) => watch.finish(End::Complete).last,
            Watch::None | Watch::Sealed | Watch::Plain(_) => None,
        };
        // One whose declared length has passed was settled with its last byte.
        if self.left != Some(0) {
            self.finish(RequestOutcome::Completed);
        }
        last
    }

    /// The upstream's body broke off. Gives what the caller is told of it.
    fn broken(&mut self, error: &UpstreamError) -> Option<Bytes> {
        self.upstream = None;
        let told = error_for(error);
        let finish = match &mut self.watch {
            Watch::Stream(watch) => {
                let finish = told.render(|told| watch.finish(End::Died(told)));
                if !finish.abort {
                    self.state = State::Ended;
                    self.finish(RequestOutcome::Completed);
                    return finish.last;
                }
                finish.last
            }
            Watch::None | Watch::Sealed | Watch::Plain(_) => None,
        };
        self.context.request.attempt_failed(error.reason(), error.to_string());
        self.finish(RequestOutcome::UpstreamBroke);
        self.state = State::Flushing(Box::pin(tokio::time::sleep(FLUSH)));
        finish
    }
}

impl MessageBody for RelayBody {
    type Error = BrokenOff;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take().filter(|first| !first.is_empty()) {
            return Poll::Ready(Some(Ok(first)));
        }
        loop {
            match &mut this.state {
                State::Open => {
                    let Some(upstream) = &mut this.upstream else {
                        this.complete();
                        continue;
                    };
                    match ready!(Pin::new(upstream).poll_next(cx)) {
                        Some(Ok(chunk)) => {
                            if let Some(chunk) = this.pass(chunk) {
                                return Poll::Ready(Some(Ok(chunk)));
                            }
                        }
                        Some(Err(error)) => this.state = State::Broken(error),
                        None => {
                            if let Some(last) = this.complete() {
                                return Poll::Ready(Some(Ok(last)));
                            }
                        }
                    }
                }
                State::Broken(_) => {
                    let State::Broken(error) = std::mem::replace(&mut this.state, State::Failed)
                    else {
                        continue;
                    };
                    if let Some(last) = this.broken(&error) {
                        return Poll::Ready(Some(Ok(last)));
                    }
                }
                State::Flushing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    this.state = State::Failed;
                }
                State::Failed => return Poll::Ready(Some(Err(BrokenOff))),
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for RelayBody {
    fn drop(&mut self) {
        // Every other end has been finished.
        self.finish(RequestOutcome::CallerLeft);
    }
}
