//! Follows the change sequence: a notification triggers a read at once, and polling covers
//! notifications that were lost.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::Inner;
use crate::db::{ChangeScope, Conn, changes_since};

/// Follows the sequence until the directory is dropped.
pub(super) fn follow(inner: &Arc<Inner>) {
    let weak = Arc::downgrade(inner);
    inner.database.listen({
        let weak = weak.clone();
        move || {
            if let Some(inner) = weak.upgrade() {
                inner.wake.notify_one();
            }
        }
    });
    inner.database.spawn_background(run(weak));
}

async fn run(weak: Weak<Inner>) {
    let mut failing = false;
    loop {
        let Some(inner) = weak.upgrade() else { return };
        match inner.catch_up().await {
            Ok(()) => {
                if failing {
                    tracing::info!(
                        "the change sequence can be read again; the directory is up to date"
                    );
                }
                failing = false;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "the change sequence cannot be read; serving cached entries");
                }
                failing = true;
            }
        }
        let poll = inner.options.poll;
        let woken = inner.wake.notified();
        let _ = tokio::time::timeout(poll, woken).await;
    }
}

impl Inner {
    /// Applies the changes that were committed since the last call.
    async fn catch_up(&self) -> Result<(), crate::db::DbError> {
        let read_at = self.began.elapsed();
        let applied = self.applied.load(Ordering::Acquire);
        let changes = self
            .database
            .housekeeping_read(async move |conn: &mut Conn| {
                let changes = changes_since(conn, applied).await?;
                Ok((changes, crate::db::current_sequence(conn).await?))
            })
            .await?;
        match changes {
            (Some(changes), _) => {
                for change in changes {
                    // This process committed and applied it after `applied` was read. The entries were
                    // loaded since; invalidating them again could leave nothing to serve if the
                    // database becomes unreachable.
                    if change.sequence <= self.applied.load(Ordering::Acquire) {
                        continue;
                    }
                    self.invalidate(change.scope);
                    self.applied.fetch_max(change.sequence, Ordering::AcqRel);
                }
            }
            (None, current) => {
                tracing::info!(
                    "changes are missing from the change sequence; invalidating all entries"
                );
                self.invalidate(ChangeScope::Everything);
                self.applied.store(current, Ordering::Release);
            }
        }
        let millis = u64::try_from(read_at.as_millis()).unwrap_or(u64::MAX);
        self.synced_millis.store(millis, Ordering::Relaxed);
        Ok(())
    }
}
