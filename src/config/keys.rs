//! The source of the master keys.

use std::path::{Path, PathBuf};

use super::database::DatabaseUrl;
use crate::crypto::{KeyringSource, SecretText};

/// Default name of the key file, beside the SQLite database.
const DEFAULT_FILE: &str = "tollgate-master.key";

/// The master keys.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Master key")]
pub struct KeySettings {
    /// File of master keys, one `<id> <base64 of 32 bytes>` a line; the first is active (unset:
    /// `tollgate-master.key` beside the SQLite database; required with PostgreSQL)
    #[arg(long, env = "TOLLGATE_MASTER_KEY_FILE", value_name = "PATH")]
    pub master_key_file: Option<PathBuf>,

    /// The lines of the master key file, separated by newlines or `;`, instead of a file. Use the
    /// variable: a flag is visible in the list of processes
    #[arg(long, env = "TOLLGATE_MASTER_KEY", hide_env_values = true, value_name = "KEYS")]
    pub master_key: Option<SecretText>,
}

impl KeySettings {
    /// The source of the keys; `None` if there is none, since PostgreSQL has no default.
    pub fn source(&self, database: &DatabaseUrl) -> Option<KeyringSource> {
        // An empty variable counts as unset: compose files pass on empty variables.
        if let Some(text) = self.master_key.as_ref().filter(|text| !text.is_empty()) {
            return Some(KeyringSource::Environment(text.clone()));
        }
        let file = match (&self.master_key_file, database) {
            (Some(file), _) => file.clone(),
            (None, DatabaseUrl::Sqlite(path)) => {
                path.parent().unwrap_or(Path::new("")).join(DEFAULT_FILE)
            }
            (None, DatabaseUrl::Postgres(_)) => return None,
        };
        Some(KeyringSource::File(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(settings: &KeySettings, url: &str) -> Option<PathBuf> {
        match settings.source(&url.parse().unwrap())? {
            KeyringSource::File(path) => Some(path),
            KeyringSource::Environment(_) => None,
        }
    }

    #[test]
    fn the_default_file_is_beside_the_database() {
        let unset = KeySettings::default();
        assert_eq!(file_of(&unset, "sqlite:t.db"), Some("tollgate-master.key".into()));
        assert_eq!(file_of(&unset, "sqlite:/data/t.db"), Some("/data/tollgate-master.key".into()));
        assert!(unset.source(&"postgres://h/d".parse().unwrap()).is_none());
        let given = KeySettings { master_key_file: Some("/run/k".into()), ..unset };
        assert_eq!(file_of(&given, "postgres://h/d"), Some("/run/k".into()));
    }
}
