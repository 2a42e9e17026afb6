//! One request that an upstream may bill, from its first byte to its last: its record, its account
//! and what was read out of its answer. Both planes send such requests.

use std::net::IpAddr;
use std::sync::Arc;

use super::account::{AnswerSummary, RequestAccount};
use super::journal::JournalFull;
use super::sent_body::SentBody;
use super::target_facts::TargetFacts;
use crate::domain::policy::Subject;
use crate::policy::admission::Denied;
use crate::telemetry::Metrics;
use crate::telemetry::request_ids::RequestIds;
use crate::telemetry::request_record::{RequestOutcome, RequestRecord};
use crate::telemetry::request_reporter::RequestReporter;

/// A request under way. It is finished exactly once: at its end, on an error, or when it is dropped
/// because whoever waited for it has left.
pub struct AccountedRequest {
    reporter: RequestReporter,
    /// Gone once the request is finished.
    record: Option<Box<RequestRecord>>,
    /// From admission until the request is finished.
    account: Option<Box<RequestAccount>>,
    /// What was read out of the answer.
    pub answer: AnswerSummary,
}

impl AccountedRequest {
    /// A request that has just arrived.
    pub fn new(
        reporter: &RequestReporter,
        ids: RequestIds,
        client_address: Option<IpAddr>,
    ) -> Self {
        Self {
            reporter: reporter.clone(),
            record: Some(Box::new(RequestRecord::new(ids, client_address))),
            account: None,
            answer: AnswerSummary::default(),
        }
    }

    /// What is known of the request; after it was finished, a record that nobody reads.
    pub fn record(&mut self) -> &mut RequestRecord {
        self.record.get_or_insert_with(|| Box::new(RequestRecord::new(RequestIds::default(), None)))
    }

    /// Takes the account of the admitted request.
    pub fn admitted(&mut self, account: Box<RequestAccount>) {
        self.account = Some(account);
    }

    /// The most tokens that the answer may have.
    pub fn max_output_tokens(&self) -> u64 {
        self.account.as_ref().map_or(0, |account| account.max_output_tokens())
    }

    /// Records that `body` is about to be sent to a target. Unless that succeeds it must not be sent.
    pub fn begin_attempt(
        &mut self,
        target: &TargetFacts<'_>,
        body: SentBody,
    ) -> Result<(), JournalFull> {
        self.note_attempt(target);
        let model = recorded_model(self.record.as_deref(), target);
        self.account.as_mut().ok_or(JournalFull::Closed)?.begin_attempt(target, model, body)
    }

    /// The same for the body that was sent last.
    pub fn begin_again(&mut self, target: &TargetFacts<'_>) -> Result<(), JournalFull> {
        self.note_attempt(target);
        let model = recorded_model(self.record.as_deref(), target);
        self.account.as_mut().ok_or(JournalFull::Closed)?.begin_again(target, model)
    }

    fn note_attempt(&mut self, target: &TargetFacts<'_>) {
        let upstream = target.upstream;
        self.answer.is_unreadable = false;
        let record = self.record();
        if record.attempts > 0 {
            record.attempt_began = record.received_at.elapsed();
        }
        record.attempts += 1;
        record.answered_status = None;
        record.upstream_status = None;
        record.upstream = Some((upstream.id, Arc::clone(&upstream.name)));
    }

    /// The attempt failed.
    pub fn attempt_failed(&mut self, reason: &'static str, cause: String) {
        self.metrics().upstream_error(reason);
        let record = self.record();
        record.code = Some(reason);
        record.cause = Some(cause);
    }

    /// The attempt was answered with this status, and the answer is not the caller's.
    pub fn refused(&mut self, status: u16, reason: &'static str, cause: String) {
        self.attempt_failed(reason, cause);
        self.record().upstream_status = Some(status);
    }

    /// Reserves the most that a further attempt at this target may use, on top of what is reserved.
    pub async fn reserve_more(
        &mut self,
        subject: Subject<'_>,
        target: &TargetFacts<'_>,
    ) -> Result<(), Denied> {
        match &mut self.account {
            Some(account) => account.reserve_more(subject, target).await,
            None => Ok(()),
        }
    }

    /// Another attempt follows one that no whole answer came back from, or one with this status.
    pub fn end_for_next(&mut self, status: Option<u16>) {
        self.metrics().upstream_retry();
        let answer = std::mem::take(&mut self.answer);
        let Some(record) = &mut self.record else { return };
        record.duration = record.received_at.elapsed();
        if let Some(account) = &mut self.account {
            account.end_for_next(status, record, answer);
        }
        (record.code, record.cause, record.model_used) = (None, None, None);
    }

    /// The head of the upstream's answer is there.
    pub fn answered(&mut self, status: u16) {
        let record = self.record();
        record.status = Some(status);
        record.answered_status = Some(status);
        record.first_byte = Some(record.received_at.elapsed());
    }

    /// Keeps only a sample of what was sent: the answer may take hours, and it is not sent again.
    pub fn shorten_sent(&mut self) {
        if let Some(account) = &mut self.account {
            account.shorten_sent();
        }
    }

    /// Settles the request and reports it. Only the first call counts.
    pub fn finish(&mut self, outcome: RequestOutcome) {
        let Some(mut record) = self.record.take() else { return };
        record.outcome = outcome;
        record.duration = record.received_at.elapsed();
        match self.account.take() {
            Some(account) => account.settle(record, std::mem::take(&mut self.answer)),
            None => self.reporter.finish(record),
        }
    }

    /// Whether the request is finished.
    pub fn is_finished(&self) -> bool {
        self.record.is_none()
    }

    /// The metrics that the request is counted in.
    pub fn metrics(&self) -> &Metrics {
        self.reporter.metrics()
    }
}

/// The target's model, as it is recorded.
fn recorded_model<'r>(record: Option<&'r RequestRecord>, target: &'r TargetFacts<'_>) -> &'r str {
    let model = &target.model.name;
    record.map_or(model, |record| record.shown(model))
}

impl Drop for AccountedRequest {
    fn drop(&mut self) {
        self.finish(RequestOutcome::CallerLeft);
    }
}
