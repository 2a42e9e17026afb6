//! Whether this process accepts requests: it has started, is not draining, and its journal has room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// The stages of a process' life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Start-up is not complete.
    Starting,
    /// Requests are accepted.
    Ready,
    /// Open requests are finished; new ones should go elsewhere.
    Draining,
}

/// The phase and the state of the journal. Begins as [`Phase::Starting`]; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    phase: Arc<AtomicU8>,
    journal_full: Arc<AtomicBool>,
}

impl Readiness {
    /// Start-up is complete. Does not undo draining.
    pub fn set_ready(&self) {
        self.phase.fetch_max(Phase::Ready as u8, Ordering::Relaxed);
    }

    /// The process was told to stop.
    pub fn set_draining(&self) {
        self.phase.fetch_max(Phase::Draining as u8, Ordering::Relaxed);
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Sets whether the journal rejects new attempts.
    pub fn set_journal_full(&self, full: bool) {
        self.journal_full.store(full, Ordering::Relaxed);
    }

    /// Whether the journal rejects new attempts.
    pub fn is_journal_full(&self) -> bool {
        self.journal_full.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_process_stays_draining() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.set_ready();
        assert_eq!(readiness.clone().phase(), Phase::Ready);
        readiness.set_draining();
        readiness.set_ready();
        assert_eq!(readiness.phase(), Phase::Draining);
    }
}
