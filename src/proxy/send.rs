//! Sending, and what to do when that fails: once more, or an answer of our own.

use super::error::ProxyError;
use super::exchange::Exchange;
use crate::upstream::{UpstreamClient, UpstreamError, UpstreamRequest, UpstreamResponse};

/// Sends the request; once more if it ran into a connection that the upstream had just given up.
pub async fn send(
    client: &UpstreamClient,
    request: &UpstreamRequest,
    exchange: &mut Exchange,
) -> Result<UpstreamResponse, ProxyError> {
    exchange.attempt_begins()?;
    let failure = match client.send(request).await {
        Ok(response) => return Ok(response),
        Err(failure) => failure,
    };
    exchange.attempt_failed(failure.error.reason(), failure.error.to_string());
    if !failure.is_stale_connection() {
        return Err(told(&failure.error));
    }
    exchange.retried();
    exchange.attempt_begins()?;
    match client.send(request).await {
        Ok(response) => {
            exchange.code = None;
            exchange.cause = None;
            Ok(response)
        }
        Err(failure) => {
            exchange.attempt_failed(failure.error.reason(), failure.error.to_string());
            Err(told(&failure.error))
        }
    }
}

/// What the caller is told of a failure upstream.
pub fn told(error: &UpstreamError) -> ProxyError {
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
