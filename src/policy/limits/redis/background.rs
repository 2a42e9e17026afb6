//! The background task: reconnects, renews leases, and sends corrections that Redis has missed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::super::LEASE;
use super::Inner;
use super::client::Failure;
use super::pending_corrections::{Correction, PendingCorrection};

/// The pause between tries to connect: the time that the breaker stays open.
const RECONNECT: Duration = Duration::from_millis(200);
/// How often there is a look at leases and corrections.
const TICK: Duration = Duration::from_secs(1);
/// The pause before a correction that Redis has refused is sent again.
pub(super) const RETRY_REFUSED: Duration = TICK;
/// Corrections sent at once.
const BATCH: usize = 256;

/// Runs until the counters are dropped.
pub(super) async fn run(inner: Weak<Inner>, wake: Arc<Notify>) {
    let mut renewed_at = Instant::now();
    while let Some(strong) = inner.upgrade() {
        let was_up = strong.client.is_up();
        if !was_up && !strong.client.connect(&strong.scripts).await {
            drop(strong);
            sleep(RECONNECT).await;
            continue;
        }
        // After a reconnect the server may be another one and lack the open reservations.
        if !was_up || renewed_at.elapsed() >= LEASE / 3 {
            renewed_at = Instant::now();
            strong.renew_leases().await;
        }
        strong.send_pending().await;
        let closed = strong.client.closed();
        drop(strong);
        tokio::select! {
            () = sleep(TICK) => {}
            () = wake.notified() => {}
            () = closed => {}
        }
        let Some(strong) = inner.upgrade() else { return };
        strong.client.go_down_if_closed();
        if !strong.client.is_up() {
            drop(strong);
            sleep(RECONNECT).await;
        }
    }
}

impl Inner {
    /// Sends pending corrections, oldest first, until all are sent or one fails. Whether all are sent.
    /// If this future is dropped, what is not sent stays pending.
    pub(super) async fn send_pending(&self) -> bool {
        let mut not_before = self.pending.turn().await;
        while self.client.is_up() && *not_before <= Instant::now() {
            let batch = self.pending.take(BATCH);
            if batch.is_empty() {
                return true;
            }
            let results = join_all(batch.into_iter().map(|one| self.send_one(one))).await;
            if results.iter().any(|result| matches!(result, Err(Failure::Error(_)))) {
                // Sent again at once, it would be refused again.
                *not_before = Instant::now() + RETRY_REFUSED;
            }
            if results.iter().any(Result::is_err) {
                return false;
            }
        }
        false
    }

    async fn send_one(&self, pending: PendingCorrection) -> Result<(), Failure> {
        let Some(correction) = pending.correction() else { return Ok(()) };
        let result = self.send(correction).await;
        match &result {
            Ok(()) => pending.done(),
            Err(Failure::Error(_)) => pending.refused(),
            Err(Failure::NotSent | Failure::Unanswered(_)) => drop(pending),
        }
        result
    }

    pub(super) async fn send(&self, correction: &Correction) -> Result<(), Failure> {
        let now = self.clock.now();
        self.client.call::<i64>(|run| self.scripts.settle(correction, run, now)).await.map(|_| ())
    }
}
