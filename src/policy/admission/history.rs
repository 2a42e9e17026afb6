//! What a window has seen that a new counter begins in.
//!
//! A window that began while this process alone counted by the same policies has seen nothing that
//! its counters have not, or would have: so in memory, counters begin anew every hour, day and month without a word
//! to the database. Else the ledger tells. Many requests may find the same counter new at once: one
//! of them asks, the others wait for what it hears, an error as well. Readings are few at a time and
//! end soon, since each holds a connection, and a request that waits holds its place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{OnceCell, Semaphore};

use super::FlushLedger;
use crate::db::usage::{SpendConditions, spend_since};
use crate::db::{Conn, Database, DbError};
use crate::domain::ids::{OrganizationId, PolicyId};
use crate::domain::money::NanoUsd;
use crate::domain::policy::SubjectKind;
use crate::policy::limits::{Claim, Claims, Limit};
use crate::policy::set::{ChildSeed, Counted};

/// Readings at once. Fewer than the database has connections by default, so that others have some.
const MOST_READINGS: usize = 4;
/// Those of one organization.
const MOST_OF_ONE: usize = 2;
/// How long a reading waits for its turn.
const TURN: Duration = Duration::from_secs(3);
/// How long after a failed reading the organization's others fail without being tried: a database
/// that hangs costs each of them seconds.
const RESPITE: Duration = Duration::from_secs(1);
/// Organizations remembered.
const MOST_ORGANIZATIONS: usize = 100_000;

type Key = (OrganizationId, PolicyId, DateTime<Utc>);
type Cell = Arc<OnceCell<Result<NanoUsd, String>>>;

/// Readings of the ledger, those under way shared.
pub(super) struct Histories {
    database: Database,
    flush_ledger: FlushLedger,
    turns: Semaphore,
    under_way: Mutex<HashMap<Key, Cell>>,
    organizations: Mutex<HashMap<OrganizationId, Arc<Organization>>>,
}

struct Organization {
    turns: Semaphore,
    /// The version of its policies, and since when requests are counted by it.
    since: Mutex<Option<(u64, DateTime<Utc>)>>,
    /// When a reading last failed, and why.
    failed: Mutex<Option<(Instant, String)>>,
}

/// What is known where nobody but this process counts.
pub(super) struct Alone {
    /// That of the policies by which the request is counted.
    pub(super) version: u64,
    /// The instant now, when these policies are in force already.
    pub(super) now: DateTime<Utc>,
    /// Whether counters of the claim's window are kept since they were made.
    pub(super) keeps: bool,
}

impl Histories {
    pub(super) fn new(database: Database, flush_ledger: FlushLedger) -> Self {
        Self {
            database,
            flush_ledger,
            turns: Semaphore::new(MOST_READINGS),
            under_way: Mutex::default(),
            organizations: Mutex::default(),
        }
    }

    /// What was spent in the window that the claim is for, before the claim's instant.
    pub(super) async fn spent(
        &self,
        claims: &Claims,
        claim: &Claim,
        counted: &Counted<'_>,
        alone: Option<Alone>,
    ) -> Result<NanoUsd, String> {
        let Limit::Spend { window, .. } = claim.limit else { return Ok(NanoUsd::ZERO) };
        let from = window.start(claims.at);
        let own = self.organization(claims.organization_id);
        if alone.is_some_and(|alone| own.has_seen_all(&alone, counted, from)) {
            return Ok(NanoUsd::ZERO);
        }
        let key = (claims.organization_id, claim.bucket, from);
        let cell = lock(&self.under_way).entry(key).or_default().clone();
        let shared = Shared { cell, key, of: self };
        let read = || self.read_in_turn(&own, claims.organization_id, counted, from);
        shared.cell.get_or_init(read).await.clone()
    }

    fn organization(&self, id: OrganizationId) -> Arc<Organization> {
        let mut organizations = lock(&self.organizations);
        if organizations.len() >= MOST_ORGANIZATIONS && !organizations.contains_key(&id) {
            organizations.clear();
        }
        let new = || {
            Arc::new(Organization {
                turns: Semaphore::new(MOST_OF_ONE),
                since: Mutex::default(),
                failed: Mutex::default(),
            })
        };
        organizations.entry(id).or_insert_with(new).clone()
    }

