//! Ends of reservations that Redis has still to count. The queue is bounded: a correction that finds no
//! room is dropped, and its request stays charged as reserved.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::super::{Amounts, Claims};
use crate::domain::ids::{OrganizationId, RequestId};
use crate::telemetry::Metrics;

/// Corrections queued.
const MAX_QUEUED: usize = 100_000;
/// How often Redis may refuse a correction before it is dropped.
const MAX_REFUSALS: u32 = 10;

/// The end of a reservation.
#[derive(Clone, Debug)]
pub(super) struct Correction {
    pub(super) organization_id: OrganizationId,
    pub(super) request_id: RequestId,
    /// None to release the reservation.
    pub(super) used: Option<Amounts>,
    /// If this process knows them.
    pub(super) claims: Option<Arc<Claims>>,
    /// The generation of keys that the request was counted in, if this process knows it.
    pub(super) generation: Option<Arc<str>>,
    pub(super) refusals: u32,
}

impl Correction {
    /// Releases a reservation whose request has ended, whether or not Redis counted it.
    pub(super) fn abandon(claims: &Claims) -> Self {
        Self {
            organization_id: claims.organization_id,
            request_id: claims.request_id,
            used: None,
            claims: None,
            generation: None,
            refusals: 0,
        }
    }
}

#[derive(Debug)]
pub(super) struct PendingCorrections {
    queue: Mutex<VecDeque<Correction>>,
    /// Locked while the queue is sent. Nothing is sent before this instant.
    turn: tokio::sync::Mutex<Instant>,
    /// Corrections taken from the queue, or not yet in it.
    in_flight: AtomicUsize,
    metrics: Metrics,
}

impl PendingCorrections {
    pub(super) fn new(metrics: Metrics) -> Self {
        let turn = tokio::sync::Mutex::new(Instant::now());
        Self { queue: Mutex::default(), turn, in_flight: AtomicUsize::new(0), metrics }
    }

    /// Whether none is queued or in flight.
    pub(super) fn is_empty(&self) -> bool {
        // Taking counts a correction as in flight under this lock, and queueing it again comes before
        // it stops to count.
        let queue = self.lock();
        queue.is_empty() && self.in_flight.load(Ordering::SeqCst) == 0
    }

    fn push(&self, correction: Correction) {
        let mut queue = self.lock();
        if queue.len() < MAX_QUEUED {
            queue.push_back(correction);
            self.metrics.counter_corrections_queued(queue.len());
        } else {
            self.metrics.counter_correction_dropped();
        }
    }

    /// The turn to send the queue.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, Instant> {
        self.turn.lock().await
    }

    /// Takes the oldest.
    pub(super) fn take(self: &Arc<Self>, max: usize) -> Vec<PendingCorrection> {
        let mut queue = self.lock();
        let count = max.min(queue.len());
        let taken = queue.drain(..count).map(|one| PendingCorrection::new(self, one)).collect();
        self.metrics.counter_corrections_queued(queue.len());
        taken
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Correction>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A correction in flight. Queued when it is dropped, unless it is done.
pub(super) struct PendingCorrection {
    pending: Arc<PendingCorrections>,
    correction: Option<Correction>,
}

impl PendingCorrection {
    pub(super) fn new(pending: &Arc<PendingCorrections>, correction: Correction) -> Self {
        pending.in_flight.fetch_add(1, Ordering::SeqCst);
        Self { pending: pending.clone(), correction: Some(correction) }
    }

    pub(super) fn correction(&self) -> Option<&Correction> {
        self.correction.as_ref()
    }

    /// Redis has counted it, or need not.
    pub(super) fn done(mut self) {
        self.correction = None;
    }

    /// Redis answered with an error. Dropped after too many.
    pub(super) fn refused(mut self) {
        let Some(correction) = &mut self.correction else { return };
        correction.refusals += 1;
        if correction.refusals >= MAX_REFUSALS {
            let request_id = correction.request_id;
            tracing::error!(
                %request_id,
                "Redis refuses a correction; the request stays charged as reserved"
            );
            self.pending.metrics.counter_correction_dropped();
            self.correction = None;
        }
    }
}

impl Drop for PendingCorrection {
    fn drop(&mut self) {
        if let Some(correction) = self.correction.take() {
            self.pending.push(correction);
        }
        self.pending.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}
