//! The memory that the tables of fixed strings take. They are built at first use.

use std::sync::atomic::{AtomicUsize, Ordering};

static BYTES: AtomicUsize = AtomicUsize::new(0);

/// A table was built.
pub(super) fn built(bytes: usize) {
    BYTES.fetch_add(bytes, Ordering::Relaxed);
}

/// The memory of those that were built so far, in bytes.
pub fn bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}
