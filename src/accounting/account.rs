//! The accounting of one admitted request: its attempts in the journal, and its reservation. Each
//! attempt ends exactly once, and the reservation is settled exactly once, whatever happens to the
//! request.

use std::sync::Arc;
use std::time::Duration;

use super::Accounting;
use super::charge::Charge;
use super::journal::JournalFull;
use super::record::{AttemptEnd, AttemptOutcome, AttemptStart, UsageSource};
use super::sent_body::SentBody;
use super::target_facts::TargetFacts;
use super::usage_estimate::Estimation;
use crate::directory::upstream_entry::{UpstreamEntry, UpstreamModel};
use crate::domain::content_finding::ContentFindings;
use crate::domain::money::NanoUsd;
use crate::domain::policy::Subject;
use crate::domain::pricing::{Extras, ToolCalls};
use crate::domain::tokens::TokenUsage;
use crate::llm::answer::AnswerContent;
use crate::llm::limits::{Bound, Metering};
use crate::llm::text_sample::TextSample;
use crate::policy::admission::{AdmissionRequest, Denied, Reservation};
use crate::policy::limits::Amounts;
use crate::telemetry::request_record::{RequestOutcome, RequestRecord};

/// One admitted request. Dropping it without settling it gives back what no attempt has used.
pub struct RequestAccount {
    pub(super) accounting: Arc<Accounting>,
    /// The open attempt's start, or the next one's while none is open.
    pub(super) start: Arc<AttemptStart>,
    pub(super) is_open: bool,
    pub(super) reservation: Reservation,
    /// Of further attempts, each on top of what an attempt before it may still be billed.
    pub(super) more: Vec<Reservation>,
    /// By the attempts that have ended.
    pub(super) used: Amounts,
    /// Of the last attempt's target; before any attempt, of the first target. So are `model` and
    /// `bound`.
    pub(super) upstream: Arc<UpstreamEntry>,
    pub(super) model: Arc<UpstreamModel>,
    pub(super) bound: Bound,
    pub(super) is_background: bool,
    pub(super) sent: SentBody,
}

/// What was read out of an answer while it was relayed.
#[derive(Default)]
pub struct AnswerSummary {
    /// Tokens as the upstream reported them.
    pub usage: Option<TokenUsage>,
    /// Calls of tools with fees of their own; none without a report of usage.
    pub calls: Option<ToolCalls>,
    /// Text that was relayed since the last report of usage.
    pub text: Option<TextSample>,
    /// The answer was compressed, so nothing could be read out of it.
    pub is_unreadable: bool,
    /// What kind of answer came, where a model's answer with a success status was read.
    pub content: Option<AnswerContent>,
}

impl RequestAccount {
    /// The most tokens that the answer may have.
    pub fn max_output_tokens(&self) -> u64 {
        self.bound.output_tokens
    }

    /// Records that `body` is about to be sent to a target, whose model is recorded as `model`. Unless that
    /// succeeds it must not be sent.
    pub fn begin_attempt(
        &mut self,
        target: &TargetFacts<'_>,
        model: &str,
        body: SentBody,
    ) -> Result<(), JournalFull> {
        self.sent = body;
        self.begin_again(target, model)
    }

    /// The same with the body that is in `sent`.
    pub fn begin_again(
        &mut self,
        target: &TargetFacts<'_>,
        recorded_model: &str,
    ) -> Result<(), JournalFull> {
        let TargetFacts { upstream, model, .. } = *target;
        let start = Arc::make_mut(&mut self.start);
        start.id = self.accounting.clock.new_id();
        start.attempt += 1;
        if start.upstream != upstream.id || start.model != recorded_model {
            start.upstream = upstream.id;
            start.configuration = upstream.name.to_string();
            recorded_model.clone_into(&mut start.model);
            start.price_version = target.price_version();
        }
        self.upstream = Arc::clone(upstream);
        self.model = Arc::clone(model);
        self.bound = target.bound;
        self.accounting.ledger.start(Arc::clone(&self.start))?;
        self.is_open = true;
        self.reservation.mark_sent();
        Ok(())
    }

