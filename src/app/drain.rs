//! The journal of a replica that will not come back.

use std::path::Path;

use super::StartError;
use super::open::open_database;
use crate::config::{DatabaseUrl, Settings};
use crate::metering::ledger::recover::{Found, drain_journal as drain};

/// Brings what is in the journal at `directory` into the database, and empties it. Refuses while a
/// process uses it, and where journal or database are not there: what is drained into the wrong
/// database is gone from the journal.
pub async fn drain_journal(settings: &Settings, directory: &Path) -> Result<Found, StartError> {
    if !directory.join("lock").is_file() {
        return Err(StartError::NoJournal(directory.to_owned()));
    }
    if let DatabaseUrl::Sqlite(file) = &settings.database.database_url
        && !file.is_file()
    {
        return Err(StartError::NoDatabase(file.clone()));
    }
    let database = open_database(settings)?;
    database.migrate().await?;
    Ok(drain(directory, &database).await?)
}
