//! Counters with a bounded number of series.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::{OnceLock, PoisonError, RwLock};

use crate::domain::provider::UpstreamId;
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// The configuration that a request was for. Copied, compared and hashed without allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ConfigurationLabel {
    /// The request ended before one was found.
    None,
    /// One beyond the bound.
    Other,
    /// One within the bound.
    Id(UpstreamId),
}

impl EncodeLabelValue for ConfigurationLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        use fmt::Write;
        match self {
            Self::None => encoder.write_str("none"),
            Self::Other => encoder.write_str("other"),
            Self::Id(id) => write!(encoder, "{id}"),
        }
    }
}

/// Counters by one label whose values are a few fixed words. A word's counter is found by comparing
/// words, and without a lock: several are counted in every request.
pub(super) struct WordCounters<L> {
    family: Family<L, Counter>,
    label: fn(&'static str) -> L,
    /// Those that were counted. Further ones are looked up in the family.
    counted: [OnceLock<(&'static str, Counter)>; 8],
}

impl<L: Clone + Hash + Eq> WordCounters<L> {
    pub(super) fn new(family: Family<L, Counter>, label: fn(&'static str) -> L) -> Self {
        Self { family, label, counted: Default::default() }
    }

    /// Adds one to the counter of this word.
    pub(super) fn count(&self, word: &'static str) {
        let counter = || self.family.get_or_create(&(self.label)(word)).clone();
        for place in &self.counted {
            let (counted, counter) = place.get_or_init(|| (word, counter()));
            if *counted == word {
                counter.inc();
                return;
            }
        }
        counter().inc();
    }
}

/// Counters by label set, with a bound on the number of sets.
pub(super) struct BoundedCounters<L> {
    family: Family<L, Counter>,
    known: RwLock<HashSet<L>>,
    max_series: usize,
}

impl<L: Clone + Hash + Eq> BoundedCounters<L> {
    pub(super) fn new(family: Family<L, Counter>, max_series: usize) -> Self {
        Self { family, known: RwLock::default(), max_series }
    }

    /// Adds one to the series of `labels`, or to that of `other` if `labels` exceeds the bound.
    pub(super) fn count(&self, labels: &L, other: impl FnOnce() -> L) {
        if let Some(counter) = self.family.get(labels) {
            counter.inc();
        } else if is_within_bound(&self.known, labels, self.max_series) {
            self.family.get_or_create(labels).inc();
        } else {
            self.family.get_or_create(&other()).inc();
        }
    }
}

/// Whether `value` is among the first `max` distinct values that this was called with.
pub(super) fn is_within_bound<T: Clone + Hash + Eq>(
    known: &RwLock<HashSet<T>>,
    value: &T,
    max: usize,
) -> bool {
    {
        let known = known.read().unwrap_or_else(PoisonError::into_inner);
        if known.contains(value) {
            return true;
        }
        if known.len() >= max {
            return false;
        }
    }
    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
    known.contains(value)
        || known.len() < max && {
            known.insert(value.clone());
            true
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_beyond_the_bound_are_counted_together() {
        let family = Family::<[(&'static str, u16); 1], Counter>::default();
        let counters = BoundedCounters::new(family, 2);
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
