//! Attempts: the request is sent to one target after another; what to do when that fails. A redirect
//! is a failure.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, RETRY_AFTER};

use super::DataPlane;
use super::candidates::key_of;
use super::concurrency::ConcurrencyPermit;
use super::context::RequestContext;
use super::cool_down::{CoolDownKey, Failure};
use super::error::{ProxyError, RefusedCredential};
use super::relay::Answer;
use super::route::ProxyRoute;
use super::target::Target;
use crate::accounting::budget::Share;
use crate::accounting::journal::JournalFull;
use crate::accounting::request::AccountedRequest;
use crate::accounting::sent_body::SentBody;
use crate::credentials::token_cache::CachedToken;
use crate::credentials::{CredentialError, Opened, open};
use crate::crypto::SecretBytes;
use crate::domain::policy::Subject;
use crate::domain::scope::WorkspaceScope;
use crate::json::object::BodyPieces;
use crate::policy::set::Chain;
use crate::upstream::{PreparedRequest, UpstreamClient, UpstreamError, UpstreamResponse};

/// What all attempts of a request have in common.
pub struct Attempts<'r> {
    pub plane: &'r DataPlane,
    pub client: &'r UpstreamClient,
    pub caller: &'r HttpRequest,
    pub route: &'r ProxyRoute,
    pub subject: Subject<'r>,
    /// What the targets are of, if they are more than one.
    pub chain: Option<Arc<Chain>>,
}

/// A request that can be sent at once.
struct Ready {
    request: PreparedRequest,
    body: BodyPieces,
    secrets: Vec<SecretBytes>,
    /// The OAuth token among them.
    token: Option<CachedToken>,
}

/// Why an attempt brought no answer that is relayed.
struct Failed {
    error: ProxyError,
    /// The upstream's, if it has answered.
    status: Option<u16>,
    /// Whether the upstream may have worked on the request, and bill it.
    may_be_billed: bool,
}

impl Failed {
    /// Nothing was sent.
    fn unsent(error: ProxyError) -> Self {
        Self { error, status: None, may_be_billed: false }
    }
}

/// What the last attempt brought.
enum Last {
    /// An answer, which is relayed unless there is a better one.
    Answer(Box<Answer>),
    Failed(Failed),
}

