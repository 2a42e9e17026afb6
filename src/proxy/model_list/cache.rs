//! The lists of models that providers gave, for a while. However many requests need one, over all
//! workers, one of them fetches it and the others wait; if its caller leaves, the next one fetches.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::Cache;

use super::fetch::ListingError;
use crate::clock::Clock;
use crate::directory::upstream_entry::UpstreamEntry;
use crate::domain::ids::{SecretId, WorkspaceId};
use crate::domain::provider::UpstreamId;
use crate::llm::model_listing::ListedModel;

/// The most lists that are kept, one for each provider of a workspace.
const CAPACITY: usize = 1_000;
/// How long a list is shown without being fetched again.
const FRESH: TimeDelta = TimeDelta::minutes(5);
/// How long a list is shown while it cannot be fetched again.
const STALE: TimeDelta = TimeDelta::hours(1);
/// How long a provider that has failed is not asked again.
const FAILURE: TimeDelta = TimeDelta::seconds(30);

/// The cache. Clones share the lists.
#[derive(Clone)]
pub struct ModelLists {
    clock: Clock,
    slots: Arc<Cache<ListKey, Arc<Slot>>>,
}

/// What a list depends on: another secret may see other models.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ListKey {
    workspace_id: WorkspaceId,
    upstream: UpstreamId,
    secrets: Vec<(SecretId, i64)>,
}

/// The place of one list.
#[derive(Default)]
struct Slot {
    /// Held by the request that fetches.
    fetching: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    list: Option<(DateTime<Utc>, Arc<[ListedModel]>)>,
    failed_at: Option<DateTime<Utc>>,
}

/// What is known of a provider's models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderModels {
    /// Empty if nothing is known.
    pub models: Arc<[ListedModel]>,
    /// The list could not be read just now, so it may be old.
    pub is_unavailable: bool,
}

impl ModelLists {
    /// Without lists.
    pub fn new(clock: Clock) -> Self {
        Self { clock, slots: Arc::new(Cache::new(CAPACITY)) }
    }

    /// The upstream's list, cached or fetched.
    pub async fn find_or_fetch(
        &self,
        entry: &UpstreamEntry,
        fetch: impl AsyncFnOnce() -> Result<Vec<ListedModel>, ListingError>,
    ) -> ProviderModels {
        let key = ListKey {
            workspace_id: entry.scope.workspace_id,
            upstream: entry.id,
            secrets: entry.all_secret_versions(),
        };
        let Ok(slot) =
            self.slots.get_or_insert_with(&key, || Ok::<_, Infallible>(Arc::new(Slot::default())));
        if let Some(known) = slot.known(self.clock.now()) {
            return known;
        }
        let _fetching = match slot.fetching.try_lock() {
            Ok(fetching) => fetching,
            Err(_) => match slot.stale(self.clock.now()) {
                Some(models) => return ProviderModels { models, is_unavailable: false },
                None => slot.fetching.lock().await,
            },
        };
        if let Some(known) = slot.known(self.clock.now()) {
            return known;
        }
        match fetch().await {
            Ok(models) => {
                let models: Arc<[ListedModel]> = models.into();
                let list = Some((self.clock.now(), Arc::clone(&models)));
                *slot.state() = State { list, failed_at: None };
                ProviderModels { models, is_unavailable: false }
            }
            Err(error) => {
                tracing::warn!(
                    provider = %entry.name,
                    workspace_id = %entry.scope.workspace_id,
                    %error,
                    "cannot read a provider's list of models"
                );
                let now = self.clock.now();
                slot.state().failed_at = Some(now);
                slot.unavailable(now)
            }
        }
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, if it needs no fetch.
    fn known(&self, now: DateTime<Utc>) -> Option<ProviderModels> {
        if let Some(models) = self.not_older(FRESH, now) {
            return Some(ProviderModels { models, is_unavailable: false });
        }
        let failed_at = self.state().failed_at;
        let has_failed = failed_at.is_some_and(|at| (now - at).abs() < FAILURE);
        has_failed.then(|| self.unavailable(now))
    }

    /// The answer while the provider cannot be asked.
    fn unavailable(&self, now: DateTime<Utc>) -> ProviderModels {
        let models = self.stale(now).unwrap_or_default();
        ProviderModels { models, is_unavailable: true }
    }

    fn stale(&self, now: DateTime<Utc>) -> Option<Arc<[ListedModel]>> {
        self.not_older(STALE, now)
    }

    fn not_older(&self, age: TimeDelta, now: DateTime<Utc>) -> Option<Arc<[ListedModel]>> {
        let state = self.state();
        let list = state.list.as_ref().filter(|(at, _)| (now - *at).abs() < age);
        list.map(|(_, models)| Arc::clone(models))
    }
}
