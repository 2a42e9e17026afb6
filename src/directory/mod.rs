//! The in-memory read model that requests are answered from.
//!
//! Entries are loaded on demand, bounded in number, and hold until a change concerns them: the
//! replica that takes a write forgets before it answers, the others follow the change sequence. In
//! the steady state no request touches the database. While the database is away, what is held goes
//! on serving for a bounded time; what is not held is unavailable, never "unknown".

pub mod configuration;
pub mod key;
mod last_used;
mod policies;
mod shelf;
mod sync;
mod verification;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::crypto::{KeyDigester, LookupId, ParsedApiKey};
use crate::db::api_keys::update_last_used;
use crate::db::{Change, Concerns, Conn, Database, DbError, current_sequence};
use crate::domain::ids::OrganizationId;
use crate::domain::scope::WorkspaceScope;
use crate::policy::set::PolicySet;
use crate::telemetry::Metrics;
use configuration::ConfigurationEntry;
use key::{KeyEntry, Verdict};
use last_used::LastUses;
use policies::PoliciesEntry;
use shelf::{Found, Shelf, wait};
use verification::Verifications;

/// Uses of keys that one transaction writes down.
const USES_AT_ONCE: usize = 500;

/// How large the directory may grow and how it keeps up.
#[derive(Clone, Debug)]
pub struct DirectoryOptions {
    /// Entries of each kind at the most, unknown ids among them.
    pub capacity: usize,
    /// How long entries serve while the change sequence can't be read.
    pub max_stale: Duration,
    /// How often the change sequence is read.
    pub poll: Duration,
}

/// The directory has no answer: the database is away, and what was asked for is not held.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the directory can't answer: {0}")]
pub struct Unavailable(Arc<str>);

struct Inner {
    database: Database,
    options: DirectoryOptions,
    digester: KeyDigester,
    verifications: Verifications,
    keys: Shelf<LookupId, KeyEntry>,
    configurations: Shelf<ConfigurationKey, ConfigurationEntry>,
    policies: Shelf<OrganizationId, PoliciesEntry>,
    /// The last step of the change sequence that was applied.
    applied: AtomicI64,
    began: Instant,
    /// When the sequence was last read, in milliseconds since `began`.
    synced_millis: AtomicU64,
    wake: tokio::sync::Notify,
    metrics: Metrics,
    last_uses: LastUses,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct ConfigurationKey {
    scope: WorkspaceScope,
    name: Box<str>,
}

/// The directory. Clones share everything.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

impl Directory {
    /// Starts empty, at the database's current step, following it from there.
    pub async fn start(
        database: Database,
        options: DirectoryOptions,
        digester: KeyDigester,
        metrics: Metrics,
    ) -> Result<Self, DbError> {
        let applied = database
            .housekeeping_read(async |conn: &mut Conn| current_sequence(conn).await)
            .await?;
        let directory = Self {
            inner: Arc::new(Inner {
                verifications: Verifications::new(options.capacity),
                keys: Shelf::new(options.capacity),
                configurations: Shelf::new(options.capacity),
                policies: Shelf::new(options.capacity),
                applied: AtomicI64::new(applied),
                began: Instant::now(),
                synced_millis: AtomicU64::new(0),
                wake: tokio::sync::Notify::new(),
                metrics,
                last_uses: LastUses::default(),
                database: database.clone(),
                options,
                digester,
            }),
        };
        let listener = Arc::downgrade(&directory.inner);
        database.on_commit(move |change| {
            if let Some(inner) = listener.upgrade() {
                inner.apply_own(change);
            }
        });
        sync::follow(&directory.inner);
        Ok(directory)
    }

    /// The credential of that lookup id.
    pub async fn find_key(&self, id: LookupId) -> Result<Option<Arc<KeyEntry>>, Unavailable> {
        self.look_up(
            id,
            |inner| &inner.keys,
            async move |conn: &mut Conn| key::load(conn, id.as_str().to_owned()).await,
        )
        .await
    }

    /// The workspace's live configuration of that name.
    pub async fn find_configuration(
        &self,
        scope: WorkspaceScope,
        name: &str,
    ) -> Result<Option<Arc<ConfigurationEntry>>, Unavailable> {
        let key = ConfigurationKey { scope, name: name.into() };
        let name = name.to_owned();
        self.look_up(
            key,
            |inner| &inner.configurations,
            async move |conn: &mut Conn| configuration::load(conn, scope, name).await,
        )
        .await
    }

