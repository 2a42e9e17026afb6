//! Counters in Redis, for several replicas. Each reservation is one call of a script that counts all
//! claims or none.
//!
//! A reservation is a record in Redis (what was taken of which counters) and, if it holds money, a
//! lease that this process renews as long as the request is open. A reservation whose lease has
//! expired is charged in full; its record stays until its last window has ended, so that a process that
//! learns what was used can still correct the charge, once.
//!
//! Redis may lose what it has counted: it was emptied, restarted from an older file, or replaced by a
//! replica that was behind. So all keys of an organization are named under a generation, and a new
//! generation begins where none is known or where the last one began in another run of the server.
//! Older generations are never read again. In a new generation spend counters are unknown and rebuilt
//! from the ledger. Each process restores its open reservations before it reserves more, and when it
//! reconnects; a request that ends before that is charged by its settlement. For a moment after the
//! server's run has changed nothing is reserved, so that all replicas can restore. What the ledger and
//! a restored reservation both count is counted twice; what a replica has neither restored nor written
//! to the ledger is missed. Rate counters begin with what is restored.
//!
//! While Redis is unavailable, spend claims fail, or are counted locally if so configured (then caps
//! may be exceeded). Rates are counted locally, and sent to Redis at the settlement.

mod background;
mod client;
mod connection;
mod leases;
mod local_fallback;
mod open_requests;
mod pending_corrections;
mod reply;
mod scripts;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{Amounts, Claims, CountersUnavailable, Memory, Reserved};
use crate::clock::Clock;
use crate::config::{RedisUrl, SpendWithoutRedis};
use crate::crypto::TlsConfigError;
use crate::domain::ids::{OrganizationId, RequestId};
use crate::telemetry::Metrics;
use client::{Client, Failure};
use connection::Address;
use open_requests::{Counted, OpenRequest, OpenRequests};
use pending_corrections::{Correction, PendingCorrection, PendingCorrections};
use reply::Reply;
use scripts::Scripts;

/// How often a reservation is retried because Redis has just begun a new generation of keys.
const MAX_TRIES: u32 = 3;

/// How often it is looked whether everything has been sent.
const POLL: Duration = Duration::from_millis(10);

/// How Redis is used.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    pub url: RedisUrl,
    /// Certificate authorities to trust besides the public ones, in PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// The longest time that a call may take.
    pub deadline: Duration,
    /// What becomes of spend claims while Redis is unavailable.
    pub spend_without: SpendWithoutRedis,
}

