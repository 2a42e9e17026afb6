//! The answer's head: what is read of the answer before it, and what becomes of its headers.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::answer_converter::{AnswerConverter, WholeAnswer, set_type};
use super::answer_reader::{AnswerKind, Watch, is_compressed};
use super::context::RequestContext;
use super::error::{GATEWAY_HEADER, ProxyError, SHOULD_RETRY};
use super::headers::{content_length, copy_downstream};
use super::key_mask::KeyMask;
use super::key_scrubber::{MAX_ERROR_BYTES, scrub, scrubbed_length};
use super::policy_headers::insert_policy_headers;
use super::prologue::{ERROR_TYPE, Prologue, take_prologue};
use super::rate_limit_headers::{complete_retry_after, convert_rate_limits};
use super::relay_body::{RelayBody, State};
use super::restore::AnswerRestorer;
use super::scanned_answer::ScannedAnswer;
use crate::accounting::budget::Budget;
use crate::crypto::SecretBytes;
use crate::domain::ids::RequestId;
use crate::llm::answer::{AnswerContent, StreamEnd};
use crate::llm::convert::upstream_error::{BILLING, convert_error, convert_failure};
use crate::llm::error::GatewayError;
use crate::telemetry::request_record::RequestOutcome;
use crate::upstream::{UpstreamBody, UpstreamError, UpstreamResponse};

/// How long an upstream's error may take to arrive. The caller waits for its head meanwhile.
const ERROR_TIME: Duration = Duration::from_secs(30);

/// The fields of the request that the target's format has not.
const DROPPED: HeaderName = HeaderName::from_static("x-tollgate-dropped");
/// Which target of a chain has answered.
const SERVED_BY: HeaderName = HeaderName::from_static("x-tollgate-served-by");
/// How often a request for a chain was sent.
const ATTEMPTS: HeaderName = HeaderName::from_static("x-tollgate-attempts");

/// What of an answer is read before its head is passed on.
pub enum ReadAhead {
    /// Nothing.
    Head,
    /// An error, which has to be searched for the provider's key.
    Error(UpstreamErrorBody),
    /// All of a plain answer that is to be converted, so that it becomes an error if it can't be; or all of
    /// a stream that failed before there was anything of it for the caller.
    Whole(Box<WholeAnswer>),
}

/// Notes that the head of the answer is there, and reads what has to be known before it is passed on. Apart
/// from [`relay`], since what an asynchronous function holds is copied when it is called, and nearly all
/// answers need no waiting.
pub async fn begin(
    answer: &mut Answer,
    memory: &Budget,
    context: &mut RequestContext,
) -> ReadAhead {
    let reader = answer.reader();
    let UpstreamResponse { status, headers, body, .. } = &mut answer.response;
    context.request.answered(status.as_u16());
    if answer.conversion.is_none() && has_no_body(*status, content_length(headers)) {
        return ReadAhead::Head;
    }
    if !status.is_success() && !is_compressed(headers) {
        return ReadAhead::Error(read_error(body).await);
    }
    let Some(conversion) = answer.conversion.clone().filter(|_| status.is_success()) else {
        return ReadAhead::Head;
    };
    if !answer.is_stream_expected {
        let watch = reader.begin(*status, headers);
        let whole = WholeAnswer::read(body, watch, conversion, memory).await;
        return ReadAhead::Whole(Box::new(whole));
    }
    if answer.is_prologue_read {
        return ReadAhead::Head;
    }
    // The caller would get none of what is held back: converted streams begin with the first word. Boxed, since
    // most answers are not converted.
    let (prologue, held) = Box::pin(take_prologue(answer)).await;
    let error = match &prologue {
        Prologue::Answer => {
            answer.response.body.put_back(held.into_iter().map(Ok));
            return ReadAhead::Head;
        }
        Prologue::Failure(_) => None,
        Prologue::BrokeOff(error) => Some(error),
    };
    let watch = reader.begin(answer.response.status, &answer.response.headers);
    ReadAhead::Whole(Box::new(WholeAnswer::failed(&held, watch, &conversion, error)))
}

/// The answer to the caller.
pub enum Relayed {
    Begun(HttpResponse),
    /// What the caller gets first is not known yet, and may have to be refused.
    Scanning(Box<ScannedAnswer>),
}

