//! Where attempts are written down first, and how long the ledger keeps them.

use std::path::PathBuf;

use super::database::DatabaseUrl;
use super::values::parse_size;

/// Name of the journal with PostgreSQL when none is given, in the working directory.
const DEFAULT_DIRECTORY: &str = "tollgate-journal";

/// The least that a journal may hold, in bytes: some seconds of a busy server.
pub(super) const LEAST_JOURNAL_BYTES: usize = 1 << 20;

/// The shortest that rows may be kept, in days: what a month's spend cap has to count.
pub(super) const LEAST_RETENTION_DAYS: u32 = 32;

/// Where attempts are written down first, and how long the ledger keeps them.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Ledger")]
pub struct LedgerSettings {
    /// Directory of the journal, on a disk that survives the process; one for each process (unset:
    /// beside the SQLite database, its name with `.journal` added; with PostgreSQL
    /// `tollgate-journal` in the working directory)
    #[arg(long, env = "TOLLGATE_JOURNAL_DIR", value_name = "PATH")]
    pub journal_dir: Option<PathBuf>,

    /// What the journal may hold while the database is away; full, requests are refused
    #[arg(
        long,
        env = "TOLLGATE_JOURNAL_MAX_BYTES",
        value_name = "SIZE",
        default_value = "1GiB",
        value_parser = parse_size
    )]
    pub journal_max_bytes: usize,

    /// Days that the ledger keeps its rows, at least 32; 0 keeps them for ever. Sums by hour
    /// and by day are always kept
    #[arg(long, env = "TOLLGATE_LEDGER_RETENTION_DAYS", value_name = "DAYS", default_value_t = 0)]
    pub ledger_retention_days: u32,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self { journal_dir: None, journal_max_bytes: 1 << 30, ledger_retention_days: 0 }
    }
}

impl LedgerSettings {
    /// The journal's directory, given or not.
    pub fn directory(&self, database: &DatabaseUrl) -> PathBuf {
        match (&self.journal_dir, database) {
            (Some(directory), _) => directory.clone(),
            (None, DatabaseUrl::Sqlite(file)) => {
                let mut name = file.clone().into_os_string();
                name.push(".journal");
                name.into()
            }
            (None, DatabaseUrl::Postgres(_)) => DEFAULT_DIRECTORY.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_lies_beside_the_database() {
        let unset = LedgerSettings::default();
        let directory = |settings: &LedgerSettings, url: &str| {
            settings.directory(&url.parse().unwrap()).display().to_string()
        };
        assert_eq!(directory(&unset, "sqlite:/data/t.db"), "/data/t.db.journal");
        assert_eq!(directory(&unset, "postgres://h/d"), "tollgate-journal");
        let given = LedgerSettings { journal_dir: Some("/j".into()), ..unset };
        assert_eq!(directory(&given, "sqlite:t.db"), "/j");
    }
}
