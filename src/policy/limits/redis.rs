//! Counters in Redis, for several replicas. Each question is one call of a script, which counts all
//! claims or none.
//!
//! A reservation is a record in Redis (what was taken of which counters) and a lease, which this
//! process renews as long as the request lives. A lease that runs out is charged as reserved; the
//! record stays until its longest window is over, so that whoever learns the truth can still correct
//! it, once.
//!
//! A Redis may lose what it has counted: emptied, or back in time, if it was started again from a file
//! or another has taken over that was behind. So every organization's keys are named under a
//! generation, which is begun anew where none is known, and where the last was begun in another run of
//! the server. What is older is never read again. In a new generation spend counters are unknown, and
//! rebuilt from the ledger; living reservations are put back by the process that they live in, before
//! it asks for more and when it reaches Redis again; a request that ends before that is charged in
//! full. What the ledger saw as well in that moment is counted twice; what another replica has not put
//! back or not brought into the ledger yet is missed. In another run nothing is admitted for a moment,
//! so that all have done so. Rates start from what is put back.
//!
//! While Redis is away, spend claims can't be reserved (or are counted apart, if that is the
//! choice, and then caps may be passed); rates are counted in this process, and Redis is told when it
//! is back.

mod answer;
mod apart;
mod connect;
mod keeper;
mod keys;
mod late;
mod line;
mod living;
mod renewal;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use super::{Actual, Claims, CountersUnavailable, Memory, Reserved};
use crate::clock::Clock;
use crate::config::{RedisUrl, SpendWithoutRedis};
use crate::crypto::TlsConfigError;
use crate::domain::ids::{OrganizationId, PolicyId, RequestId};
use crate::domain::money::NanoUsd;
use crate::domain::window::SpendWindow;
use crate::telemetry::Metrics;
use answer::Answer;
use connect::Address;
use keys::Scripts;
use late::{Ending, Late, Pending};
use line::{Failure, Line};
use living::{Ended, Living};

/// How often a question is asked anew because Redis has just been emptied.
const TRIES: u32 = 3;

/// How soon it is asked again whether all is told that is being told.
const IN_HANDS: Duration = Duration::from_millis(10);

/// How Redis is used.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Where it is.
    pub url: RedisUrl,
    /// Authorities to trust besides the public ones, in PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// How long a call may take.
    pub deadline: Duration,
    /// What becomes of spend claims while it is away.
    pub spend_without: SpendWithoutRedis,
}

/// The counters in Redis can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum RedisSetupError {
    /// The URL is not one.
    #[error("the Redis URL cannot be used: {0}")]
    Url(redis::RedisError),
    /// The file of authorities can't be read.
    #[error("--redis-ca-file cannot be read: {0}")]
    CaFile(std::io::Error),
    /// Nor can what is in it be used.
    #[error("TLS to Redis: {0}")]
    Tls(#[from] TlsConfigError),
    /// There is no runtime for its connection.
    #[error("there is no runtime for Redis: {0}")]
    Runtime(std::io::Error),
}

struct Inner {
    line: Line,
    scripts: Scripts,
    living: Living,
    late: Arc<Late>,
    local: Memory,
    spend_without: SpendWithoutRedis,
    clock: Clock,
    wake: Arc<Notify>,
}

/// The runtime that the connection lives on, since workers come and go. Ends without waiting.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Counters in Redis. Clones share them.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
    runtime: Arc<Runtime>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Redis(..)")
    }
}

