//! One target of a request: what is prepared for it, sent to it, and made of its answer. A redirect is a
//! failure.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;

use super::Attempts;
use super::failure::{FailedAttempt, failed};
use crate::accounting::budget::Share;
use crate::accounting::journal::JournalFull;
use crate::accounting::request::AccountedRequest;
use crate::accounting::sent_body::SentBody;
use crate::credentials::cloud::{CloudCall, open_cloud};
use crate::credentials::sigv4::refuses_key;
use crate::credentials::token_cache::CachedToken;
use crate::credentials::{CredentialError, Opened, open};
use crate::crypto::SecretBytes;
use crate::directory::upstream_entry::{Address, UpstreamEntry};
use crate::domain::provider::{Provider, UpstreamApi, UpstreamId};
use crate::json::object::BodyPieces;
use crate::llm::provider_error::ErrorCause;
use crate::proxy::DataPlane;
use crate::proxy::answer_reader::is_compressed;
use crate::proxy::concurrency::ConcurrencyPermit;
use crate::proxy::context::RequestContext;
use crate::proxy::error::{ProxyError, RefusedCredential};
use crate::proxy::prologue::read_cause;
use crate::proxy::route::UpstreamName;
use crate::proxy::target::Target;
use crate::upstream::{PreparedRequest, UpstreamClient, UpstreamResponse};

/// A request that can be sent at once.
pub(super) struct Ready {
    request: PreparedRequest,
    body: BodyPieces,
    secrets: Vec<SecretBytes>,
    /// The OAuth token among them.
    token: Option<CachedToken>,
    /// Whether the credential is one of the gateway's, and not the caller's own.
    is_stored: bool,
    /// The time is part of its signature.
    is_signed: bool,
}

