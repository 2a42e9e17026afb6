//! Attempts: the request is sent to one target after another; what to do when that fails.

mod failure;
mod send;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, HeaderValue, HttpDate, RETRY_AFTER};
use chrono::{DateTime, Utc};

use super::DataPlane;
use super::answer::Answer;
use super::candidates::{key_of, scope_of};
use super::context::RequestContext;
use super::error::ProxyError;
use super::prologue::{Prologue, read_cause, read_prologue, read_retry_after};
use super::rate_limit_headers::RETRY_AFTER_MS;
use super::route::ProxyRoute;
use super::shared_account::ResponseOwner;
use super::subscription::Subscription;
use super::target::Target;
use crate::accounting::budget::Share;
use crate::domain::policy::Subject;
use crate::domain::policy::fallback::Triggers;
use crate::llm::format::Format;
use crate::llm::provider_error::ErrorCause;
use crate::policy::guard::placeholder::ConversationId;
use crate::policy::set::Chain;
use crate::routing::health::{Cooling, Failure, TargetKey};
use crate::upstream::{RequestBody, UpstreamClient};
use failure::{FailedAttempt, LastResult, Reason, failed};

/// What all attempts of a request have in common.
pub struct Attempts<'r> {
    pub plane: &'r DataPlane,
    pub client: &'r UpstreamClient,
    pub caller: &'r HttpRequest,
    pub route: &'r ProxyRoute,
    pub subject: Subject<'r>,
    /// What the targets are of, if they are more than one.
    pub chain: Option<Arc<Chain>>,
    /// The cool-downs of targets that were left out for them.
    pub left_out: &'r [Cooling],
    /// The body of an endpoint that is passed through; until it is sent.
    pub unparsed: RefCell<Option<RequestBody>>,
    /// The caller's own credential, in place of the stored one.
    pub subscription: Option<&'r Subscription>,
}

/// The context window that the prompt did not fit into.
#[derive(Clone, Copy, Default)]
struct Overflowed(Option<u64>);

impl Overflowed {
    /// Whether the prompt may fit there: after an overflow, only into a window that is known to be larger.
    fn allows(self, target: &Target<'_>) -> bool {
        let Self(window) = self;
        window.is_none_or(|small| target.model.context_window.is_some_and(|own| own > small))
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
    ) -> Result<Box<Answer>, ProxyError> {
        // Until the last attempt has ended.
        let share = body_share.map(Arc::new);
        let mut last = LastResult::Failed(FailedAttempt::unsent(ProxyError::Internal));
        let mut may_retry = self.unparsed.borrow().is_none();
        let mut may_be_billed = false;
        let mut overflowed = Overflowed::default();
        for (place, target) in targets.iter().enumerate() {
            if !overflowed.allows(target) {
                continue;
            }
            let is_last = !targets.iter().skip(place + 1).any(|next| overflowed.allows(next));
            let has_sent = context.request.record().attempts > 0;
            let (ready, permit) = match self.enter_and_prepare(target, is_last, context).await {
                Ok(prepared) => prepared,
                // A target that can't even be tried makes no answer worse.
                Err(_) if has_sent => continue,
                Err(error) => {
                    last = LastResult::Failed(FailedAttempt::unsent(error));
                    continue;
                }
            };
            // Boxed, so that it takes no room in the requests whose first attempt is answered.
            if may_be_billed && !Box::pin(self.reserve(target, context)).await {
                break;
            }
            if let Some(cooling) = self.enter_cool_down(target) {
                // Another request tries it at this moment.
                if !has_sent {
                    last = LastResult::Failed(FailedAttempt::unsent(cooling.into()));
                }
                continue;
            }
            if has_sent {
                context.request.metrics().fallback(last.code());
                context.request.end_for_next(last.status());
                // The answer takes along its connection and its place among the upstream's requests.
                drop(std::mem::replace(
                    &mut last,
                    LastResult::Failed(FailedAttempt::unsent(ProxyError::Internal)),
                ));
            }
            let sending = self.send(target, ready, share.clone(), is_last, &mut may_retry, context);
            last = match sending.await {
                Ok((response, secrets)) => {
                    // What is converted is read in the target's format; other answers are the caller's.
                    let read_as = match target.conversion {
                        Some(_) => &target.operation,
                        None => &self.route.operation,
                    };
                    let answer = Box::new(Answer {
                        response,
                        operation: read_as.clone(),
                        error_format: self.route.operation.error_format(),
                        conversion: target.conversion.clone(),
                        dropped: target.dropped.cloned(),
                        is_stream_expected: target.is_stream_expected,
                        withhold_usage: target.withhold_usage,
                        is_prologue_read: false,
                        secrets,
                        permit,
                        response_owner: self.response_owner(target, context.guarded),
                        served_by: self.chain.is_some().then(|| target.served_by()),
                    });
                    match self.judge(target, answer, is_last, context).await {
                        Ok(answer) => return Ok(answer),
                        Err(last) => last,
                    }
                }
                Err(FailedAttempt { error: ProxyError::JournalFull, .. }) => {
                    return Err(ProxyError::JournalFull);
                }
                Err(failed) => LastResult::Failed(failed),
            };
            self.note_failure(target, &last, context);
            if matches!(last, LastResult::Answer(_, Reason::ContextOverflow)) {
                // Nothing is known to be larger than an unknown window.
                overflowed = Overflowed(Some(target.model.context_window.unwrap_or(u64::MAX)));
            }
            may_be_billed |= last.may_be_billed();
        }
        match last {
            LastResult::Answer(mut answer, reason) => {
                if reason == Reason::RateLimited {
                    self.tell_soonest(targets, &mut answer);
                }
                Ok(answer)
            }
            LastResult::Failed(FailedAttempt { error, .. }) => Err(error),
        }
    }

