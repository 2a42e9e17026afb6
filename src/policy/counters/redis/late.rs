//! What Redis has still to be told. Bounded: what finds no room is dropped, and the counter stays
//! charged as reserved once the lease is over.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    metrics: Metrics,
}

impl Late {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { waiting: Mutex::default(), metrics }
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

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The next ones, oldest first.
    pub(super) fn take(&self, most: usize) -> Vec<Ending> {
        let mut waiting = self.lock();
        let most = most.min(waiting.len());
        let taken = waiting.drain(..most).collect();
        self.metrics.counter_corrections_queued(waiting.len());
        taken
    }

    /// Keeps one for another try, unless Redis has refused it too often for that to help.
    pub(super) fn again(&self, mut ending: Ending, refused: bool) {
        if refused {
            ending.tries += 1;
        }
        if ending.tries < TRIES {
            self.push(ending);
        } else {
            tracing::error!(request_id = %ending.request_id, "Redis refuses a correction");
            self.metrics.counter_correction_dropped();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Ending>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a reservation sooner or later: queued when this is dropped, unless it was told in time.
pub(super) struct Pending<'a> {
    late: &'a Late,
    ending: Option<Ending>,
}

impl<'a> Pending<'a> {
    pub(super) fn new(late: &'a Late, ending: Ending) -> Self {
        Self { late, ending: Some(ending) }
    }

    /// Nothing is left to tell.
    pub(super) fn done(mut self) {
        self.ending = None;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            self.late.push(ending);
        }
    }
}
