//! Counters in this process: for one replica, and for what may be counted apart while Redis is away.
//!
//! Each organization has a lock of its own, held for about a microsecond; nothing here waits for
//! anything else. What the process counted is gone with it, and rebuilt from the ledger when the
//! next one is asked.

mod held;
mod ring;
mod tenant;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use chrono::{DateTime, Utc};

use super::{Actual, Claims, Reserved};
use crate::domain::ids::{OrganizationId, PolicyId, RequestId};
use crate::domain::money::NanoUsd;
use crate::domain::window::SpendWindow;
use held::SpendKey;
use tenant::Tenant;

/// Parts of the map of organizations, so that workers seldom meet at its lock.
const SHARDS: usize = 16;
/// Seconds from one sweep of a shard to the next.
const SWEEP: i64 = 600;
/// How long a counter is kept after its window, in seconds: for requests that were admitted just
/// before its end.
const MARGIN: i64 = 3_600;

#[derive(Default)]
struct Shard {
    tenants: HashMap<OrganizationId, Arc<Mutex<Tenant>>>,
    /// When it is swept next, in seconds.
    next_sweep: i64,
}

struct Inner {
    hasher: RandomState,
    /// Counters may be gone whose windows ended by then, in seconds.
    swept: AtomicI64,
    shards: [RwLock<Shard>; SHARDS],
}

/// Counters in this process. Clones share them.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
}

impl Default for Memory {
    fn default() -> Self {
        let inner = Inner {
            hasher: RandomState::new(),
            swept: AtomicI64::new(i64::MIN),
            shards: std::array::from_fn(|_| RwLock::default()),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Memory(..)")
    }
}

impl Memory {
    /// Counts all claims or none.
    pub fn reserve(&self, claims: &Claims, history: &[Option<NanoUsd>]) -> Reserved {
        let tenant = self.tenant(claims.organization_id, claims.at);
        lock(&tenant).reserve(claims, history)
    }

    /// Turns what a request has reserved into what it has used. Only the first call has an effect.
    pub fn settle(&self, organization_id: OrganizationId, request_id: RequestId, actual: Actual) {
        if let Some(tenant) = self.find(organization_id) {
            lock(&tenant).end(request_id, Some(actual));
        }
    }

    /// Takes back what a request has reserved, as if it had never come.
    pub fn release(&self, organization_id: OrganizationId, request_id: RequestId) {
        if let Some(tenant) = self.find(organization_id) {
            lock(&tenant).end(request_id, None);
        }
    }

    /// What is settled in the window that holds `at`, without open reservations; none if the counter
    /// is not known here.
    pub fn spent(
        &self,
        organization_id: OrganizationId,
        bucket: PolicyId,
        window: SpendWindow,
        at: DateTime<Utc>,
    ) -> Option<NanoUsd> {
        let tenant = self.find(organization_id)?;
        lock(&tenant).settled(&SpendKey::new(bucket, window, at))
    }

    /// Whether a counter of a window with this end that was made here is still here. It may not be
    /// when the clock went far ahead for a while.
    pub fn keeps(&self, end: DateTime<Utc>) -> bool {
        end.timestamp() > self.inner.swept.load(Ordering::Relaxed)
    }

    fn shard(&self, organization_id: OrganizationId) -> &RwLock<Shard> {
        let [first, ..] = &self.inner.shards;
        let place = self.inner.hasher.hash_one(organization_id) % SHARDS as u64;
        usize::try_from(place).ok().and_then(|place| self.inner.shards.get(place)).unwrap_or(first)
    }

    fn find(&self, organization_id: OrganizationId) -> Option<Arc<Mutex<Tenant>>> {
        let shard = self.shard(organization_id).read().unwrap_or_else(PoisonError::into_inner);
        shard.tenants.get(&organization_id).cloned()
    }

    fn tenant(&self, organization_id: OrganizationId, at: DateTime<Utc>) -> Arc<Mutex<Tenant>> {
        let shard = self.shard(organization_id);
        {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            if at.timestamp() < shard.next_sweep
                && let Some(tenant) = shard.tenants.get(&organization_id)
            {
                return tenant.clone();
            }
        }
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if at.timestamp() >= shard.next_sweep {
            shard.next_sweep = at.timestamp().saturating_add(SWEEP);
            let before = at.timestamp().saturating_sub(MARGIN);
            self.inner.swept.fetch_max(before, Ordering::Relaxed);
            shard.tenants.retain(|_, tenant| {
                // Who else holds it is about to count in it.
                Arc::strong_count(tenant) > 1 || {
                    let mut tenant = lock(tenant);
                    tenant.sweep(at, before);
                    !tenant.is_empty()
                }
            });
        }
        shard.tenants.entry(organization_id).or_default().clone()
    }

    #[cfg(test)]
    pub(super) fn len(&self, organization_id: OrganizationId) -> usize {
        self.find(organization_id).map_or(0, |tenant| lock(&tenant).len())
    }
}

fn lock(tenant: &Mutex<Tenant>) -> MutexGuard<'_, Tenant> {
    tenant.lock().unwrap_or_else(PoisonError::into_inner)
}