/// The counters in Redis can't be set up; the texts say why.
#[derive(Debug, thiserror::Error)]
pub enum RedisSetupError {
    #[error("the Redis URL cannot be used: {0}")]
    Url(redis::RedisError),
    #[error("--redis-ca-file cannot be read: {0}")]
    CaFile(std::io::Error),
    #[error("TLS to Redis: {0}")]
    Tls(#[from] TlsConfigError),
    #[error("cannot start the thread for Redis: {0}")]
    Runtime(std::io::Error),
}

struct Inner {
    client: Client,
    scripts: Scripts,
    open: OpenRequests,
    pending: Arc<PendingCorrections>,
    local: Memory,
    spend_without: SpendWithoutRedis,
    clock: Clock,
    /// Wakes the background task.
    wake: Arc<Notify>,
}

/// The background thread. It is not waited for when dropped.
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
    /// Counters behind this URL. Connecting starts now and is not waited for.
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
            client: Client::new(address, options.deadline, wake.clone(), metrics.clone()),
            scripts: Scripts::new(),
            open: OpenRequests::default(),
            pending: Arc::new(PendingCorrections::new(metrics.clone())),
            local: Memory::default(),
            spend_without: options.spend_without,
            clock: clock.clone(),
            wake: wake.clone(),
        });
        runtime.spawn(background::run(Arc::downgrade(&inner), wake));
        Ok(Self { inner, runtime: Arc::new(Runtime(Some(runtime))) })
    }

    /// Counts all claims or none.
    pub async fn reserve(&self, claims: &Claims) -> Result<Reserved, CountersUnavailable> {
        let inner = &*self.inner;
        // Until Redis has answered it may have counted. If this future is dropped, that is taken back.
        let pending = PendingCorrection::new(&inner.pending, Correction::abandon(claims));
        let (redis_was_asked, why) = match inner.reserve_in_redis(claims).await {
            Ok(Some(Reply::Reserved(reserved, generation))) => {
                if matches!(reserved, Reserved::Admitted(_)) {
                    inner.open.add_in_redis(claims, &generation);
                }
                pending.done();
                return Ok(reserved);
            }
            Ok(Some(Reply::Ended)) => {
                pending.done();
                return Err(CountersUnavailable("the request has reserved before".to_owned()));
            }
            Ok(Some(Reply::OtherGeneration(_))) => {
                (true, "Redis lost its keys again and again".to_owned())
            }
            Ok(None) => (true, "Redis sent an unexpected reply".to_owned()),
            Err(Failure::NotSent) => (false, "Redis is unavailable".to_owned()),
            Err(Failure::Unanswered(why) | Failure::Error(why)) => (true, why),
        };
        let reserved = inner.reserve_locally(claims, redis_was_asked, why);
        if !redis_was_asked || matches!(reserved, Ok(Reserved::Admitted(_))) {
            // Once it is open, its settlement corrects what Redis may have counted.
            pending.done();
        } else {
            drop(pending);
            inner.wake.notify_one();
        }
        reserved
    }

    /// Replaces what a request has reserved by what it has used, if anything.
    pub async fn end(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
        used: Option<Amounts>,
    ) {
        if let Some(pending) = self.inner.close(organization_id, request_id, used) {
            send(self.inner.clone(), pending).await;
        }
    }

    /// [`end`](Self::end) in the background: on this thread if it is a worker's.
    pub fn end_in_background(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
        used: Option<Amounts>,
    ) {
        let Some(pending) = self.inner.close(organization_id, request_id, used) else { return };
        // If it is dropped before it has run, the background task sends the correction.
        let sending = send(self.inner.clone(), pending);
        match (worker::runtime(), &self.runtime.0) {
            (Some(worker), _) => drop(worker.spawn(sending)),
            (None, Some(runtime)) => drop(runtime.spawn(sending)),
            (None, None) => drop(sending),
        }
    }

    /// Declares this thread a worker's, which drives a connection of its own.
    pub fn attach_worker(&self) {
        worker::attach();
    }

    /// Waits until Redis is up and all pending corrections are counted, for at most `max_wait`.
    /// Whether they are.
    pub async fn catch_up(&self, max_wait: Duration) -> bool {
        let inner = &*self.inner;
        let caught_up = async {
            loop {
                inner.client.up().await;
                let pause = match inner.send_pending().await {
                    true if inner.pending.is_empty() => return,
                    // Some are being sent elsewhere.
                    true => POLL,
                    false => background::RETRY_REFUSED,
                };
                tokio::time::sleep(pause).await;
            }
        };
        tokio::time::timeout(max_wait, caught_up).await.is_ok()
    }

    /// Waits until no request is open and all corrections are counted, for at most `max_wait`. Whether
    /// both. Redis need not be up if there is nothing to correct.
    pub async fn finish(&self, max_wait: Duration) -> bool {
        let finished = async {
            // Requests that were cut off when a worker ended close a moment later.
            while !self.inner.open.is_empty() {
                tokio::time::sleep(POLL).await;
            }
            self.inner.pending.is_empty() || self.catch_up(max_wait).await
        };
        tokio::time::timeout(max_wait, finished).await.unwrap_or(false)
    }

    /// Whether Redis is connected.
    #[cfg(test)]
    pub(super) fn is_up(&self) -> bool {
        self.inner.client.is_up()
    }

    /// Releases a reservation as if its request had stopped waiting.
    #[cfg(test)]
    pub(super) async fn abandon(&self, claims: &Claims) {
        self.inner.send(&Correction::abandon(claims)).await.unwrap();
    }

    #[cfg(test)]
    pub(super) async fn renew(&self) {
        self.inner.renew_leases().await;
    }
}

/// Sends a correction; the background task does if this fails.
async fn send(inner: Arc<Inner>, pending: PendingCorrection) {
    let Some(correction) = pending.correction() else { return };
    if inner.send(correction).await.is_ok() {
        pending.done();
    }
}

impl Inner {
    /// Closes a request, in the local counters too. Returns the correction that Redis still needs, if any.
    fn close(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
        used: Option<Amounts>,
    ) -> Option<PendingCorrection> {
        let (claims, generation) = match self.open.remove(organization_id, request_id) {
            Some(OpenRequest { claims, counted: Counted::InRedis { generation } }) => {
                (Some(claims), Some(generation))
            }
            Some(OpenRequest { claims, counted: Counted::Locally { redis_was_asked } }) => {
                self.local.end(organization_id, request_id, used);
                if used.is_none() && !redis_was_asked {
                    return None;
                }
                (Some(claims), None)
            }
            // It was not admitted. If Redis may have counted it, that is already being taken back.
            None if used.is_none() => return None,
            // Another process admitted it.
            None => (None, None),
        };
        let correction =
            Correction { organization_id, request_id, used, claims, generation, refusals: 0 };
        Some(PendingCorrection::new(&self.pending, correction))
    }

    /// Asks Redis to count all claims or none. If it has lost the organization's open requests, they
    /// are restored first. None if the reply is not understood.
    async fn reserve_in_redis(&self, claims: &Claims) -> Result<Option<Reply>, Failure> {
        let mut tries = 0;
        loop {
            let held_in = self.open.held_in(claims.organization_id);
            let held_in = held_in.as_deref().unwrap_or("");
            let now = self.clock.now();
            let script = |run: &str| self.scripts.reserve(claims, held_in, run, now);
            let value = self.client.call_to_reserve(script).await?;
            tries += 1;
            match reply::read(&value, claims) {
                Some(Reply::OtherGeneration(generation)) if tries < MAX_TRIES => {
                    self.restore(claims.organization_id, &generation).await?;
                }
                reply => return Ok(reply),
            }
        }
    }
}
