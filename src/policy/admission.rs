//! Decides whether a request may be sent: all policies that it matches are checked, and the most that
//! it may use is reserved in one step, before anything is sent.
//!
//! Model access is checked first, then whether a price is known, then the limits. A request of an
//! organization without policies costs nothing but a look at the set.

mod claims;
mod denied;
mod past_spend;
mod report;
mod reservation;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use smallvec::SmallVec;

pub use denied::{Denied, Reason};
pub use report::{PolicyReport, ReportedLimit, ReportedPolicy};
pub use reservation::Reservation;

use super::child_queue::ChildQueue;
use super::limit::Limit;
use super::limits::{Amounts, Claim, Claims, Counters, LimitStatuses, Reserved};
use super::set::{MatchedPolicy, PolicySet, Target, denies_model};
use crate::clock::Clock;
use crate::db::Database;
use crate::directory::Directory;
use crate::domain::ids::{PolicyId, RequestId};
use crate::domain::money::NanoUsd;
use crate::domain::policy::Subject;
use crate::domain::pricing::resolve::ResolvedPrice;
use crate::llm::limits::{Bound, Metering};
use crate::telemetry::Metrics;
use claims::claims_of;
use past_spend::{Counted, OnlyCounter, PastSpendReader};

/// How often a reservation is retried because counters do not exist. They can get lost between two
/// tries only if Redis loses them.
const MAX_TRIES: usize = 3;

/// Waits until the ledger has all that the journal holds, so that sums read from it are complete.
/// Fails if that takes too long.
pub type FlushLedger =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// All that admission needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionRequest<'r> {
    pub subject: Subject<'r>,
    /// Where it may be sent. All of them have to be allowed.
    pub targets: &'r [Target<'r>],
    pub price: Option<&'r ResolvedPrice>,
    /// The most that it can use.
    pub bound: Bound,
    pub request_id: RequestId,
    /// When it came. It counts in the windows of this instant, whenever it ends.
    pub at: DateTime<Utc>,
}

/// A request may be sent.
#[derive(Debug)]
#[must_use = "what is reserved has to be settled"]
pub struct Admitted {
    pub report: Box<PolicyReport>,
    /// The most that it may cost; none without a price.
    pub reserved: Option<NanoUsd>,
    pub reservation: Reservation,
}

struct Inner {
    directory: Directory,
    counters: Counters,
    child_queue: ChildQueue,
    past_spend: PastSpendReader,
    clock: Clock,
    metrics: Metrics,
}

/// Admission to the upstreams. Clones share everything.
#[derive(Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

impl fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Admission(..)")
    }
}

impl Admission {
    /// Admission by the directory's policies. `child_queue` has to be
    /// [written](ChildQueue::write_periodically) by its owner.
    pub fn new(
        directory: Directory,
        database: Database,
        counters: Counters,
        child_queue: ChildQueue,
        clock: Clock,
        metrics: Metrics,
        flush_ledger: FlushLedger,
    ) -> Self {
        let past_spend = PastSpendReader::new(database, flush_ledger);
        let inner = Inner { directory, counters, child_queue, past_spend, clock, metrics };
        Self { inner: Arc::new(inner) }
    }

    /// Declares this thread a worker's, from which many requests come.
    pub fn attach_worker(&self) {
        self.inner.counters.attach_worker();
    }

    /// Waits until all that requests have used is counted, for at most `max_wait`. Whether it is.
    pub async fn finish(&self, max_wait: Duration) -> bool {
        self.inner.counters.finish(max_wait).await
    }

    /// Reserves all that a request may use, or says why it must not be sent; then nothing is counted.
    /// `set` is the organization's.
    pub async fn admit(
        &self,
        request: AdmissionRequest<'_>,
        set: &PolicySet,
    ) -> Result<Admitted, Denied> {
        let outcome = self.decide(&request, set).await;
        let verdict = match &outcome {
            Ok(admitted) if admitted.report.policies.is_empty() => "unmatched",
            Ok(_) => "admitted",
            Err(denied) => denied.reason.as_str(),
        };
        self.inner.metrics.admission(verdict);
        let is_charged = request.bound.metering != Metering::Subscription;
        if is_charged && outcome.as_ref().is_ok_and(|admitted| admitted.reserved.is_none()) {
            self.inner.metrics.unknown_price();
        }
        outcome
    }

    /// Denies a request for its content.
    pub fn deny_content(
        &self,
        request: &AdmissionRequest<'_>,
        set: &PolicySet,
        (reason, message): (Reason, String),
        violated: Vec<PolicyId>,
    ) -> Denied {
        self.inner.metrics.admission(reason.as_str());
        let report = Box::new(PolicyReport::new(request, &set.matching(&request.subject)));
        Denied { reason, message, report, violated, retry_after: None, cause: None, field: None }
    }

    async fn decide(
        &self,
        request: &AdmissionRequest<'_>,
        set: &PolicySet,
    ) -> Result<Admitted, Denied> {
        let organization_id = request.subject.organization_id;
        let matched = set.matching(&request.subject);
        for child in matched.iter().filter_map(MatchedPolicy::new_child) {
            if self.inner.child_queue.add(organization_id, child) {
                set.mark_queued(child);
            }
        }
        self.check(request, set, &matched, most_of(request), false).await
    }

