//! Following the change sequence: woken by notifications, sure by polling.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::Inner;
use crate::db::{Conn, changes_since};

/// Follows the sequence for as long as the directory lives.
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
                    tracing::info!("the database is back, the directory follows it again");
                }
                failing = false;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "the change sequence can't be read; serving what is held");
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
    /// Applies what was committed since the last time.
    async fn catch_up(&self) -> Result<(), crate::db::DbError> {
        let asked = self.began.elapsed();
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
                    // A write of this process that was applied since we asked. What is held was
                    // loaded after it; forgetting that again, with the database going away, would
                    // leave nothing to serve from.
                    if change.sequence <= self.applied.load(Ordering::Acquire) {
                        continue;
                    }
                    self.forget(change.concerns);
                    self.applied.fetch_max(change.sequence, Ordering::AcqRel);
                }
            }
            (None, current) => {
                tracing::info!("steps of the change sequence are missing; forgetting everything");
                self.forget_all();
                self.applied.store(current, Ordering::Release);
            }
        }
        let millis = u64::try_from(asked.as_millis()).unwrap_or(u64::MAX);
        self.synced_millis.store(millis, Ordering::Relaxed);
        Ok(())
    }
}
