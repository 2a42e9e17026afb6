//! The record of one finished request. Its log line and its metrics are made from it here; the ends
//! of its attempts in the ledger are made from it in `accounting`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Metrics;
use super::request_ids::RequestIds;
use crate::domain::content_finding::{ContentFindings, FindingPlace};
use crate::domain::ids::PolicyId;
use crate::domain::money::NanoUsd;
use crate::domain::principal::Principal;
use crate::domain::provider::UpstreamId;
use crate::domain::text_enum::text_enum;
use crate::domain::tokens::TokenUsage;

text_enum! {
    /// How a request ended.
    pub enum RequestOutcome {
        /// The upstream's answer was relayed to its end, whatever its status, or the gateway gave what was
        /// asked for by itself.
        Completed = "completed",
        /// The gateway answered with an error.
        Refused = "refused",
        /// The upstream answered with a success status, but with an error, or nothing, as its answer.
        Failed = "failed",
        /// The upstream's answer broke off after its head had been relayed.
        UpstreamBroke = "upstream_broke",
        /// The caller hung up.
        CallerLeft = "caller_left",
    }
}

/// What is known of a request. Filled in while the request runs; finished once, however it ends.
#[derive(Debug)]
pub struct RequestRecord {
    pub ids: RequestIds,
    /// When the request arrived.
    pub received_at: Instant,
    /// The caller's address: the connection's, or the one that a trusted proxy forwards.
    pub client_address: Option<IpAddr>,
    /// A name from a fixed set; `none` until the route is known.
    pub operation: &'static str,
    pub principal: Option<Principal>,
    /// What it was sent through, and its name.
    pub upstream: Option<(UpstreamId, Arc<str>)>,
    /// The model that the caller named.
    pub model_asked: Option<String>,
    /// The model that the upstream says it used.
    pub model_used: Option<String>,
    /// The status that the caller sees; none until there is one.
    pub status: Option<u16>,
    /// The status of the last attempt's answer that was to become the caller's. What the caller sees may be
    /// another: the answer can turn out to be none, or may not be passed on.
    pub answered_status: Option<u16>,
    /// How it ended; until something else is known, the caller hung up.
    pub outcome: RequestOutcome,
    /// The stable code of the gateway's error, or the reason why the upstream failed.
    pub code: Option<&'static str>,
    /// More about a failure, for the log alone.
    pub cause: Option<String>,
    /// The policies that blocked it.
    pub violated: Vec<PolicyId>,
    /// What guards found in the request and in its answer.
    pub findings: ContentFindings,
    /// Texts of the request that have values which its guard detects, and what is recorded in their place.
    pub masks: Vec<(String, String)>,
    /// Requests sent upstream.
    pub attempts: u32,
    /// When the last attempt began, after the request's arrival: zero for the first one.
    pub attempt_began: Duration,
    /// The status that the last attempt's upstream answered with, where that is not the caller's answer.
    pub upstream_status: Option<u16>,
    /// Tokens as reported or estimated.
    pub usage: TokenUsage,
    pub usage_is_estimated: bool,
    /// Unknown without a price.
    pub cost: Option<NanoUsd>,
    /// From the request's arrival to the upstream's first byte.
    pub first_byte: Option<Duration>,
    /// From the request's arrival to its end.
    pub duration: Duration,
}

impl RequestRecord {
    /// The record of a request that has just arrived.
    pub fn new(ids: RequestIds, client_address: Option<IpAddr>) -> Self {
        Self {
            ids,
            received_at: Instant::now(),
            client_address,
            operation: "none",
            principal: None,
            upstream: None,
            model_asked: None,
            model_used: None,
            status: None,
            outcome: RequestOutcome::CallerLeft,
            code: None,
            cause: None,
            violated: Vec::new(),
            findings: ContentFindings::default(),
            masks: Vec::new(),
            attempts: 0,
            attempt_began: Duration::ZERO,
            answered_status: None,
            upstream_status: None,
            usage: TokenUsage::default(),
            usage_is_estimated: false,
            cost: None,
            first_byte: None,
            duration: Duration::ZERO,
        }
    }

    /// What is recorded of a text of the request.
    pub fn shown<'r>(&'r self, text: &'r str) -> &'r str {
        let mask = self.masks.iter().rev().find(|(masked, _)| masked == text);
        mask.map_or(text, |(_, mask)| mask)
    }

    fn shown_option<'r>(&'r self, text: Option<&'r str>) -> Option<&'r str> {
        text.map(|text| self.shown(text))
    }

