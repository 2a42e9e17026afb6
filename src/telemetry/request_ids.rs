//! A request's ids and its span.

use std::borrow::Cow;
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use tracing::Span;
use tracing_actix_web::{RequestId as SpanRequestId, RootSpanBuilder};
use uuid::fmt::Hyphenated;

use crate::domain::ids::RequestId;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A longer id of a caller's is cut to this many characters.
const MAX_CLIENT_ID_CHARACTERS: usize = 128;

/// A request's ids, in its extensions.
#[derive(Clone, Debug)]
pub struct RequestIds {
    /// Ours, the answer's `x-request-id`.
    pub request_id: RequestId,
    /// The caller's `x-request-id`.
    pub client_request_id: Option<String>,
}

/// The stable code of an error answer, in the response's extensions, for the log line.
#[derive(Clone, Debug)]
pub struct ErrorCode(pub String);

impl RequestIds {
    /// The ids of a request with these headers.
    pub fn new(request_id: RequestId, headers: &HeaderMap) -> Self {
        Self { request_id, client_request_id: client_request_id(headers) }
    }

    /// Puts our id into the headers of the answer.
    pub fn insert_into(&self, headers: &mut HeaderMap) {
        let mut text = [0; Hyphenated::LENGTH];
        let text = self.request_id.uuid().as_hyphenated().encode_lower(&mut text);
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(REQUEST_ID, value);
        }
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { request_id: RequestId::from(uuid::Uuid::nil()), client_request_id: None }
    }
}

/// The caller's own id of the request: its visible ASCII characters, at most 128.
fn client_request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let kept: String =
        text.chars().filter(char::is_ascii_graphic).take(MAX_CLIENT_ID_CHARACTERS).collect();
    (!kept.is_empty()).then_some(kept)
}

/// A route pattern as a label: `/docs/{_:.*}` becomes `/docs/{_}`.
pub fn route_label(pattern: &str) -> Cow<'_, str> {
    if !pattern.contains(':') {
        return pattern.into();
    }
    let mut label = String::with_capacity(pattern.len());
    let (mut depth, mut in_regex) = (0_u32, false);
    for character in pattern.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ':' if depth == 1 => in_regex = true,
            _ => {}
        }
        in_regex &= depth > 0;
        if !in_regex {
            label.push(character);
        }
    }
    label.into()
}

/// A duration as log lines have it: milliseconds, to the microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

/// Opens the span around everything that is logged during a request outside the data plane. It holds
/// ids and the method; never a header, a query or a body.
#[derive(Debug)]
pub struct RequestSpan;

impl RootSpanBuilder for RequestSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let request_id = request.extensions().get::<SpanRequestId>().map(|id| **id);
        let ids = RequestIds::new(request_id.unwrap_or_default().into(), request.headers());
        let span = tracing::info_span!(
            "request",
            request_id = %ids.request_id,
            client_request_id = ids.client_request_id.as_deref(),
            method = %request.method(),
        );
        request.extensions_mut().insert(ids);
        span
    }

    fn on_request_end<B: MessageBody>(_: Span, _: &Result<ServiceResponse<B>, actix_web::Error>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_label_has_no_regular_expression() {
        for (pattern, label) in [
            ("/api/v1/workspaces/{workspace_id}", "/api/v1/workspaces/{workspace_id}"),
            ("/docs/{_:.*}", "/docs/{_}"),
            ("/a/{id:[0-9]{3}:x}/b/{name:[^/]+}", "/a/{id}/b/{name}"),
            ("/a:b/{c}", "/a:b/{c}"),
        ] {
            assert_eq!(route_label(pattern), label);
        }
    }
}
