//! The read model that the data plane looks things up in.

use std::time::Duration;

use super::values::parse_duration;

/// The read model.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Directory")]
pub struct DirectorySettings {
    /// Entries kept in memory of each kind, keys and configurations; unknown ids count as well
    #[arg(
        long,
        env = "TOLLGATE_DIRECTORY_CAPACITY",
        value_name = "NUMBER",
        default_value_t = 100_000
    )]
    pub directory_capacity: usize,

    /// How long known callers are served while the database is away
    #[arg(
        long,
        env = "TOLLGATE_DIRECTORY_MAX_STALE",
        value_name = "TIME",
        default_value = "1h",
        value_parser = parse_duration
    )]
    pub directory_max_stale: Duration,

    /// How often to ask the database for changes that nobody told us of; bounds how long a revoked
    /// key can still work elsewhere
    #[arg(
        long,
        env = "TOLLGATE_DIRECTORY_POLL",
        value_name = "TIME",
        default_value = "1s",
        value_parser = parse_duration
    )]
    pub directory_poll: Duration,
}

impl Default for DirectorySettings {
    fn default() -> Self {
        Self {
            directory_capacity: 100_000,
            directory_max_stale: Duration::from_secs(3600),
            directory_poll: Duration::from_secs(1),
        }
    }
}