/// The answer to the caller, after [`begin`].
pub fn relay(
    answer: Box<Answer>,
    beginning: ReadAhead,
    (memory, now): (&Budget, DateTime<Utc>),
    mut context: Box<RequestContext>,
) -> Relayed {
    let reader = answer.reader();
    let Answer { response, operation, secrets, permit, response_owner, served_by, .. } = *answer;
    let UpstreamResponse { status: upstream_status, headers, body, .. } = response;
    let mut status = upstream_status;
    let exposed: SmallVec<[&[u8]; 2]> = secrets.iter().map(SecretBytes::expose).collect();
    let format = operation.answer_format();
    let mut watch = reader.begin(status, &headers);
    let is_stream = matches!(watch, Watch::Stream(_));
    if is_stream {
        context.stream_begins();
    }
    let length = content_length(&headers).filter(|_| !is_stream);
    // What the caller gets of a stream may be an event shorter than what came.
    let may_shrink = matches!(watch, Watch::Undecided(_));
    let mut size = length.filter(|_| !may_shrink).map_or(BodySize::Stream, BodySize::Sized);
    let mut first = None;
    let mut upstream = Some(body);
    let mut state = State::Open;
    let mut outcome = None;
    let mut converter = None;
    let mut restorer = context.restorer.take();
    if status.is_success() && restorer.as_deref().is_some_and(AnswerRestorer::changes_length) {
        size = BodySize::Stream;
    }
    let mut response = HttpResponse::new(status);
    let down = response.headers_mut();
    copy_downstream(&headers, &exposed, down);
    if let Some(conversion) = answer.conversion.as_ref().filter(|one| one.from != one.to) {
        convert_rate_limits(down, conversion.to, now);
    }
    let request_id = context.request.record().ids.request_id;
    match beginning {
        ReadAhead::Head if answer.conversion.is_none() && has_no_body(status, length) => {
            // Nothing will be asked of such a body, so it is settled here.
            upstream = None;
            state = State::Ended;
            if status.is_success() && format.is_some() {
                context.request.answer.content = Some(AnswerContent::Nothing);
            }
            if length.is_none() {
                size = BodySize::None;
            }
        }
        ReadAhead::Head if matches!(watch, Watch::None) && is_compressed(&headers) => {
            upstream = None;
            size = BodySize::Stream;
            first = Some(answer.error_format.error_body(&unreadable(status, request_id)).into());
            down.insert(GATEWAY_HEADER, HeaderValue::from_static("gateway"));
            set_type(down, false);
        }
        ReadAhead::Head => {
            if let Some(conversion) = answer.conversion.filter(|_| status.is_success()) {
                size = BodySize::Stream;
                set_type(down, true);
                if let Some(restorer) = &mut restorer {
                    restorer.converted_from(conversion.from);
                }
                match memory.take(0) {
                    Some(memory) => {
                        converter = Some(Box::new(AnswerConverter::new(conversion, memory)))
                    }
                    None => state = State::Broken(UpstreamError::Closed),
                }
            }
        }
        ReadAhead::Error(error_body) => {
            upstream = None;
            let mut bytes = scrub(&error_body.bytes, &exposed).into_owned();
            if !matches!(error_body.end, ErrorEnd::Whole) {
                // A key may lie across the cut.
                bytes.truncate(scrubbed_length(&bytes, &exposed));
            }
            if let Some(conversion) = &answer.conversion {
                if is_busy(status) {
                    complete_retry_after(down, &error_body.bytes);
                }
                if status.as_u16() == BILLING {
                    down.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
                }
                let error_type = headers.get(ERROR_TYPE).and_then(|value| value.to_str().ok());
                let formats = (conversion.from, conversion.to);
                let told = convert_error(formats, status.as_u16(), error_type, &bytes, request_id);
                status = StatusCode::from_u16(told.status).unwrap_or(status);
                let record = context.request.record();
                record.upstream_status = Some(upstream_status.as_u16());
                record.status = Some(status.as_u16());
                bytes = told.body.into_bytes();
                set_type(down, false);
            }
            if let Some(restorer) = &restorer {
                bytes = restorer.error_body(bytes);
            }
            first = Some(Bytes::from(bytes));
            size = BodySize::Stream;
            // One that is too long ends here, without a failure of the connection.
            if let ErrorEnd::BrokeOff(error) = error_body.end
                && answer.conversion.is_none()
            {
                state = State::Broken(error);
            }
        }
        ReadAhead::Whole(whole) => {
            let whole = *whole;
            upstream = None;
            size = BodySize::Stream;
            set_type(down, false);
            watch = whole.watch;
            match whole.converted {
                Ok(json) => {
                    first = Some(Bytes::from(json));
                    if let Some(restorer) = &mut restorer {
                        first = first.and_then(|json| restorer.push(json, AnswerKind::Plain));
                    }
                    if let Watch::Stream(answer) = &mut watch {
                        // The caller has what was converted.
                        let _ = answer.finish(StreamEnd::Complete);
                    }
                }
                Err(error) => {
                    let row = error.row();
                    let told = match (&error, &answer.conversion) {
                        (ProxyError::UpstreamReported(failure), Some(one)) => {
                            convert_failure((one.from, one.to), failure, request_id)
                        }
                        _ => None,
                    };
                    let told_status = told.as_ref().map(|told| StatusCode::from_u16(told.status));
                    status = told_status.and_then(Result::ok).unwrap_or(row.status);
                    context.request.record().status = Some(status.as_u16());
                    if told.is_none() {
                        down.insert(GATEWAY_HEADER, HeaderValue::from_static("gateway"));
                    }
                    // Not the provider's words, which may quote what the model wrote.
                    let (code, cause) = match &told {
                        Some(_) => ("upstream_reported_error", "the provider reports a failure"),
                        None => (row.code, "the answer can't be put into the caller's format"),
                    };
                    context.request.attempt_failed(code, cause.to_owned());
                    let body = told.map_or_else(
                        || {
                            let write =
                                |error: GatewayError<'_>| answer.error_format.error_body(&error);
                            error.render(request_id, write)
                        },
                        |told| told.body,
                    );
                    // The provider's own words may quote the request.
                    let mut body = scrub(body.as_bytes(), &exposed).into_owned();
                    if let Some(restorer) = &restorer {
                        body = restorer.error_body(body);
                    }
                    first = Some(body.into());
                    outcome = Some(RequestOutcome::UpstreamBroke);
                }
            }
        }
    }
    let left = match &watch {
        _ if converter.is_some() => None,
        Watch::Plain(_) | Watch::Unreadable | Watch::Undecided(_) => length,
        Watch::None | Watch::Stream(_) => None,
    };
    if let Some(served_by) = served_by.and_then(|name| HeaderValue::try_from(name).ok()) {
        down.insert(SERVED_BY, served_by);
        down.insert(ATTEMPTS, HeaderValue::from(context.request.record().attempts));
    }
    if let Some(dropped) = answer.dropped {
        down.insert(DROPPED, dropped);
    }
    let policy_report = context.policy_report.take();
    insert_policy_headers(down, policy_report.as_deref());
    *response.status_mut() = status;
    context.request.answer.is_unreadable =
        matches!(watch, Watch::Unreadable) && !matches!(state, State::Ended);
    if matches!(state, State::Ended) {
        context.request.finish(RequestOutcome::Completed);
    }
    let is_scanning = status.is_success()
        && matches!(state, State::Open)
        && restorer.as_deref().is_some_and(AnswerRestorer::is_scanning);
    drop(exposed);
    let key_mask = KeyMask::new(secrets);
    let mut body = RelayBody {
        upstream,
        first: first.map(|first| key_mask.mask(first)),
        key_mask,
        watch,
        converter,
        silence: None,
        restorer,
        refused: None,
        has_begun: !is_scanning,
        response_owner,
        is_model_answer: format.is_some(),
        size,
        left,
        state,
        context,
        _permit: permit,
    };
    if let Some(outcome) = outcome {
        body.state = State::Ended;
        body.finish(outcome);
    }
    if is_scanning {
        body.context.policy_report = policy_report;
        let (head, error_format) = (response.drop_body(), answer.error_format);
        return Relayed::Scanning(Box::new(ScannedAnswer { head, body, error_format }));
    }
    // Boxed here: the server boxes it anyway, after it has moved it several times.
    Relayed::Begun(response.set_body(BoxBody::new(body)))
}

