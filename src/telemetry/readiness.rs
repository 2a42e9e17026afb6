//! Whether this process should be sent requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// The stage that the process is in. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Start-up is complete.
    pub fn is_ready(&self) {
        self.0.store(READY, Ordering::Release);
    }

    /// The process is on its way down; it never becomes ready again.
    pub fn is_draining(&self) {
        self.0.store(DRAINING, Ordering::Release);
    }

    /// `None` if requests may come, else why not.
    pub fn unready(&self) -> Option<&'static str> {
        match self.0.load(Ordering::Acquire) {
            STARTING => Some("starting"),
            READY => None,
            _ => Some("draining"),
        }
    }
}
