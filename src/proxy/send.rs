//! Sending, and what to do when that fails: once more, or an answer of our own.

use actix_web::http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH};
use actix_web::http::{Method, StatusCode};

use super::error::ProxyError;
use crate::accounting::request::AccountedRequest;
use crate::upstream::{UpstreamClient, UpstreamError, UpstreamRequest, UpstreamResponse};

/// Sends the request; once more if it ran into a connection that the upstream had just given up.
pub async fn send(
    client: &UpstreamClient,
    request: &UpstreamRequest,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, ProxyError> {
    accounted.begin_attempt().map_err(|_| ProxyError::JournalFull)?;
    let failure = match client.send(request).await {
        Ok(response) => return accept(response, request, accounted),
        Err(failure) => failure,
    };
    accounted.attempt_failed(failure.error.reason(), failure.error.to_string());
    if !failure.is_stale_connection() {
        return Err(error_for(&failure.error));
    }
    accounted.retry();
    accounted.begin_attempt().map_err(|_| ProxyError::JournalFull)?;
    match client.send(request).await {
        Ok(response) => accept(response, request, accounted),
        Err(failure) => {
            accounted.attempt_failed(failure.error.reason(), failure.error.to_string());
            Err(error_for(&failure.error))
        }
    }
}

/// Refuses a redirect. SDKs follow one with the prompt, and with a key in a header of its own. The
/// answer to the caller's own conditional GET is no redirect (RFC 9110, section 15.4.5).
fn accept(
    response: UpstreamResponse,
    request: &UpstreamRequest,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, ProxyError> {
    let is_conditional = request.method == Method::GET
        && [IF_NONE_MATCH, IF_MODIFIED_SINCE].iter().any(|name| request.headers.contains_key(name));
    let is_own_304 = response.status == StatusCode::NOT_MODIFIED && is_conditional;
    if response.status.is_redirection() && !is_own_304 {
        accounted.attempt_failed("redirect", format!("status {}", response.status.as_u16()));
        return Err(ProxyError::UpstreamRedirect);
    }
    Ok(response)
}

/// What the caller is told of a failure upstream.
pub fn error_for(error: &UpstreamError) -> ProxyError {
    match error {
        UpstreamError::Refused(_) => ProxyError::EgressRefused,
        UpstreamError::Resolve(_) => ProxyError::UpstreamUnresolved,
        UpstreamError::Connect(_) => ProxyError::UpstreamUnreachable,
        UpstreamError::ConnectTimeout => ProxyError::ConnectTimeout,
        UpstreamError::Tls(_) => ProxyError::UpstreamTls,
        UpstreamError::FirstByteTimeout => ProxyError::FirstByteTimeout,
        UpstreamError::IdleTimeout => ProxyError::IdleTimeout,
        UpstreamError::Closed => ProxyError::UpstreamDied,
        UpstreamError::Protocol(_) => ProxyError::UpstreamInvalid,
        UpstreamError::InvalidRequest(_) => ProxyError::Internal,
    }
}
