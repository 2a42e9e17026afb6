//! What the ledger has seen in a window that a new counter begins in.
//!
//! Many requests may find the same counter new at once: one of them asks, the others wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::OnceCell;

use super::FlushLedger;
use crate::db::usage::{SpendConditions, spend_since};
use crate::db::{Conn, Database, DbError};
use crate::domain::ids::{OrganizationId, PolicyId};
use crate::domain::money::NanoUsd;
use crate::domain::policy::SubjectKind;
use crate::policy::counters::{Claim, Claims, Limit};
use crate::policy::set::{ChildSeed, Counted};

type Key = (OrganizationId, PolicyId, DateTime<Utc>);
type Cell = Arc<OnceCell<NanoUsd>>;

/// Readings of the ledger, those under way shared.
pub(super) struct Histories {
    database: Database,
    flush_ledger: FlushLedger,
    under_way: Mutex<HashMap<Key, Cell>>,
}

impl Histories {
    pub(super) fn new(database: Database, flush_ledger: FlushLedger) -> Self {
        Self { database, flush_ledger, under_way: Mutex::default() }
    }

    /// What was spent in the window that the claim is for, before the claim's instant.
    pub(super) async fn spent(
        &self,
        claims: &Claims,
        claim: &Claim,
        counted: &Counted<'_>,
    ) -> Result<NanoUsd, String> {
        let Limit::Spend { window, .. } = claim.limit else { return Ok(NanoUsd::ZERO) };
        let from = window.start(claims.at);
        let key = (claims.organization_id, claim.bucket, from);
        let shared = Shared { cell: self.lock().entry(key).or_default().clone(), key, of: self };
        let read = || self.read(claims.organization_id, counted, from);
        shared.cell.get_or_try_init(read).await.copied()
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Cell>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits; the last one out takes the reading off the list.
struct Shared<'h> {
    cell: Cell,
    key: Key,
    of: &'h Histories,
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let mut under_way = self.of.lock();
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
