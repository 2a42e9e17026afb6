//! The journal and the ledger.

use std::path::PathBuf;

use super::database::DatabaseUrl;
use super::values::parse_size;

/// Default directory of the journal with PostgreSQL, in the working directory.
const DEFAULT_DIRECTORY: &str = "tollgate-journal";

/// Smallest size of a journal, in bytes: some seconds of a busy server.
pub(super) const MIN_JOURNAL_BYTES: usize = 1 << 20;

/// Shortest retention, in days: a monthly spend cap counts the rows of a month.
pub(super) const MIN_RETENTION_DAYS: u32 = 32;

/// The journal and the ledger.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Ledger")]
pub struct LedgerSettings {
    /// Directory of the journal, on a persistent disk, each process its own (unset: the SQLite
    /// database's path with `.journal` added; with PostgreSQL `tollgate-journal` in the working
    /// directory)
    #[arg(long, env = "TOLLGATE_JOURNAL_DIR", value_name = "PATH")]
    pub journal_dir: Option<PathBuf>,

    /// Size that the journal may reach while the database is unreachable; requests are rejected
    /// when it is full
    #[arg(
        long,
        env = "TOLLGATE_JOURNAL_MAX_BYTES",
        value_name = "SIZE",
        default_value = "1GiB",
        value_parser = parse_size
    )]
    pub journal_max_bytes: usize,

    /// Days for which the ledger keeps its rows, at least 32; 0 keeps them for ever. Sums by hour
    /// and day are always kept
    #[arg(long, env = "TOLLGATE_LEDGER_RETENTION_DAYS", value_name = "DAYS", default_value_t = 0)]
    pub ledger_retention_days: u32,
}

impl LedgerSettings {
    /// The journal's directory, or its default.
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
    fn the_default_journal_is_beside_the_database() {
        let unset = crate::config::Settings::default().ledger;
        let directory = |settings: &LedgerSettings, url: &str| {
            settings.directory(&url.parse().unwrap()).display().to_string()
        };
        assert_eq!(directory(&unset, "sqlite:/data/t.db"), "/data/t.db.journal");
        assert_eq!(directory(&unset, "postgres://h/d"), "tollgate-journal");
        let given = LedgerSettings { journal_dir: Some("/j".into()), ..unset };
        assert_eq!(directory(&given, "sqlite:t.db"), "/j");
    }
}
