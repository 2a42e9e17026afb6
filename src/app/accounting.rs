//! Opens and closes accounting: counters, ledger, token estimates, admission.

use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use super::open::Store;
use crate::accounting::Accounting;
use crate::accounting::journal::JournalOptions;
use crate::accounting::ledger::{Ledger, LedgerParts, Recovered};
use crate::accounting::record::AttemptOutcome;
use crate::accounting::usage_estimate::Estimator;
use crate::clock::Clock;
use crate::config::Settings;
use crate::directory::Directory;
use crate::llm::limits::AssumedLimits;
use crate::policy::admission::{Admission, FlushLedger};
use crate::policy::child_queue::ChildQueue;
use crate::policy::limits::{Amounts, Counters};
use crate::telemetry::Metrics;
use crate::telemetry::readiness::Readiness;
use crate::telemetry::request_reporter::RequestReporter;

/// How long a new counter waits until the rows of the journal are in the ledger.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long shutdown waits for token counts, then for Redis to take the last settlements, then for
/// the database to take the last rows. Rows that it does not take stay in the journal.
const ESTIMATES_TIMEOUT: Duration = Duration::from_secs(2);
const SETTLEMENTS_TIMEOUT: Duration = Duration::from_secs(2);
const ROWS_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens all of it, and brings what an earlier process left in the journal into the ledger.
pub(super) async fn open(
    settings: &Settings,
    store: &Store,
    directory: &Directory,
    clock: &Clock,
    metrics: &Metrics,
    readiness: &Readiness,
) -> Result<Arc<Accounting>, StartError> {
    let counters = Counters::open(&settings.policies, clock, metrics)?;
    let ledger = open_ledger(settings, store, &counters, clock, metrics, readiness).await?;
    let child_queue = ChildQueue::default();
    let writing = child_queue.clone().write_periodically(store.database.clone(), clock.clone());
    store.database.spawn_background(writing);
    let admission = Admission::new(
        directory.clone(),
        store.database.clone(),
        counters,
        child_queue,
        clock.clone(),
        metrics.clone(),
        flush_of(ledger.clone()),
    );
    Ok(Arc::new(Accounting {
        admission,
        ledger,
        estimator: Estimator::default(),
        reporter: RequestReporter::start(metrics.clone())?,
        clock: clock.clone(),
        assumed_limits: AssumedLimits {
            context_tokens: tokens(settings.policies.assumed_context_tokens),
            output_tokens: tokens(settings.policies.assumed_output_tokens),
        },
    }))
}

fn tokens(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

async fn open_ledger(
    settings: &Settings,
    store: &Store,
    counters: &Counters,
    clock: &Clock,
    metrics: &Metrics,
    readiness: &Readiness,
) -> Result<Ledger, StartError> {
    let directory = settings.ledger.directory(&settings.database.database_url);
    let max_bytes = u64::try_from(settings.ledger.journal_max_bytes).unwrap_or(u64::MAX);
    let parts = LedgerParts {
        database: store.database.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        retention_days: settings.ledger.ledger_retention_days,
    };
    let settle = async |found: Vec<Recovered>| settle_found(counters, &found).await;
    Ok(Ledger::open(JournalOptions::new(directory, max_bytes), parts, settle).await?)
}

/// Settles the reservations of a process that has ended, from its journal.
pub(super) async fn settle_found(counters: &Counters, found: &[Recovered]) {
    // An attempt with an unknown outcome was repeated; the other one has the usage.
    for one in found.iter().filter(|one| one.outcome != AttemptOutcome::Unknown) {
        let actual = Amounts { cost: one.cost.unwrap_or_default(), tokens: one.tokens };
        counters.end(one.organization_id, one.request_id, Some(actual)).await;
    }
}

/// Flushes the ledger, for counters that are rebuilt from it.
fn flush_of(ledger: Ledger) -> FlushLedger {
    Arc::new(move || {
        let ledger = ledger.clone();
        Box::pin(async move {
            match tokio::time::timeout(FLUSH_TIMEOUT, ledger.flush()).await {
                Ok(flushed) => flushed.map_err(|error| error.to_string()),
                Err(_) => Err(format!(
                    "the ledger did not take the journal's rows within {FLUSH_TIMEOUT:?}"
                )),
            }
        })
    })
}

/// Writes what is left, within the time limits, and releases the journal.
pub(super) async fn close(accounting: &Accounting) {
    let estimator = accounting.estimator.clone();
    let counted = actix_web::rt::task::spawn_blocking(move || estimator.close(ESTIMATES_TIMEOUT));
    if !counted.await.unwrap_or(false) {
        tracing::warn!("cannot count all tokens in time; those attempts are charged as reserved");
    }
    if !accounting.admission.finish(SETTLEMENTS_TIMEOUT).await {
        tracing::warn!("Redis did not take every settlement; the rest stays charged as reserved");
    }
    match tokio::time::timeout(ROWS_TIMEOUT, accounting.ledger.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot write the last rows; they stay in the journal");
        }
        Err(_) => tracing::warn!("cannot write the last rows in time; they stay in the journal"),
    }
    accounting.reporter.flush();
}
