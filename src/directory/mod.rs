//! In-memory caches of API keys, model configurations and gateway policies, which the data plane
//! reads instead of the database.
//!
//! Entries are loaded on demand, bounded in number, and valid until a change in their organization:
//! the replica that commits the change invalidates them before it answers, the others follow the
//! change sequence. In the steady state no request queries the database. While the database is
//! unreachable, cached entries are served for a bounded time; a lookup of anything else fails with
//! [`Unavailable`], never with "not found".

pub mod key;
mod last_used;
mod loading_cache;
pub mod own_responses;
pub mod placeholder_key;
mod policies;
mod sync;
pub mod upstream_entry;
mod verification;
pub mod workspace_configurations;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::crypto::{KeyDigester, LookupId, ParsedApiKey};
use crate::db::api_keys::update_last_used;
use crate::db::{Change, ChangeScope, Conn, Database, DbError, current_sequence};
use crate::domain::ids::{ConfigurationId, OrganizationId};
use crate::domain::provider::Provider;
use crate::domain::scope::WorkspaceScope;
use crate::policy::set::PolicySet;
use crate::providers::built_in::BuiltInProvider;
use crate::telemetry::Metrics;
use key::{KeyEntry, SecretCheck};
use last_used::LastUses;
use loading_cache::{LoadingCache, Lookup, outcome_of};
use placeholder_key::PlaceholderKeyEntry;
use policies::PoliciesEntry;
use upstream_entry::UpstreamEntry;
use verification::Verifications;
use workspace_configurations::{ListedConfiguration, WorkspaceConfigurations};

/// Uses of keys that one transaction writes.
const USES_PER_TRANSACTION: usize = 500;

/// The size of the directory and how it follows changes.
#[derive(Clone, Debug)]
pub struct DirectoryOptions {
    /// The most entries of each kind, including keys known not to exist.
    pub capacity: usize,
    /// How long entries are served while the change sequence cannot be read.
    pub max_stale: Duration,
    /// How often the change sequence is read.
    pub poll: Duration,
}

/// The database is unreachable and the entry is not cached.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the directory cannot load the entry: {0}")]
pub struct Unavailable(Arc<str>);

