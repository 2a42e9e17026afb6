//! What Redis has still to be told. Bounded: what finds no room is dropped, and the counter stays
//! charged as reserved once the lease is over.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::super::{Actual, Claims};
use crate::domain::ids::{OrganizationId, RequestId};
use crate::telemetry::Metrics;

/// The most that waits.
const MOST: usize = 100_000;
/// How often Redis may say that it can't, before it is believed.
const TRIES: u32 = 10;

/// The end of a reservation.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) organization_id: OrganizationId,
    pub(super) request_id: RequestId,
    /// What was used; none to take the reservation back.
    pub(super) actual: Option<Actual>,
    /// What was claimed, where that is known here.
    pub(super) claims: Option<Arc<Claims>>,
    /// The generation of keys that Redis has counted it in, where that is known here.
    pub(super) generation: Option<Arc<str>>,
    /// How often Redis has said that it can't.
    pub(super) tries: u32,
}

impl Ending {
    /// Of a request that does not wait for Redis to say whether it is admitted.
    pub(super) fn given_up(claims: &Claims) -> Self {
        Self {
            organization_id: claims.organization_id,
            request_id: claims.request_id,
            actual: None,
            claims: None,
            generation: None,
            tries: 0,
        }
    }
}

/// The endings that wait.
#[derive(Debug)]
pub(super) struct Late {
    waiting: Mutex<VecDeque<Ending>>,
    /// Whoever tells Redis of them has this turn, and waits for the instant that it holds. While
    /// nobody has it, nothing is in anybody's hands.
    turn: tokio::sync::Mutex<Instant>,
    /// Endings that are being told.
    in_hands: AtomicUsize,
    metrics: Metrics,
}

impl Late {
    pub(super) fn new(metrics: Metrics) -> Self {
        let turn = tokio::sync::Mutex::new(Instant::now());
        Self { waiting: Mutex::default(), turn, in_hands: AtomicUsize::new(0), metrics }
    }

    /// Whether nothing waits and nothing is being told.
    pub(super) fn is_all_told(&self) -> bool {
        // What waits comes into hands under this lock, and what comes back waits before it leaves
        // them.
        let waiting = self.lock();
        waiting.is_empty() && self.in_hands.load(Ordering::SeqCst) == 0
    }

    pub(super) fn push(&self, ending: Ending) {
        let mut waiting = self.lock();
        if waiting.len() < MOST {
            waiting.push_back(ending);
            self.metrics.counter_corrections_queued(waiting.len());
        } else {
            self.metrics.counter_correction_dropped();
        }
    }

    /// The turn to tell Redis of them, and from when on.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, Instant> {
        self.turn.lock().await
    }

    /// The next ones, oldest first.
    pub(super) fn take(self: &Arc<Self>, most: usize) -> Vec<Pending> {
        let mut waiting = self.lock();
        let most = most.min(waiting.len());
        let taken = waiting.drain(..most).map(|ending| Pending::new(self, ending)).collect();
        self.metrics.counter_corrections_queued(waiting.len());
        taken
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Ending>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a reservation sooner or later: queued when this is dropped, unless it was told in time.
pub(super) struct Pending {
    late: Arc<Late>,
    ending: Option<Ending>,
}

impl Pending {
    pub(super) fn new(late: &Arc<Late>, ending: Ending) -> Self {
        late.in_hands.fetch_add(1, Ordering::SeqCst);
        Self { late: late.clone(), ending: Some(ending) }
    }

    pub(super) fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Nothing is left to tell.
    pub(super) fn done(mut self) {
        self.ending = None;
    }

    /// Redis says that it can't. It is tried again, unless that was said too often for it to help.
    pub(super) fn refused(mut self) {
        let Some(ending) = &mut self.ending else { return };
        ending.tries += 1;
        if ending.tries >= TRIES {
            tracing::error!(request_id = %ending.request_id, "Redis refuses a correction");
            self.late.metrics.counter_correction_dropped();
            self.ending = None;
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            self.late.push(ending);
        }
        // Last, so that it is never in neither place.
        self.late.in_hands.fetch_sub(1, Ordering::SeqCst);
    }
}
