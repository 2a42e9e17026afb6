//! What was already spent in the window of a counter that does not exist yet.
//!
//! If only this process counts, a window that began after it has seen nothing else, so counters begin
//! at zero every hour, day and month without a look at the database. Otherwise the ledger is summed
//! up. When many requests find the same counter missing, one of them reads and the others share its
//! result, errors too. Few reads run at once and each waits only briefly, since it holds a database
//! connection while its request holds a place.

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
use crate::policy::limit::Limit;
use crate::policy::limits::Claim;
use crate::policy::set::{ChildPolicy, CountedRequests};

/// Reads at once. Fewer than the database has connections by default.
const MAX_READS: usize = 4;
/// Reads of one organization at once.
const MAX_READS_OF_ONE: usize = 2;
/// How long a read waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// How long after a failed read the organization's other reads fail without being tried: a database
/// that hangs would cost each of them seconds.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Organizations remembered.
const MAX_ORGANIZATIONS: usize = 100_000;

type Key = (OrganizationId, PolicyId, DateTime<Utc>);
type SharedRead = Arc<OnceCell<Result<NanoUsd, String>>>;

/// Reads the ledger for new counters.
pub(super) struct PastSpendReader {
    database: Database,
    flush_ledger: FlushLedger,
    turns: Semaphore,
    under_way: Mutex<HashMap<Key, SharedRead>>,
    organizations: Mutex<HashMap<OrganizationId, Arc<Organization>>>,
}

struct Organization {
    turns: Semaphore,
    /// The version of its policy set, and since when this process counts by it.
    counting_since: Mutex<Option<(u64, DateTime<Utc>)>>,
    /// When a read last failed, and why.
    last_failure: Mutex<Option<(Instant, String)>>,
}

/// How this process counts, if no other does.
pub(super) struct OnlyCounter {
    /// The version of the policy set that the request is counted by.
    pub(super) version: u64,
    pub(super) now: DateTime<Utc>,
    /// Whether no counter of the claim's window was ever dropped.
    pub(super) keeps_window: bool,
}

/// What a counter counts.
#[derive(Clone, Copy)]
pub(super) struct Counted<'c> {
    pub(super) requests: &'c CountedRequests<'c>,
    /// Whether what callers' own subscriptions paid counts at its list price.
    pub(super) with_subscriptions: bool,
}

impl PastSpendReader {
    pub(super) fn new(database: Database, flush_ledger: FlushLedger) -> Self {
        Self {
            database,
            flush_ledger,
            turns: Semaphore::new(MAX_READS),
            under_way: Mutex::default(),
            organizations: Mutex::default(),
        }
    }

    /// What was spent in the claim's window before `at`.
    pub(super) async fn before(
        &self,
        organization_id: OrganizationId,
        at: DateTime<Utc>,
        claim: &Claim,
        counted: Counted<'_>,
        only_counter: Option<OnlyCounter>,
    ) -> Result<NanoUsd, String> {
        let Limit::Spend { window, .. } = claim.limit else { return Ok(NanoUsd::ZERO) };
        let from = window.start(at);
        let own = self.organization(organization_id);
        if only_counter.is_some_and(|only| own.has_counted_since(&only, counted.requests, from)) {
            return Ok(NanoUsd::ZERO);
        }
        let key = (organization_id, claim.counter, from);
        let cell = lock(&self.under_way).entry(key).or_default().clone();
        let waiter = Waiter { cell, key, reader: self };
        let read = || self.read_in_turn(&own, organization_id, counted, from);
        waiter.cell.get_or_init(read).await.clone()
    }

    fn organization(&self, id: OrganizationId) -> Arc<Organization> {
        let mut organizations = lock(&self.organizations);
        if organizations.len() >= MAX_ORGANIZATIONS && !organizations.contains_key(&id) {
            organizations.clear();
        }
        let new = || {
            Arc::new(Organization {
                turns: Semaphore::new(MAX_READS_OF_ONE),
                counting_since: Mutex::default(),
                last_failure: Mutex::default(),
            })
        };
        organizations.entry(id).or_insert_with(new).clone()
    }