impl Attempts<'_> {
    /// Sends the request to the targets in turn, until one of them answers. If none does, what the last
    /// one brought is the answer.
    pub async fn first_answer(
        &self,
        targets: &[Target<'_>],
        body_share: Option<Share>,
        context: &mut RequestContext,
    ) -> Result<Answer, ProxyError> {
        // Until the last attempt has ended.
        let share = body_share.map(Arc::new);
        let mut last = Last::Failed(Failed::unsent(ProxyError::Internal));
        let mut may_retry = true;
        for (place, target) in targets.iter().enumerate() {
            let is_last = place + 1 == targets.len();
            let prepared = match enter(self.plane, target) {
                Ok(permit) => {
                    self.prepare(target, is_last, context).await.map(|ready| (ready, permit))
                }
                Err(error) => Err(error),
            };
            let (mut ready, permit) = match prepared {
                Ok(prepared) => prepared,
                // A target that can't even be tried makes no answer worse.
                Err(_) if context.request.record().attempts > 0 => continue,
                Err(error) => {
                    last = Last::Failed(Failed::unsent(error));
                    continue;
                }
            };
            if context.request.record().attempts > 0 && !self.next(target, &last, context).await {
                break;
            }
            let sent = SentBody::Whole(std::mem::take(&mut ready.body), share.clone());
            let mut outcome =
                send(self.client, &ready, target, sent, &mut may_retry, &mut context.request).await;
            if let Err(Failed { status: Some(401), .. }) = outcome
                && let Some(token) = ready.token.take()
            {
                token.forget();
                if may_retry && let Some(renewed) = self.renew(target, is_last, context).await {
                    may_retry = false;
                    ready = renewed;
                    context.request.end_for_next(Some(401));
                    outcome = send_again(self.client, &ready, target, &mut context.request).await;
                }
            }
            last = match outcome {
                Ok(response) => {
                    let status = response.status.as_u16();
                    let leads_on =
                        self.chain.as_ref().is_some_and(|chain| chain.triggers.include(status));
                    self.note(target, &response);
                    let answer = Answer {
                        response,
                        operation: self.route.operation.clone(),
                        is_stream_expected: target.is_stream_expected,
                        withhold_usage: target.withhold_usage,
                        secrets: ready.secrets,
                        permit,
                        served_by: self.chain.is_some().then(|| target.served_by()),
                    };
                    if !leads_on {
                        return Ok(answer);
                    }
                    Last::Answer(Box::new(answer))
                }
                Err(failed) => {
                    self.note_failure(target, failed.status, None);
                    let is_final = matches!(failed.error, ProxyError::JournalFull);
                    let failed = Last::Failed(failed);
                    if is_final {
                        last = failed;
                        break;
                    }
                    failed
                }
            };
        }
        match last {
            Last::Answer(answer) => Ok(*answer),
            Last::Failed(Failed { error, .. }) => Err(error),
        }
    }

    /// Ends the attempt before, if a further one at this target may be made: what the last one may
    /// still be billed stays reserved, and this one's most is reserved on top.
    async fn next(&self, target: &Target<'_>, last: &Last, context: &mut RequestContext) -> bool {
        let request = &mut context.request;
        let status = match last {
            Last::Answer(answer) => Some(answer.response.status.as_u16()),
            Last::Failed(failed) => {
                if failed.may_be_billed
                    && let Err(denied) = request.reserve_more(self.subject, &target.facts()).await
                {
                    request.record().violated = denied.violated;
                    return false;
                }
                failed.status
            }
        };
        request.end_for_next(status);
        true
    }

    /// Everything that can go wrong before the request is sent.
    async fn prepare(
        &self,
        target: &Target<'_>,
        is_last: bool,
        context: &mut RequestContext,
    ) -> Result<Ready, ProxyError> {
        let DataPlane { keyring, tokens, timeouts, .. } = self.plane;
        let opened = open(target.upstream, keyring, tokens, self.client).await;
        let Opened { credentials, token, .. } = opened.map_err(|error| {
            context.request.record().cause = Some(error.to_string());
            match error {
                CredentialError::Secret(error) => {
                    ProxyError::SecretUnavailable { name: error.name }
                }
                CredentialError::Token(failure) => {
                    ProxyError::TokenUnavailable { host: failure.host }
                }
            }
        })?;
        let body = target.body();
        let headers = credentials.headers;
        let mut request = target.request(self.caller, self.route, headers, body.clone(), *timeouts);
        let own = self.chain.as_ref().and_then(|chain| chain.triggers.first_byte_timeout_ms);
        if let Some(millis) = own.filter(|_| !is_last) {
            request.timeouts.first_byte = Duration::from_millis(u64::from(millis));
        }
        let request = self.client.prepare(request).map_err(|error| {
            context.request.record().cause = Some(error.to_string());
            error_for(&error)
        })?;
        Ok(Ready { request, body, secrets: credentials.secrets, token })
    }

    /// The request with another OAuth token, after the upstream has refused the one before.
    async fn renew(
        &self,
        target: &Target<'_>,
        is_last: bool,
        context: &mut RequestContext,
    ) -> Option<Ready> {
        // Nothing is charged for the refused attempt if the caller leaves meanwhile.
        context.request.record().status = Some(401);
        let renewed = self.prepare(target, is_last, context).await;
        context.request.record().status = None;
        renewed.ok()
    }

    /// Remembers how a target of a chain did.
    fn note(&self, target: &Target<'_>, response: &UpstreamResponse) {
        let status = response.status.as_u16();
        if status >= 400 {
            self.note_failure(target, Some(status), retry_after(&response.headers));
        } else if let Some(key) = self.cool_down_key(target) {
            self.plane.cool_downs.clear(&key);
        }
    }

    fn note_failure(
        &self,
        target: &Target<'_>,
        status: Option<u16>,
        retry_after: Option<Duration>,
    ) {
        let failure = match status {
            Some(status) => Failure::Status { status, retry_after },
            None => Failure::NoAnswer,
        };
        if let Some(key) = self.cool_down_key(target) {
            self.plane.cool_downs.failed(&key, failure, self.plane.clock.now());
        }
    }

    /// Only targets of chains cool down.
    fn cool_down_key(&self, target: &Target<'_>) -> Option<CoolDownKey> {
        self.chain.as_ref()?;
        let scope = WorkspaceScope {
            organization_id: self.subject.organization_id,
            workspace_id: self.subject.workspace_id,
        };
        Some(key_of(scope, target.upstream, target.model))
    }
}

