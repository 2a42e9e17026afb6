//! Writes the rows of default policies' children: queued when a subject is first seen, written in
//! batches in the background.
//!
//! A child's limits apply before its row exists; the row is for the API. So no request waits for it,
//! and a child that finds no room in the queue is queued again when its subject comes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::NaiveDateTime;

use super::set::ChildPolicy;
use crate::clock::Clock;
use crate::db::gateway_policies::{ChildOutcome, GatewayPolicyRow, ensure_children};
use crate::db::{Concerns, Conn, Database, DbError};
use crate::domain::ids::{OrganizationId, PolicyId};
use crate::domain::policy::{Audience, PolicyType};

/// Children queued, of all organizations together.
const MAX_QUEUED: usize = 20_000;
/// Children queued of one organization, so that none takes all the room.
const MAX_QUEUED_OF_ONE: usize = 2_000;
/// Children of one organization written in one transaction.
const BATCH: usize = 500;
/// From one write to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a child that could not be created is not tried again. Each write makes the directory
/// reload the organization's policies, so writes in vain must be rare.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// Refused children remembered.
const MAX_REFUSED: usize = 100_000;

#[derive(Debug, Default)]
struct Queue {
    children: HashMap<OrganizationId, HashMap<PolicyId, ChildPolicy>>,
    /// Of all organizations together.
    count: usize,
    refused: HashMap<PolicyId, Instant>,
}

/// The children to be written. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ChildQueue {
    queue: Arc<Mutex<Queue>>,
}

impl ChildQueue {
    /// Queues a child. Whether it need not be queued again; false if there is no room.
    pub fn add(&self, organization_id: OrganizationId, child: &ChildPolicy) -> bool {
        let mut queue = self.lock();
        if queue.refused.get(&child.id).is_some_and(|at| at.elapsed() < REFUSED_FOR) {
            return true;
        }
        let has_room = queue.count < MAX_QUEUED;
        let own = queue.children.get(&organization_id);
        if own.is_some_and(|own| own.contains_key(&child.id)) {
            return true;
        }
        if !has_room || own.is_some_and(|own| own.len() >= MAX_QUEUED_OF_ONE) {
            return false;
        }
        queue.children.entry(organization_id).or_default().insert(child.id, child.clone());
        queue.count += 1;
        true
    }

    /// The number of children queued.
    pub fn len(&self) -> usize {
        self.lock().count
    }

    /// Whether no child is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes what is queued about once a second, as long as another clone of the queue exists.
    pub async fn write_periodically(self, database: Database, clock: Clock) {
        let queue = Arc::downgrade(&self.queue);
        drop(self);
        let mut failing = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some(queue) = queue.upgrade() else { return };
            match (Self { queue }).write(&database, &clock).await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "cannot write children of default policies; retrying");
                    }
                    failing = true;
                }
            }
        }
    }

    /// Writes a batch for each organization. What can't be written stays queued.
    pub async fn write(&self, database: &Database, clock: &Clock) -> Result<(), DbError> {
        let organizations: Vec<OrganizationId> = self.lock().children.keys().copied().collect();
        let mut outcome = Ok(());
        for organization_id in organizations {
            let batch: Vec<ChildPolicy> = {
                let queue = self.lock();
                let own = queue.children.get(&organization_id);
                own.into_iter().flat_map(HashMap::values).take(BATCH).cloned().collect()
            };
            let ids: Vec<PolicyId> = batch.iter().map(|child| child.id).collect();
            let now = clock.now().naive_utc();
            let rows = batch.into_iter().map(|child| row(organization_id, child, now)).collect();
            let made = database
                .write(Concerns::Organization(organization_id), async move |conn: &mut Conn| {
                    ensure_children(conn, organization_id, rows).await
                })
                .await;
            match made {
                Ok(outcomes) => self.remove(organization_id, &ids, &outcomes),
                // The other organizations' children may still be written.
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Removes a batch from the queue, and remembers what was refused.
    fn remove(&self, organization_id: OrganizationId, ids: &[PolicyId], outcomes: &[ChildOutcome]) {
        let mut queue = self.lock();
        let queue = &mut *queue;
        if let Some(own) = queue.children.get_mut(&organization_id) {
            for id in ids {
                queue.count -= usize::from(own.remove(id).is_some());
            }
            if own.is_empty() {
                queue.children.remove(&organization_id);
            }
        }
        let now = Instant::now();
        for (id, outcome) in ids.iter().zip(outcomes) {
            use ChildOutcome::{Full, Made, ParentChanged, Present, Revived, SubjectTaken};
            match outcome {
                Made | Revived | Present => {}
                SubjectTaken | ParentChanged | Full => {
                    if queue.refused.len() >= MAX_REFUSED {
                        queue.refused.retain(|_, at| now.duration_since(*at) < REFUSED_FOR);
                    }
                    if queue.refused.len() < MAX_REFUSED {
                        queue.refused.insert(*id, now);
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The row to write. Its configuration is filled in from its parent.
fn row(
    organization_id: OrganizationId,
    child: ChildPolicy,
    now: NaiveDateTime,
) -> GatewayPolicyRow {
    let matchers = child.subject_matchers();
    let policy_type = child.parent_type.of_children().unwrap_or(PolicyType::SpendCap);
    GatewayPolicyRow {
        id: child.id,
        organization_id,
        name: child.name.to_string(),
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
        parent_policy_id: Some(child.parent),
        detached: false,
        epochs: serde_json::Value::Null,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    }
}
