//! The money side of one request: what is recorded of its attempts, and how its reservation is
//! settled. Each attempt is ended exactly once, and so is the reservation, whatever happens to the
//! request.

use std::sync::Arc;
use std::time::Duration;

use super::books::Books;
use crate::accounting::estimate::Estimation;
use crate::accounting::journal::JournalFull;
use crate::accounting::prices::ResolvedPrice;
use crate::accounting::record::{AttemptEnd, AttemptOutcome, AttemptStart, UsageSource};
use crate::domain::money::NanoUsd;
use crate::domain::tokens::TokenUsage;
use crate::llm::limits::Bound;
use crate::llm::sample::Sample;
use crate::policy::admission::Reservation;
use crate::policy::limits::Actual;

/// One admitted request. Dropping it gives back what no attempt has used.
pub struct Account {
    books: Books,
    /// The next attempt's beginning; the open one's while there is one.
    attempt: AttemptStart,
    is_open: bool,
    reservation: Reservation,
    price: Option<Arc<ResolvedPrice>>,
    bound: Bound,
    is_background: bool,
}

/// How the last attempt ended.
pub struct Ending {
    /// How.
    pub outcome: AttemptOutcome,
    /// The status that the caller saw.
    pub status: Option<u16>,
    /// What went wrong.
    pub code: Option<&'static str>,
    /// The model that the upstream says it used.
    pub model_used: Option<String>,
    /// Tokens as the upstream reported them.
    pub usage: Option<TokenUsage>,
    /// What the caller got of the answer.
    pub relayed: Option<Sample>,
    /// Whether the answer was compressed, so that nothing could be read out of it.
    pub is_sealed: bool,
    /// From the request's arrival to the upstream's first byte.
    pub first_byte: Option<Duration>,
    /// From the request's arrival to its end.
    pub duration: Duration,
}

impl Account {
    pub(super) fn open(
        books: &Books,
        attempt: AttemptStart,
        reservation: Reservation,
        price: Option<Arc<ResolvedPrice>>,
        bound: Bound,
        is_background: bool,
    ) -> Self {
        let books = books.clone();
        Self { books, attempt, is_open: false, reservation, price, bound, is_background }
    }

    /// The most tokens that the answer may have.
    pub fn most_output(&self) -> u64 {
        self.bound.output_tokens
    }

    /// Records that an attempt is about to be made. Unless that can be recorded, it must not be.
    pub fn begin_attempt(&mut self) -> Result<(), JournalFull> {
        self.attempt.id = self.books.clock.new_id();
        self.attempt.attempt += 1;
        self.books.ledger.start(&self.attempt)?;
        self.is_open = true;
        self.reservation.is_sent();
        Ok(())
    }

    /// The open attempt brought nothing back, and another one follows.
    pub fn end_unanswered(&mut self, code: Option<&'static str>, duration: Duration) {
        self.is_open = false;
        self.books.ledger.end(AttemptEnd {
            id: self.attempt.id,
            outcome: AttemptOutcome::Unknown,
            status: None,
            code: code.map(str::to_owned),
            model_used: None,
            usage: TokenUsage::default(),
            usage_source: UsageSource::None,
            cost: Some(NanoUsd::ZERO),
            first_byte_ms: None,
            duration_ms: Some(millis(duration)),
            violated: Vec::new(),
        });
    }

    /// Ends the open attempt, if there is one, and settles the reservation: with what the provider
    /// reported; with nothing where nothing can have been used; with all of it where nobody can tell;
    /// else with an estimate, which is made off this thread and is the only one to ask what was sent.
    pub fn settle(self, ending: Ending, sent: impl FnOnce() -> Sample) {
        if !self.is_open {
            // Nothing was sent, or nothing came back.
            self.reservation.settle(Actual::default());
            return;
        }
        let Self { books, attempt, reservation, price, bound, is_background, .. } = self;
        let Ending {
            outcome,
            status,
            code,
            model_used,
            usage,
            relayed,
            is_sealed,
            first_byte,
            duration,
        } = ending;
        let end = AttemptEnd {
            id: attempt.id,
            outcome,
            status,
            code: code.map(str::to_owned),
            model_used,
            usage: TokenUsage::default(),
            usage_source: UsageSource::None,
            cost: Some(NanoUsd::ZERO),
            first_byte_ms: first_byte.map(millis),
            duration_ms: Some(millis(duration)),
            violated: Vec::new(),
        };
        let settlement = Settlement { books, end, reservation, price };
        // What is no success is not charged by providers, and not looked into here.
        let is_error = status.is_some_and(|status| !(200..300).contains(&status));
        let told_all =
            outcome == AttemptOutcome::Completed || relayed.as_ref().is_none_or(Sample::is_empty);
        match usage {
            _ if bound.free => settlement.nothing(),
            Some(usage) if told_all && usage.input.is_some() && usage.output.is_some() => {
                settlement.write(usage, UsageSource::Provider);
            }
            None if is_error || outcome == AttemptOutcome::Failed => settlement.nothing(),
            None if is_background || is_sealed => {
                settlement.charge_reserved(attempt.reserved, &bound)
            }
            reported => {
                let estimation = Estimation {
                    request: sent(),
                    answer: relayed.unwrap_or_default(),
                    reported,
                    at_most_input: bound.input_tokens,
                    at_most_output: bound.output_tokens,
                };
                let estimator = settlement.books.estimator.clone();
                let unseen_input =
                    bound.names_input && reported.is_none_or(|usage| usage.input.is_none());
                estimator.estimate(estimation, move |mut usage| {
                    if unseen_input {
                        // What the body only names was read all the same.
                        usage.input = Some(bound.input_tokens);
                    }
                    settlement.write(usage, UsageSource::Estimated);
                });
            }
        }
    }
}

/// What is left to be written of an ended attempt.
struct Settlement {
    books: Books,
    end: AttemptEnd,
    reservation: Reservation,
    price: Option<Arc<ResolvedPrice>>,
}

impl Settlement {
    /// Nothing was used.
    fn nothing(self) {
        self.books.ledger.end(self.end);
        self.reservation.settle(Actual::default());
    }

    /// The provider goes on working, or its answer can't be read, and nobody will learn what it used:
    /// it is taken to be all that was reserved.
    fn charge_reserved(mut self, reserved: Option<NanoUsd>, bound: &Bound) {
        self.end.cost = reserved;
        self.end.usage_source = UsageSource::Estimated;
        self.books.metrics.cost(reserved.unwrap_or_default());
        self.books.ledger.end(self.end);
        self.reservation
            .settle(Actual { cost: reserved.unwrap_or_default(), tokens: bound.estimate_tokens });
    }

    /// The tokens are known. The journal first: it is what a restart goes by.
    fn write(mut self, usage: TokenUsage, source: UsageSource) {
        self.end.usage = usage;
        self.end.usage_source = source;
        self.end.cost = self.price.as_ref().map(|price| price.price.cost(&usage));
        let cost = self.end.cost;
        self.books.metrics.cost(cost.unwrap_or_default());
        self.books.ledger.end(self.end);
        let tokens = usage.input.unwrap_or(0).saturating_add(usage.output.unwrap_or(0));
        self.reservation.settle(Actual {
            cost: cost.unwrap_or_default(),
            tokens: i64::try_from(tokens).unwrap_or(i64::MAX),
        });
    }
}

/// Whole milliseconds, as the ledger has them.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