/// The seconds of `Retry-After`; the form with a date is rare, and not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Takes one of the upstream's `max_concurrent_requests` places.
fn enter(plane: &DataPlane, target: &Target<'_>) -> Result<ConcurrencyPermit, ProxyError> {
    let upstream = target.upstream;
    plane
        .concurrency
        .enter(upstream.id, upstream.max_concurrent_requests)
        .ok_or_else(|| ProxyError::ConcurrencyLimited { name: upstream.name.to_string() })
}

/// Sends the request; once more if it ran into a connection that the upstream had just closed, which
/// `may_retry` allows once in a request.
async fn send(
    client: &UpstreamClient,
    ready: &Ready,
    target: &Target<'_>,
    sent: SentBody,
    may_retry: &mut bool,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, Failed> {
    accounted.begin_attempt(&target.facts(), sent).map_err(journal_full)?;
    let failure = match client.send(&ready.request).await {
        Ok(response) => return refuse(response, ready, target, accounted),
        Err(failure) => failure,
    };
    accounted.attempt_failed(failure.error.reason(), failure.error.to_string());
    if !failure.is_stale_connection() || !std::mem::take(may_retry) {
        return Err(failed(&failure.error));
    }
    accounted.end_for_next(None);
    send_again(client, ready, target, accounted).await
}

/// Sends the body that was sent last in a further attempt.
async fn send_again(
    client: &UpstreamClient,
    ready: &Ready,
    target: &Target<'_>,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, Failed> {
    accounted.begin_again(&target.facts()).map_err(journal_full)?;
    match client.send(&ready.request).await {
        Ok(response) => refuse(response, ready, target, accounted),
        Err(failure) => {
            accounted.attempt_failed(failure.error.reason(), failure.error.to_string());
            Err(failed(&failure.error))
        }
    }
}

fn journal_full(_: JournalFull) -> Failed {
    Failed::unsent(ProxyError::JournalFull)
}

/// Refuses an answer that is not the caller's.
fn refuse(
    response: UpstreamResponse,
    ready: &Ready,
    target: &Target<'_>,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, Failed> {
    let response = refuse_redirect(response, &ready.request, accounted)?;
    refuse_credential(response, ready, target, accounted)
}

/// Refuses a redirect: an SDK would follow it with the prompt, and with the key unless that is in
/// `Authorization`. The answer to the caller's own conditional GET is no redirect (RFC 9110, section 15.4.5).
fn refuse_redirect(
    response: UpstreamResponse,
    request: &PreparedRequest,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, Failed> {
    let is_own_304 = || response.status == StatusCode::NOT_MODIFIED && request.is_conditional_get();
    if response.status.is_redirection() && !is_own_304() {
        let status = response.status.as_u16();
        accounted.attempt_failed("redirect", format!("status {status}"));
        let error = ProxyError::UpstreamRedirect;
        return Err(Failed { error, status: Some(status), may_be_billed: false });
    }
    Ok(response)
}

/// Refuses an upstream's 401: the caller, whose own key is good, would look for the mistake in it.
fn refuse_credential(
    response: UpstreamResponse,
    ready: &Ready,
    target: &Target<'_>,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, Failed> {
    if response.status != StatusCode::UNAUTHORIZED {
        return Ok(response);
    }
    let refused = match (&ready.token, target.upstream.secret_name()) {
        (Some(token), _) => RefusedCredential::TokenFrom(token.host().to_owned()),
        (None, Some(name)) => RefusedCredential::Secret(name.to_string()),
        (None, None) => return Ok(response),
    };
    let cause = match &refused {
        RefusedCredential::Secret(name) => format!("secret {name}"),
        RefusedCredential::TokenFrom(host) => format!("token from {host}"),
    };
    accounted.attempt_failed("credential_refused", cause);
    let error = ProxyError::CredentialRefused(refused);
    Err(Failed { error, status: Some(401), may_be_billed: false })
}

fn failed(error: &UpstreamError) -> Failed {
    Failed { error: error_for(error), status: None, may_be_billed: error.is_after_sending() }
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
