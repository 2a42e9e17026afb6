//! Attempts: the request is sent to one target after another; what to do when that fails. A redirect
//! is a failure.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;

use super::DataPlane;
use super::concurrency::ConcurrencyPermit;
use super::context::RequestContext;
use super::error::ProxyError;
use super::relay::Answer;
use super::route::ProxyRoute;
use super::target::Target;
use crate::accounting::budget::Share;
use crate::accounting::request::AccountedRequest;
use crate::accounting::sent_body::SentBody;
use crate::upstream::{PreparedRequest, UpstreamClient, UpstreamError, UpstreamResponse};

/// Sends the request to the targets in turn, until one of them answers.
pub async fn first_answer(
    plane: &DataPlane,
    client: &UpstreamClient,
    caller: &HttpRequest,
    route: ProxyRoute,
    targets: &[Target<'_>],
    mut body_share: Option<Share>,
    context: &mut RequestContext,
) -> Result<Answer, ProxyError> {
    let mut failure = ProxyError::Internal;
    for (place, target) in targets.iter().enumerate() {
        let permit = enter(plane, target)?;
        let credentials = target.upstream.open(&plane.keyring).map_err(|unavailable| {
            context.request.record().cause = Some(unavailable.to_string());
            ProxyError::SecretUnavailable { name: unavailable.name }
        })?;
        let body = target.body();
        let request =
            target.request(caller, &route, credentials.headers, body.clone(), plane.timeouts);
        let request = client.prepare(request).map_err(|error| {
            context.request.record().cause = Some(error.to_string());
            error_for(&error)
        })?;
        // The body's share of the memory goes with the last attempt.
        let is_last = place + 1 == targets.len();
        let share = if is_last { body_share.take() } else { None };
        let sent = SentBody::Whole(body, share);
        match send(client, &request, target, sent, &mut context.request).await {
            Ok(response) => {
                return Ok(Answer {
                    response,
                    operation: route.operation,
                    is_stream_expected: target.is_stream_expected,
                    withhold_usage: target.withhold_usage,
                    secrets: credentials.secrets,
                    permit,
                });
            }
            Err(error) => failure = error,
        }
        if !is_last {
            context.request.end_for_retry();
        }
    }
    Err(failure)
}

/// Takes one of the upstream's `max_concurrent_requests` places.
fn enter(plane: &DataPlane, target: &Target<'_>) -> Result<ConcurrencyPermit, ProxyError> {
    let upstream = target.upstream;
    plane
        .concurrency
        .enter(upstream.id, upstream.max_concurrent_requests)
        .ok_or_else(|| ProxyError::ConcurrencyLimited { name: upstream.name.to_string() })
}

/// Sends the request; once more if it ran into a connection that the upstream had just closed.
async fn send(
    client: &UpstreamClient,
    request: &PreparedRequest,
    target: &Target<'_>,
    sent: SentBody,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, ProxyError> {
    let target = target.facts();
    accounted.begin_attempt(&target, sent).map_err(|_| ProxyError::JournalFull)?;
    let failure = match client.send(request).await {
        Ok(response) => return refuse_redirect(response, request, accounted),
        Err(failure) => failure,
    };
    accounted.attempt_failed(failure.error.reason(), failure.error.to_string());
    if !failure.is_stale_connection() {
        return Err(error_for(&failure.error));
    }
    accounted.end_for_retry();
    accounted.begin_again(&target).map_err(|_| ProxyError::JournalFull)?;
    match client.send(request).await {
        Ok(response) => refuse_redirect(response, request, accounted),
        Err(failure) => {
            accounted.attempt_failed(failure.error.reason(), failure.error.to_string());
            Err(error_for(&failure.error))
        }
    }
}

/// Refuses a redirect: an SDK would follow it with the prompt, and with the key unless that is in
/// `Authorization`. The answer to the caller's own conditional GET is no redirect (RFC 9110, section 15.4.5).
fn refuse_redirect(
    response: UpstreamResponse,
    request: &PreparedRequest,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, ProxyError> {
    let is_own_304 = || response.status == StatusCode::NOT_MODIFIED && request.is_conditional_get();
    if response.status.is_redirection() && !is_own_304() {
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
