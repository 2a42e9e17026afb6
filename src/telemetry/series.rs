//! Series whose number is bounded, whatever tenants and upstreams do.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use uuid::Uuid;

/// Which configuration a request was for. Copied, compared and hashed without allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ConfigurationLabel {
    /// None was found, or the request never came so far.
    None,
    /// One beyond the bound.
    Other,
    /// One of the first so many.
    Id(Uuid),
}

impl EncodeLabelValue for ConfigurationLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        use fmt::Write;
        match self {
            Self::None => encoder.write_str("none"),
            Self::Other => encoder.write_str("other"),
            Self::Id(id) => write!(encoder, "{}", id.as_hyphenated()),
        }
    }
}

/// Counters by label set, of at most so many distinct sets.
pub(super) struct BoundedCounters<L> {
    pub(super) family: Family<L, Counter>,
    known: RwLock<HashSet<L>>,
    most: usize,
}

impl<L: Clone + Hash + Eq> BoundedCounters<L> {
    pub(super) fn new(most: usize) -> Self {
        Self { family: Family::default(), known: RwLock::default(), most }
    }

    /// Counts one for `labels`, or for `other` if `labels` would be one set too many.
    pub(super) fn count(&self, labels: &L, other: impl FnOnce() -> L) {
        if let Some(counter) = self.family.get(labels) {
            counter.inc();
            return;
        }
        if self.admit(labels) {
            self.family.get_or_create(labels).inc();
        } else {
            self.family.get_or_create(&other()).inc();
        }
    }

    fn admit(&self, labels: &L) -> bool {
        admit(&self.known, labels, self.most)
    }
}

/// Whether `value` is among the first `most` distinct ones ever asked for.
pub(super) fn admit<T: Clone + Hash + Eq>(
    known: &RwLock<HashSet<T>>,
    value: &T,
    most: usize,
) -> bool {
    {
        let known = known.read().unwrap_or_else(PoisonError::into_inner);
        if known.contains(value) {
            return true;
        }
        if known.len() >= most {
            return false;
        }
    }
    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
    known.len() < most && {
        known.insert(value.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_late_is_counted_together() {
        let counters = BoundedCounters::<[(&'static str, u16); 1]>::new(2);
        for status in [200, 201, 202, 203, 200] {
            counters.count(&[("status", status)], || [("status", 0)]);
        }
        let count = |status| counters.family.get(&[("status", status)]).map(|c| c.get());
        assert_eq!(count(200), Some(2));
        assert_eq!(count(201), Some(1));
        assert_eq!(count(202), None);
        assert_eq!(count(0), Some(2));
    }
}
