//! Which responses that a provider stores are a workspace's own: those that it had made through the
//! organization's secret, which other workspaces must not continue, and those that it had made under a
//! guard, which requests under a guard may continue.
//!
//! They are remembered in memory at once and written to the database in the background, for other replicas
//! and after a restart. What could not be written before the process ends is lost: the provider still has
//! the response, and a request that continues it is refused.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::TimeDelta;
use quick_cache::sync::Cache;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Unavailable;
use crate::clock::Clock;
use crate::db::own_responses::{
    OwnResponseRow, delete_own_responses_before, find_own_response, insert_own_responses,
};
use crate::db::{Conn, Database, DbError};
use crate::domain::provider::UpstreamId;
use crate::domain::scope::WorkspaceScope;
use crate::policy::guard::placeholder::ConversationId;

/// The most responses in memory.
const REMEMBERED: usize = 10_000;
/// The most that wait to be written while the database is away.
const MAX_UNWRITTEN: usize = 50_000;
/// The most that one transaction writes.
const PER_TRANSACTION: usize = 500;
/// The longest id, in bytes. Known ids have 55 to 70.
const MAX_ID_BYTES: usize = 256;
/// How long they are kept: as long as OpenAI keeps responses (OpenAI, "Conversation state").
const KEPT_DAYS: i64 = 30;
/// How often old ones are deleted.
const EVERY: Duration = Duration::from_secs(600);
/// The pause after a write that failed.
const RETRY: Duration = Duration::from_secs(5);

/// A response as a provider knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnResponse {
    /// Whose it is.
    pub scope: WorkspaceScope,
    /// Where it is stored.
    pub upstream: UpstreamId,
    pub response_id: String,
}

/// The responses that workspaces may continue. Clones share everything.
#[derive(Clone)]
pub struct OwnResponses {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    clock: Clock,
    remembered: Cache<OwnResponse, Option<ConversationId>>,
    unwritten: Mutex<Vec<OwnResponseRow>>,
    wake: Arc<Notify>,
}

impl OwnResponses {
    /// Begins with an empty memory, and writes in the background from now on.
    pub fn start(database: Database, clock: Clock) -> Self {
        let wake = Arc::new(Notify::new());
        let inner = Arc::new(Inner {
            database: database.clone(),
            clock,
            remembered: Cache::new(REMEMBERED),
            unwritten: Mutex::default(),
            wake: Arc::clone(&wake),
        });
        database.spawn_background(run(Arc::downgrade(&inner), wake));
        Self { inner }
    }

    /// Remembers that the workspace has had this response made, and its conversation if it was made under
    /// a guard.
    pub fn add(&self, response: OwnResponse, guarded: Option<ConversationId>) {
        let inner = &self.inner;
        if response.response_id.len() > MAX_ID_BYTES {
            return;
        }
        let row = OwnResponseRow {
            organization_id: response.scope.organization_id,
            workspace_id: response.scope.workspace_id,
            upstream: response.upstream,
            response_id: response.response_id.clone(),
            created_at: inner.clock.now().naive_utc(),
            guarded_conversation: guarded.map(|id| BASE64_STANDARD.encode(id.0)),
        };
        inner.remembered.insert(response, guarded);
        let mut unwritten = inner.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        if unwritten.len() < MAX_UNWRITTEN {
            unwritten.push(row);
        }
        drop(unwritten);
        inner.wake.notify_one();
    }

    /// Whether the workspace has had this response made.
    pub async fn contain(&self, response: OwnResponse) -> Result<bool, Unavailable> {
        Ok(self.find(response).await?.is_some())
    }

    /// The conversation of a response that the workspace has had made under a guard.
    pub async fn find_guarded(
        &self,
        response: OwnResponse,
    ) -> Result<Option<ConversationId>, Unavailable> {
        Ok(self.find(response).await?.flatten())
    }

    async fn find(
        &self,
        response: OwnResponse,
    ) -> Result<Option<Option<ConversationId>>, Unavailable> {
        let inner = &self.inner;
        if response.response_id.len() > MAX_ID_BYTES {
            return Ok(None);
        }
        if let Some(known) = inner.remembered.get(&response) {
            return Ok(Some(known));
        }
        let OwnResponse { scope, upstream, response_id } = response.clone();
        let found = inner
            .database
            .read(async move |conn: &mut Conn| {
                find_own_response(conn, scope, upstream, response_id).await
            })
            .await
            .map_err(|error: DbError| Unavailable(error.to_string().into()))?;
        let found = found.map(|guarded| guarded.as_deref().and_then(conversation_id));
        if let Some(guarded) = found {
            inner.remembered.insert(response, guarded);
        }
        Ok(found)
    }
}

fn conversation_id(text: &str) -> Option<ConversationId> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    bytes.try_into().ok().map(ConversationId)
}

/// Writes and deletes until nobody holds the responses any more.
async fn run(weak: Weak<Inner>, wake: Arc<Notify>) {
    let mut next_delete = Instant::now();
    loop {
        let Some(inner) = weak.upgrade() else { return };
        let mut done = inner.write().await;
        if done.is_ok() && Instant::now() >= next_delete {
            done = inner.delete_old().await;
            next_delete = Instant::now() + EVERY;
        }
        let pause = match done {
            Ok(()) => EVERY,
            Err(error) => {
                tracing::debug!(%error, "cannot write whose responses are; trying again later");
                RETRY
            }
        };
        drop(inner);
        let _ = timeout(pause, wake.notified()).await;
    }
}

impl Inner {
    async fn write(&self) -> Result<(), DbError> {
        loop {
            let rows = self.next_rows();
            if rows.is_empty() {
                return Ok(());
            }
            let written = rows.clone();
            let outcome = self
                .database
                .housekeeping_write(async move |conn: &mut Conn| {
                    insert_own_responses(conn, written).await
                })
                .await;
            if let Err(error) = outcome {
                self.put_back(rows);
                return Err(error);
            }
        }
    }

    async fn delete_old(&self) -> Result<(), DbError> {
        let now = self.clock.now();
        let before = now.checked_sub_signed(TimeDelta::days(KEPT_DAYS)).unwrap_or(now).naive_utc();
        let delete = async move |conn: &mut Conn| delete_own_responses_before(conn, before).await;
        self.database.housekeeping_write(delete).await.map(|_| ())
    }

    fn next_rows(&self) -> Vec<OwnResponseRow> {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        let count = unwritten.len().min(PER_TRANSACTION);
        unwritten.drain(..count).collect()
    }

    fn put_back(&self, rows: Vec<OwnResponseRow>) {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        unwritten.splice(0..0, rows);
        unwritten.truncate(MAX_UNWRITTEN);
    }
}
