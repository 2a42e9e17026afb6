//! What money and limits are kept with: counters, ledger, estimates, admission.

use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use super::open::Store;
use crate::accounting::engine::Accounting;
use crate::accounting::estimate::Estimator;
use crate::accounting::journal::JournalOptions;
use crate::accounting::ledger::{Ledger, LedgerParts, Recovered};
use crate::accounting::record::AttemptOutcome;
use crate::clock::Clock;
use crate::config::Settings;
use crate::directory::Directory;
use crate::llm::limits::AssumedLimits;
use crate::policy::admission::{Admission, FlushLedger};
use crate::policy::children::Children;
use crate::policy::limits::{Actual, Counters};
use crate::telemetry::Metrics;
use crate::telemetry::readiness::Readiness;
use crate::telemetry::request_reporter::RequestReporter;

/// How long a new counter waits for the ledger to have what the journal holds.
const FLUSH: Duration = Duration::from_secs(5);

/// How long the end waits for token counts, then for Redis to hear of what was used, and then for
/// the database to take the last rows. What is left of the rows stays in the journal.
const LAST_ESTIMATES: Duration = Duration::from_secs(2);
const LAST_SETTLEMENTS: Duration = Duration::from_secs(2);
const LAST_ROWS: Duration = Duration::from_secs(5);

/// Opens all of it. What an earlier process left in the journal is in the ledger afterwards, and its
/// reservations are settled.
pub(super) async fn open(
    settings: &Settings,
    store: &Store,
    directory: &Directory,
    clock: &Clock,
    metrics: &Metrics,
    readiness: &Readiness,
) -> Result<Accounting, StartError> {
    let counters = Counters::open(&settings.policies, clock, metrics)?;
    let ledger = open_ledger(settings, store, &counters, clock, metrics, readiness).await?;
    let children = Children::default();
    let writing = children.clone().write_now_and_then(store.database.clone(), clock.clone());
    store.database.spawn_background(writing);
    let admission = Admission::new(
        directory.clone(),
        store.database.clone(),
        counters,
        children,
        clock.clone(),
        metrics.clone(),
        flush_of(ledger.clone()),
    );
    let estimator = Estimator::default();
    estimator.warm_up();
    Ok(Accounting {
        admission,
        ledger,
        estimator,
        reporter: RequestReporter::start(metrics.clone())?,
        clock: clock.clone(),
        assumed_limits: AssumedLimits {
            context_tokens: tokens(settings.policies.assumed_context_tokens),
            output_tokens: tokens(settings.policies.assumed_output_tokens),
        },
    })
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
    let most = u64::try_from(settings.ledger.journal_max_bytes).unwrap_or(u64::MAX);
    let parts = LedgerParts {
        database: store.database.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        retention_days: settings.ledger.ledger_retention_days,
    };
    let settle = async |found: Vec<Recovered>| settle_found(counters, &found).await;
    Ok(Ledger::open(JournalOptions::new(directory, most), parts, settle).await?)
}

/// Settles what a process that has ended had reserved, as its journal says.
pub(super) async fn settle_found(counters: &Counters, found: &[Recovered]) {
    // One that nothing came back from was followed by another, which tells what was used.
    for one in found.iter().filter(|one| one.outcome != AttemptOutcome::Unknown) {
        let actual = Actual { cost: one.cost.unwrap_or_default(), tokens: one.tokens };
        counters.settle(one.organization_id, one.request_id, actual).await;
    }
}

/// What counters that are rebuilt from the ledger wait for.
fn flush_of(ledger: Ledger) -> FlushLedger {
    Arc::new(move || {
        let ledger = ledger.clone();
        Box::pin(async move {
            match tokio::time::timeout(FLUSH, ledger.flush()).await {
                Ok(flushed) => flushed.map_err(|error| error.to_string()),
                Err(_) => Err(format!("the ledger did not take the journal within {FLUSH:?}")),
            }
        })
    })
}

/// Writes what is left, as far as there is time, and lets go of the journal.
pub(super) async fn close(accounting: &Accounting) {
    let estimator = accounting.estimator.clone();
    let counted = actix_web::rt::task::spawn_blocking(move || estimator.close(LAST_ESTIMATES));
    if !counted.await.unwrap_or(false) {
        tracing::warn!("not all tokens could be counted in time; those attempts are lost ones");
    }
    if !accounting.admission.finish(LAST_SETTLEMENTS).await {
        tracing::warn!("Redis was not told of all; the rest stays charged as reserved");
    }
    match tokio::time::timeout(LAST_ROWS, accounting.ledger.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the last attempts stay in the journal"),
        Err(_) => tracing::warn!("the last attempts stay in the journal: no time was left"),
    }
    accounting.reporter.flush();
}