    /// Reserves the most that a further attempt at this target may use, on top of what is reserved.
    pub async fn reserve_more(
        &mut self,
        subject: Subject<'_>,
        target: &TargetFacts<'_>,
    ) -> Result<(), Denied> {
        let admission = &self.accounting.admission;
        let mut more = admission
            .reserve_more(&AdmissionRequest {
                subject,
                targets: &[],
                price: target.bounding_price(),
                bound: target.bound,
                request_id: self.accounting.clock.new_id(),
                at: self.start.admitted_at,
            })
            .await?;
        more.mark_sent();
        self.more.push(more);
        Ok(())
    }

    /// Ends the open attempt, which has failed; another one follows. Without a status no whole answer came
    /// back from it. It is charged what it reported: providers do not charge for what they refuse.
    pub fn end_for_next(
        &mut self,
        status: Option<u16>,
        record: &RequestRecord,
        answer: AnswerSummary,
    ) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let outcome = match (status, answer.content) {
            (Some(_), _) => AttemptOutcome::Failed,
            (None, Some(_)) => AttemptOutcome::UpstreamBroke,
            (None, None) => AttemptOutcome::Unknown,
        };
        let calls = answer.calls.unwrap_or(self.bound.extras.max_calls);
        let (usage, source) = self.used_by_failed(answer);
        let target = (&*self.upstream, &*self.model, &self.bound.extras);
        let charge = Charge::of(target, &usage, source, calls, record.model_used.as_deref());
        self.used = self.used.plus(charge.amounts());
        let end = charge.onto(
            AttemptEnd {
                outcome,
                status: status.or(record.upstream_status),
                usage,
                ..AttemptEnd::of(record, self.start.id, source)
            },
            self.bound.metering == Metering::Subscription,
        );
        let metrics = self.accounting.reporter.metrics();
        metrics.usage_tokens(&usage);
        metrics.cost(end.cost.unwrap_or_default());
        self.accounting.ledger.end(end);
    }

    /// What a failed attempt has used, as far as its answer shows. Counts that are missing while others are there
    /// are estimated by lengths, since this attempt's cost is part of what the request is settled with.
    fn used_by_failed(&mut self, answer: AnswerSummary) -> (TokenUsage, UsageSource) {
        let text = answer.text.unwrap_or_default();
        let is_counted = matches!(self.bound.metering, Metering::Tokens | Metering::Subscription);
        match answer.usage {
            Some(usage) if is_counted && has_both_counts(&usage) && text.is_empty() => {
                (usage, UsageSource::Provider)
            }
            reported if is_counted && (reported.is_some() || !text.is_empty()) => {
                let request = std::mem::take(&mut self.sent).into_sample();
                self.sent = SentBody::Sample(request.clone());
                let estimation = estimation(request, text, reported, &self.bound);
                let usage = with_unseen(estimation.rough(), reported, &self.bound);
                (usage, UsageSource::Estimated)
            }
            _ => (TokenUsage::default(), UsageSource::None),
        }
    }

    /// Keeps a sample of what was sent and frees the rest: the answer may take hours.
    pub fn shorten_sent(&mut self) {
        self.sent.shorten();
    }

    /// Ends the open attempt, if there is one, and settles the reservation: with what the provider
    /// reported; with nothing where nothing can have been used; with all that was reserved if the
    /// provider goes on working or its answer can't be read; else with an estimate, which is made on the
    /// estimator's thread. The record is reported when its tokens and its cost are known.
    pub fn settle(self: Box<Self>, mut record: Box<RequestRecord>, answer: AnswerSummary) {
        let Self {
            accounting,
            start,
            is_open,
            reservation,
            more,
            used,
            upstream,
            model,
            bound,
            is_background,
            sent,
        } = *self;
        let AnswerSummary { usage, calls, text, is_unreadable, content } = answer;
        let is_pending = match content {
            Some(AnswerContent::Pending) => true,
            Some(AnswerContent::Nothing) => is_background || record.status == Some(202),
            _ => false,
        };
        let is_whole = record.outcome == RequestOutcome::Completed && !is_pending;
        let failure = content.filter(|content| is_whole || *content == AnswerContent::Error);
        if let Some(code) = failure.and_then(AnswerContent::failure_code) {
            accounting.reporter.metrics().upstream_error(code);
            record.outcome = RequestOutcome::Failed;
            record.code = Some(code);
        }
        let extras = bound.extras;
        let calls = calls.unwrap_or(extras.max_calls);
        let settlement = Settlement {
            accounting,
            start,
            reservation,
            more,
            used,
            upstream,
            model,
            extras,
            calls,
            record,
            is_subscribed: bound.metering == Metering::Subscription,
        };
        if !is_open {
            // Nothing was sent, or nothing came back.
            settle_all(settlement.reservation, settlement.more, used);
            settlement.accounting.reporter.finish(settlement.record);
            return;
        }
        let outcome = settlement.record.outcome;
        // Providers do not charge for errors, whatever the caller got; they do for an answer that the gateway
        // did not pass on.
        let RequestRecord { upstream_status, answered_status, status, .. } = *settlement.record;
        let status = upstream_status.or(answered_status).or(status);
        let is_error = status.is_some_and(|status| !(200..300).contains(&status));
        let has_text = text.as_ref().is_some_and(|text| !text.is_empty());
        let is_final = outcome == RequestOutcome::Completed || !has_text;
        let is_failure = matches!(outcome, RequestOutcome::Refused | RequestOutcome::Failed);
        match usage {
            _ if bound.metering == Metering::Free => {
                settlement.finish(TokenUsage::default(), UsageSource::None);
            }
            Some(usage) if is_final && has_both_counts(&usage) => {
                settlement.finish(usage, UsageSource::Provider);
            }
            None if is_error || (is_failure && !has_text && !is_unreadable) => {
                settlement.finish(TokenUsage::default(), UsageSource::None);
            }
            _ if matches!(bound.metering, Metering::Unmetered { .. }) => {
                settlement.finish_unmetered();
            }
            None if is_background || is_pending || is_unreadable => {
                settlement.charge_reserved(&bound)
            }
            reported => {
                let text = text.unwrap_or_default();
                let estimation = estimation(sent.into_sample(), text, reported, &bound);
                let estimator = settlement.accounting.estimator.clone();
                estimator.estimate(estimation, move |usage| {
                    let usage = with_unseen(usage, reported, &bound);
                    settlement.finish(usage, UsageSource::Estimated);
                });
            }
        }
    }
}

