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
use super::cool_down::{CoolDownKey, Cooling, Failure};
use super::error::{ProxyError, RefusedCredential};
use super::prologue::{Prologue, read_prologue};
use super::relay::Answer;
use super::route::ProxyRoute;
use super::target::Target;
use crate::accounting::budget::Share;
use crate::accounting::journal::JournalFull;
use crate::accounting::request::AccountedRequest;
use crate::accounting::sent_body::SentBody;
use crate::credentials::cloud::{CloudCall, open_cloud};
use crate::credentials::sigv4::refuses_key;
use crate::credentials::token_cache::CachedToken;
use crate::credentials::{CredentialError, Opened, open};
use crate::crypto::SecretBytes;
use crate::directory::upstream_entry::Address;
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

impl Last {
    /// The upstream's status, if it has answered.
    fn status(&self) -> Option<u16> {
        match self {
            Self::Answer(answer) => Some(answer.response.status.as_u16()),
            Self::Failed(failed) => failed.status,
        }
    }

    fn may_be_billed(&self) -> bool {
        matches!(self, Self::Failed(failed) if failed.may_be_billed)
    }
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
        let (mut may_retry, mut may_be_billed) = (true, false);
        for (place, target) in targets.iter().enumerate() {
            let is_last = place + 1 == targets.len();
            let has_sent = context.request.record().attempts > 0;
            let (ready, permit) = match self.enter_and_prepare(target, is_last, context).await {
                Ok(prepared) => prepared,
                // A target that can't even be tried makes no answer worse.
                Err(_) if has_sent => continue,
                Err(error) => {
                    last = Last::Failed(Failed::unsent(error));
                    continue;
                }
            };
            if may_be_billed && !self.reserve(target, context).await {
                break;
            }
            if let Some(cooling) = self.enter_cool_down(target) {
                // Another request tries it at this moment.
                if !has_sent {
                    last = Last::Failed(Failed::unsent(cooling.into()));
                }
                continue;
            }
            if has_sent {
                context.request.end_for_next(last.status());
                // With the answer goes its connection, and its place among the upstream's requests.
                drop(std::mem::replace(
                    &mut last,
                    Last::Failed(Failed::unsent(ProxyError::Internal)),
                ));
            }
            let sending = self.send(target, ready, share.clone(), is_last, &mut may_retry, context);
            last = match sending.await {
                Ok((response, secrets)) => {
                    let answer = Answer {
                        response,
                        operation: self.route.operation.clone(),
                        is_stream_expected: target.is_stream_expected,
                        withhold_usage: target.withhold_usage,
                        secrets,
                        permit,
                        served_by: self.chain.is_some().then(|| target.served_by()),
                    };
                    match self.judge(target, answer, is_last, context).await {
                        Ok(answer) => return Ok(answer),
                        Err(last) => last,
                    }
                }
                Err(Failed { error: ProxyError::JournalFull, .. }) => {
                    return Err(ProxyError::JournalFull);
                }
                Err(failed) => {
                    // What the gateway itself refuses says nothing of the target.
                    if !matches!(failed.error, ProxyError::EgressRefused | ProxyError::Internal) {
                        self.note_failure(target, failed.status, None);
                    }
                    Last::Failed(failed)
                }
            };
            may_be_billed |= last.may_be_billed();
        }
        match last {
            Last::Answer(answer) => Ok(*answer),
            Last::Failed(Failed { error, .. }) => Err(error),
        }
    }

    /// Sends the request to one target. An OAuth token that the upstream refuses is replaced once. Gives
    /// the answer, and what of the request must not reach the caller.
    async fn send(
        &self,
        target: &Target<'_>,
        mut ready: Ready,
        share: Option<Arc<Share>>,
        is_last: bool,
        may_retry: &mut bool,
        context: &mut RequestContext,
    ) -> Result<(UpstreamResponse, Vec<SecretBytes>), Failed> {
        let sent = SentBody::Whole(std::mem::take(&mut ready.body), share);
        let first = send(self.client, &ready, target, sent, may_retry, &mut context.request).await;
        let mut outcome = first;
        if let Err(Failed { status: Some(401), .. }) = outcome
            && let Some(token) = ready.token.take()
        {
            token.forget();
            if *may_retry && let Some(renewed) = self.renew(target, is_last, context).await {
                *may_retry = false;
                ready = renewed;
                context.request.end_for_next(Some(401));
                outcome = send_again(self.client, &ready, target, &mut context.request).await;
            }
        }
        outcome.map(|response| (response, ready.secrets))
    }

    async fn enter_and_prepare(
        &self,
        target: &Target<'_>,
        is_last: bool,
        context: &mut RequestContext,
    ) -> Result<(Ready, ConcurrencyPermit), ProxyError> {
        let permit = enter(self.plane, target)?;
        Ok((self.prepare(target, is_last, context).await?, permit))
    }

    /// Whether an answer is the caller's, or leads to the next target.
    async fn judge(
        &self,
        target: &Target<'_>,
        mut answer: Answer,
        is_last: bool,
        context: &mut RequestContext,
    ) -> Result<Answer, Last> {
        let Some(chain) = &self.chain else { return Ok(answer) };
        let status = answer.response.status.as_u16();
        if is_last || !answer.response.status.is_success() {
            self.note(target, &answer.response);
            let leads_on = chain.triggers.include(status);
            return if leads_on { Err(Last::Answer(Box::new(answer))) } else { Ok(answer) };
        }
        match read_prologue(&mut answer).await {
            Prologue::Answer => {
                self.note(target, &answer.response);
                Ok(answer)
            }
            Prologue::Failure(code) => {
                self.note_failure(target, None, None);
                context.request.attempt_failed(code, format!("status {status}"));
                Err(Last::Answer(Box::new(answer)))
            }
            Prologue::BrokeOff(error) => {
                self.note_failure(target, None, None);
                context.request.attempt_failed(error.reason(), error.to_string());
                Err(Last::Failed(failed(&error)))
            }
        }
    }

    /// Reserves the most that a further attempt may cost on top of what earlier ones may still be billed;
    /// false if that does not fit.
    async fn reserve(&self, target: &Target<'_>, context: &mut RequestContext) -> bool {
        match context.request.reserve_more(self.subject, &target.facts()).await {
            Ok(()) => true,
            Err(denied) => {
                context.request.record().violated = denied.violated;
                false
            }
        }
    }

    /// Why the target has to be left out; if it need not, this request is the one that tries it.
    fn enter_cool_down(&self, target: &Target<'_>) -> Option<Cooling> {
        let key = self.cool_down_key(target)?;
        self.plane.cool_downs.enter(&key, self.plane.clock.now())
    }

    /// Everything that can go wrong before the request is sent.
    async fn prepare(
        &self,
        target: &Target<'_>,
        is_last: bool,
        context: &mut RequestContext,
    ) -> Result<Ready, ProxyError> {
        let opened = self.open(target).await;
        let Opened { base_url, credentials, token, signer, .. } = opened.map_err(|error| {
            context.request.record().cause = Some(error.to_string());
            ProxyError::from(error)
        })?;
        let body = target.body();
        let (headers, timeouts) = (credentials.headers, self.plane.timeouts);
        let to = (self.route, &*base_url);
        let mut request = target.request(self.caller, to, headers, body.clone(), timeouts);
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
            error_for(&error)
        })?;
        Ok(Ready { request, body, secrets: credentials.secrets, token })
    }

    /// Opens what the target is called with.
    async fn open<'t>(&self, target: &Target<'t>) -> Result<Opened<'t>, CredentialError> {
        let (entry, client) = (target.upstream, self.client);
        let DataPlane { keyring, tokens, .. } = self.plane;
        match &entry.address {
            Address::Fixed(base_url) => open(entry, base_url, keyring, tokens, client).await,
            Address::Cloud(access) => {
                let (operation, place) = (&target.operation, self.route.place.as_ref());
                let call = CloudCall { entry, access, operation, place, keyring, tokens, client };
                // Boxed, so that it takes no room in the requests to other providers.
                Box::pin(open_cloud(&call)).await
            }
        }
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
        let retry_after = retry_after(&response.headers);
        self.note_failure(target, Some(response.status.as_u16()), retry_after);
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

/// Refuses an upstream's 401, and AWS's 403 about the key: the caller, whose own key is good, would look for
/// the mistake in it.
fn refuse_credential(
    response: UpstreamResponse,
    ready: &Ready,
    target: &Target<'_>,
    accounted: &mut AccountedRequest,
) -> Result<UpstreamResponse, Failed> {
    let UpstreamResponse { status, headers, .. } = &response;
    if *status != StatusCode::UNAUTHORIZED && !refuses_key(*status, headers) {
        return Ok(response);
    }
    let status = status.as_u16();
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
    Err(Failed { error, status: Some(status), may_be_billed: false })
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
