//! Whether this process wants requests: the word of the one who starts and stops it, and of the
//! journal, without which nothing may be sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// How far the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Start-up is not complete.
    Starting,
    /// Requests are welcome.
    Ready,
    /// Told to stop: open requests are finished, new ones belong elsewhere.
    Draining,
}

/// The phase and the journal's word, shared. Begins as [`Phase::Starting`]; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    phase: Arc<AtomicU8>,
    journal_full: Arc<AtomicBool>,
}

impl Readiness {
    /// Start-up is complete. Does not undo draining.
    pub fn is_ready(&self) {
        self.raise(Phase::Ready);
    }

    /// The process has been told to stop.
    pub fn is_draining(&self) {
        self.raise(Phase::Draining);
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Says whether the journal takes no more attempts.
    pub fn journal_is_full(&self, full: bool) {
        self.journal_full.store(full, Ordering::Relaxed);
    }

    /// Whether the journal takes no more attempts.
    pub fn is_journal_full(&self) -> bool {
        self.journal_full.load(Ordering::Relaxed)
    }

    fn raise(&self, to: Phase) {
        self.phase.fetch_max(to as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_process_stays_draining() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.is_ready();
        assert_eq!(readiness.clone().phase(), Phase::Ready);
        readiness.is_draining();
        readiness.is_ready();
        assert_eq!(readiness.phase(), Phase::Draining);
    }
}
