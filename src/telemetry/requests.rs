//! The root span of a request and its ids.

use actix_web::HttpMessage;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use tracing::Span;
use tracing_actix_web::{RequestId as SpanRequestId, RootSpanBuilder};

use crate::domain::ids::RequestId;

/// The longest id of a caller's that is kept; the rest is cut off.
const MOST: usize = 128;

/// A request's ids, in its extensions.
#[derive(Clone, Debug)]
pub struct RequestIds {
    /// Ours, as `x-request-id` tells it.
    pub request_id: RequestId,
    /// The caller's `x-request-id`, if it sent one that can be kept.
    pub client_request_id: Option<String>,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { request_id: RequestId::from(uuid::Uuid::nil()), client_request_id: None }
    }
}

/// Whether a path is the data plane's.
pub fn is_proxied(path: &str) -> bool {
    path.starts_with("/providers/")
}

/// The caller's own id of the request: visible ASCII, cut to 128 characters.
pub fn client_request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("x-request-id")?.to_str().ok()?;
    let kept: String = text.chars().filter(char::is_ascii_graphic).take(MOST).collect();
    (!kept.is_empty()).then_some(kept)
}

/// Opens the span that everything logged about a request stands in. It names ids, method, route
/// and status; never a header, a query or a body.
#[derive(Debug)]
pub struct RequestSpan;

impl RootSpanBuilder for RequestSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let request_id = request.extensions().get::<SpanRequestId>().map(|id| **id);
        let ids = RequestIds {
            request_id: RequestId::from(request_id.unwrap_or_default()),
            client_request_id: client_request_id(request.headers()),
        };
        let span = if is_proxied(request.path()) {
            // The data plane tells each request in one line that holds the ids itself, so a span
            // is only worth its price when somebody looks closer.
            tracing::debug_span!(
                "request",
                request_id = %ids.request_id,
                client_request_id = ids.client_request_id.as_deref(),
                method = %request.method(),
            )
        } else {
            tracing::info_span!(
                "request",
                request_id = %ids.request_id,
                client_request_id = ids.client_request_id.as_deref(),
                method = %request.method(),
                route = tracing::field::Empty,
                status = tracing::field::Empty,
            )
        };
        request.extensions_mut().insert(ids);
        span
    }

    fn on_request_end<B: MessageBody>(
        span: Span,
        outcome: &Result<ServiceResponse<B>, actix_web::Error>,
    ) {
        match outcome {
            // Matching the route once more would cost as much as routing.
            Ok(response) if is_proxied(response.request().path()) => {}
            Ok(response) => {
                if let Some(route) = response.request().match_pattern() {
                    span.record("route", route);
                }
                span.record("status", response.status().as_u16());
            }
            Err(error) => {
                span.record("status", error.as_response_error().status_code().as_u16());
            }
        }
    }
}
