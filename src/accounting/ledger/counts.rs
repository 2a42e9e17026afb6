//! The ledger's metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::accounting::journal::Journal;
use crate::telemetry::Metrics;

/// Counted since the process began.
#[derive(Default)]
pub(super) struct Counts {
    rows: AtomicU64,
    lost: AtomicU64,
    rejected: AtomicU64,
    damaged: AtomicU64,
    drained: Mutex<Option<Drained>>,
}

/// Until when, and up to which record, the database has everything.
#[derive(Clone, Copy)]
struct Drained {
    at: Instant,
    records: u64,
}

impl Counts {
    pub(super) fn committed(&self, rows: u64, lost: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.lost.fetch_add(lost, Ordering::Relaxed);
    }

    pub(super) fn rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn damaged(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    /// So many records had been appended at this instant, and all attempts that had ended have their rows.
    pub(super) fn drained(&self, at: Instant, records: u64) {
        *self.drained.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Drained { at, records });
    }

    /// Rows written, rows among them that are lost, rows rejected, and damaged records.
    pub(super) fn totals(&self) -> [u64; 4] {
        [&self.rows, &self.lost, &self.rejected, &self.damaged].map(|n| n.load(Ordering::Relaxed))
    }

    /// Seconds since the database had everything.
    fn lag(&self, journal: &Journal) -> f64 {
        let drained = *self.drained.lock().unwrap_or_else(PoisonError::into_inner);
        match drained {
            Some(drained) if drained.records != journal.records() => {
                drained.at.elapsed().as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

/// Registers the metrics. They show the journal's numbers as long as it is open.
pub(super) fn watch(metrics: &Metrics, journal: &Arc<Journal>, counts: &Arc<Counts>) {
    counts.drained(Instant::now(), 0);
    let of = |read: fn(&Journal) -> u64| {
        let journal = Arc::downgrade(journal);
        move || journal.upgrade().map_or(0, |journal| read(&journal))
    };
    let total = |index: usize| {
        let counts = Arc::clone(counts);
        move || counts.totals().get(index).copied().unwrap_or(0)
    };
    let bytes = of(Journal::bytes);
    metrics.watch_gauge("journal_bytes", "Bytes in the journal's segments", move || bytes() as f64);
    metrics.watch_counter(
        "journal_records",
        "Records written to the journal",
        of(Journal::records),
    );
    metrics.watch_counter(
        "journal_sync_errors",
        "Failed calls of fdatasync(2) on the journal",
        of(Journal::sync_errors),
    );
    metrics.watch_counter(
        "journal_damaged_records",
        "Records of the journal that could not be read; the file `rejected` has them",
        total(3),
    );
    metrics.watch_counter("ledger_rows", "Rows written to the ledger", total(0));
    metrics.watch_counter(
        "ledger_rows_lost",
        "Rows written to the ledger of attempts whose end is not known",
        total(1),
    );
    metrics.watch_counter(
        "ledger_rows_rejected",
        "Rows that the database refused; the file `rejected` has them",
        total(2),
    );
    let (journal, counts) = (Arc::downgrade(journal), Arc::clone(counts));
    metrics.watch_gauge(
        "ledger_lag_seconds",
        "Seconds since the ledger had everything that the journal holds",
        move || journal.upgrade().map_or(0.0, |journal| counts.lag(&journal)),
    );
}