impl Attempts<'_> {
    /// Sends the request to one target; once more if it ran into a connection that the upstream had just
    /// closed, which `may_retry` allows once in a request. An OAuth token that the upstream refuses is
    /// replaced once. Gives the answer, and what of the request must not reach the caller.
    pub(super) async fn send(
        &self,
        target: &Target<'_>,
        mut ready: Box<Ready>,
        share: Option<Arc<Share>>,
        is_last: bool,
        may_retry: &mut bool,
        context: &mut RequestContext,
    ) -> Result<(UpstreamResponse, Vec<SecretBytes>), FailedAttempt> {
        let sent = SentBody::Whole(std::mem::take(&mut ready.body), share);
        let mut outcome = send(self.client, &ready, target, sent, &mut context.request).await;
        if let Err(FailedAttempt { is_stale: true, .. }) = outcome
            && *may_retry
            && self.sign_anew(&mut ready, target, is_last, context).await
        {
            *may_retry = false;
            context.request.end_for_next(None);
            outcome = send_again(self.client, &ready, target, &mut context.request).await;
        }
        if let Err(FailedAttempt { status: Some(401), .. }) = outcome
            && let Some(token) = ready.token.take()
        {
            token.forget();
            // Boxed, so that it takes no room in the requests whose token is good.
            if *may_retry
                && let Some(renewed) = Box::pin(self.renew(target, is_last, context)).await
            {
                *may_retry = false;
                ready = renewed;
                context.request.end_for_next(Some(401));
                outcome = send_again(self.client, &ready, target, &mut context.request).await;
            }
        }
        let mut response = outcome?;
        if ready.is_stored && may_refuse_credential(&response, target) {
            // Nothing is charged for it if the caller leaves before it is read.
            context.request.record().upstream_status = Some(response.status.as_u16());
            // Boxed, so that it takes no room in the requests that are answered otherwise.
            let cause = Box::pin(read_cause(&mut response, target.operation.error_format())).await;
            context.request.record().upstream_status = None;
            if cause == ErrorCause::Credential
                && let Some(failed) =
                    credential_refused(&response, &ready, target, &mut context.request)
            {
                return Err(failed);
            }
        }
        Ok((response, ready.secrets))
    }

    pub(super) async fn enter_and_prepare(
        &self,
        target: &Target<'_>,
        is_last: bool,
        context: &mut RequestContext,
    ) -> Result<(Box<Ready>, ConcurrencyPermit), ProxyError> {
        let permit = enter(self.plane, target)?;
        Ok((self.prepare(target, is_last, context).await?, permit))
    }

    /// Everything that can go wrong before the request is sent.
    async fn prepare(
        &self,
        target: &Target<'_>,
        is_last: bool,
        context: &mut RequestContext,
    ) -> Result<Box<Ready>, ProxyError> {
        let opened = self.open(target).await;
        let Opened { base_url, credentials, token, signer, .. } = opened.map_err(|error| {
            context.request.record().cause = Some(error.to_string());
            ProxyError::from(error)
        })?;
        let body = target.body();
        let (headers, timeouts) = (credentials.headers, self.plane.timeouts);
        let sent = match self.unparsed.take() {
            Some(unparsed) => unparsed,
            None => body.clone().into(),
        };
        let to = (self.route, &*base_url);
        let mut request = target.request(self.caller, to, headers, sent, timeouts);
        let own = self.chain.as_ref().and_then(|chain| chain.triggers.first_byte_timeout_ms);
        if let Some(millis) = own.filter(|_| !is_last) {
            request.timeouts.first_byte = Duration::from_millis(u64::from(millis));
        }
        let signed = match &signer {
            Some(signer) => signer.sign(&mut request, self.plane.clock.now()),
            None => Ok(()),
        };
        let prepared = signed.and_then(|()| self.client.prepare(request));
        let request = prepared.map_err(|error| {
            context.request.record().cause = Some(error.to_string());
            ProxyError::from(&error)
        })?;
        let (is_stored, is_signed) = (self.subscription.is_none(), signer.is_some());
        let secrets = credentials.secrets;
        Ok(Box::new(Ready { request, body, secrets, token, is_stored, is_signed }))
    }

    /// Opens what the target is called with.
    async fn open<'t>(&self, target: &Target<'t>) -> Result<Opened<'t>, CredentialError> {
        let (entry, client) = (target.upstream, self.client);
        let DataPlane { keyring, tokens, .. } = self.plane;
        match (&entry.address, self.subscription) {
            (Address::Fixed(base_url), Some(own)) => {
                Ok(Opened::new(Cow::Borrowed(base_url), own.credentials()))
            }
            (Address::Fixed(base_url), None) => {
                let mut opened = open(entry, base_url, keyring, tokens, client).await?;
                if let Some(version) = self.version_of(entry) {
                    opened.base_url = Cow::Owned(base_url.with_last_segment(version));
                }
                Ok(opened)
            }
            (Address::Cloud(access), _) => {
                let (operation, place) = (&target.operation, self.route.place.as_ref());
                let call = CloudCall { entry, access, operation, place, keyring, tokens, client };
                // Boxed, so that it takes no room in the requests to other providers.
                Box::pin(open_cloud(&call)).await
            }
        }
    }

    /// The version of Google's API in the path of a call of it, if that is not the usual one.
    fn version_of(&self, entry: &UpstreamEntry) -> Option<&'static str> {
        let is_called = self.route.upstream == UpstreamName::Provider(Provider::Gemini);
        let is_target = entry.id == UpstreamId::Provider(Provider::Gemini);
        self.route.place.as_ref().filter(|_| is_called && is_target)?.version
    }

    /// Signs the request anew, if it is signed at all; false if that fails. The attempt before, which is still
    /// open, may be billed.
    async fn sign_anew(
        &self,
        ready: &mut Ready,
        target: &Target<'_>,
        is_last: bool,
        context: &mut RequestContext,
    ) -> bool {
        if !ready.is_signed {
            return true;
        }
        // Boxed, so that it takes no room in the requests that are sent once.
        let signed = Box::pin(self.prepare(target, is_last, context)).await;
        signed.map(|signed| *ready = *signed).is_ok()
    }

    /// The request with another OAuth token, after the upstream has refused the one before.
    async fn renew(
        &self,
        target: &Target<'_>,
        is_last: bool,
        context: &mut RequestContext,
    ) -> Option<Box<Ready>> {
        // Nothing is charged for the refused attempt if the caller leaves meanwhile.
        context.request.record().status = Some(401);
        let renewed = self.prepare(target, is_last, context).await;
        context.request.record().status = None;
        renewed.ok()
    }
}

/// Takes one of the upstream's `max_concurrent_requests` places.
fn enter(plane: &DataPlane, target: &Target<'_>) -> Result<ConcurrencyPermit, ProxyError> {
    let upstream = target.upstream;
    plane
        .concurrency
        .enter(upstream.id, upstream.max_concurrent_requests)
        .ok_or_else(|| ProxyError::ConcurrencyLimited { name: upstream.name.to_string() })
}

