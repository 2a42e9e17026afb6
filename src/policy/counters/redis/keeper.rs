//! What goes on behind the requests: bringing the line up again, telling Redis what it has missed,
//! renewing leases.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::{Claims, LEASE};
use super::Inner;
use super::late::Ending;
use super::line::Failure;
use crate::domain::ids::{OrganizationId, RequestId};

/// How often Redis is tried while it is away: the time that the breaker stays open.
const RETRY: Duration = Duration::from_millis(200);
/// How often leases are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Endings told at once.
const BATCH: usize = 256;
/// Requests renewed by one call.
const RENEWED: usize = 256;

/// Runs until the counters are gone.
pub(super) async fn keep(inner: Weak<Inner>, wake: Arc<Notify>) {
    let mut renewed = Instant::now();
    loop {
        let pause = {
            let Some(inner) = inner.upgrade() else { return };
            if inner.line.is_up() || inner.line.come_up(&inner.scripts).await {
                inner.tell_late().await;
                if renewed.elapsed() >= LEASE / 3 {
                    renewed = Instant::now();
                    inner.renew().await;
                }
                TICK
            } else {
                RETRY
            }
        };
        let _ = tokio::time::timeout(pause, wake.notified()).await;
        if let Some(inner) = inner.upgrade()
            && !inner.line.is_up()
        {
            // Woken because the line went down: a moment before it is tried again.
            drop(inner);
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl Inner {
    /// Tells Redis what it has missed, oldest first, until all is told or Redis is away again.
    async fn tell_late(&self) {
        while self.line.is_up() {
            let batch = self.late.take(BATCH);
            if batch.is_empty() {
                return;
            }
            let told = join_all(batch.iter().map(|ending| self.tell(ending))).await;
            let mut refused = false;
            for (ending, told) in batch.into_iter().zip(told) {
                if let Err(failure) = told {
                    refused = true;
                    self.late.again(ending, matches!(failure, Failure::Error(_)));
                }
            }
            if refused {
                return;
            }
        }
    }

    /// Tells Redis how a reservation ended.
    pub(super) async fn tell(&self, ending: &Ending) -> Result<(), Failure> {
        let script = self.scripts.settle(
            ending.organization_id,
            ending.request_id,
            ending.actual,
            ending.claims.as_deref(),
            self.clock.now(),
        );
        self.line.call::<i64>(&script).await.map(|_| ())
    }

    /// Renews the leases of living requests, and puts back what Redis has lost of them.
    pub(super) async fn renew(&self) {
        let mut tenants: HashMap<OrganizationId, Vec<RequestId>> = HashMap::new();
        for (request_id, living) in self.living().iter().filter(|(_, living)| !living.local) {
            tenants.entry(living.claims.organization_id).or_default().push(*request_id);
        }
        let chunks: Vec<_> = tenants
            .iter()
            .flat_map(|(tenant, requests)| requests.chunks(RENEWED).map(|chunk| (*tenant, chunk)))
            .collect();
        // So many at a time, so that none waits for its turn beyond its deadline.
        for chunks in chunks.chunks(16) {
            let renewing = chunks.iter().map(|(tenant, chunk)| self.renew_some(*tenant, chunk));
            if join_all(renewing).await.iter().any(Result::is_err) {
                return;
            }
        }
    }

    async fn renew_some(
        &self,
        tenant: OrganizationId,
        requests: &[RequestId],
    ) -> Result<(), Failure> {
        let script = self.scripts.renew(tenant, requests, self.clock.now());
        let missing: Vec<String> = self.line.call(&script).await?;
        let missing: Vec<Arc<Claims>> = {
            let living = self.living();
            let ids = missing.iter().filter_map(|id| id.parse().ok());
            ids.filter_map(|id: RequestId| living.get(&id)).map(|one| one.claims.clone()).collect()
        };
        for claims in missing {
            let script = self.scripts.restore(&claims, self.clock.now());
            self.line.call::<i64>(&script).await?;
        }
        Ok(())
    }
}
