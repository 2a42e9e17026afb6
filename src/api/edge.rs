//! The edge of the management plane: requests under `/api/v1` are authenticated before anything of
//! them is read; on the way out, errors get their request's id and their one line in the log, and a
//! defect in a handler is an answer like any other.

use std::panic::AssertUnwindSafe;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::{InternalError, PathError};
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, web};
use futures_util::FutureExt;

use super::error::{ApiError, respond};
use super::{Management, Offer, openapi, operations};
use crate::auth::authenticate;
use crate::telemetry::requests::{ErrorCode, RequestIds};

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Goes around everything under `/api/v1`. Authenticates before anything is read: who has no key is
/// told so, whatever else is wrong with the request.
pub(super) async fn edge(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = request_id(request.request());
    let Some(plane) = request.app_data::<web::Data<Management>>().cloned() else {
        let error = ApiError::Internal("the management plane has no state".to_owned());
        return Ok(request.into_response(failed(&error, id)));
    };
    match authenticate(request.headers(), &plane.directory, &plane.clock).await {
        Ok(principal) => request.extensions_mut().insert(principal),
        Err(error) => return Ok(request.into_response(failed(&error.into(), id))),
    };
    let mut response = match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(Ok(response)) => response.map_into_boxed_body(),
        Ok(Err(error)) => match error.as_error::<ApiError>() {
            Some(told) => return Err(answer_of(failed(told, id))),
            None => return Err(error),
        },
        Err(panic) => {
            let said = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            let cause = format!("a handler panicked: {}", said.unwrap_or_default());
            return Err(answer_of(failed(&ApiError::Internal(cause), id)));
        }
    };
    let told = response.response().error().and_then(|error| error.as_error::<ApiError>());
    if let Some(answer) = told.map(|error| failed(error, id)) {
        response = response.into_response(answer);
    }
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    Ok(response)
}

/// The answer for paths and methods that nobody serves.
pub(super) async fn not_found(request: HttpRequest) -> HttpResponse {
    let offered = match request.app_data::<Offer>() {
        Some(Offer::Health) => operations::is_health(request.path()),
        Some(Offer::Everything | Offer::AdminPort) | None => true,
    };
    let allowed = if offered { openapi::methods(request.path()) } else { Vec::new() };
    let error = if allowed.is_empty() || allowed.contains(&request.method().as_str()) {
        ApiError::NotFound("path")
    } else {
        ApiError::MethodNotAllowed(allowed)
    };
    failed(&error, request_id(&request))
}

/// The answer for an error outside the scope that [`edge`] goes around.
pub(super) fn fail(request: &HttpRequest, error: &ApiError) -> HttpResponse {
    failed(error, request_id(request))
}

/// A path whose parts are not what they should be names nothing.
pub(super) fn path_errors() -> web::PathConfig {
    web::PathConfig::default().error_handler(|_: PathError, _| ApiError::NotFound("path").into())
}

fn request_id(request: &HttpRequest) -> Option<String> {
    request.extensions().get::<RequestIds>().map(|ids| ids.request_id.to_string())
}

/// Makes the answer and logs the failure. What a caller got wrong is told by its code and fields
/// alone: a message may quote what was sent.
fn failed(error: &ApiError, request_id: Option<String>) -> HttpResponse {
    let problem = error.problem(None);
    match error {
        ApiError::Internal(cause) | ApiError::Unavailable(cause) => {
            tracing::warn!(
                code = problem.code,
                status = problem.status,
                cause,
                "management request failed"
            );
        }
        _ if problem.status >= 500 => {
            tracing::warn!(
                code = problem.code,
                status = problem.status,
                cause = %error,
                "management request failed"
            );
        }
        _ => {
            let fields: Vec<&str> =
                problem.errors.iter().map(|error| error.field.as_str()).collect();
            tracing::debug!(
                code = problem.code,
                status = problem.status,
                ?fields,
                "management request refused"
            );
        }
    }
    let mut response = respond(error, request_id);
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response.extensions_mut().insert(ErrorCode(problem.code));
    response
}

fn answer_of(response: HttpResponse) -> Error {
    InternalError::from_response("answered", response).into()
}