fn has_both_counts(usage: &TokenUsage) -> bool {
    usage.input.is_some() && usage.output.is_some()
}

fn estimation(
    request: TextSample,
    answer: TextSample,
    reported: Option<TokenUsage>,
    bound: &Bound,
) -> Estimation {
    let (at_most_input, at_most_output) = (bound.input_tokens, bound.output_tokens);
    Estimation { request, answer, reported, at_most_input, at_most_output }
}

/// An estimate, with what is no text: images and the like were read all the same.
fn with_unseen(usage: TokenUsage, reported: Option<TokenUsage>, bound: &Bound) -> TokenUsage {
    if reported.is_some_and(|usage| usage.input.is_some()) {
        return usage;
    }
    let read = usage.input.unwrap_or(0).saturating_add(bound.unseen_tokens);
    TokenUsage { input: Some(read.min(bound.input_tokens)), ..usage }
}

/// What is left to do when an attempt's tokens are known.
struct Settlement {
    accounting: Arc<Accounting>,
    start: Arc<AttemptStart>,
    reservation: Reservation,
    /// For further attempts.
    more: Vec<Reservation>,
    /// By the attempts before.
    used: Amounts,
    upstream: Arc<UpstreamEntry>,
    model: Arc<UpstreamModel>,
    extras: Extras,
    /// Calls of tools; the most that there can be, if nothing was reported.
    calls: ToolCalls,
    record: Box<RequestRecord>,
    /// The caller pays the provider.
    is_subscribed: bool,
}

