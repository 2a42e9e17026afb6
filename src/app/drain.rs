//! Draining the journal of a process that will not be started again.

use std::path::Path;
use std::time::Duration;

use super::StartError;
use super::accounting::settle_found;
use super::open::open_database;
use crate::accounting::ledger::Recovered;
use crate::accounting::ledger::recover::{Recovery, drain_journal as drain};
use crate::clock::Clock;
use crate::config::{DatabaseUrl, Settings};
use crate::db::Database;
use crate::policy::limits::Counters;
use crate::telemetry::Metrics;

/// How long to wait for Redis.
const COUNTERS_TIMEOUT: Duration = Duration::from_secs(5);

/// Brings what is in the journal at `directory` into the database, settles in Redis, where the
/// settings name one, what its process had reserved, and empties it. Refuses while a process uses
/// the journal, and where journal, database or Redis are missing: what is drained into the wrong
/// database, or without Redis, is gone from the journal.
pub async fn drain_journal(settings: &Settings, directory: &Path) -> Result<Recovery, StartError> {
    if !directory.join("lock").is_file() {
        return Err(StartError::NoJournal(directory.to_owned()));
    }
    if let DatabaseUrl::Sqlite(file) = &settings.database.database_url
        && !file.is_file()
    {
        return Err(StartError::NoDatabase(file.clone()));
    }
    let database = open_database(settings)?;
    let drained = drain_into(&database, settings, directory).await;
    database.close().await;
    drained
}

async fn drain_into(
    database: &Database,
    settings: &Settings,
    directory: &Path,
) -> Result<Recovery, StartError> {
    database.migrate().await?;
    let counters = Counters::open(&settings.policies, &Clock::default(), &Metrics::new())?;
    if !counters.catch_up(COUNTERS_TIMEOUT).await {
        return Err(StartError::RedisUnreachable);
    }
    let settle = async |found: Vec<Recovered>| settle_found(&counters, &found).await;
    let drained = drain(directory, database, settle).await?;
    if !counters.catch_up(COUNTERS_TIMEOUT).await {
        tracing::warn!("Redis did not take every settlement; the rest stays charged as reserved");
    }
    Ok(drained)
}