/// Sends the request in a first attempt at the target.
async fn send(
    client: &UpstreamClient,
    ready: &Ready,
    target: &Target<'_>,
    sent: SentBody,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, FailedAttempt> {
    accounted.begin_attempt(&target.facts(), sent).map_err(journal_full)?;
    send_begun(client, ready, target, accounted).await
}

/// Sends the body that was sent last in a further attempt.
async fn send_again(
    client: &UpstreamClient,
    ready: &Ready,
    target: &Target<'_>,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, FailedAttempt> {
    accounted.begin_again(&target.facts()).map_err(journal_full)?;
    send_begun(client, ready, target, accounted).await
}

async fn send_begun(
    client: &UpstreamClient,
    ready: &Ready,
    target: &Target<'_>,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, FailedAttempt> {
    match client.send(&ready.request).await {
        Ok(response) => refuse(response, ready, target, accounted),
        Err(failure) => {
            accounted.attempt_failed(failure.error.reason(), failure.error.to_string());
            Err(FailedAttempt { is_stale: failure.is_stale_connection(), ..failed(&failure.error) })
        }
    }
}

fn journal_full(_: JournalFull) -> FailedAttempt {
    FailedAttempt::unsent(ProxyError::JournalFull)
}

/// Refuses an answer that is not the caller's.
fn refuse(
    response: UpstreamResponse,
    ready: &Ready,
    target: &Target<'_>,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, FailedAttempt> {
    let response = refuse_redirect(response, &ready.request, accounted)?;
    let response = refuse_credential(response, ready, target, accounted)?;
    refuse_unreadable(response, target, accounted)
}

/// Refuses an answer that would have to be converted and can't be read.
fn refuse_unreadable(
    response: UpstreamResponse,
    target: &Target<'_>,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, FailedAttempt> {
    let UpstreamResponse { status, headers, .. } = &response;
    if target.conversion.is_none() || !status.is_success() || !is_compressed(headers) {
        return Ok(response);
    }
    let status = status.as_u16();
    accounted.refused(status, "answer_unreadable", "compressed".to_owned());
    accounted.answer.is_unreadable = true;
    let error = ProxyError::UpstreamUnreadable;
    Err(FailedAttempt { error, status: Some(status), may_be_billed: true, is_stale: false })
}

/// Refuses a redirect: an SDK would follow it with the prompt, and with the key unless that is in
/// `Authorization`. The answer to the caller's own conditional GET is no redirect (RFC 9110, section 15.4.5).
fn refuse_redirect(
    response: UpstreamResponse,
    request: &PreparedRequest,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, FailedAttempt> {
    let is_own_304 = || response.status == StatusCode::NOT_MODIFIED && request.is_conditional_get();
    if response.status.is_redirection() && !is_own_304() {
        let status = response.status.as_u16();
        accounted.refused(status, "redirect", format!("status {status}"));
        let error = ProxyError::UpstreamRedirect;
        return Err(FailedAttempt {
            error,
            status: Some(status),
            may_be_billed: false,
            is_stale: false,
        });
    }
    Ok(response)
}

/// Refuses an upstream's 401, and AWS's 403 about the key: the caller, whose own key is good, would look for
/// the mistake in it.
fn refuse_credential(
    response: UpstreamResponse,
    ready: &Ready,
    target: &Target<'_>,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, FailedAttempt> {
    let UpstreamResponse { status, headers, .. } = &response;
    let is_refused = *status == StatusCode::UNAUTHORIZED || refuses_key(*status, headers);
    let failed = is_refused.then(|| credential_refused(&response, ready, target, accounted));
    failed.flatten().map_or(Ok(response), Err)
}

/// Whether the body may say that the answer is about the credential: a 403, and Google's answer to an
/// unknown key.
fn may_refuse_credential(response: &UpstreamResponse, target: &Target<'_>) -> bool {
    let is_google =
        || matches!(target.upstream.provider.api(), UpstreamApi::Gemini | UpstreamApi::Vertex);
    match response.status {
        StatusCode::FORBIDDEN => true,
        StatusCode::BAD_REQUEST => is_google(),
        _ => false,
    }
}

/// The failure of an attempt whose credential was refused, unless that is none of the gateway's.
fn credential_refused(
    response: &UpstreamResponse,
    ready: &Ready,
    target: &Target<'_>,
    accounted: &mut AccountedRequest,
) -> Option<FailedAttempt> {
    let refused = match (&ready.token, target.upstream.secret_name()) {
        _ if !ready.is_stored => return None,
        (Some(token), _) => RefusedCredential::TokenFrom(token.host().to_owned()),
        (None, Some(name)) => RefusedCredential::Secret(name.to_string()),
        (None, None) => return None,
    };
    let cause = match &refused {
        RefusedCredential::Secret(name) => format!("secret {name}"),
        RefusedCredential::TokenFrom(host) => format!("token from {host}"),
    };
    let status = response.status.as_u16();
    accounted.refused(status, "credential_refused", cause);
    let error = ProxyError::CredentialRefused(refused);
    Some(FailedAttempt { error, status: Some(status), may_be_billed: false, is_stale: false })
}
