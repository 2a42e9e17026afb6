//! One proxied request from its first byte to its last: what is known of it, told once at its end,
//! however it ends.

use std::time::{Duration, Instant};

use actix_web::http::header::{HeaderName, HeaderValue};

use super::error::ProxyError;
use super::sent::Sent;
use crate::accounting::account::{Account, Ending};
use crate::accounting::record::AttemptOutcome;
use crate::auth::Principal;
use crate::domain::ids::ConfigurationId;
use crate::llm::sample::Sample;
use crate::llm::usage::TokenUsage;
use crate::telemetry::requests::RequestIds;
use crate::telemetry::{Metrics, OpenStream};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream's answer was relayed to its end, whatever its status.
    Completed,
    /// The gateway answered by itself.
    Refused,
    /// The upstream's answer broke off after its head had been relayed.
    UpstreamBroke,
    /// The caller hung up.
    CallerLeft,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::UpstreamBroke => "upstream_broke",
            Self::CallerLeft => "caller_left",
        }
    }
}

/// The record of one request. Dropping it settles it: that happens exactly once, on the end, on an
/// error, or when the caller leaves and everything about the request is dropped.
pub struct Exchange {
    metrics: Metrics,
    ids: Option<RequestIds>,
    began: Instant,
    /// What is asked for; a fixed set.
    pub operation: &'static str,
    /// Who asks.
    pub principal: Option<Principal>,
    /// For which configuration.
    pub configuration_id: Option<ConfigurationId>,
    /// The model that the caller named.
    pub model_asked: Option<String>,
    /// The model that the upstream says it used.
    pub model_used: Option<String>,
    /// Tokens as the upstream reports them.
    pub usage: Option<TokenUsage>,
    /// The status that the caller sees.
    pub status: u16,
    /// How it ended; until something else is known, with the caller hanging up.
    pub outcome: Outcome,
    /// The stable code of the gateway's error, or the reason why the upstream failed.
    pub code: Option<&'static str>,
    /// More about a failure, for the log alone.
    pub cause: Option<String>,
    /// Requests sent upstream.
    pub attempts: u32,
    /// What the caller got of an answer that reported no usage.
    pub relayed: Option<Sample>,
    /// Whether the answer was compressed, so that nothing could be read out of it.
    pub is_sealed: bool,
    /// The money side, from admission until it is settled.
    pub account: Option<Account>,
    /// What went up, as long as it may have to be counted.
    pub sent: Option<Sent>,
    /// What policies tell the caller of.
    policy_headers: Vec<(HeaderName, HeaderValue)>,
    first_byte: Option<Duration>,
    open: Option<OpenStream>,
}

impl Exchange {
    /// Begins the record.
    pub fn begin(metrics: &Metrics, ids: Option<RequestIds>) -> Self {
        Self {
            metrics: metrics.clone(),
            ids,
            began: Instant::now(),
            operation: "none",
            principal: None,
            configuration_id: None,
            model_asked: None,
            model_used: None,
            usage: None,
            status: 499,
            outcome: Outcome::CallerLeft,
            code: None,
            cause: None,
            attempts: 0,
            relayed: None,
            is_sealed: false,
            account: None,
            sent: None,
            policy_headers: Vec::new(),
            first_byte: None,
            open: None,
        }
    }

    /// The request's ids.
    pub fn ids(&self) -> Option<&RequestIds> {
        self.ids.as_ref()
    }

    /// When it arrived.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Lets go what was sent, but for a sample: the answer may take long, and it is not sent again.
    pub fn shorten_sent(&mut self) {
        let seed = self.seed();
        if let Some(sent) = &mut self.sent {
            sent.shorten(seed);
        }
    }

    /// A request's id ends in random bits, and its caller learns of it when the body has long been
    /// sent.
    fn seed(&self) -> u64 {
        self.ids.as_ref().map_or(0, |ids| ids.request_id.uuid().as_u64_pair().1)
    }

    /// The gateway answers by itself.
    pub fn refused(&mut self, error: &ProxyError) {
        let row = error.row();
        self.status = row.status.as_u16();
        self.outcome = Outcome::Refused;
        self.code = Some(row.code);
    }