    pub(super) fn count(&self, metrics: &Metrics) {
        let upstream = self.upstream.as_ref().map(|(id, _)| *id);
        metrics.proxy_request(self.operation, self.shown_status(), upstream, self.duration);
        if let Some(first_byte) = self.first_byte {
            metrics.proxy_first_byte(self.operation, first_byte);
        }
        metrics.usage_tokens(&self.usage);
        metrics.cost(self.cost.unwrap_or_default());
    }

    /// The status in logs and metrics: 499, as nginx has it, if the caller hung up before there was
    /// one.
    fn shown_status(&self) -> u16 {
        self.status.unwrap_or(499)
    }

    /// Writes the request's log line.
    pub(super) fn log(&self) {
        macro_rules! line {
            ($level:expr, $message:literal) => {
                tracing::event!(
                    // The line says all there is to say; a span around it would be written again.
                    parent: None,
                    $level,
                    request_id = tracing::field::display(self.ids.request_id),
                    client_request_id = self.shown_option(self.ids.client_request_id.as_deref()),
                    client_address = self.client_address.map(tracing::field::display),
                    operation = self.operation,
                    status = self.shown_status(),
                    outcome = self.outcome.as_str(),
                    code = self.code,
                    cause = self.cause.as_deref(),
                    policies = (!self.violated.is_empty()).then(|| tracing::field::display(PolicyIds(&self.violated))),
                    guard = self.findings.line(FindingPlace::Request),
                    answer_guard = self.findings.line(FindingPlace::Answer),
                    organization_id = self.principal.and_then(|p| p.scope.organization_id()).map(tracing::field::display),
                    workspace_id = self.principal.and_then(|p| p.scope.workspace_id()).map(tracing::field::display),
                    key_id = self.principal.and_then(|principal| principal.api_key_id()).map(tracing::field::display),
                    configuration_id = self.upstream.as_ref().map(|(id, _)| tracing::field::display(id)),
                    configuration = self.upstream.as_ref().map(|(_, name)| &**name),
                    model_asked = self.shown_option(self.model_asked.as_deref()),
                    model_used = self.shown_option(self.model_used.as_deref()),
                    input_tokens = self.usage.input,
                    cached_input_tokens = self.usage.cached_input,
                    output_tokens = self.usage.output,
                    reasoning_tokens = self.usage.reasoning,
                    other_tokens = OtherTokens::of(&self.usage).map(tracing::field::display),
                    estimated = self.usage_is_estimated.then_some(true),
                    cost_usd = self.cost.map(tracing::field::display),
                    attempts = self.attempts,
                    first_byte_ms = self.first_byte.map(millis),
                    duration_ms = millis(self.duration),
                    $message
                )
            };
        }
        match self.outcome {
            RequestOutcome::Completed if self.shown_status() >= 400 => {
                line!(tracing::Level::WARN, "proxy request answered with an error by its upstream");
            }
            RequestOutcome::Completed => line!(tracing::Level::INFO, "proxy request completed"),
            RequestOutcome::Refused => line!(tracing::Level::WARN, "proxy request refused"),
            RequestOutcome::Failed => line!(tracing::Level::WARN, "proxy request failed upstream"),
            RequestOutcome::UpstreamBroke => {
                line!(tracing::Level::WARN, "proxy request cut off by its upstream");
            }
            RequestOutcome::CallerLeft => {
                line!(tracing::Level::INFO, "proxy request abandoned by its caller");
            }
        }
    }
}

/// Milliseconds, to the microsecond.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Tokens of the kinds that have no field of their own in the log line, such as `cache_write=12`.
struct OtherTokens<'a>(&'a TokenUsage);

impl<'a> OtherTokens<'a> {
    /// `None` if there are none.
    fn of(usage: &'a TokenUsage) -> Option<Self> {
        let others = Self(usage);
        others.counts().next()?;
        Some(others)
    }

    fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        const FIELDS: [&str; 4] = ["input", "cached_input", "output", "reasoning"];
        let counts = TokenUsage::NAMES.iter().zip(self.0.counts());
        counts
            .filter_map(|(name, count)| Some((*name, count?)))
            .filter(|(name, count)| *count > 0 && !FIELDS.contains(name))
    }
}

impl fmt::Display for OtherTokens<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, count)) in self.counts().enumerate() {
            let separator = if place == 0 { "" } else { "," };
            write!(formatter, "{separator}{name}={count}")?;
        }
        Ok(())
    }
}

/// Ids separated by commas.
struct PolicyIds<'a>(&'a [PolicyId]);

impl fmt::Display for PolicyIds<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, id) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { "," };
            write!(formatter, "{separator}{id}")?;
        }
        Ok(())
    }
}
