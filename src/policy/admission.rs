//! Whether a request may go out: every policy that it falls under is asked, and all that it may use
//! is reserved at once, before anything is sent.
//!
//! Model access comes first, then whether money can be counted at all, then the limits. A request
//! that no policy concerns costs one look into the directory.

mod claims;
mod denied;
mod headers;
mod history;
mod reservation;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};
use chrono::{DateTime, Utc};

pub use denied::{Denied, Reason};
pub use headers::POLICIES;
pub use reservation::Reservation;

use super::children::Children;
use super::limits::{Claim, Claims, Counters, Limit, Reserved, Standing};
use super::set::{Applied, PolicySet, Target, forbidding};
use crate::accounting::prices::ResolvedPrice;
use crate::clock::Clock;
use crate::db::Database;
use crate::directory::Directory;
use crate::domain::ids::{PolicyId, RequestId};
use crate::domain::money::NanoUsd;
use crate::domain::policy::{PolicyConfig, Subject};
use crate::llm::limits::Bound;
use crate::telemetry::Metrics;
use claims::Claimed;
use history::{Alone, Histories};
use reservation::Amounts;

/// How often a request tells new counters what they have missed. Between two tries, the counters
/// can only lose what they were told.
const MOST_TRIES: usize = 3;

/// Waits until the ledger has what the journal holds, so that what is read from it is complete;
/// an error if that can't be had now.
pub type FlushLedger =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// A request that asks to be let through.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionRequest<'r> {
    /// Who asks.
    pub subject: Subject<'r>,
    /// For what.
    pub target: Target<'r>,
    /// What it costs, if that is known.
    pub price: Option<&'r ResolvedPrice>,
    /// The most that it can use.
    pub bound: Bound,
    /// Its id, under which it is counted.
    pub request_id: RequestId,
    /// When it came. All windows are told by this instant, whenever it ends.
    pub at: DateTime<Utc>,
}

/// What the answer tells of policies.
pub type PolicyHeaders = Vec<(HeaderName, HeaderValue)>;

/// A request may go out.
#[derive(Debug)]
#[must_use = "what is reserved has to be settled"]
pub struct Admitted {
    /// The policies that matched, the broadest first; of defaults, the subject's own children.
    pub policies: Vec<PolicyId>,
    /// The most that it may cost; none without a price.
    pub reserved: Option<NanoUsd>,
    /// What its answer tells of the policies.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What it has reserved.
    pub reservation: Reservation,
}

struct Inner {
    directory: Directory,
    counters: Counters,
    children: Children,
    histories: Histories,
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
    /// Admission by the directory's policies. `children` is the queue of children to be made, which
    /// somebody has to [write](Children::write_now_and_then).
    pub fn new(
        directory: Directory,
        database: Database,
        counters: Counters,
        children: Children,
        clock: Clock,
        metrics: Metrics,
        flush_ledger: FlushLedger,
    ) -> Self {
        let histories = Histories::new(database, flush_ledger);
        let inner = Inner { directory, counters, children, histories, clock, metrics };
        Self { inner: Arc::new(inner) }
    }

    /// Says that this thread is a worker's, which asks often.
    pub fn attach_worker(&self) {
        self.inner.counters.attach_worker();
    }

    /// Waits until all that requests have used is counted, but no longer than `most`. Whether it is.
    pub async fn finish(&self, most: Duration) -> bool {
        self.inner.counters.finish(most).await
    }

    /// Lets a request through, with all that it may use reserved, or says why not; then nothing is
    /// counted.
    pub async fn admit(&self, request: AdmissionRequest<'_>) -> Result<Admitted, Denied> {
        let outcome = self.decide(&request).await;
        let verdict = match &outcome {
            Ok(admitted) if admitted.policies.is_empty() => "unmatched",
            Ok(_) => "admitted",
            Err(denied) => denied.reason.label(),
        };
        self.inner.metrics.admission(verdict);
        if outcome.is_ok() && request.price.is_none() && !request.bound.free {
            self.inner.metrics.unknown_price();
        }
        outcome
    }

    async fn decide(&self, request: &AdmissionRequest<'_>) -> Result<Admitted, Denied> {
        let organization_id = request.subject.organization_id;
        let set = self.inner.directory.find_policies(organization_id).await;
        let set = set.map_err(|error| Denied::unavailable(error.to_string()))?;
        let reserved = match request.price {
            _ if request.bound.free => Some(NanoUsd::ZERO),
            Some(resolved) => {
                let Bound { input_tokens, output_tokens, .. } = request.bound;
                Some(resolved.price.most(input_tokens, output_tokens))
            }
            None => None,
        };
        if set.is_empty() {
            return Ok(Admitted {
                policies: Vec::new(),
                reserved,
                headers: Vec::new(),
                reservation: Reservation::of_nothing(),
            });
        }
        let applied = set.matching(&request.subject);
        for seed in applied.iter().filter_map(|one| one.unmade.as_ref()) {
            if self.inner.children.note(organization_id, seed) {
                set.note_queued(seed);
            }
        }
        let apart = set.counted_apart(&request.subject);
        self.ask(request, &set, (&applied, &apart), reserved).await
    }

