//! Makes the children of default policies, off the requests' way: noted when a subject is first seen,
//! written in batches.
//!
//! A child's row is for people: its bucket counts before it exists. So nobody waits for it, and what
//! there is no room for is noted again when its subject comes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::NaiveDateTime;

use super::set::ChildSeed;
use crate::clock::Clock;
use crate::db::gateway_policies::{ChildOutcome, GatewayPolicyRow, ensure_children};
use crate::db::{ChangeScope, Conn, Database, DbError};
use crate::domain::ids::{OrganizationId, PolicyId};
use crate::domain::policy::{Audience, PolicyType};

/// Children that wait, of all organizations together.
const MOST_WAITING: usize = 20_000;
/// Those of one organization, so that none keeps the others out.
const MOST_OF_ONE: usize = 2_000;
/// How many of one organization are written in one transaction.
const BATCH: usize = 500;
/// From one round to the next.
const ROUND: Duration = Duration::from_secs(1);
/// How long a child that could not be made is not asked for again. Each write makes the directory
/// forget the organization, so asking in vain must be rare.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// Refusals that are remembered.
const MOST_REFUSED: usize = 100_000;

#[derive(Debug, Default)]
struct Waiting {
    seeds: HashMap<OrganizationId, HashMap<PolicyId, ChildSeed>>,
    /// Of all organizations together.
    count: usize,
    refused: HashMap<PolicyId, Instant>,
}

/// The children that wait to be made. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Children {
    waiting: Arc<Mutex<Waiting>>,
}

impl Children {
    /// Notes a child; says whether it need not be noted again.
    pub fn note(&self, organization_id: OrganizationId, seed: &ChildSeed) -> bool {
        let mut waiting = self.lock();
        if waiting.refused.get(&seed.id).is_some_and(|at| at.elapsed() < REFUSED_FOR) {
            return true;
        }
        let has_room = waiting.count < MOST_WAITING;
        let own = waiting.seeds.get(&organization_id);
        if own.is_some_and(|own| own.contains_key(&seed.id)) {
            return true;
        }
        if !has_room || own.is_some_and(|own| own.len() >= MOST_OF_ONE) {
            return false;
        }
        waiting.seeds.entry(organization_id).or_default().insert(seed.id, seed.clone());
        waiting.count += 1;
        true
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().count
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes what waits about once a second, for as long as anybody else holds the queue.
    pub async fn write_now_and_then(self, database: Database, clock: Clock) {
        let waiting = Arc::downgrade(&self.waiting);
        drop(self);
        let mut failing = false;
        loop {
            tokio::time::sleep(ROUND).await;
            let Some(waiting) = waiting.upgrade() else { return };
            match (Self { waiting }).write(&database, &clock).await {
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

    /// Writes a batch for each organization. What can't be written goes on waiting.
    pub async fn write(&self, database: &Database, clock: &Clock) -> Result<(), DbError> {
        let organizations: Vec<OrganizationId> = self.lock().seeds.keys().copied().collect();
        let mut outcome = Ok(());
        for organization_id in organizations {
            let batch: Vec<ChildSeed> = {
                let waiting = self.lock();
                let own = waiting.seeds.get(&organization_id);
                own.into_iter().flat_map(HashMap::values).take(BATCH).cloned().collect()
            };
            let ids: Vec<PolicyId> = batch.iter().map(|seed| seed.id).collect();
            let now = clock.now().naive_utc();
            let rows = batch.into_iter().map(|seed| row(organization_id, seed, now)).collect();
            let made = database
                .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
                    ensure_children(conn, organization_id, rows).await
                })
                .await;
            match made {
                Ok(outcomes) => self.take_off(organization_id, &ids, &outcomes),
                // The others may have more luck: a lock is held, or this one was deleted.
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Takes a batch off the queue, and remembers what was refused.
    fn take_off(
        &self,
        organization_id: OrganizationId,
        ids: &[PolicyId],
        outcomes: &[ChildOutcome],
    ) {
        let mut waiting = self.lock();
        let waiting = &mut *waiting;
        if let Some(own) = waiting.seeds.get_mut(&organization_id) {
            for id in ids {
                waiting.count -= usize::from(own.remove(id).is_some());
            }
            if own.is_empty() {
                waiting.seeds.remove(&organization_id);
            }
        }
        let now = Instant::now();
        for (id, outcome) in ids.iter().zip(outcomes) {
            use ChildOutcome::{Created, Full, ParentChanged, Present, Restored, SubjectTaken};
            match outcome {
                Created | Restored | Present => {}
                SubjectTaken | ParentChanged | Full => {
                    if waiting.refused.len() >= MOST_REFUSED {
                        waiting.refused.retain(|_, at| now.duration_since(*at) < REFUSED_FOR);
                    }
                    if waiting.refused.len() < MOST_REFUSED {
                        waiting.refused.insert(*id, now);
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The row that is wanted; what the policy says is filled in from its parent.
fn row(organization_id: OrganizationId, seed: ChildSeed, now: NaiveDateTime) -> GatewayPolicyRow {
    let matchers = seed.subject_matchers();
    let policy_type = seed.parent_type.child_type().unwrap_or(PolicyType::SpendCap);
    GatewayPolicyRow {
        id: seed.id,
        organization_id,
        name: seed.name.to_string(),
        description: None,
        policy_type,
        family: policy_type.family().as_str().to_owned(),
        matchers_key: Audience::digest(&matchers),
        subject_matchers: serde_json::to_value(matchers).unwrap_or_default(),
        config: serde_json::Value::Null,
        action: "block".to_owned(),
        enabled: true,
        priority: 0,
        created_by: None,
        is_system_generated: true,
        parent_policy_id: Some(seed.parent),
        detached: false,
        epochs: serde_json::Value::Null,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    }
}