    async fn read_in_turn(
        &self,
        own: &Organization,
        organization_id: OrganizationId,
        counted: &Counted<'_>,
        from: DateTime<Utc>,
    ) -> Result<NanoUsd, String> {
        own.has_respite()?;
        let turns = async { (own.turns.acquire().await, self.turns.acquire().await) };
        let Ok((Ok(_own), Ok(_turn))) = tokio::time::timeout(TURN, turns).await else {
            return Err("too many new counters ask the ledger what was spent".to_owned());
        };
        // Perhaps it failed for who was before.
        own.has_respite()?;
        let read = self.read(organization_id, counted, from).await;
        if let Err(why) = &read {
            *lock(&own.failed) = Some((Instant::now(), why.clone()));
        }
        read
    }

    /// What was spent since `from`, the beginning of a window, as the ledger has it by now.
    async fn read(
        &self,
        organization_id: OrganizationId,
        counted: &Counted<'_>,
        from: DateTime<Utc>,
    ) -> Result<NanoUsd, String> {
        (self.flush_ledger)().await?;
        let conditions = conditions(counted)?;
        let from = from.naive_utc();
        let spent: Result<NanoUsd, DbError> = self
            .database
            .read(async move |conn: &mut Conn| {
                spend_since(conn, organization_id, &conditions, from).await
            })
            .await;
        spent.map_err(|error| error.to_string())
    }
}

impl Organization {
    /// Whether the window began after this process began to count by these policies: then a counter
    /// that is not there has nothing to count.
    fn has_seen_all(&self, alone: &Alone, counted: &Counted<'_>, from: DateTime<Utc>) -> bool {
        let mut since = lock(&self.since);
        match *since {
            // Who shares a bucket may get one of their own, in this same window.
            Some((version, since))
                if version == alone.version && !matches!(counted, Counted::Shared(_)) =>
            {
                from > since && alone.keeps
            }
            _ => {
                *since = Some((alone.version, alone.now));
                false
            }
        }
    }

    /// An error while a reading has just failed.
    fn has_respite(&self) -> Result<(), String> {
        match &*lock(&self.failed) {
            Some((at, why)) if at.elapsed() < RESPITE => Err(why.clone()),
            _ => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One who waits; the last one out takes the reading off the list.
struct Shared<'h> {
    cell: Cell,
    key: Key,
    of: &'h Histories,
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.of.under_way);
        // The list's and this one.
        let is_last = Arc::strong_count(&self.cell) <= 2;
        let is_listed = under_way.get(&self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        if is_listed && (is_last || self.cell.initialized()) {
            under_way.remove(&self.key);
        }
    }
}

fn conditions(counted: &Counted<'_>) -> Result<SpendConditions, String> {
    Ok(match counted {
        Counted::Matching(matchers) => SpendConditions {
            workspaces: matchers.workspace_ids().to_vec(),
            users: matchers.user_ids().to_vec(),
            keys: matchers.api_key_ids().to_vec(),
            metadata: matchers.headers().clone().into_iter().collect(),
            ..SpendConditions::default()
        },
        Counted::Child(seed) => of_child(seed)?,
        // Nothing but the rows themselves tells who shared the bucket.
        Counted::Shared(bucket) => {
            SpendConditions { policy: Some(*bucket), ..SpendConditions::default() }
        }
    })
}

fn of_child(seed: &ChildSeed) -> Result<SpendConditions, String> {
    fn id<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Vec<T>, String> {
        text.parse().map(|id| vec![id]).map_err(|error: T::Err| error.to_string())
    }
    let mut conditions = SpendConditions::default();
    match seed.kind {
        SubjectKind::Workspace => conditions.workspaces = id(&seed.subject)?,
        SubjectKind::User => conditions.users = id(&seed.subject)?,
        SubjectKind::ApiKey => conditions.keys = id(&seed.subject)?,
    }
    conditions.metadata =
        seed.header.iter().map(|(key, value)| (key.clone(), vec![value.clone()])).collect();
    Ok(conditions)
}

#[cfg(test)]
#[path = "history/tests.rs"]
mod tests;