    /// Who notes whose response the answer is, where that has to be known later.
    fn response_owner(
        &self,
        target: &Target<'_>,
        guarded: Option<ConversationId>,
    ) -> Option<Box<ResponseOwner>> {
        let is_needed = target.upstream.is_inherited || guarded.is_some();
        (is_needed && target.stores_response()).then(|| {
            Box::new(ResponseOwner {
                own_responses: self.plane.own_responses.clone(),
                scope: scope_of(&self.subject),
                upstream: target.upstream.id,
                guarded,
            })
        })
    }

    /// Whether an answer is the caller's, or leads to the next target.
    async fn judge(
        &self,
        target: &Target<'_>,
        mut answer: Box<Answer>,
        is_last: bool,
        context: &mut RequestContext,
    ) -> Result<Box<Answer>, LastResult> {
        let Some(chain) = &self.chain else { return Ok(answer) };
        let status = answer.response.status;
        let led_on = if !status.is_success() {
            self.reason(&chain.triggers, &mut answer, is_last).await
        } else if is_last {
            None
        } else {
            match read_prologue(&mut answer, &mut context.request).await {
                Prologue::Answer => None,
                Prologue::Failure(code) => {
                    context.request.attempt_failed(code, format!("status {status}"));
                    Some(Reason::ReportedWithSuccess(code))
                }
                Prologue::BrokeOff(error) => {
                    context.request.refused(status.as_u16(), error.reason(), error.to_string());
                    return Err(LastResult::Failed(failed(&error)));
                }
            }
        };
        let Some(reason) = led_on else {
            self.note_answer(target, context);
            return Ok(answer);
        };
        if !status.is_success() {
            // Nothing is charged for it if the caller leaves before the next attempt.
            context.request.record().upstream_status = Some(status.as_u16());
        }
        Err(LastResult::Answer(answer, reason))
    }

