//! The requests that are admitted and have not ended, and where they are counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::Claims;
use crate::domain::ids::{OrganizationId, RequestId};

/// One that has ended.
pub(super) enum Ended {
    /// Redis has counted it.
    Held(Held),
    /// It was counted in this process.
    Apart(Arc<Claims>),
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
    apart: HashMap<RequestId, Arc<Claims>>,
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

    /// One that was counted in this process.
    pub(super) fn add_apart(&self, claims: &Claims) {
        self.lock().apart.insert(claims.request_id, Arc::new(claims.clone()));
    }

    pub(super) fn remove(
        &self,
        organization_id: OrganizationId,
        request_id: RequestId,
    ) -> Option<Ended> {
        let mut inner = self.lock();
        if let Some(claims) = inner.apart.remove(&request_id) {
            return Some(Ended::Apart(claims));
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
        // Else somebody came in meanwhile who was counted in another.
        if let Some(tenant) = self.lock().tenants.get_mut(&organization_id)
            && tenant.stamp == roll.stamp
        {
            tenant.held_in = generation;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