    /// Reserves what a further attempt of an admitted request may use, on top of what the request has
    /// reserved already. `request_id` has to be another one. Nothing is counted if that does not fit.
    pub async fn reserve_more(
        &self,
        request: &AdmissionRequest<'_>,
    ) -> Result<Reservation, Denied> {
        let organization_id = request.subject.organization_id;
        let set = self.inner.directory.find_policies(organization_id).await;
        let set = set.map_err(|error| Denied::unavailable(Box::default(), error.to_string()))?;
        let matched = set.matching(&request.subject);
        let admitted = self.check(request, &set, &matched, most_of(request), true).await?;
        Ok(admitted.reservation)
    }

    /// A further attempt of a request is not counted as another request.
    async fn check(
        &self,
        request: &AdmissionRequest<'_>,
        set: &PolicySet,
        matched: &[MatchedPolicy<'_>],
        reserved: Option<NanoUsd>,
        is_further: bool,
    ) -> Result<Admitted, Denied> {
        // Boxed, since it is moved from stage to stage.
        let mut report = Box::new(PolicyReport::new(request, matched));
        let denied = request.targets.iter().flat_map(|target| denies_model(matched, target));
        let mut denying: SmallVec<[usize; 4]> = denied.collect();
        denying.sort_unstable();
        denying.dedup();
        if !denying.is_empty() {
            return Err(Denied::by_policies(Reason::ModelAccess, request, report, &denying));
        }
        if reserved.is_none() {
            let metering = request.bound.metering;
            let caps =
                report.policies.iter().enumerate().filter(|(_, one)| one.policy.caps(metering));
            let caps: SmallVec<[usize; 4]> = caps.map(|(place, _)| place).collect();
            if !caps.is_empty() {
                return Err(Denied::by_policies(Reason::PriceUnknown, request, report, &caps));
            }
        }
        let mut claims = claims_of(matched, request, reserved.unwrap_or_default());
        if is_further {
            claims.list.retain(|claim| !claim.limit.counts_requests());
        }
        if claims.list.is_empty() {
            return Ok(Admitted { report, reserved, reservation: Reservation::empty() });
        }
        let amounts =
            Amounts { cost: reserved.unwrap_or_default(), tokens: request.bound.estimate_tokens };
        // From here on: if this future is dropped, or the counters fail, what may have been counted is
        // taken back.
        let reservation = Reservation::new(&self.inner.counters, &claims, amounts);
        match self.reserve(&mut claims, set, matched).await {
            Ok((true, statuses)) => {
                report.add_limits(&claims, &statuses);
                Ok(Admitted { report, reserved, reservation })
            }
            Ok((false, statuses)) => {
                reservation.forget();
                report.add_limits(&claims, &statuses);
                Err(Denied::by_limits(request, report))
            }
            Err(cause) => Err(Denied::unavailable(report, cause)),
        }
    }

    /// Counts all claims and returns true, or returns false if some do not fit. For spend counters
    /// that do not exist yet, the ledger is read; if that fails for a claim without a limit, the claim
    /// is left out.
    async fn reserve(
        &self,
        claims: &mut Claims,
        set: &PolicySet,
        matched: &[MatchedPolicy<'_>],
    ) -> Result<(bool, LimitStatuses), String> {
        for _ in 0..MAX_TRIES {
            if claims.list.is_empty() {
                return Ok((true, LimitStatuses::new()));
            }
            let answer = self.inner.counters.reserve(claims).await;
            let unknown = match answer.map_err(|error| error.to_string())? {
                Reserved::Admitted(statuses) => return Ok((true, statuses)),
                Reserved::Refused(statuses) => return Ok((false, statuses)),
                Reserved::Unknown(unknown) => unknown,
            };
            // From the last, so that removing one moves none that is still to come.
            for place in unknown.into_iter().rev() {
                let Some(claim) = claims.list.get(place).copied() else { continue };
                let Some(policy) = matched.get(claim.source.policy) else { continue };
                let only_counter = self.only_counter(claims.at, &claim, set);
                let organization_id = claims.organization_id;
                let counted = Counted {
                    requests: &policy.counted,
                    with_subscriptions: policy.policy.includes_subscriptions(),
                };
                let spent = self.inner.past_spend.before(
                    organization_id,
                    claims.at,
                    &claim,
                    counted,
                    only_counter,
                );
                // Boxed, so that it takes no room in the many requests whose counters exist.
                match Box::pin(spent).await {
                    Ok(spent) => {
                        if let Some(claim) = claims.list.get_mut(place) {
                            claim.spent_before = Some(spent);
                        }
                    }
                    Err(_) if claim.limit.is_unlimited() => {
                        claims.list.remove(place);
                    }
                    Err(cause) => return Err(cause),
                }
            }
        }
        Err("counters were lost again and again".to_owned())
    }

    /// Set if no other process counts: then the ledger need not be read for windows that began after
    /// this process.
    fn only_counter(
        &self,
        at: DateTime<Utc>,
        claim: &Claim,
        set: &PolicySet,
    ) -> Option<OnlyCounter> {
        let (Counters::Memory(memory), Limit::Spend { window, .. }) =
            (&self.inner.counters, claim.limit)
        else {
            return None;
        };
        Some(OnlyCounter {
            version: set.version(),
            now: self.inner.clock.now(),
            keeps_window: memory.keeps_window(window.end(at)),
        })
    }
}

/// The most that the request may cost; none without a price.
fn most_of(request: &AdmissionRequest<'_>) -> Option<NanoUsd> {
    request.bound.max_cost(request.price.map(|resolved| &resolved.price))
}

#[cfg(test)]
mod tests;
