//! The requests that are admitted and have not ended, and where they are counted.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::Claims;
use crate::domain::ids::{OrganizationId, RequestId};

/// One that has ended.
pub(super) enum Ended {
    /// Redis has counted it.
    Held(Held),
    /// It was counted in this process.
    Apart(Apart),
}

/// One that was counted in this process.
pub(super) struct Apart {
    pub(super) claims: Arc<Claims>,
    /// Whether Redis was asked, did not say, and may hold it as well.
    pub(super) asked: bool,
}

/// One that Redis has counted.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) claims: Arc<Claims>,
    /// The generation of keys that it was admitted in.
    pub(super) generation: Arc<str>,
}

/// The living requests of an organization that Redis has counted; at least one.
struct Tenant {
    requests: HashMap<RequestId, Held>,
    /// The generation of keys that holds all of them; none if that is not sure.
    held_in: Option<Arc<str>>,
    /// Another one whenever `held_in` becomes unsure.
    stamp: u64,
    /// Whoever puts them back has this turn; the others wait for it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Inner {
    tenants: HashMap<OrganizationId, Tenant>,
    apart: HashMap<RequestId, Apart>,
    stamps: u64,
}

/// The living requests.
#[derive(Default)]
pub(super) struct Living(Mutex<Inner>);

/// The living requests of an organization at one moment.
pub(super) struct Roll {
    pub(super) requests: Vec<RequestId>,
    stamp: u64,
}

impl Living {
    /// One that Redis has counted in this generation.
    pub(super) fn add(&self, claims: &Claims, generation: &Arc<str>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.stamps += 1;
        let tenant = inner.tenants.entry(claims.organization_id).or_insert_with(|| Tenant {
            requests: HashMap::new(),
            held_in: Some(generation.clone()),
            stamp: inner.stamps,
            turn: Arc::default(),
        });
        if tenant.held_in.as_ref().is_some_and(|held_in| held_in != generation) {
            tenant.held_in = None;
            tenant.stamp = inner.stamps;
        }
        let held = Held { claims: Arc::new(claims.clone()), generation: generation.clone() };
        tenant.requests.insert(claims.request_id, held);
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.tenants.is_empty() && inner.apart.is_empty()
    }

    /// One that was counted in this process.
    pub(super) fn add_apart(&self, claims: &Claims, asked: bool) {
        let apart = Apart { claims: Arc::new(claims.clone()), asked };
        self.lock().apart.insert(claims.request_id, apart);
    }

    pub(super) fn remove(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
    ) -> Option<Ended> {
        let mut inner = self.lock();
        if let Some(apart) = inner.apart.remove(&request_id) {
            return Some(Ended::Apart(apart));
        }
        let tenant = inner.tenants.get_mut(&organization_id)?;
        let held = tenant.requests.remove(&request_id);
        if tenant.requests.is_empty() {
            inner.tenants.remove(&organization_id);
        }
        held.map(Ended::Held)
    }

    /// The generation that holds all of an organization's; one that there is not if that is not sure,
    /// and none if nothing lives.
    pub(super) fn held_in(&self, organization_id: OrganizationId) -> Option<Arc<str>> {
        let inner = self.lock();
        let tenant = inner.tenants.get(&organization_id)?;
        Some(tenant.held_in.clone().unwrap_or_else(|| "unsure".into()))
    }

    /// The turn to put back an organization's; none if nothing lives.
    pub(super) fn turn(
        &self,
        organization_id: OrganizationId,
    ) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.lock().tenants.get(&organization_id).map(|tenant| tenant.turn.clone())
    }

    pub(super) fn organizations(&self) -> Vec<OrganizationId> {
        self.lock().tenants.keys().copied().collect()
    }

    pub(super) fn roll(&self, organization_id: OrganizationId) -> Option<Roll> {
        let inner = self.lock();
        let tenant = inner.tenants.get(&organization_id)?;
        Some(Roll { requests: tenant.requests.keys().copied().collect(), stamp: tenant.stamp })
    }

    /// What those of these requests have claimed that still live.
    pub(super) fn claims(
        &self,
        organization_id: OrganizationId,
        requests: impl Iterator<Item = RequestId>,
    ) -> Vec<Arc<Claims>> {
        let inner = self.lock();
        let Some(tenant) = inner.tenants.get(&organization_id) else { return Vec::new() };
        requests.filter_map(|id| tenant.requests.get(&id)).map(|held| held.claims.clone()).collect()
    }

    /// All on the roll are held in this generation, or it is not sure in which.
    pub(super) fn renewed(
        &self,
        organization_id: OrganizationId,
        roll: &Roll,
        generation: Option<Arc<str>>,
    ) {
        let called: HashSet<_> = roll.requests.iter().collect();
        // Else somebody came in meanwhile who was counted in another.
        if let Some(tenant) = self.lock().tenants.get_mut(&organization_id)
            && tenant.stamp == roll.stamp
        {
            let is_held = |(request_id, held): (&RequestId, &Held)| {
                generation.as_ref() == Some(&held.generation) || called.contains(request_id)
            };
            // Who came in too late for the roll may be counted in the one before this, which
            // everybody was still held in then.
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

    #[test]
    fn who_was_not_on_the_roll_is_not_vouched_for() {
        let clock = Clock::default();
        let organization_id = clock.new_id();
        let new = || Claims {
            organization_id,
            request_id: clock.new_id(),
            at: clock.now(),
            claims: Vec::new(),
        };
        let living = Living::default();
        let (before, after): (Arc<str>, Arc<str>) = ("1".into(), "2".into());
        living.add(&new(), &before);
        let roll = living.roll(organization_id).unwrap();
        // Counted before Redis was emptied, and answered after the roll was taken.
        let late = new();
        living.add(&late, &before);
        living.renewed(organization_id, &roll, Some(after.clone()));
        assert_ne!(living.held_in(organization_id), Some(after.clone()));

        // One that came in since is counted in the new one.
        let roll = living.roll(organization_id).unwrap();
        living.add(&new(), &after);
        living.renewed(organization_id, &roll, Some(after.clone()));
        assert_eq!(living.held_in(organization_id), Some(after));
    }
}