/// Stands for an upstream's error that can't be looked through for the provider's key.
fn unreadable(status: StatusCode, request_id: RequestId) -> GatewayError<'static> {
    GatewayError {
        message: "The provider answered with this status and a compressed body, although it was asked not to compress. The gateway does not pass such an error on, since it can't be searched for the provider's key.",
        kind: "upstream_error",
        code: "upstream_error_unreadable",
        param: None,
        status: status.as_u16(),
        request_id,
    }
}

/// Whether an error passes with time.
fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 503 | 529)
}

/// Whether an answer ends with its head (RFC 9112, section 6.3).
fn has_no_body(status: StatusCode, length: Option<u64>) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || length == Some(0)
}

/// An upstream's error, which may quote the provider's key.
pub struct UpstreamErrorBody {
    bytes: Vec<u8>,
    end: ErrorEnd,
}

enum ErrorEnd {
    Whole,
    TooLong,
    BrokeOff(UpstreamError),
}

/// Reads an error to its end, or as far as it is looked through.
async fn read_error(body: &mut UpstreamBody) -> UpstreamErrorBody {
    let deadline = Instant::now() + ERROR_TIME;
    let mut bytes = Vec::new();
    while bytes.len() < MAX_ERROR_BYTES {
        let end = match timeout_at(deadline, body.next()).await {
            Ok(Some(Ok(chunk))) => {
                bytes.extend_from_slice(&chunk);
                continue;
            }
            Ok(Some(Err(error))) => ErrorEnd::BrokeOff(error),
            Ok(None) => ErrorEnd::Whole,
            Err(_) => ErrorEnd::BrokeOff(UpstreamError::IdleTimeout),
        };
        return UpstreamErrorBody { bytes, end };
    }
    bytes.truncate(MAX_ERROR_BYTES);
    UpstreamErrorBody { bytes, end: ErrorEnd::TooLong }
}