struct Inner {
    database: Database,
    options: DirectoryOptions,
    digester: KeyDigester,
    verifications: Verifications,
    keys: LoadingCache<LookupId, KeyEntry>,
    upstreams: LoadingCache<UpstreamKey, UpstreamEntry>,
    configurations: LoadingCache<WorkspaceScope, WorkspaceConfigurations>,
    policies: LoadingCache<OrganizationId, PoliciesEntry>,
    placeholder_keys: LoadingCache<WorkspaceScope, PlaceholderKeyEntry>,
    /// How often entries were invalidated.
    changes: AtomicU64,
    /// The last number of the change sequence that was applied.
    applied: AtomicI64,
    began: Instant,
    /// When the sequence was last read, in milliseconds since `began`.
    synced_millis: AtomicU64,
    wake: tokio::sync::Notify,
    metrics: Metrics,
    last_uses: LastUses,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct UpstreamKey {
    scope: WorkspaceScope,
    name: UpstreamName,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum UpstreamName {
    Configuration(Box<str>),
    ConfigurationId(ConfigurationId),
    Provider(Provider),
}

/// The directory. Clones share everything.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

impl Directory {
    /// Starts with empty caches at the current number of the change sequence and follows it from there.
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
                keys: LoadingCache::new(options.capacity),
                upstreams: LoadingCache::new(options.capacity),
                configurations: LoadingCache::new(options.capacity),
                policies: LoadingCache::new(options.capacity),
                placeholder_keys: LoadingCache::new(options.capacity),
                changes: AtomicU64::new(0),
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

    /// The credential with that lookup id.
    pub async fn find_key(&self, id: LookupId) -> Result<Option<Arc<KeyEntry>>, Unavailable> {
        self.look_up(
            id,
            |inner| &inner.keys,
            async move |conn: &mut Conn| key::load(conn, id.as_str().to_owned()).await,
        )
        .await
    }

    /// The workspace's configuration with this name.
    pub async fn find_configuration(
        &self,
        scope: WorkspaceScope,
        name: &str,
    ) -> Result<Option<Arc<UpstreamEntry>>, Unavailable> {
        let key = UpstreamKey { scope, name: UpstreamName::Configuration(name.into()) };
        let name = name.to_owned();
        self.look_up(
            key,
            |inner| &inner.upstreams,
            async move |conn: &mut Conn| {
                upstream_entry::load_configuration_named(conn, scope, name).await
            },
        )
        .await
    }

    /// The workspace's configuration with this id.
    pub async fn find_configuration_with_id(
        &self,
        scope: WorkspaceScope,
        id: ConfigurationId,
    ) -> Result<Option<Arc<UpstreamEntry>>, Unavailable> {
        self.look_up(
            UpstreamKey { scope, name: UpstreamName::ConfigurationId(id) },
            |inner| &inner.upstreams,
            async move |conn: &mut Conn| upstream_entry::load_configuration(conn, scope, id).await,
        )
        .await
    }

    /// The built-in provider with the workspace's key.
    pub async fn find_provider(
        &self,
        scope: WorkspaceScope,
        built_in: &Arc<BuiltInProvider>,
    ) -> Result<Option<Arc<UpstreamEntry>>, Unavailable> {
        let key = UpstreamKey { scope, name: UpstreamName::Provider(built_in.provider) };
        let built_in = Arc::clone(built_in);
        self.look_up(
            key,
            |inner| &inner.upstreams,
            async move |conn: &mut Conn| {
                upstream_entry::load_provider(conn, scope, &built_in).await.map(Some)
            },
        )
        .await
    }

    /// The workspace's enabled configurations, the oldest first, up to a bound.
    pub async fn find_workspace_configurations(
        &self,
        scope: WorkspaceScope,
    ) -> Result<Arc<[ListedConfiguration]>, Unavailable> {
        let found = self
            .look_up(
                scope,
                |inner| &inner.configurations,
                async move |conn: &mut Conn| workspace_configurations::load(conn, scope).await,
            )
            .await?;
        Ok(found.map(|entry| Arc::clone(&entry.list)).unwrap_or_default())
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

    /// The key that the workspace's placeholders are derived from.
    pub async fn find_placeholder_key(
        &self,
        scope: WorkspaceScope,
    ) -> Result<Option<Arc<PlaceholderKeyEntry>>, Unavailable> {
        self.look_up(
            scope,
            |inner| &inner.placeholder_keys,
            async move |conn: &mut Conn| placeholder_key::load(conn, scope).await,
        )
        .await
    }

    /// Notes that the key was used; see `last_used` for how exactly.
    pub fn note_use(&self, entry: &KeyEntry, now: DateTime<Utc>) {
        self.inner.last_uses.note(entry.key_id, &entry.last_noted, now);
    }

    /// Writes the noted uses to the database. Uses that cannot be written are kept for the next call.
    pub async fn write_uses(&self) -> Result<(), DbError> {
        let mut uses = self.inner.last_uses.take();
        while !uses.is_empty() {
            let kept = uses.len().saturating_sub(USES_PER_TRANSACTION);
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

    /// Compares a presented secret with the entry's hash and counts the result in the metrics.
    pub fn check_secret(&self, entry: &KeyEntry, key: &ParsedApiKey) -> SecretCheck {
        let check = entry.check_secret(key, &self.inner.digester, &self.inner.verifications);
        self.inner.metrics.key_verification(match check {
            SecretCheck::Cached => "cached",
            SecretCheck::Verified => "verified",
            SecretCheck::Wrong => "wrong",
            SecretCheck::Limited => "limited",
        });
        check
    }

    /// How often something has changed. What was looked up at another count may not hold any more.
    pub fn changes(&self) -> u64 {
        self.inner.changes.load(Ordering::Acquire)
    }

    /// How long ago the change sequence was last read.
    pub fn age(&self) -> Duration {
        self.inner.age()
    }

    async fn look_up<K, V, L>(
        &self,
        key: K,
        cache: fn(&Inner) -> &LoadingCache<K, V>,
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
            return Err(Unavailable("the database has been unreachable for too long".into()));
        }
        let receiver = match cache(inner).find(&key) {
            Lookup::Cached(entry) => {
                inner.metrics.directory_lookup(if entry.is_some() { "hit" } else { "unknown" });
                return Ok(entry);
            }
            Lookup::Loading(receiver) => receiver,
            Lookup::Missing(ticket, receiver) => {
                // In the background: the load goes on for other requests if this one is dropped.
                let inner = inner.clone();
                self.inner.database.spawn_background(async move {
                    let outcome = inner.database.read(load).await;
                    cache(&inner).finish(key, ticket, outcome);
                });
                receiver
            }
        };
        inner.metrics.directory_lookup("miss");
        outcome_of(receiver).await.map_err(|reason| {
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

    /// Applies a change that this process committed. The number of the sequence advances only if
    /// every earlier change was applied.
    fn apply_own(&self, change: Change) {
        self.invalidate(change.scope);
        let _ = self.applied.compare_exchange(
            change.sequence - 1,
            change.sequence,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    fn invalidate(&self, scope: ChangeScope) {
        let changed = |organization_id: Option<OrganizationId>| match scope {
            ChangeScope::Organization(id) => organization_id == Some(id),
            ChangeScope::Everything => true,
        };
        self.keys.invalidate(|entry| changed(entry.organization_id));
        self.upstreams.invalidate(|entry| changed(Some(entry.scope.organization_id)));
        self.configurations.invalidate(|entry| changed(Some(entry.organization_id)));
        self.policies.invalidate(|entry| changed(Some(entry.organization_id)));
        self.placeholder_keys.invalidate(|entry| changed(Some(entry.scope.organization_id)));
        self.changes.fetch_add(1, Ordering::Release);
    }
}
