//! What goes on behind the requests: bringing the line up again, telling Redis what it has missed,
//! and having leases renewed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::LEASE;
use super::Inner;
use super::late::{Ending, Pending};
use super::line::Failure;

/// How often Redis is tried while it is away: the time that the breaker stays open.
const RETRY: Duration = Duration::from_millis(200);
/// How often leases are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long before what Redis has refused is told again.
pub(super) const AGAIN: Duration = TICK;
/// Endings told at once.
const BATCH: usize = 256;

/// Runs until the counters are gone.
pub(super) async fn keep(inner: Weak<Inner>, wake: Arc<Notify>) {
    let mut renewed = Instant::now();
    loop {
        let pause = {
            let Some(inner) = inner.upgrade() else { return };
            inner.line.go_down_if_over();
            let was_up = inner.line.is_up();
            if was_up || inner.line.come_up(&inner.scripts).await {
                // What was away may have come back as another, which lacks what lives here until
                // then, whoever asks it.
                if !was_up || renewed.elapsed() >= LEASE / 3 {
                    renewed = Instant::now();
                    inner.renew().await;
                }
                inner.tell_late().await;
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
    /// Tells Redis what it has missed, oldest first, until all is told or some can't be. Whether all
    /// is. Whoever stops waiting for this leaves what is not told to the next.
    pub(super) async fn tell_late(&self) -> bool {
        let mut turn = self.late.turn().await;
        while self.line.is_up() && *turn <= Instant::now() {
            let batch = self.late.take(BATCH);
            if batch.is_empty() {
                return true;
            }
            let telling = batch.into_iter().map(|pending| self.tell_pending(pending));
            let told = join_all(telling).await;
            if told.iter().any(|told| matches!(told, Err(Failure::Error(_)))) {
                // Else its tries would be used up before anything has changed.
                *turn = Instant::now() + AGAIN;
            }
            if told.iter().any(Result::is_err) {
                return false;
            }
        }
        false
    }

    async fn tell_pending(&self, pending: Pending) -> Result<(), Failure> {
        let Some(ending) = pending.ending() else { return Ok(()) };
        let told = self.tell(ending).await;
        match &told {
            Ok(()) => pending.done(),
            Err(Failure::Error(_)) => pending.refused(),
            // It waits for another try.
            Err(Failure::NotSent | Failure::Unanswered(_)) => drop(pending),
        }
        told
    }

    /// Tells Redis how a reservation ended.
    pub(super) async fn tell(&self, ending: &Ending) -> Result<(), Failure> {
        let now = self.clock.now();
        self.line.call::<i64>(|run| self.scripts.settle(ending, run, now)).await.map(|_| ())
    }
}
