//! What surrounds every handler of the management plane. Requests under `/api/v1` are authenticated
//! before anything of them is read; errors get the id of their request and one line in the log; a
//! panic in a handler is answered with 500.

use std::panic::AssertUnwindSafe;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::{InternalError, PathError};
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, web};
use futures_util::FutureExt;

use super::Management;
use super::access::AuthenticatedAt;
use super::error::{ApiError, respond};
use crate::auth::authenticate;
use crate::telemetry::request_ids::{ErrorCode, RequestIds};

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The middleware of `/api/v1`. It authenticates first: a caller without a valid key is told that,
/// whatever else is wrong with the request.
pub(super) async fn authenticate_and_render_errors(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = request_id(request.request());
    let Some(plane) = request.app_data::<web::Data<Management>>().cloned() else {
        let error = ApiError::Internal("the management plane has no state".to_owned());
        return Ok(request.into_response(log_and_render(&error, id)));
    };
    let at = AuthenticatedAt(plane.directory.changes());
    match authenticate(request.headers(), &plane.directory, &plane.clock).await {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            request.extensions_mut().insert(at);
        }
        Err(error) => return Ok(request.into_response(log_and_render(&error.into(), id))),
    };
    let mut response = match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(Ok(response)) => response.map_into_boxed_body(),
        Ok(Err(error)) => match error.as_error::<ApiError>() {
            Some(api_error) => return Err(as_error(log_and_render(api_error, id))),
            None => return Err(error),
        },
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            let cause = format!("a handler panicked: {}", message.unwrap_or_default());
            return Err(as_error(log_and_render(&ApiError::Internal(cause), id)));
        }
    };
    let error = response.response().error().and_then(|error| error.as_error::<ApiError>());
    if let Some(rendered) = error.map(|error| log_and_render(error, id)) {
        response = response.into_response(rendered);
    }
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    Ok(response)
}

/// The response to a path that nothing is served at.
pub async fn not_found(request: HttpRequest) -> HttpResponse {
    error_response(&request, &ApiError::NotFound("path"))
}

/// The response to an error, for code that the middleware does not surround.
pub(super) fn error_response(request: &HttpRequest, error: &ApiError) -> HttpResponse {
    log_and_render(error, request_id(request))
}

/// A finished response as an error of actix.
pub(super) fn as_error(response: HttpResponse) -> Error {
    InternalError::from_response("the response is complete", response).into()
}

/// A path whose parameters can't be decoded does not exist.
pub(super) fn path_errors() -> web::PathConfig {
    web::PathConfig::default().error_handler(|_: PathError, _| ApiError::NotFound("path").into())
}

fn request_id(request: &HttpRequest) -> Option<String> {
    request.extensions().get::<RequestIds>().map(|ids| ids.request_id.to_string())
}

/// A caller's mistake is logged with its code and fields only: a message may quote what was sent.
fn log_and_render(error: &ApiError, request_id: Option<String>) -> HttpResponse {
    let problem = error.problem(request_id);
    if problem.status >= 500 {
        tracing::warn!(
            code = problem.code,
            status = problem.status,
            cause = %error,
            "management request failed"
        );
    } else {
        let fields: Vec<&str> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        tracing::debug!(
            code = problem.code,
            status = problem.status,
            ?fields,
            "management request refused"
        );
    }
    let mut response = respond(error, &problem);
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response.extensions_mut().insert(ErrorCode(problem.code));
    response
}