    async fn read_in_turn(
        &self,
        own: &Organization,
        organization_id: OrganizationId,
        counted: Counted<'_>,
        from: DateTime<Utc>,
    ) -> Result<NanoUsd, String> {
        own.check_last_failure()?;
        let turns = async { (own.turns.acquire().await, self.turns.acquire().await) };
        let Ok((Ok(_own), Ok(_turn))) = tokio::time::timeout(MAX_WAIT, turns).await else {
            return Err("too many new counters wait for a read of the ledger".to_owned());
        };
        // The read before this one may have failed meanwhile.
        own.check_last_failure()?;
        let read = self.read(organization_id, counted, from).await;
        if let Err(why) = &read {
            *lock(&own.last_failure) = Some((Instant::now(), why.clone()));
        }
        read
    }

    /// What the ledger says was spent since `from`.
    async fn read(
        &self,
        organization_id: OrganizationId,
        counted: Counted<'_>,
        from: DateTime<Utc>,
    ) -> Result<NanoUsd, String> {
        (self.flush_ledger)().await?;
        let Counted { requests, with_subscriptions } = counted;
        let conditions = SpendConditions { with_subscriptions, ..conditions(requests)? };
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
    /// Whether this process has counted by the same policies since before `from`: then a counter that
    /// does not exist has nothing to count.
    fn has_counted_since(
        &self,
        only: &OnlyCounter,
        counted: &CountedRequests<'_>,
        from: DateTime<Utc>,
    ) -> bool {
        let mut since = lock(&self.counting_since);
        match *since {
            // A subject of an overflow bucket may get a bucket of its own within the window.
            Some((version, since))
                if version == only.version && !matches!(counted, CountedRequests::Overflow(_)) =>
            {
                from > since && only.keeps_window
            }
            _ => {
                *since = Some((only.version, only.now));
                false
            }
        }
    }

    /// The last failure, if it was a moment ago.
    fn check_last_failure(&self) -> Result<(), String> {
        match &*lock(&self.last_failure) {
            Some((at, why)) if at.elapsed() < PAUSE_AFTER_FAILURE => Err(why.clone()),
            _ => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that waits for a read. The last to be dropped removes the read from the map.
struct Waiter<'h> {
    cell: SharedRead,
    key: Key,
    reader: &'h PastSpendReader,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.reader.under_way);
        // The map's and this one.
        let is_last = Arc::strong_count(&self.cell) <= 2;
        let is_in_map = under_way.get(&self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        if is_in_map && (is_last || self.cell.initialized()) {
            under_way.remove(&self.key);
        }
    }
}

fn conditions(counted: &CountedRequests<'_>) -> Result<SpendConditions, String> {
    Ok(match counted {
        CountedRequests::Matching(matchers) => SpendConditions {
            workspaces: matchers.workspace_ids().to_vec(),
            users: matchers.user_ids().to_vec(),
            keys: matchers.api_key_ids().to_vec(),
            metadata: matchers.headers().clone().into_iter().collect(),
            ..SpendConditions::default()
        },
        CountedRequests::Child(child) => child_conditions(child)?,
        CountedRequests::Overflow(bucket) => {
            SpendConditions { policy: Some(*bucket), ..SpendConditions::default() }
        }
    })
}

fn child_conditions(child: &ChildPolicy) -> Result<SpendConditions, String> {
    fn id<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Vec<T>, String> {
        text.parse().map(|id| vec![id]).map_err(|error: T::Err| error.to_string())
    }
    let mut conditions = SpendConditions::default();
    match child.subject_kind {
        SubjectKind::Workspace => conditions.workspaces = id(&child.subject_id)?,
        SubjectKind::User => conditions.users = id(&child.subject_id)?,
        SubjectKind::ApiKey => conditions.keys = id(&child.subject_id)?,
    }
    conditions.metadata =
        child.header.iter().map(|(key, value)| (key.clone(), vec![value.clone()])).collect();
    Ok(conditions)
}

#[cfg(test)]
#[path = "past_spend_tests.rs"]
mod tests;