    /// The head of the upstream's answer is there.
    pub fn answered(&mut self, status: u16, is_stream: bool) {
        self.status = status;
        self.first_byte = Some(self.began.elapsed());
        if is_stream {
            self.open = Some(self.metrics.open_stream());
        }
    }

    /// A request is about to be sent upstream. Nothing is, unless it is recorded first.
    pub fn attempt_begins(&mut self) -> Result<(), ProxyError> {
        self.attempts += 1;
        match &mut self.account {
            Some(account) => account.begin_attempt().map_err(|_| ProxyError::JournalFull),
            None => Err(ProxyError::Internal),
        }
    }

    /// An attempt failed.
    pub fn attempt_failed(&mut self, reason: &'static str, cause: String) {
        self.metrics.upstream_error(reason);
        self.code = Some(reason);
        self.cause = Some(cause);
    }

    /// A second attempt follows one that nothing came back from.
    pub fn retried(&mut self) {
        self.metrics.upstream_retry();
        if let Some(account) = &mut self.account {
            account.end_unanswered(self.code, self.began.elapsed());
        }
    }

    /// Policies have something to tell the caller, whatever the answer will be.
    pub fn tell_policies(&mut self, headers: Vec<(HeaderName, HeaderValue)>) {
        self.policy_headers = headers;
    }

    /// What policies tell the caller; taken once.
    pub fn policy_headers(&mut self) -> Vec<(HeaderName, HeaderValue)> {
        std::mem::take(&mut self.policy_headers)
    }

    /// Records how the last attempt ended and what it cost. Once; what happens later is for the
    /// log alone.
    pub fn settle(&mut self) {
        let Some(account) = self.account.take() else { return };
        let (sent, seed) = (self.sent.take(), self.seed());
        let left_early = self.outcome == Outcome::CallerLeft && self.first_byte.is_none();
        let ending = Ending {
            outcome: match self.outcome {
                Outcome::Completed => AttemptOutcome::Completed,
                Outcome::Refused => AttemptOutcome::Failed,
                Outcome::UpstreamBroke => AttemptOutcome::UpstreamBroke,
                Outcome::CallerLeft => AttemptOutcome::CallerLeft,
            },
            status: (!left_early).then_some(self.status),
            code: self.code,
            model_used: self.model_used.clone(),
            usage: self.usage,
            relayed: self.relayed.take(),
            is_sealed: self.is_sealed,
            first_byte: self.first_byte,
            duration: self.began.elapsed(),
        };
        account.settle(ending, || sent.map_or_else(Sample::default, |sent| sent.into_sample(seed)));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.open = None;
        self.settle();
        let duration = self.began.elapsed();
        let configuration = self.configuration_id.map(|id| id.uuid());
        self.metrics.proxy_request(self.operation, self.status, configuration, duration);
        if let Some(first_byte) = self.first_byte {
            self.metrics.proxy_first_byte(self.operation, first_byte);
        }
        let usage = self.usage.unwrap_or_default();
        self.metrics.usage_tokens(&usage);
        let principal = self.principal.as_ref();
        let organization = principal.and_then(|principal| principal.scope.organization_id());
        tracing::info!(
            // The line says all there is to say; a span around it would be written out again.
            parent: None,
            request_id = self.ids.as_ref().map(|ids| tracing::field::display(ids.request_id)),
            client_request_id = self.ids.as_ref().and_then(|ids| ids.client_request_id.as_deref()),
            operation = self.operation,
            status = self.status,
            outcome = self.outcome.as_str(),
            code = self.code,
            cause = self.cause.as_deref(),
            organization_id = organization.map(tracing::field::display),
            key_id = principal.map(|principal| tracing::field::display(principal.key_id)),
            configuration_id = self.configuration_id.map(tracing::field::display),
            model_asked = self.model_asked.as_deref(),
            model_used = self.model_used.as_deref(),
            input_tokens = usage.input,
            cached_input_tokens = usage.cached_input,
            output_tokens = usage.output,
            reasoning_tokens = usage.reasoning,
            attempts = self.attempts,
            first_byte_ms = self.first_byte.map(|time| time.as_secs_f64() * 1e3),
            duration_ms = duration.as_secs_f64() * 1e3,
            "proxied"
        );
    }
}