impl Settlement {
    /// The tokens are known, or none were used.
    fn finish(self, usage: TokenUsage, source: UsageSource) {
        let target = (&*self.upstream, &*self.model, &self.extras);
        let model_used = self.record.model_used.as_deref();
        let charge = Charge::of(target, &usage, source, self.calls, model_used);
        self.write(usage, source, charge);
    }

    /// Nobody learns what it costs.
    fn finish_unmetered(self) {
        let charge = Charge { cost: None, tokens: 0, price_version: None };
        self.write(TokenUsage::default(), UsageSource::None, charge);
    }

    /// The provider goes on working, or its answer cannot be read: nobody will learn what was used,
    /// so it is taken to be the most that this target may have used.
    fn charge_reserved(self, bound: &Bound) {
        // Of this attempt's target; the reservation covers the dearest one.
        let price = self.model.price.as_ref();
        let Bound { input_tokens, output_tokens, extras, .. } = bound;
        let cost = price
            .and_then(|price| price.price.max_cost_with(*input_tokens, *output_tokens, extras));
        let tokens = bound.estimate_tokens;
        let charge = Charge { cost, tokens, price_version: None };
        self.write(TokenUsage::default(), UsageSource::Estimated, charge);
    }

    /// The journal comes first: it is what a restart goes by.
    fn write(mut self, usage: TokenUsage, source: UsageSource, charge: Charge) {
        self.record.usage = usage;
        self.record.usage_is_estimated = source == UsageSource::Estimated;
        let amounts = charge.amounts();
        let end = AttemptEnd::of(&self.record, self.start.id, source);
        let end = charge.onto(end, self.is_subscribed);
        self.record.cost = end.cost;
        self.accounting.ledger.end(end);
        // Only the caps that count subscriptions have reserved anything for them.
        settle_all(self.reservation, self.more, self.used.plus(amounts));
        self.accounting.reporter.finish(self.record);
    }
}

/// Settles the reservations of all attempts with what they have used. The first one takes that before the
/// others are given back: in between, no request is admitted that does not fit as well.
fn settle_all(first: Reservation, more: Vec<Reservation>, used: Amounts) {
    first.settle(used);
    more.into_iter().for_each(|more| more.settle(Amounts::default()));
}

impl AttemptEnd {
    /// The end of a request's last attempt so far, without its cost.
    fn of(record: &RequestRecord, id: crate::domain::ids::AttemptId, source: UsageSource) -> Self {
        let of_attempt = |time: Duration| millis(time.saturating_sub(record.attempt_began));
        Self {
            status: record.upstream_status.or(record.status),
            code: record.code.map(str::to_owned),
            model_used: record.model_used.as_deref().map(|model| record.shown(model).to_owned()),
            usage: record.usage,
            usage_source: source,
            first_byte_ms: record.first_byte.map(of_attempt),
            duration_ms: Some(of_attempt(record.duration)),
            violated: record.violated.clone(),
            findings: record.findings.clone(),
            ..Self::without_usage(
                id,
                match record.outcome {
                    RequestOutcome::Completed => AttemptOutcome::Completed,
                    RequestOutcome::Refused | RequestOutcome::Failed => AttemptOutcome::Failed,
                    RequestOutcome::UpstreamBroke => AttemptOutcome::UpstreamBroke,
                    RequestOutcome::CallerLeft => AttemptOutcome::CallerLeft,
                },
            )
        }
    }

    /// An end that nothing was used by.
    pub(super) fn without_usage(
        id: crate::domain::ids::AttemptId,
        outcome: AttemptOutcome,
    ) -> Self {
        Self {
            id,
            outcome,
            status: None,
            code: None,
            model_used: None,
            usage: TokenUsage::default(),
            usage_source: UsageSource::None,
            cost: Some(NanoUsd::ZERO),
            list_cost: None,
            price_version: None,
            first_byte_ms: None,
            duration_ms: None,
            violated: Vec::new(),
            findings: ContentFindings::default(),
        }
    }
}

/// Whole milliseconds, as the ledger has them.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
