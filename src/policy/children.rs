//! Makes the children of default policies, off the requests' way: noted when a subject is first seen,
//! written in batches.
//!
//! A child's row is for people: its bucket counts before it exists. So nobody waits for it, and what
//! there is no room for is noted again when its subject comes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::db::{Database, DbError};
use crate::domain::ids::{OrganizationId, PolicyId};

use super::set::ChildSeed;

/// Children that wait, of all organizations together.
const MOST_WAITING: usize = 20_000;
/// Those of one organization, so that none keeps the others out.
const MOST_OF_ONE: usize = 2_000;
/// How many of one organization are written in one transaction.
const BATCH: usize = 500;
/// From one round to the next.
const ROUND: Duration = Duration::from_secs(1);

type Waiting = HashMap<OrganizationId, HashMap<PolicyId, ChildSeed>>;

/// The children that wait to be made. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Children {
    waiting: Arc<Mutex<Waiting>>,
}

impl Children {
    /// Notes a child; says whether there was room.
    pub fn note(&self, organization_id: OrganizationId, seed: &ChildSeed) -> bool {
        let mut waiting = self.lock();
        let all: usize = waiting.values().map(HashMap::len).sum();
        let own = waiting.entry(organization_id).or_default();
        if own.contains_key(&seed.id) {
            return true;
        }
        if all >= MOST_WAITING || own.len() >= MOST_OF_ONE {
            return false;
        }
        own.insert(seed.id, seed.clone());
        true
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().values().map(HashMap::len).sum()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes what waits about once a second, for as long as anybody else holds the queue.
    pub async fn write_now_and_then(self, database: Database) {
        let waiting = Arc::downgrade(&self.waiting);
        drop(self);
        let mut failing = false;
        loop {
            tokio::time::sleep(ROUND).await;
            let Some(waiting) = waiting.upgrade() else { return };
            match (Self { waiting }).write(&database).await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "children of default policies wait to be made");
                    }
                    failing = true;
                }
            }
        }
    }

    /// Writes what waits. What can't be written goes on waiting.
    pub async fn write(&self, database: &Database) -> Result<(), DbError> {
        let organizations: Vec<OrganizationId> = self.lock().keys().copied().collect();
        for organization_id in organizations {
            let batch: Vec<ChildSeed> = {
                let waiting = self.lock();
                let own = waiting.get(&organization_id);
                own.into_iter().flat_map(HashMap::values).take(BATCH).cloned().collect()
            };
            let ids: Vec<PolicyId> = batch.iter().map(|seed| seed.id).collect();
            ensure(database, organization_id, batch).await?;
            let mut waiting = self.lock();
            if let Some(own) = waiting.get_mut(&organization_id) {
                ids.iter().for_each(|id| {
                    own.remove(id);
                });
                if own.is_empty() {
                    waiting.remove(&organization_id);
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