    /// The organization's gateway policies.
    pub async fn find_policies(
        &self,
        organization_id: OrganizationId,
    ) -> Result<Arc<PolicySet>, Unavailable> {
        let found = self
            .look_up(
                organization_id,
                |inner| &inner.policies,
                async move |conn: &mut Conn| policies::load(conn, organization_id).await,
            )
            .await?;
        Ok(found.map(|entry| entry.set.clone()).unwrap_or_default())
    }

    /// Notes that the key was used, roughly.
    pub fn note_use(&self, entry: &KeyEntry, now: DateTime<Utc>) {
        self.inner.last_uses.note(entry.key_id, &entry.noted, now);
    }

    /// Writes the noted uses to the database. What can't be written waits for the next time.
    pub async fn write_uses(&self) -> Result<(), DbError> {
        let mut uses = self.inner.last_uses.take();
        while !uses.is_empty() {
            let kept = uses.len().saturating_sub(USES_AT_ONCE);
            let some = uses.get(kept..).unwrap_or_default().to_vec();
            let written = self
                .inner
                .database
                .housekeeping_write(async move |conn: &mut Conn| {
                    update_last_used(conn, &some).await
                })
                .await;
            if let Err(error) = written {
                self.inner.last_uses.put_back(uses);
                return Err(error);
            }
            uses.truncate(kept);
        }
        Ok(())
    }

    /// Compares a presented secret with the entry's, and counts how that went.
    pub fn verify(&self, entry: &KeyEntry, key: &ParsedApiKey) -> Verdict {
        let verdict = entry.verify(key, &self.inner.digester, &self.inner.verifications);
        self.inner.metrics.key_verification(match verdict {
            Verdict::Known => "cached",
            Verdict::Verified => "verified",
            Verdict::Wrong => "wrong",
            Verdict::Limited => "limited",
        });
        verdict
    }

    /// How long ago the change sequence was last read.
    pub fn age(&self) -> Duration {
        self.inner.age()
    }

    async fn look_up<K, V, L>(
        &self,
        key: K,
        shelf: fn(&Inner) -> &Shelf<K, V>,
        load: L,
    ) -> Result<Option<Arc<V>>, Unavailable>
    where
        K: std::hash::Hash + Eq + Clone + Send + Sync + 'static,
        V: Send + Sync + 'static,
        L: for<'c> crate::db::Work<&'c mut Conn, Result<Option<V>, DbError>, Running: Send>
            + Send
            + 'static,
    {
        let inner = &self.inner;
        if inner.age() > inner.options.max_stale {
            inner.metrics.directory_lookup("stale");
            return Err(Unavailable("the database has been away for too long".into()));
        }
        let waiting = match shelf(inner).find(&key) {
            Found::Held(found) => {
                inner.metrics.directory_lookup(if found.is_some() { "hit" } else { "unknown" });
                return Ok(found);
            }
            Found::Loading(waiting) => waiting,
            Found::Missing(ticket, waiting) => {
                // In the background, so that a caller that leaves does not strand the others.
                let inner = inner.clone();
                self.inner.database.spawn_background(async move {
                    let outcome = inner.database.read(load).await;
                    shelf(&inner).finish(key, ticket, outcome);
                });
                waiting
            }
        };
        inner.metrics.directory_lookup("miss");
        wait(waiting).await.map_err(|reason| {
            inner.metrics.directory_lookup("unavailable");
            Unavailable(reason)
        })
    }
}

impl Inner {
    fn age(&self) -> Duration {
        let synced = Duration::from_millis(self.synced_millis.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(synced)
    }

    /// A write of this process. Applied at once; it only counts as the next step if none before it
    /// is outstanding.
    fn apply_own(&self, change: Change) {
        self.forget(change.concerns);
        let _ = self.applied.compare_exchange(
            change.sequence - 1,
            change.sequence,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    fn forget(&self, concerns: Concerns) {
        match concerns {
            Concerns::Organization(id) => {
                self.keys.forget(|entry| entry.organization_id == Some(id));
                self.configurations.forget(|entry| entry.scope.organization_id == id);
                self.policies.forget(|entry| entry.organization_id == id);
            }
            Concerns::Everybody => self.forget_all(),
        }
    }

    fn forget_all(&self) {
        self.keys.forget(|_| true);
        self.configurations.forget(|_| true);
        self.policies.forget(|_| true);
    }
}