    async fn ask(
        &self,
        request: &AdmissionRequest<'_>,
        set: &PolicySet,
        (applied, apart): (&[Applied<'_>], &[Applied<'_>]),
        reserved: Option<NanoUsd>,
    ) -> Result<Admitted, Denied> {
        let forbidding: Vec<usize> = places_of(applied, forbidding(applied, &request.target));
        if !forbidding.is_empty() {
            return Err(Denied::by(Reason::ModelAccess, request, applied, &forbidding, None));
        }
        let is_spend = |one: &&Applied<'_>| matches!(one.policy.config, PolicyConfig::Spend(_));
        if reserved.is_none() {
            let capping = places_of(applied, applied.iter().filter(is_spend));
            if !capping.is_empty() {
                return Err(Denied::by(Reason::PriceUnknown, request, applied, &capping, None));
            }
        }
        let claimed = Claimed::of(applied, apart, request, reserved.unwrap_or_default());
        if claimed.claims.is_empty() {
            return Ok(Admitted {
                policies: applied.iter().map(|one| one.bucket).collect(),
                reserved,
                headers: headers::of(request, applied, None),
                reservation: Reservation::of_nothing(),
            });
        }
        let Claimed { claims, mut owners } = claimed;
        let mut claims = Claims {
            organization_id: request.subject.organization_id,
            request_id: request.request_id,
            at: request.at,
            claims,
        };
        let reservation = Reservation::of(
            self.inner.counters.clone(),
            &claims,
            Amounts::of(reserved, request.bound),
        );
        match self.reserve(&mut claims, &mut owners, set, (applied, apart)).await {
            Ok((true, standings)) => Ok(Admitted {
                policies: applied.iter().map(|one| one.bucket).collect(),
                reserved,
                headers: headers::of(request, applied, Some((&claims, &owners, &standings))),
                reservation,
            }),
            Ok((false, standings)) => {
                reservation.forget();
                Err(Denied::by_limits(request, applied, &claims, &owners, &standings))
            }
            Err(cause) => {
                // Nothing should be counted; if something is after all, it is taken back.
                drop(reservation);
                Err(Denied { headers: headers::of(request, applied, None), ..cause })
            }
        }
    }

    /// Counts all claims, or says which don't fit. New counters are told what they have missed; one
    /// that holds nobody, and can't be told, is left out and learns another time.
    async fn reserve(
        &self,
        claims: &mut Claims,
        owners: &mut Vec<usize>,
        set: &PolicySet,
        (applied, apart): (&[Applied<'_>], &[Applied<'_>]),
    ) -> Result<(bool, Vec<Standing>), Denied> {
        let mut history: Vec<Option<NanoUsd>> = Vec::new();
        for _ in 0..MOST_TRIES {
            if claims.claims.is_empty() {
                return Ok((true, Vec::new()));
            }
            let answer = self.inner.counters.reserve(claims, &history).await;
            let unknown = match answer.map_err(|error| Denied::unavailable(error.to_string()))? {
                Reserved::Admitted(standings) => return Ok((true, standings)),
                Reserved::Refused(standings) => return Ok((false, standings)),
                Reserved::Unknown(unknown) => unknown,
            };
            history.resize(claims.claims.len(), None);
            // From the last, so that what is left out moves none that is still to come.
            for place in unknown.into_iter().rev() {
                let owner = owners.get(place).and_then(|at| applied.iter().chain(apart).nth(*at));
                let (Some(claim), Some(owner)) = (claims.claims.get(place), owner) else {
                    continue;
                };
                let alone = self.alone(claims, claim, set);
                match self.inner.histories.spent(claims, claim, &owner.audience, alone).await {
                    Ok(spent) => {
                        if let Some(known) = history.get_mut(place) {
                            *known = Some(spent);
                        }
                    }
                    Err(_) if claim.limit.holds_nobody() => {
                        claims.claims.remove(place);
                        owners.remove(place);
                        history.remove(place);
                    }
                    Err(cause) => return Err(Denied::unavailable(cause)),
                }
            }
        }
        Err(Denied::unavailable("the counters keep forgetting what they are told".to_owned()))
    }

    /// What is known of the claim's window where nobody but this process counts.
    fn alone(&self, claims: &Claims, claim: &Claim, set: &PolicySet) -> Option<Alone> {
        let (Counters::Memory(memory), Limit::Spend { window, .. }) =
            (&self.inner.counters, claim.limit)
        else {
            return None;
        };
        Some(Alone {
            version: set.version(),
            now: self.inner.clock.now(),
            keeps: memory.keeps(window.end(claims.at)),
        })
    }
}

fn places_of<'a, 's: 'a>(
    applied: &'a [Applied<'s>],
    some: impl Iterator<Item = &'a Applied<'s>>,
) -> Vec<usize> {
    some.filter_map(|one| applied.iter().position(|other| std::ptr::eq(one, other))).collect()
}

#[cfg(test)]
mod tests;