    /// Why an error leads to the next target. It is read only if its status does not show it, and another
    /// target is left.
    async fn reason(
        &self,
        triggers: &Triggers,
        answer: &mut Answer,
        is_last: bool,
    ) -> Option<Reason> {
        let status = answer.response.status.as_u16();
        // Google says there, and not in the head, how long the target has to cool down.
        if status == 429 && answer.operation.error_format() == Format::Gemini {
            read_retry_after(&mut answer.response).await;
        }
        let cause = match status {
            400 | 403 | 413 if !is_last && !triggers.include(status) => {
                let format = answer.operation.error_format();
                read_cause(&mut answer.response, format).await
            }
            _ => ErrorCause::Other,
        };
        Reason::of(triggers, status, cause)
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
        let key = self.key(target)?;
        self.plane.health.enter(&key, self.plane.clock.now())
    }

    /// Remembers that a target of a chain has answered.
    fn note_answer(&self, target: &Target<'_>, context: &RequestContext) {
        if let Some(key) = self.key(target) {
            self.plane.health.answered(&key, self.plane.clock.now());
            context.request.metrics().chain_attempt(target.upstream.id, "answered");
        }
    }

    /// Remembers that a target of a chain has failed.
    fn note_failure(&self, target: &Target<'_>, last: &LastResult, context: &RequestContext) {
        let Some(key) = self.key(target) else { return };
        let now = self.plane.clock.now();
        let (status, retry_after) = match last {
            LastResult::Answer(_, Reason::ReportedWithSuccess(_)) => (None, None),
            LastResult::Answer(answer, _) => {
                (last.status(), retry_after(&answer.response.headers, now))
            }
            // What the gateway itself refuses says nothing of the target.
            LastResult::Failed(FailedAttempt {
                error: ProxyError::EgressRefused | ProxyError::Internal,
                ..
            }) => {
                return;
            }
            LastResult::Failed(failed) => (failed.status, None),
        };
        let failure = Failure { status, retry_after, code: last.code() };
        self.plane.health.failed(&key, failure, now);
        context.request.metrics().chain_attempt(target.upstream.id, "failed");
    }

    /// Where all targets limit the rate, the answer says when the first of them may be tried again: the
    /// caller is better served by it than by the last one's own time.
    fn tell_soonest(&self, targets: &[Target<'_>], answer: &mut Answer) {
        let now = self.plane.clock.now();
        let keys = targets.iter().filter_map(|target| self.key(target));
        let tried = keys.map(|key| self.plane.health.check(&key, now));
        let cooling: Option<Vec<Cooling>> =
            tried.chain(self.left_out.iter().copied().map(Some)).collect();
        let Some(cooling) = cooling.filter(|all| all.iter().all(Cooling::is_rate)) else { return };
        if let Some(soonest) = cooling.iter().min_by_key(|one| one.left) {
            let seconds = HeaderValue::from(soonest.seconds_left());
            answer.response.headers.insert(RETRY_AFTER, seconds);
        }
    }

    /// What a target's health is kept under; only targets of chains have one.
    fn key(&self, target: &Target<'_>) -> Option<TargetKey> {
        self.chain.as_ref()?;
        Some(key_of(&self.subject, target.upstream, target.model))
    }
}

/// The time that `retry-after-ms` names, or else `Retry-After`, in seconds or as a date (RFC 9110, section
/// 10.2.3). A date that has passed is no time at all.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let millis =
        headers.get(RETRY_AFTER_MS).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    if let Some(millis) = millis {
        return Some(Duration::from_millis(millis));
    }
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date: HttpDate = text.parse().ok()?;
    let date = DateTime::<Utc>::from(std::time::SystemTime::from(date));
    Some((date - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: DateTime<Utc> = "2026-03-04T05:06:07Z".parse().unwrap();
        for (value, seconds) in [
            ("20", Some(20)),
            (" 0 ", Some(0)),
            ("Wed, 04 Mar 2026 05:07:07 GMT", Some(60)),
            ("Wednesday, 04-Mar-26 05:07:07 GMT", Some(60)),
            ("Wed Mar  4 05:07:07 2026", Some(60)),
            ("Wed, 04 Mar 2026 05:06:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            let name = HeaderName::from_static("retry-after");
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        headers.insert(RETRY_AFTER_MS, HeaderValue::from_static("1200"));
        assert_eq!(retry_after(&headers, now), Some(Duration::from_millis(1200)));
    }
}
