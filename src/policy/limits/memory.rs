//! Counters in this process: for a single replica, and for what is counted locally while Redis is
//! unavailable.
//!
//! Each organization has a lock of its own, held for about a microsecond. The counters end with the
//! process; the next one rebuilds them from the ledger.

mod open_reservation;
mod ring;
mod tenant;

use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use foldhash::HashMap;
use foldhash::fast::RandomState;

use super::{Amounts, Claims, Reserved};
use crate::domain::ids::{OrganizationId, RequestId};
use tenant::Tenant;

/// Parts of the map of organizations, so that workers rarely wait for its lock.
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
    /// Counters of windows that ended by then may be dropped. In seconds.
    swept_before: AtomicI64,
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
            hasher: RandomState::default(),
            swept_before: AtomicI64::new(i64::MIN),
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
    pub fn reserve(&self, claims: &Claims) -> Reserved {
        let tenant = self.tenant(claims.organization_id, claims.at);
        lock(&tenant).reserve(claims)
    }

    /// Replaces what a request has reserved by what it has used, if anything. Only the first call has
    /// an effect.
    pub fn end(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
        used: Option<Amounts>,
    ) {
        if let Some(tenant) = self.find(organization_id) {
            lock(&tenant).end(request_id, used);
        }
    }

    /// Whether counters of a window with this end were never dropped. They may have been if the clock
    /// was far ahead for a while.
    pub fn keeps_window(&self, end: DateTime<Utc>) -> bool {
        end.timestamp() > self.inner.swept_before.load(Ordering::Relaxed)
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
            self.inner.swept_before.fetch_max(before, Ordering::Relaxed);
            shard.tenants.retain(|_, tenant| {
                // Another thread is about to count in it.
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
