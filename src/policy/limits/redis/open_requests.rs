//! The requests that are admitted and have not ended, and where they are counted.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::Claims;
use crate::domain::ids::{OrganizationId, RequestId};

/// A request that is admitted.
#[derive(Clone)]
pub(super) struct OpenRequest {
    pub(super) claims: Arc<Claims>,
    pub(super) counted: Counted,
}

/// Where a request is counted.
#[derive(Clone)]
pub(super) enum Counted {
    /// In Redis, in this generation of keys.
    InRedis { generation: Arc<str> },
    /// In this process. Redis may have counted it, too, if a call got no answer.
    Locally { redis_was_asked: bool },
}

/// The open requests of an organization that are counted in Redis; at least one.
struct Tenant {
    requests: HashMap<RequestId, OpenRequest>,
    /// The generation of keys that holds all of them; none if that is not certain.
    held_in: Option<Arc<str>>,
    /// Changes whenever `held_in` becomes uncertain.
    stamp: u64,
    /// Locked while they are renewed or restored.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Inner {
    tenants: HashMap<OrganizationId, Tenant>,
    local: HashMap<RequestId, OpenRequest>,
    last_stamp: u64,
}

#[derive(Default)]
pub(super) struct OpenRequests(Mutex<Inner>);

/// The open requests of an organization at one moment.
pub(super) struct Snapshot {
    pub(super) requests: Vec<RequestId>,
    stamp: u64,
}

impl OpenRequests {
    /// Adds a request that Redis has counted.
    pub(super) fn add_in_redis(&self, claims: &Claims, generation: &Arc<str>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.last_stamp += 1;
        let tenant = inner.tenants.entry(claims.organization_id).or_insert_with(|| Tenant {
            requests: HashMap::new(),
            held_in: Some(generation.clone()),
            stamp: inner.last_stamp,
            turn: Arc::default(),
        });
        if tenant.held_in.as_ref().is_some_and(|held_in| held_in != generation) {
            tenant.held_in = None;
            tenant.stamp = inner.last_stamp;
        }
        let counted = Counted::InRedis { generation: generation.clone() };
        let request = OpenRequest { claims: Arc::new(claims.clone()), counted };
        tenant.requests.insert(claims.request_id, request);
    }

    /// Adds a request that is counted in this process.
    pub(super) fn add_local(&self, claims: &Claims, redis_was_asked: bool) {
        let counted = Counted::Locally { redis_was_asked };
        let request = OpenRequest { claims: Arc::new(claims.clone()), counted };
        self.lock().local.insert(claims.request_id, request);
    }

    pub(super) fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.tenants.is_empty() && inner.local.is_empty()
    }

    pub(super) fn remove(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
    ) -> Option<OpenRequest> {
        let mut inner = self.lock();
        if let Some(local) = inner.local.remove(&request_id) {
            return Some(local);
        }
        let tenant = inner.tenants.get_mut(&organization_id)?;
        let request = tenant.requests.remove(&request_id);
        if tenant.requests.is_empty() {
            inner.tenants.remove(&organization_id);
        }
        request
    }

    /// The generation that holds all open requests of an organization. A name that no generation has
    /// if that is not certain; none if there are no requests.
    pub(super) fn held_in(&self, organization_id: OrganizationId) -> Option<Arc<str>> {
        let inner = self.lock();
        let tenant = inner.tenants.get(&organization_id)?;
        Some(tenant.held_in.clone().unwrap_or_else(|| "uncertain".into()))
    }

    /// The turn to renew or restore an organization's requests; none if there are no requests.
    pub(super) fn turn(
        &self,
        organization_id: OrganizationId,
    ) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.lock().tenants.get(&organization_id).map(|tenant| tenant.turn.clone())
    }

    pub(super) fn organizations(&self) -> Vec<OrganizationId> {
        self.lock().tenants.keys().copied().collect()
    }

    pub(super) fn snapshot(&self, organization_id: OrganizationId) -> Option<Snapshot> {
        let inner = self.lock();
        let tenant = inner.tenants.get(&organization_id)?;
        Some(Snapshot { requests: tenant.requests.keys().copied().collect(), stamp: tenant.stamp })
    }

    /// The claims of those of these requests that are still open.
    pub(super) fn claims(
        &self,
        organization_id: OrganizationId,
        requests: impl Iterator<Item = RequestId>,
    ) -> Vec<Arc<Claims>> {
        let inner = self.lock();
        let Some(tenant) = inner.tenants.get(&organization_id) else { return Vec::new() };
        requests.filter_map(|id| tenant.requests.get(&id)).map(|one| one.claims.clone()).collect()
    }

    /// All requests of the snapshot are held in this generation; none if that is not certain.
    pub(super) fn set_held_in(
        &self,
        organization_id: OrganizationId,
        snapshot: &Snapshot,
        generation: Option<Arc<str>>,
    ) {
        let renewed: HashSet<_> = snapshot.requests.iter().collect();
        // Another stamp shows that a request was added since, which is counted in another generation.
        if let Some(tenant) = self.lock().tenants.get_mut(&organization_id)
            && tenant.stamp == snapshot.stamp
        {
            // A request that was added after the snapshot may be counted in the generation before.
            let is_held = |(request_id, request): (&RequestId, &OpenRequest)| {
                let own = match &request.counted {
                    Counted::InRedis { generation } => Some(generation),
                    Counted::Locally { .. } => None,
                };
                generation.as_ref() == own || renewed.contains(request_id)
            };
            let all_held = tenant.requests.iter().all(is_held);
            tenant.held_in = generation.filter(|_| all_held);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::policy::limits::ClaimList;

    #[test]
    fn a_request_that_is_not_in_the_snapshot_makes_the_generation_uncertain() {
        let clock = Clock::default();
        let organization_id = clock.new_id();
        let new = || Claims {
            organization_id,
            request_id: clock.new_id(),
            at: clock.now(),
            list: ClaimList::new(),
        };
        let open = OpenRequests::default();
        let (before, after): (Arc<str>, Arc<str>) = ("1".into(), "2".into());
        open.add_in_redis(&new(), &before);
        let snapshot = open.snapshot(organization_id).unwrap();
        // Counted before Redis was emptied, and answered after the snapshot was taken.
        open.add_in_redis(&new(), &before);
        open.set_held_in(organization_id, &snapshot, Some(after.clone()));
        assert_ne!(open.held_in(organization_id), Some(after.clone()));

        // One that is counted in the new generation does not.
        let snapshot = open.snapshot(organization_id).unwrap();
        open.add_in_redis(&new(), &after);
        open.set_held_in(organization_id, &snapshot, Some(after.clone()));
        assert_eq!(open.held_in(organization_id), Some(after));
    }
}
