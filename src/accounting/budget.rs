//! A bounded amount that requests share: memory for bodies, or requests in all. Beyond the bound the
//! answer is an error at once, never a queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bounded amount that many take from.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    used: AtomicUsize,
    max: usize,
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Share {
    shared: Arc<Shared>,
    size: usize,
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(max: usize) -> Self {
        Self { shared: Arc::new(Shared { used: AtomicUsize::new(0), max }) }
    }

    /// Takes a part, if so much is left.
    pub fn take(&self, size: usize) -> Option<Share> {
        let mut share = Share { shared: self.shared.clone(), size: 0 };
        share.grow(size).then_some(share)
    }
}

impl Share {
    /// Makes the part larger, if so much is left; says whether it did.
    pub fn grow(&mut self, by: usize) -> bool {
        let max = self.shared.max;
        let grown = self.shared.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
            used.checked_add(by).filter(|sum| *sum <= max)
        });
        if grown.is_ok() {
            self.size += by;
        }
        grown.is_ok()
    }
}

impl Share {
    /// Gives a part back.
    pub fn shrink(&mut self, by: usize) {
        let by = by.min(self.size);
        self.size -= by;
        self.shared.used.fetch_sub(by, Ordering::AcqRel);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.size, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded_and_comes_back() {
        let budget = Budget::new(10);
        let mut first = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        assert!(first.grow(4));
        assert!(!first.grow(1));
        assert!(!first.grow(usize::MAX));
        drop(first);
        assert!(budget.take(10).is_some());
    }
}