impl Redis {
    /// Counters behind this URL. Connecting begins now and is not waited for.
    pub fn open(
        options: RedisOptions,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Result<Self, RedisSetupError> {
        let address = Address::new(&options.url, options.ca_pem.as_deref())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("redis")
            .enable_all()
            .build()
            .map_err(RedisSetupError::Runtime)?;
        let wake = Arc::new(Notify::new());
        let inner = Arc::new(Inner {
            line: Line::new(address, options.deadline, wake.clone(), metrics.clone()),
            scripts: Scripts::new(),
            living: Living::default(),
            late: Arc::new(Late::new(metrics.clone())),
            local: Memory::default(),
            spend_without: options.spend_without,
            clock: clock.clone(),
            wake: wake.clone(),
        });
        runtime.spawn(keeper::keep(Arc::downgrade(&inner), wake));
        Ok(Self { inner, runtime: Arc::new(Runtime(Some(runtime))) })
    }

    /// Counts all claims or none.
    pub async fn reserve(
        &self,
        claims: &Claims,
        history: &[Option<NanoUsd>],
    ) -> Result<Reserved, CountersUnavailable> {
        let inner = &*self.inner;
        // Until Redis has answered, it may have counted; whoever stops waiting has to take it back.
        let pending = Pending::new(&inner.late, Ending::given_up(claims));
        let failure = match inner.ask(claims, history).await {
            Ok(Some(Answer::Reserved(reserved, generation))) => {
                if matches!(reserved, Reserved::Admitted(_)) {
                    inner.living.add(claims, &generation);
                }
                pending.done();
                return Ok(reserved);
            }
            Ok(Some(Answer::Ended)) => {
                pending.done();
                return Err(CountersUnavailable("the request has reserved before".to_owned()));
            }
            Ok(Some(Answer::Anew(_))) => "Redis is emptied again and again".to_owned(),
            Ok(None) => "Redis answered with something else".to_owned(),
            Err(Failure::NotSent) => {
                pending.done();
                return inner.reserve_apart(claims, history, false, "Redis is away".to_owned());
            }
            Err(Failure::Unanswered(why) | Failure::Error(why)) => why,
        };
        let apart = inner.reserve_apart(claims, history, true, failure);
        if matches!(apart, Ok(Reserved::Admitted(_))) {
            // It lives, counted here, and Redis is told when it ends. What Redis may have counted of
            // it is settled then, too.
            pending.done();
        } else {
            drop(pending);
            inner.wake.notify_one();
        }
        apart
    }

    /// Turns what a request has reserved into what it has used.
    pub async fn settle(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
        actual: Actual,
    ) {
        if let Some(pending) = self.inner.ended(organization_id, request_id, Some(actual)) {
            tell(self.inner.clone(), pending).await;
        }
    }

    /// Takes back what a request has reserved, as if it had never come.
    pub async fn release(&self, organization_id: OrganizationId, request_id: RequestId) {
        if let Some(pending) = self.inner.ended(organization_id, request_id, None) {
            tell(self.inner.clone(), pending).await;
        }
    }

    /// [`settle`](Self::settle), or [`release`](Self::release) where nothing was used, without
    /// waiting for it. On a worker it happens there.
    pub fn end_soon(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
        actual: Option<Actual>,
    ) {
        let Some(pending) = self.inner.ended(organization_id, request_id, actual) else { return };
        // Not run, it leaves what is to be told to the keeper.
        let telling = tell(self.inner.clone(), pending);
        match (worker::runtime(), &self.runtime.0) {
            (Some(here), _) => drop(here.spawn(telling)),
            (None, Some(runtime)) => drop(runtime.spawn(telling)),
            (None, None) => drop(telling),
        }
    }

    /// Says that this thread is a worker's, which drives a connection of its own.
    pub fn attach_worker(&self) {
        worker::attach();
    }

    /// What is settled in the windows that hold `at`, one for each counter.
    pub async fn spent_each(
        &self,
        organization_id: OrganizationId,
        counters: &[(PolicyId, SpendWindow)],
        at: DateTime<Utc>,
    ) -> Vec<Option<NanoUsd>> {
        if counters.is_empty() {
            return Vec::new();
        }
        let inner = &*self.inner;
        let now = inner.clock.now();
        let told = inner.line.call::<Vec<Option<i64>>>(|run| {
            inner.scripts.spent(organization_id, counters, at, run, now)
        });
        match told.await {
            Ok(told) => told.into_iter().map(|settled| settled.map(NanoUsd::from_nanos)).collect(),
            Err(_) => vec![None; counters.len()],
        }
    }

    /// Waits until Redis is reached and knows of all that has ended, but no longer than `most`.
    /// Whether it does.
    pub async fn catch_up(&self, most: Duration) -> bool {
        let inner = &*self.inner;
        let caught_up = async {
            loop {
                inner.line.up().await;
                let pause = match inner.tell_late().await {
                    true if inner.late.is_all_told() => return,
                    // Others are about it.
                    true => IN_HANDS,
                    false => keeper::AGAIN,
                };
                tokio::time::sleep(pause).await;
            }
        };
        tokio::time::timeout(most, caught_up).await.is_ok()
    }

    /// Waits until nothing lives here any more, and Redis knows of all that has ended, but no longer
    /// than `most`. Whether both. Redis need not be reached if there is nothing to tell it.
    pub async fn finish(&self, most: Duration) -> bool {
        let finished = async {
            // What is cut at the end of a worker ends a moment after it.
            while !self.inner.living.is_empty() {
                tokio::time::sleep(IN_HANDS).await;
            }
            self.inner.late.is_all_told() || self.catch_up(most).await
        };
        tokio::time::timeout(most, finished).await.unwrap_or(false)
    }

    /// Whether Redis is reached.
    pub fn is_up(&self) -> bool {
        self.inner.line.is_up()
    }

    /// Tells Redis at once that a request has stopped waiting for its answer.
    #[cfg(test)]
    pub(super) async fn give_up(&self, claims: &Claims) {
        self.inner.tell(&Ending::given_up(claims)).await.unwrap();
    }

    #[cfg(test)]
    pub(super) async fn renew(&self) {
        self.inner.renew().await;
    }
}

/// Tells Redis of an ending, now or later.
async fn tell(inner: Arc<Inner>, pending: Pending) {
    let Some(ending) = pending.ending() else { return };
    if inner.tell(ending).await.is_ok() {
        pending.done();
    }
}

impl Inner {
    /// A request has ended. What Redis has to be told of it, if anything.
    fn ended(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
        actual: Option<Actual>,
    ) -> Option<Pending> {
        let (claims, generation) = match self.living.remove(organization_id, request_id) {
            Some(Ended::Held(held)) => (Some(held.claims), Some(held.generation)),
            Some(Ended::Apart(apart)) => {
                match actual {
                    Some(actual) => self.local.settle(organization_id, request_id, actual),
                    None => self.local.release(organization_id, request_id),
                }
                if actual.is_none() && !apart.asked {
                    // Redis has never heard of it.
                    return None;
                }
                (Some(apart.claims), None)
            }
            // It was not admitted, and if Redis may have counted it, that is being taken back.
            None if actual.is_none() => return None,
            None => (None, None),
        };
        let ending = Ending { organization_id, request_id, actual, claims, generation, tries: 0 };
        Some(Pending::new(&self.late, ending))
    }

    /// Asks Redis to count all claims or none. Where it has lost what lives here, that is put back
    /// first. None if the answer is not understood.
    async fn ask(
        &self,
        claims: &Claims,
        history: &[Option<NanoUsd>],
    ) -> Result<Option<Answer>, Failure> {
        let mut tries = 0;
        loop {
            let held_in = self.living.held_in(claims.organization_id);
            let held_in = held_in.as_deref().unwrap_or("");
            let now = self.clock.now();
            let script = |run: &str| self.scripts.reserve(claims, history, held_in, run, now);
            let value = self.line.call_when_open(script).await?;
            tries += 1;
            match answer::read(&value, claims) {
                Some(Answer::Anew(generation)) if tries < TRIES => {
                    self.put_back(claims.organization_id, &generation).await?;
                }
                answer => return Ok(answer),
            }
        }
    }
}
