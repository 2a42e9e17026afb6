//! Requests that an upstream may bill: admitting them, recording their attempts, settling what they
//! used and cost.

pub mod account;
pub mod budget;
mod charge;
pub mod engine;
pub mod journal;
pub mod ledger;
pub mod record;
pub mod request;
pub mod sent_body;
pub mod target_facts;
pub mod usage_estimate;

use crate::clock::Clock;
use crate::llm::limits::AssumedLimits;
use crate::policy::admission::Admission;
use crate::telemetry::request_reporter::RequestReporter;
use ledger::Ledger;
use usage_estimate::Estimator;

/// What requests are accounted with. One for all workers, shared with each request that is admitted.
pub struct Accounting {
    pub admission: Admission,
    pub ledger: Ledger,
    /// Counts tokens where the provider does not.
    pub estimator: Estimator,
    /// Where finished requests are reported.
    pub reporter: RequestReporter,
    pub clock: Clock,
    /// Assumed of models of which nothing is known.
    pub assumed_limits: AssumedLimits,
}
